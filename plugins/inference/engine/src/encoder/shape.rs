//! What `config.json` says about an encoder's form, checked once. To add a family, give it a line in `FAMILIES`; what
//! it calls its tensors is in `names`.

use serde::Deserialize;

use super::names::{BERT, DISTILBERT, Names, ROBERTA};
use crate::arithmetic::Activation;
use crate::error::LoadError;

/// The file that is read here.
const FILE: &str = "config.json";
/// No supported model comes near these; a damaged file can.
const MOST_LAYERS: usize = 256;
const MOST_WIDTH: usize = 1 << 16;
const MOST_ROWS: usize = 1 << 24;
/// Longest context, in tokens: attention grows with its square.
const MOST_CONTEXT: usize = 8_192;
/// Added to the variance by every layer norm of DistilBERT, whose files do not name it.
const DISTILBERT_EPSILON: f32 = 1e-12;
/// The token that fills up short inputs, where the file does not say: as in the `transformers` library.
const DEFAULT_PADDING: usize = 1;

/// What sets one family apart.
#[derive(Debug)]
struct Family {
    /// `model_type`.
    name: &'static str,
    names: &'static Names,
    /// Positions begin after the padding token's id.
    positions_after_padding: bool,
}

const FAMILIES: [Family; 4] = [
    Family {
        name: "bert",
        names: &BERT,
        positions_after_padding: false,
    },
    Family {
        name: "roberta",
        names: &ROBERTA,
        positions_after_padding: true,
    },
    Family {
        name: "xlm-roberta",
        names: &ROBERTA,
        positions_after_padding: true,
    },
    Family {
        name: "distilbert",
        names: &DISTILBERT,
        positions_after_padding: false,
    },
];

/// The keys that are read, with DistilBERT's own words for some.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    layer_norm_eps: Option<f32>,
    pad_token_id: Option<usize>,
    position_embedding_type: Option<String>,
}

/// Sizes and switches of one model.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// `model_type`.
    pub(crate) architecture: &'static str,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) hidden: usize,
    pub(crate) vocabulary: usize,
    /// Longest input, in tokens.
    pub(crate) context: usize,
    /// Rows of the table of positions.
    pub(super) positions: usize,
    /// Rows of the table of token types; the first is added to every token.
    pub(super) token_types: usize,
    /// The padding token, in families whose positions begin after it.
    pub(super) padding: Option<usize>,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
    pub(super) names: &'static Names,
}

impl Shape {
    /// Reads the text of a `config.json`.
    pub(crate) fn from_config(text: &[u8]) -> Result<Self, LoadError> {
        let config: Config = serde_json::from_slice(text).map_err(|error| LoadError::Json {
            file: FILE,
            reason: error.to_string(),
        })?;
        let family = family(&config)?;
        // A ranker or classifier has an encoder inside, and no embeddings that mean anything.
        let other_task = |name: &&String| name.ends_with("Classification") || name.ends_with("QuestionAnswering");
        if let Some(task) = config.architectures.iter().find(other_task) {
            return Err(LoadError::Feature(format!(
                "the head of `{task}`, not embeddings alone,"
            )));
        }
        if let Some(kind) = config.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(LoadError::Feature(format!("positions of kind `{kind}`")));
        }
        let width = within("hidden_size", config.hidden_size, MOST_WIDTH)?;
        let heads = within("num_attention_heads", config.num_attention_heads, width)?;
        if !width.is_multiple_of(heads) {
            return Err(LoadError::Feature(format!(
                "a width of {width} over {heads} attention heads"
            )));
        }
        let vocabulary = within("vocab_size", config.vocab_size, MOST_ROWS)?;
        let positions = within("max_position_embeddings", config.max_position_embeddings, MOST_ROWS)?;
        let padding = match family.positions_after_padding {
            true => Some(config.pad_token_id.unwrap_or(DEFAULT_PADDING)),
            false => None,
        };
        let used = padding.map_or(0, |padding| padding.saturating_add(1));
        let context = positions
            .checked_sub(used)
            .filter(|context| *context > 0)
            .ok_or_else(|| wrong("pad_token_id", used - 1, "less than the number of positions"))?;
        let epsilon = match config.layer_norm_eps {
            Some(epsilon) if (0.0..1.0).contains(&epsilon) => epsilon,
            Some(epsilon) => return Err(wrong("layer_norm_eps", epsilon, "a small number that is not negative")),
            None => DISTILBERT_EPSILON,
        };
        Ok(Self {
            architecture: family.name,
            layers: within("num_hidden_layers", config.num_hidden_layers, MOST_LAYERS)?,
            width,
            heads,
            hidden: within("intermediate_size", config.intermediate_size, MOST_WIDTH)?,
            vocabulary,
            context: context.min(MOST_CONTEXT),
            positions,
            token_types: match config.type_vocab_size {
                0 => 0,
                rows => within("type_vocab_size", rows, MOST_ROWS)?,
            },
            padding,
            epsilon,
            activation: activation(config.hidden_act.as_deref().unwrap_or("gelu"))?,
            names: family.names,
        })
    }
}

fn family(config: &Config) -> Result<&'static Family, LoadError> {
    let found = config.model_type.as_deref().unwrap_or("nothing");
    FAMILIES.iter().find(|family| family.name == found).ok_or_else(|| {
        let names: Vec<_> = FAMILIES.iter().map(|family| format!("`{}`", family.name)).collect();
        LoadError::Architecture {
            found: found.to_owned(),
            supported: names.join(", "),
        }
    })
}

fn activation(name: &str) -> Result<Activation, LoadError> {
    match name {
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::Gelu),
        "relu" => Ok(Activation::Relu),
        other => Err(LoadError::Feature(format!("the activation `{other}`"))),
    }
}

fn within(key: &'static str, size: usize, most: usize) -> Result<usize, LoadError> {
    if size == 0 || size > most {
        return Err(wrong(key, size, "a size that a model can have"));
    }
    Ok(size)
}

fn wrong(key: &'static str, found: impl ToString, expected: &'static str) -> LoadError {
    LoadError::Setting {
        file: FILE,
        key,
        found: found.to_string(),
        expected,
    }
}
