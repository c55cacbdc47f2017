//! What the metadata says about a model's form, checked once: sizes, switches of its family, rotation of positions.
//! To add a family, give it a line in `FAMILIES`; its own tensors, if any, are named in `weights`.

use crate::arithmetic::Activation;
use crate::error::LoadError;
use crate::gguf::Metadata;

/// Which two numbers of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// 0 with 1, 2 with 3, and so on.
    Neighbours,
    /// The first half with the second.
    Halves,
}

/// How positions turn the numbers of a head.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotation {
    /// Radians per position, for each pair.
    pub(super) frequencies: Vec<f32>,
    pub(super) pairing: Pairing,
    /// Factor on sine and cosine, of models with stretched contexts.
    pub(super) magnitude: f32,
}

/// How many positions back a layer sees, itself included; `None` is all.
pub(super) type Window = Option<usize>;

/// Layers that see only what is near, between layers that see everything.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Local {
    pub(super) rotation: Rotation,
    pub(super) window: usize,
    /// Every so many layers, one sees everything.
    every: usize,
}

impl Local {
    pub(super) fn is_local(&self, layer: usize) -> bool {
        !(layer + 1).is_multiple_of(self.every)
    }
}

/// What sets one family apart.
#[derive(Debug, Clone, Copy)]
struct Family {
    /// `general.architecture`.
    name: &'static str,
    pairing: Pairing,
    activation: Activation,
    /// Query, key and value are one tensor, gate and up another.
    fused: bool,
    /// Embeddings are scaled by the root of the width, and layers are local and global by turns.
    local_layers: bool,
}

const FAMILIES: [Family; 5] = [
    Family {
        name: "llama",
        pairing: Pairing::Neighbours,
        activation: Activation::Silu,
        fused: false,
        local_layers: false,
    },
    Family {
        name: "qwen2",
        pairing: Pairing::Halves,
        activation: Activation::Silu,
        fused: false,
        local_layers: false,
    },
    Family {
        name: "qwen3",
        pairing: Pairing::Halves,
        activation: Activation::Silu,
        fused: false,
        local_layers: false,
    },
    Family {
        name: "phi3",
        pairing: Pairing::Halves,
        activation: Activation::Silu,
        fused: true,
        local_layers: false,
    },
    Family {
        name: "gemma3",
        pairing: Pairing::Halves,
        activation: Activation::Gelu,
        fused: false,
        local_layers: true,
    },
];

/// Gemma 3's pattern: five local layers, one global.
const GEMMA_EVERY: usize = 6;
/// Base of the rotation in Gemma 3's local layers; files do not name it.
const GEMMA_LOCAL_BASE: f32 = 10_000.0;
/// Only Gemma 3 27B has this many layers, and it scales attention by its width instead of its head size.
const GEMMA_27B_LAYERS: usize = 62;
/// Base of the rotation where a file names none.
const DEFAULT_BASE: f32 = 10_000.0;
/// No supported model comes near these; a damaged file can.
const MOST_LAYERS: usize = 1_024;
const MOST_WIDTH: usize = 1 << 20;

/// Sizes and switches of one model.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) hidden: usize,
    pub(crate) context: usize,
    pub(super) epsilon: f32,
    pub(super) attention_scale: f32,
    pub(super) embedding_scale: Option<f32>,
    pub(super) activation: Activation,
    pub(super) fused: bool,
    pub(super) rotation: Rotation,
    pub(super) local: Option<Local>,
}

/// Metadata of one architecture: keys are `architecture.name`.
struct Keys<'m> {
    metadata: &'m Metadata,
    architecture: &'m str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        self.metadata.count(&self.key(name))
    }

    /// A count that must be there and lie in 1..=most.
    fn size(&self, name: &str, most: usize) -> Result<usize, LoadError> {
        let key = self.key(name);
        let size = Metadata::needed(&key, self.metadata.count(&key)?)?;
        self.within(name, size, most)
    }

    fn within(&self, name: &str, size: usize, most: usize) -> Result<usize, LoadError> {
        if size == 0 || size > most {
            let expected = "a size that a model can have";
            return Err(LoadError::BadKey {
                key: self.key(name),
                found: size.to_string(),
                expected,
            });
        }
        Ok(size)
    }

    fn float(&self, name: &str) -> Result<Option<f32>, LoadError> {
        self.metadata.float(&self.key(name))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, LoadError> {
        self.metadata.string(&self.key(name))
    }
}

impl Shape {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self, LoadError> {
        const ARCHITECTURE: &str = "general.architecture";
        let architecture = Metadata::needed(ARCHITECTURE, metadata.string(ARCHITECTURE)?)?;
        let family = FAMILIES
            .iter()
            .find(|family| family.name == architecture)
            .ok_or_else(|| {
                let names: Vec<_> = FAMILIES.iter().map(|family| format!("`{}`", family.name)).collect();
                LoadError::Architecture {
                    found: architecture.to_owned(),
                    supported: names.join(", "),
                }
            })?;
        let keys = Keys { metadata, architecture };
        if keys.count("expert_count")?.unwrap_or(0) > 1 {
            return Err(LoadError::Feature("a mixture of experts".to_owned()));
        }
        let width = keys.size("embedding_length", MOST_WIDTH)?;
        let heads = keys.size("attention.head_count", width)?;
        let kv_heads = keys.within(
            "attention.head_count_kv",
            keys.count("attention.head_count_kv")?.unwrap_or(heads),
            heads,
        )?;
        let head_size = keys.within(
            "attention.key_length",
            keys.count("attention.key_length")?.unwrap_or(width / heads),
            width,
        )?;
        if keys.count("attention.value_length")?.unwrap_or(head_size) != head_size {
            return Err(LoadError::Feature("values of another size than keys".to_owned()));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(LoadError::Feature(format!(
                "{heads} heads over {kv_heads} key-value heads"
            )));
        }
        let layers = keys.size("block_count", MOST_LAYERS)?;
        let epsilon_key = keys.key("attention.layer_norm_rms_epsilon");
        let epsilon = Metadata::needed(&epsilon_key, metadata.float(&epsilon_key)?)?;
        let scaled_by = if family.local_layers && layers == GEMMA_27B_LAYERS {
            width / heads
        } else {
            head_size
        };
        let rotation = rotation(&keys, family, head_size)?;
        let local = if family.local_layers {
            local(&keys, &rotation)?
        } else {
            None
        };
        Ok(Self {
            layers,
            width,
            heads,
            kv_heads,
            head_size,
            hidden: keys.size("feed_forward_length", MOST_WIDTH)?,
            context: context(&keys)?,
            epsilon,
            attention_scale: 1.0 / (scaled_by as f32).sqrt(),
            embedding_scale: family.local_layers.then(|| (width as f32).sqrt()),
            activation: family.activation,
            fused: family.fused,
            rotation,
            local,
        })
    }

    /// Frequencies divided by factors from a tensor, one for each pair (Llama 3.1 and Phi 3 have them).
    pub(super) fn stretch(&mut self, factors: &[f32]) {
        self.rotation
            .frequencies
            .iter_mut()
            .zip(factors)
            .for_each(|(frequency, factor)| *frequency /= factor);
    }
}

/// Longest text the model can see. Stretched Phi 3 models have one rotation for texts up to their original context and
/// another beyond it; the first is used, and so its length.
fn context(keys: &Keys) -> Result<usize, LoadError> {
    let all = keys.size("context_length", u32::MAX as usize)?;
    let original = keys.count("rope.scaling.original_context_length")?.filter(|n| *n > 0);
    Ok(original
        .filter(|_| keys.architecture == "phi3")
        .map_or(all, |n| n.min(all)))
}

fn frequencies(base: f32, dimensions: usize) -> Vec<f32> {
    (0..dimensions / 2)
        .map(|pair| base.powf(-2.0 * pair as f32 / dimensions as f32))
        .collect()
}

fn rotation(keys: &Keys, family: &Family, head_size: usize) -> Result<Rotation, LoadError> {
    let dimensions = keys.count("rope.dimension_count")?.unwrap_or(head_size);
    let dimensions = keys.within("rope.dimension_count", dimensions, head_size)?;
    if !dimensions.is_multiple_of(2) {
        return Err(LoadError::Feature(format!("rotation of {dimensions} dimensions")));
    }
    let base = keys.float("rope.freq_base")?.unwrap_or(DEFAULT_BASE);
    let mut frequencies = frequencies(base, dimensions);
    match keys.text("rope.scaling.type")? {
        None | Some("none" | "longrope") => {}
        Some("linear") => {
            let factor = keys
                .float("rope.scaling.factor")?
                .filter(|factor| *factor > 0.0)
                .unwrap_or(1.0);
            frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
        }
        Some(other) => return Err(LoadError::Feature(format!("rotation scaling `{other}`"))),
    }
    let magnitude = keys.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
    Ok(Rotation {
        frequencies,
        pairing: family.pairing,
        magnitude,
    })
}

fn local(keys: &Keys, global: &Rotation) -> Result<Option<Local>, LoadError> {
    let Some(window) = keys.count("attention.sliding_window")?.filter(|window| *window > 0) else {
        return Ok(None);
    };
    let base = keys.float("rope.freq_base_swa")?.unwrap_or(GEMMA_LOCAL_BASE);
    let dimensions = global.frequencies.len() * 2;
    let rotation = Rotation {
        frequencies: frequencies(base, dimensions),
        ..global.clone()
    };
    Ok(Some(Local {
        rotation,
        window,
        every: GEMMA_EVERY,
    }))
}
