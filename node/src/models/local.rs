//! The models in the home: which there are, which one a name means, and their removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::name::{NameError, model};

/// Folders below the directory of models that are looked into: owner, repository, and one more.
const DEPTH_MAX: usize = 4;
/// Entries that are looked at: more than anybody keeps, and an end to a directory that is none of ours.
const ENTRIES_MAX: usize = 10_000;
/// What makes a folder an embedding model.
const EMBEDDING_FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// Why a model here cannot be found or removed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A directory cannot be read, or a file not removed.
    #[error("cannot {what} `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The name means several.
    #[error("`{name}` could be `{}`: use the whole name", .candidates.join("` or `"))]
    Ambiguous {
        /// The name.
        name: String,
        /// What it could be.
        candidates: Vec<String>,
    },
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A GGUF file.
    Gguf,
    /// A folder with an embedding model.
    Embeddings,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Embeddings => "embeddings",
        }
    }
}

/// A model in the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Its path below the directory of models.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// What it is for.
    pub kind: Kind,
    /// Bytes of its files.
    pub bytes: u64,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.to_owned();
    move |error| LocalError::Io { what, path, error }
}

/// All models below `models`, by name.
pub fn list(models: &Path) -> Result<Vec<Local>, LocalError> {
    let mut found = Vec::new();
    if models.exists() {
        walk(models, models, DEPTH_MAX, &mut ENTRIES_MAX.clone(), &mut found)?;
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn walk(
    models: &Path,
    folder: &Path,
    depth: usize,
    left: &mut usize,
    found: &mut Vec<Local>,
) -> Result<(), LocalError> {
    let local = |path: PathBuf, kind, bytes| Local {
        name: path.strip_prefix(models).unwrap_or(&path).display().to_string(),
        path,
        kind,
        bytes,
    };
    if EMBEDDING_FILES.iter().all(|name| folder.join(name).is_file()) {
        found.push(local(folder.to_owned(), Kind::Embeddings, files_bytes(folder)?));
    }
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let Some(rest) = left.checked_sub(1) else { break };
        *left = rest;
        let entry = entry.map_err(failed("read", folder))?;
        let path = entry.path();
        // Links are not followed: what they lead to is not kept here.
        let kind = entry.file_type().map_err(failed("look at", &path))?;
        if kind.is_dir() && depth > 0 {
            walk(models, &path, depth - 1, left, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "gguf") {
            let bytes = entry.metadata().map_err(failed("look at", &path))?.len();
            found.push(local(path, Kind::Gguf, bytes));
        }
    }
    Ok(())
}

fn files_bytes(folder: &Path) -> Result<u64, LocalError> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let path = entry.map_err(failed("read", folder))?.path();
        let metadata = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
        bytes += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(bytes)
}

/// The model that a name means: its path below the directory of models, or the end of it where that is one model's alone,
/// with `.gguf` or without.
pub fn find(models: &Path, name: &str) -> Result<Option<Local>, LocalError> {
    let name = model(name.strip_prefix("hf:").unwrap_or(name))?;
    // As `pull` takes it, the file stands behind a colon.
    let path = name.replacen(':', "/", 1);
    let all = list(models)?;
    if let Some(exact) = all.iter().find(|local| local.name == name || local.name == path) {
        return Ok(Some(exact.clone()));
    }
    let ends = |local: &&Local| {
        let stem = local.name.strip_suffix(".gguf").unwrap_or(&local.name);
        let is_end = |rest: &str| rest.is_empty() || rest.ends_with('/');
        let ends_in = |whole: &str, end: &str| whole.strip_suffix(end).is_some_and(is_end);
        ends_in(&local.name, name) || ends_in(stem, name)
            // A repository with one model goes by its own name.
            || local.path.parent().is_some_and(|folder| folder == models.join(name))
    };
    let mut candidates: Vec<&Local> = all.iter().filter(ends).collect();
    match candidates.len() {
        0 | 1 => Ok(candidates.pop().cloned()),
        _ => Err(LocalError::Ambiguous {
            name: name.to_owned(),
            candidates: candidates.into_iter().map(|local| local.name.clone()).collect(),
        }),
    }
}

/// Removes a model, and the folders above it that hold nothing more.
pub fn remove(models: &Path, local: &Local) -> Result<(), LocalError> {
    match local.kind {
        Kind::Gguf => fs::remove_file(&local.path),
        Kind::Embeddings => fs::remove_dir_all(&local.path),
    }
    .map_err(failed("remove", &local.path))?;
    let above = local.path.ancestors().skip(1);
    for folder in above.take_while(|folder| folder.starts_with(models) && *folder != models) {
        if !is_bare(folder) {
            break;
        }
        fs::remove_dir_all(folder).map_err(failed("remove", folder))?;
    }
    Ok(())
}

/// Whether nothing is in a folder but what downloads leave behind.
fn is_bare(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten();
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == super::download::LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(files: &[&str]) -> tempfile::TempDir {
        let models = tempfile::tempdir().unwrap();
        for file in files {
            let path = models.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        models
    }

    #[test]
    fn files_and_folders_are_found_by_whole_and_by_short_names() {
        let models = models(&[
            "own.gguf",
            "a/m-GGUF/m-Q8_0.gguf",
            "a/m-GGUF/m-Q4_K_M.gguf",
            "a/m-GGUF/.lock",
            "a/m-GGUF/m-F16.gguf.0123.part",
            "b/e/config.json",
            "b/e/model.safetensors",
            "b/e/1_Pooling/config.json",
        ]);
        let at = models.path();
        let listed = list(at).unwrap();
        let names: Vec<_> = listed
            .iter()
            .map(|local| (local.name.as_str(), local.kind.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("a/m-GGUF/m-Q4_K_M.gguf", "gguf"),
                ("a/m-GGUF/m-Q8_0.gguf", "gguf"),
                ("b/e", "embeddings"),
                ("own.gguf", "gguf"),
            ]
        );
        assert_eq!(
            listed[2].bytes,
            "b/e/config.json".len() as u64 + "b/e/model.safetensors".len() as u64
        );
        let found = |name: &str| find(at, name).unwrap().map(|local| local.name);
        for name in [
            "m-Q8_0",
            "m-Q8_0.gguf",
            "m-GGUF/m-Q8_0",
            "a/m-GGUF/m-Q8_0.gguf",
            "hf:a/m-GGUF:m-Q8_0.gguf",
        ] {
            assert_eq!(found(name).as_deref(), Some("a/m-GGUF/m-Q8_0.gguf"), "{name}");
        }
        assert_eq!(found("e").as_deref(), Some("b/e"));
        assert_eq!(
            (found("own").as_deref(), found("Q8_0"), found("c")),
            (Some("own.gguf"), None, None)
        );
        assert!(matches!(find(at, "a/m-GGUF"), Err(LocalError::Ambiguous { candidates, .. }) if candidates.len() == 2));
        assert!(matches!(find(at, "../x"), Err(LocalError::Name(_))));
        assert!(list(&at.join("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn removing_a_model_leaves_no_empty_folder_and_nothing_else_goes() {
        let models = models(&[
            "a/m/one.gguf",
            "a/m/.lock",
            "a/e/config.json",
            "a/e/model.safetensors",
            "b/m/x.gguf",
        ]);
        let at = models.path();
        remove(at, &find(at, "one").unwrap().unwrap()).unwrap();
        assert!(!at.join("a/m").exists() && at.join("a/e/config.json").exists());
        remove(at, &find(at, "a/e").unwrap().unwrap()).unwrap();
        assert!(!at.join("a").exists() && at.join("b/m/x.gguf").exists());
        remove(at, &find(at, "x").unwrap().unwrap()).unwrap();
        assert!(at.exists() && list(at).unwrap().is_empty());
    }
}
