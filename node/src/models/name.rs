//! What a model is asked for by: `hf:org/repo`, `hf:org/repo:file`, or a name that an engine knows. Names become paths,
//! so that what is not plainly a name below a directory is refused.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What names of Hugging Face's models begin with.
const HUB: &str = "hf:";
/// Longest owner or repository name, as Hugging Face has it.
const PART_BYTES: usize = 96;
/// Longest path of a file in a repository: what file systems take.
const PATH_BYTES: usize = 255;

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not an owner and a repository.
    #[error("`{0}` is no repository: use `hf:owner/name`, or `hf:owner/name:file`")]
    Repository(String),
    /// It could lead out of the directory of models.
    #[error("`{0}` is no name of a file in a repository: use a path without `..`, such as `model-Q4_K_M.gguf`")]
    File(String),
    /// It is empty or has characters that no name has.
    #[error("`{0}` is no name of a model: see `infernet model list`")]
    Model(String),
}

/// A repository on Hugging Face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its owner.
    pub owner: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl Repository {
    /// Where its files are, below the directory of models.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(&self.owner).join(&self.name)
    }
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// From Hugging Face.
    Hub {
        /// The repository.
        repository: Repository,
        /// The file, where one is named.
        file: Option<String>,
    },
    /// By a name that the engine knows.
    Engine(String),
}

impl FromStr for Wanted {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(rest) = text.strip_prefix(HUB) else {
            return model(text).map(|name| Self::Engine(name.to_owned()));
        };
        let (repository, file) = match rest.split_once(':') {
            Some((repository, file)) => (repository, Some(file)),
            None => (rest, None),
        };
        if let Some(file) = file.filter(|file| !is_path(file)) {
            return Err(NameError::File(printable(file)));
        }
        match repository.split_once('/') {
            Some((owner, name)) if is_part(owner) && is_part(name) => Ok(Self::Hub {
                repository: Repository {
                    owner: owner.to_owned(),
                    name: name.to_owned(),
                },
                file: file.map(str::to_owned),
            }),
            _ => Err(NameError::Repository(printable(repository))),
        }
    }
}

/// A name that can be looked up among models, here or in an engine.
pub fn model(text: &str) -> Result<&str, NameError> {
    if is_path(text) {
        Ok(text)
    } else {
        Err(NameError::Model(printable(text)))
    }
}

/// Whether this is a relative path that stays where it is: no `..`, nothing hidden, nothing but visible characters.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.');
    text.len() <= PATH_BYTES
        && text.split('/').all(is_name)
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\')
}

fn is_part(text: &str) -> bool {
    text.len() <= PART_BYTES
        && !text.is_empty()
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn printable(text: &str) -> String {
    text.chars().take(PATH_BYTES).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let hub = |file: Option<&str>| Wanted::Hub {
            repository: Repository {
                owner: "Qwen".into(),
                name: "Qwen3-0.6B-GGUF".into(),
            },
            file: file.map(str::to_owned),
        };
        assert_eq!("hf:Qwen/Qwen3-0.6B-GGUF".parse(), Ok(hub(None)));
        assert_eq!("hf:Qwen/Qwen3-0.6B-GGUF:a/b.gguf".parse(), Ok(hub(Some("a/b.gguf"))));
        for engine in ["llama3.2", "llama3.2:1b", "hub.example/library/x:latest"] {
            assert_eq!(engine.parse(), Ok(Wanted::Engine(engine.to_owned())));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for repository in [
            "hf:",
            "hf:a",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/..",
            "hf:/b",
            "hf:a/b\u{7}",
            "hf:a b/c",
            "hf:.a/b",
        ] {
            assert!(
                matches!(repository.parse::<Wanted>(), Err(NameError::Repository(_))),
                "{repository:?}"
            );
        }
        for file in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./x",
            ".hidden",
            "a\\b",
            "a\nb",
            "a\u{1b}[2J",
        ] {
            let found = format!("hf:a/b:{file}").parse::<Wanted>();
            let Err(NameError::File(shown)) = found else {
                panic!("{file:?} gives {found:?}");
            };
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
        for name in ["", "../x", "/x", "a b", "a\u{0}"] {
            assert!(matches!(name.parse::<Wanted>(), Err(NameError::Model(_))), "{name:?}");
        }
    }
}
