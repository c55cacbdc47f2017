//! The files around the weights, as the libraries `transformers` and `sentence-transformers` write them: which module is
//! where, how a row for each token becomes one vector, how long an input may be, how text is cut. Each is read up to a
//! bound, and a setting that cannot be kept is refused by name.
//!
//! Files: <https://sbert.net/docs/package_reference/sentence_transformer/models.html>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::pooling::Pooling;
use crate::error::LoadError;

/// The weights, unless another file is named.
pub(super) const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const MODULES: &str = "modules.json";
const POOLING: &str = "config.json";
const TRANSFORMER: &str = "sentence_bert_config.json";
/// Where the pooling module is, in a folder without a list of modules.
const POOLING_FOLDER: &str = "1_Pooling";
/// Longest file of settings; real ones have a few hundred bytes, with a label for each class some dozens of thousands.
const SETTINGS_BYTES: u64 = 1 << 20;
/// Longest tokenizer: a vocabulary of 250 000 tokens takes 17 MB.
const TOKENIZER_BYTES: u64 = 64 << 20;

/// What stands in a folder beside the weights.
#[derive(Debug)]
pub(super) struct Settings {
    /// The text of `config.json`.
    pub(super) config: Vec<u8>,
    /// The text of `tokenizer.json`.
    pub(super) tokenizer: Vec<u8>,
    pub(super) weights: PathBuf,
    pub(super) pooling: Pooling,
    /// Longest input the model was tuned for, in tokens.
    pub(super) longest: Option<usize>,
    /// Whether text is made lower case before it is cut.
    pub(super) lower_case: bool,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    /// The module's folder; nothing is the model's own.
    #[serde(default)]
    path: String,
    /// Its Python class.
    r#type: String,
}

/// `sentence_bert_config.json`
#[derive(Default, Deserialize)]
struct Transformer {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

impl Settings {
    /// Reads the settings of the model in `folder`; `weights` stands for the usual file where it is given.
    pub(super) fn read(folder: &Path, weights: Option<PathBuf>) -> Result<Self, LoadError> {
        let (mut transformer, mut pooling) = (folder.to_owned(), Some(folder.join(POOLING_FOLDER)));
        if let Some(modules) = optional::<Vec<Module>>(folder, MODULES)? {
            pooling = None;
            for module in modules {
                let path = inside(folder, &module.path)?;
                match module.r#type.rsplit('.').next().unwrap_or_default() {
                    "Transformer" => transformer = path,
                    "Pooling" => pooling = Some(path),
                    // Vectors are normalised in any case.
                    "Normalize" => {}
                    other => return Err(LoadError::Feature(format!("the module `{other}`"))),
                }
            }
        }
        let settings: Transformer = optional(&transformer, TRANSFORMER)?.unwrap_or_default();
        let modes = match pooling {
            Some(folder) => optional::<BTreeMap<String, serde_json::Value>>(&folder, POOLING)?,
            None => None,
        };
        Ok(Self {
            config: needed(&transformer, CONFIG, SETTINGS_BYTES)?,
            tokenizer: needed(&transformer, TOKENIZER, TOKENIZER_BYTES)?,
            weights: weights.unwrap_or_else(|| transformer.join(WEIGHTS)),
            pooling: modes.map_or(Ok(Pooling::Mean), |modes| Pooling::from_modes(&modes))?,
            longest: settings.max_seq_length.filter(|tokens| *tokens > 0),
            lower_case: settings.do_lower_case,
        })
    }
}

/// A module's folder, which must not lead out of the model's.
fn inside(folder: &Path, path: &str) -> Result<PathBuf, LoadError> {
    let mut components = Path::new(path).components();
    match (components.next(), components.next()) {
        (None, _) => Ok(folder.to_owned()),
        (Some(Component::Normal(name)), None) => Ok(folder.join(name)),
        _ => Err(LoadError::Json {
            file: MODULES,
            reason: format!("`{path}` is no folder beside it"),
        }),
    }
}

fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(LoadError::TooLong {
            path: path.to_owned(),
            most,
        });
    }
    Ok(Some(bytes))
}

fn needed(folder: &Path, name: &'static str, most: u64) -> Result<Vec<u8>, LoadError> {
    read(&folder.join(name), most)?.ok_or_else(|| LoadError::MissingFile {
        folder: folder.to_owned(),
        name,
    })
}

fn optional<T: DeserializeOwned>(folder: &Path, name: &'static str) -> Result<Option<T>, LoadError> {
    let Some(bytes) = read(&folder.join(name), SETTINGS_BYTES)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| LoadError::Json {
            file: name,
            reason: error.to_string(),
        })
}
