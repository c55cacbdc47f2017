//! Which files of a repository are meant.

use super::hub::Remote;

/// Quantisations in the order in which they are taken where nobody says: a good one for most machines first, then what is
/// near it.
const PREFERRED: [&str; 10] = [
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q4_0", "Q6_K", "Q8_0", "Q3_K_M", "F16", "BF16",
];
/// What an embedding model must have; the weights last, so that what is small is there before what is large begins.
const EMBEDDING_NEEDS: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// What it may have, and then goes by.
const EMBEDDING_HAS: [&str; 3] = ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json"];

/// Why nothing can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The file that was asked for is not there.
    #[error("it has no file `{file}`{}", list(.there))]
    NoFile {
        /// The file.
        file: String,
        /// The models that are there.
        there: Vec<String>,
    },
    /// There is nothing that the embedded engine could use.
    #[error(
        "it has no GGUF file, and not the files of an embedding model (`config.json`, `tokenizer.json`, \
         `model.safetensors`): look for a repository whose name ends in GGUF"
    )]
    Nothing,
    /// Every GGUF file is one part of several.
    #[error("its GGUF files are split in parts, which the embedded engine does not join{}", list(.0))]
    Split(Vec<String>),
}

fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there are `{}`", names.join("`, `")),
    }
}

/// What is to be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The files, in this order.
    pub files: Vec<Remote>,
    /// The file or, where several belong together, nothing: they are the whole folder.
    pub file: Option<String>,
    /// Models that could be asked for instead.
    pub others: Vec<String>,
}

/// Chooses from a repository's `files`: the one that was `asked` for, its only GGUF file or the preferred one of several,
/// or the files of an embedding model.
pub fn choose(files: &[Remote], asked: Option<&str>) -> Result<Choice, ChoiceError> {
    let gguf: Vec<&Remote> = files.iter().filter(|file| is_model(&file.path)).collect();
    let names = |files: &[&Remote]| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
    if let Some(asked) = asked {
        let found = files.iter().find(|file| file.path == asked);
        return found
            .map(|file| one(file, Vec::new()))
            .ok_or_else(|| ChoiceError::NoFile {
                file: asked.to_owned(),
                there: names(&gguf),
            });
    }
    let whole: Vec<&Remote> = gguf.iter().copied().filter(|file| !is_part(&file.path)).collect();
    if let Some(best) = preferred(&whole) {
        let others = names(&whole).into_iter().filter(|name| *name != best.path);
        return Ok(one(best, others.collect()));
    }
    if !gguf.is_empty() {
        return Err(ChoiceError::Split(names(&gguf)));
    }
    let find = |name: &str| files.iter().find(|file| file.path == name).cloned();
    let mut needed: Vec<Remote> = EMBEDDING_NEEDS.into_iter().filter_map(find).collect();
    if needed.len() < EMBEDDING_NEEDS.len() {
        return Err(ChoiceError::Nothing);
    }
    let weights = needed.pop();
    needed.extend(EMBEDDING_HAS.into_iter().filter_map(find));
    needed.extend(weights);
    Ok(Choice {
        files: needed,
        file: None,
        others: Vec::new(),
    })
}

fn one(file: &Remote, others: Vec<String>) -> Choice {
    Choice {
        files: vec![file.clone()],
        file: Some(file.path.clone()),
        others,
    }
}

/// Projectors of images come beside a model and are none.
fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    name.ends_with(".gguf") && !name.starts_with("mmproj")
}

/// `name-00001-of-00003.gguf`
fn is_part(path: &str) -> bool {
    let stem = path.strip_suffix(".gguf").unwrap_or(path);
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    stem.rsplit_once("-of-")
        .is_some_and(|(before, after)| number(after) && before.rsplit_once('-').is_some_and(|(_, at)| number(at)))
}

fn preferred<'a>(files: &[&'a Remote]) -> Option<&'a Remote> {
    let named = |quantisation: &str| {
        let is = |file: &&&Remote| {
            let name = file.path.to_uppercase();
            name.split(['-', '.', '/']).any(|word| word == quantisation)
        };
        files.iter().find(is).copied()
    };
    let smallest = || files.iter().min_by_key(|file| file.size).copied();
    PREFERRED.into_iter().find_map(named).or_else(smallest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<Remote> {
        let file = |(index, name): (usize, &&str)| Remote {
            path: (*name).to_owned(),
            size: 100 - index as u64,
            oid: String::new(),
            sha256: None,
        };
        names.iter().enumerate().map(file).collect()
    }

    fn chosen(names: &[&str], asked: Option<&str>) -> Result<(Vec<String>, usize), ChoiceError> {
        let choice = choose(&files(names), asked)?;
        Ok((
            choice.files.into_iter().map(|file| file.path).collect(),
            choice.others.len(),
        ))
    }

    #[test]
    fn the_preferred_file_is_taken_and_the_others_are_told() {
        let one = |name: &str, others| Ok((vec![name.to_owned()], others));
        assert_eq!(chosen(&["README.md", "m.gguf"], None), one("m.gguf", 0));
        let names = ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-IQ2_M.gguf", "mmproj-F16.gguf"];
        assert_eq!(chosen(&names, None), one("m-Q4_K_M.gguf", 2));
        assert_eq!(
            chosen(&["qwen-q8_0.gguf", "qwen-q5_k_m.gguf"], None),
            one("qwen-q5_k_m.gguf", 1)
        );
        assert_eq!(
            chosen(&["a-IQ3.gguf", "a-IQ2.gguf"], None),
            one("a-IQ2.gguf", 1),
            "the smallest"
        );
        assert_eq!(
            chosen(&["Q4_K_M/m-00001-of-00002.gguf", "m-F16.gguf"], None),
            one("m-F16.gguf", 0)
        );
        assert_eq!(chosen(&names, Some("m-IQ2_M.gguf")), one("m-IQ2_M.gguf", 0));
        assert!(matches!(chosen(&names, Some("x.gguf")), Err(ChoiceError::NoFile { there, .. }) if there.len() == 3));
        assert!(matches!(
            chosen(&["m-00001-of-00002.gguf"], None),
            Err(ChoiceError::Split(_))
        ));
    }

    #[test]
    fn an_embedding_model_is_its_files_and_the_weights_come_last() {
        let names = [
            "model.safetensors",
            "1_Pooling/config.json",
            "tokenizer.json",
            "vocab.txt",
            "config.json",
        ];
        let expected = [
            "config.json",
            "tokenizer.json",
            "1_Pooling/config.json",
            "model.safetensors",
        ];
        assert_eq!(chosen(&names, None), Ok((expected.map(str::to_owned).to_vec(), 0)));
        assert_eq!(chosen(&names[..4], None), Err(ChoiceError::Nothing));
    }
}
