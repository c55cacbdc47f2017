//! Ollama tells what each model can do without loading it: its own API,
//! <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use infernet_protocol::capability::Features;
use serde::Deserialize;
use serde_json::json;

use super::Shown;
use crate::backend::Model;
use crate::openai::OpenAiBackend;

/// Completes the models of its list.
pub(super) async fn describe(backend: &OpenAiBackend, models: &mut [Model]) {
    if let Ok(Some((_, tags))) = backend.get("/api/tags").await {
        read_tags(models, &tags);
    }
    for model in models {
        show(backend, model).await;
    }
}

fn read_tags(models: &mut [Model], tags: &[u8]) {
    #[derive(Deserialize)]
    struct Tags {
        models: Vec<Tag>,
    }
    #[derive(Deserialize)]
    struct Tag {
        name: String,
        #[serde(default)]
        digest: String,
        #[serde(default)]
        details: Details,
    }
    #[derive(Default, Deserialize)]
    struct Details {
        #[serde(default)]
        quantization_level: Option<String>,
    }
    let Ok(tags) = serde_json::from_slice::<Tags>(tags) else {
        return;
    };
    for tag in tags.models {
        let Some(model) = models.iter_mut().find(|model| model.name == tag.name) else {
            continue;
        };
        model.digest = tag
            .digest
            .parse::<infernet_protocol::Digest>()
            .ok()
            .map(|digest| digest.0);
        model.quantisation = tag.details.quantization_level.map(|level| level.to_lowercase());
    }
}

async fn show(backend: &OpenAiBackend, model: &mut Model) {
    let shown = match backend.remembered(&model.name) {
        Some(shown) => shown,
        None => {
            let body = json!({ "model": model.name }).to_string();
            let Ok((200, answer)) = backend.ask("/api/show", body).await else {
                return;
            };
            let shown = read_show(&answer, model.features);
            backend.remember(&model.name, shown);
            shown
        }
    };
    (model.features, model.context) = (shown.features, shown.context.or(model.context));
}

fn read_show(answer: &[u8], usual: Features) -> Shown {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        capabilities: Option<Vec<String>>,
        #[serde(default)]
        parameters: String,
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(answer) else {
        return Shown {
            features: usual,
            ..Shown::default()
        };
    };
    // What a model was trained for is not what the server gives it: longer prompts would be cut without a word.
    let context = answer
        .parameters
        .lines()
        .find_map(|line| line.strip_prefix("num_ctx")?.trim().parse().ok());
    // Servers before 0.6.4 do not tell.
    let Some(capabilities) = answer.capabilities else {
        return Shown {
            features: usual,
            context,
            ..Shown::default()
        };
    };
    let features = capabilities.iter().fold(Features::default(), |features, capability| {
        features.with(match capability.as_str() {
            "completion" => usual,
            "tools" => Features::TOOLS,
            "vision" => Features::VISION,
            "embedding" => Features::EMBEDDINGS,
            _ => Features::default(),
        })
    });
    Shown {
        features,
        context,
        ..Shown::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::usual;
    use super::*;
    use crate::detect::BackendKind;

    #[test]
    fn ollama_tells_digest_and_quantisation() {
        // Shape: github.com/ollama/ollama, docs/api.md, "List Local Models".
        let tags = br#"{"models":[{"name":"llama3.2:latest","modified_at":"2025-05-04T17:37:44Z","size":2019393189,
            "digest":"a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
            "details":{"format":"gguf","family":"llama","parameter_size":"3.2B","quantization_level":"Q4_K_M"}}]}"#;
        let mut models = vec![Model::named("llama3.2:latest").unwrap()];
        read_tags(&mut models, tags);
        assert_eq!(models[0].id.as_str(), "llama3.2");
        assert_eq!(models[0].quantisation.as_deref(), Some("q4_k_m"));
        assert_eq!(models[0].digest.unwrap()[..2], [0xa8, 0x0c]);
    }

    #[test]
    fn ollama_tells_capabilities_and_context() {
        // Shape: github.com/ollama/ollama, docs/api.md, "Show Model Information".
        let shown = br#"{"modelfile":"...","parameters":"num_keep                       24\nnum_ctx                        8192","template":"...","details":{"family":"llama"},
            "model_info":{"general.architecture":"llama","general.parameter_count":8030261248,"llama.context_length":8192},
            "capabilities":["completion","vision","tools"]}"#;
        let usual = usual(BackendKind::Ollama);
        let told = read_show(shown, usual);
        assert_eq!(told.context, Some(8192));
        assert_eq!(told.features, usual.with(Features::VISION).with(Features::TOOLS));
        let embedder = read_show(br#"{"capabilities":["embedding"]}"#, usual);
        assert_eq!(
            embedder.features,
            Features::EMBEDDINGS,
            "one that only embeds does not chat"
        );
        assert_eq!(read_show(b"{}", usual).features, usual, "an older server tells nothing");
    }
}
