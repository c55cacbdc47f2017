//! Models as OpenAI's clients read them, with what this network knows beside.

use serde_json::{Value, json};

use super::inference::ServedModel;

/// One model.
#[must_use]
pub fn model(model: &ServedModel) -> Value {
    json!({
        "id": model.id.as_str(),
        "object": "model",
        // The network does not know when a model was made.
        "created": 0,
        "owned_by": "infernet",
        "context_length": model.context,
        "infernet": {
            "providers": model.providers,
            "features": model.features.names().collect::<Vec<_>>(),
            "max_output_tokens": model.max_output,
            "quantizations": model.quantisations,
            "price": {
                "input_microusd_per_mtok": model.price.input.0,
                "output_microusd_per_mtok": model.price.output.0,
                "request_microusd": model.price.request.0,
            },
            "ttft_ms": model.ttft_ms,
            "tokens_per_second": model.tokens_per_second,
        },
    })
}

/// The list of them, by name.
#[must_use]
pub fn list(mut models: Vec<ServedModel>) -> Value {
    models.sort_by(|a, b| a.id.cmp(&b.id));
    json!({ "object": "list", "data": models.iter().map(model).collect::<Vec<_>>() })
}
