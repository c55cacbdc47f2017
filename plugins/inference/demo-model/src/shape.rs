//! The shape of the model: every number that the trainer and the exporter must agree on.

/// Tokens in the vocabulary, the three special ones included. The corpus has about as many words, so that most
/// words are one token and an answer needs few steps.
pub(crate) const VOCABULARY: usize = 1_536;
/// Numbers per token vector.
pub(crate) const WIDTH: usize = 192;
/// Transformer blocks. Wide and shallow learned this corpus faster than narrow and deep.
pub(crate) const BLOCKS: usize = 4;
/// Attention heads, each with its own keys and values.
pub(crate) const HEADS: usize = 6;
/// Numbers per head; a multiple of 32, the block of Q8_0.
pub(crate) const HEAD: usize = WIDTH / HEADS;
/// Inner width of the gated feed-forward layer.
pub(crate) const FEED_FORWARD: usize = 512;
/// Positions the model is trained on, and the context length it declares.
pub(crate) const CONTEXT: usize = 512;
/// Base of the rotary position angles (the Llama default).
pub(crate) const ROPE_BASE: f32 = 10_000.0;
/// Added under the root of every RMS norm.
pub(crate) const NORM_EPSILON: f32 = 1e-5;

/// The two dimensions of a weight matrix, stored as (in, out), or of the embedding, stored as (token, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Token embedding, which is the output projection as well.
    Embedding,
    /// A linear layer without bias.
    Linear,
    /// The gain of an RMS norm.
    Norm,
}

/// One parameter of the model under its GGUF name.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// Name of the tensor in the GGUF file.
    pub(crate) name: String,
    /// What it does, which decides initialisation, decay and file type.
    pub(crate) role: Role,
    /// Its dimensions while training.
    pub(crate) dims: Vec<usize>,
}

/// Every parameter in file order.
pub(crate) fn parameters() -> Vec<Parameter> {
    let parameter = |name: String, role, dims: &[usize]| Parameter {
        name,
        role,
        dims: dims.to_vec(),
    };
    let mut all = vec![parameter(
        "token_embd.weight".into(),
        Role::Embedding,
        &[VOCABULARY, WIDTH],
    )];
    for block in 0..BLOCKS {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        all.push(parameter(name("attn_norm"), Role::Norm, &[WIDTH]));
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            all.push(parameter(name(part), Role::Linear, &[WIDTH, WIDTH]));
        }
        all.push(parameter(name("ffn_norm"), Role::Norm, &[WIDTH]));
        for part in ["ffn_gate", "ffn_up"] {
            all.push(parameter(name(part), Role::Linear, &[WIDTH, FEED_FORWARD]));
        }
        all.push(parameter(name("ffn_down"), Role::Linear, &[FEED_FORWARD, WIDTH]));
    }
    all.push(parameter("output_norm.weight".into(), Role::Norm, &[WIDTH]));
    all
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn has_between_one_and_three_million_parameters() {
        let total: usize = parameters().iter().map(|p| p.dims.iter().product::<usize>()).sum();
        assert!((1_000_000..3_000_000).contains(&total), "{total} parameters");
    }
}
