//! What the families call their tensors, as the `transformers` library writes them.

/// Names of one family. Those of a layer stand behind the layer's prefix and number; all without `.weight` and `.bias`.
#[derive(Debug)]
pub(super) struct Names {
    /// Before every name, where the file is of a model with a head: `bert.`.
    pub(super) prefix: &'static str,
    pub(super) layers: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attention_output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) output_norm: &'static str,
}

/// Tables and the norm over them, alike in all families.
pub(super) const WORDS: &str = "embeddings.word_embeddings";
pub(super) const POSITIONS: &str = "embeddings.position_embeddings";
pub(super) const TOKEN_TYPES: &str = "embeddings.token_type_embeddings";
pub(super) const EMBEDDINGS_NORM: &str = "embeddings.LayerNorm";

/// BERT.
pub(super) const BERT: Names = Names {
    prefix: "bert.",
    layers: "encoder.layer.",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

/// RoBERTa and XLM-RoBERTa.
pub(super) const ROBERTA: Names = Names {
    prefix: "roberta.",
    ..BERT
};

/// DistilBERT.
pub(super) const DISTILBERT: Names = Names {
    prefix: "distilbert.",
    layers: "transformer.layer.",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};
