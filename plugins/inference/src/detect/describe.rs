//! What the models of a server can do: as its kind is known for, as its own routes tell, and, where nothing tells, as
//! one small request shows. What was found out by asking is remembered, so that a model is asked once.

use infernet_protocol::capability::Features;
use serde::Deserialize;
use serde_json::json;

use super::{BackendKind, List, Listed};
use crate::backend::{BackendError, Model};
use crate::json::quoted;
use crate::openai::OpenAiBackend;

/// The models of a list, described.
pub(super) async fn models(backend: &OpenAiBackend, kind: BackendKind, list: List) -> Vec<Model> {
    let base = usual(kind);
    let named = |listed: Listed| {
        let model = Model::named(&listed.id)?;
        Some(Model {
            context: listed.max_model_len,
            quantisation: listed.meta.and_then(|meta| meta.ftype).map(|kind| kind.to_lowercase()),
            features: base,
            ..model
        })
    };
    let mut models: Vec<Model> = list.data.into_iter().filter_map(named).collect();
    // An answer that does not come leaves the models as they were listed.
    match kind {
        BackendKind::Ollama => {
            if let Ok(Some((_, tags))) = backend.get("/api/tags").await {
                read_tags(&mut models, &tags);
            }
            for model in &mut models {
                show(backend, model).await;
            }
        }
        BackendKind::LlamaCpp => {
            if let Ok(Some((_, props))) = backend.get("/props").await {
                read_props(&mut models, &props);
            }
            for model in &mut models {
                try_out(backend, model, &[Trial::Embeddings]).await;
            }
        }
        // These have one model, and it is loaded: a request costs a token and no more. A server of an unknown kind may
        // have to load each model that is asked.
        BackendKind::Vllm | BackendKind::Sglang | BackendKind::Max => {
            for model in &mut models {
                try_out(backend, model, &[Trial::Embeddings, Trial::Tools]).await;
            }
        }
        _ => {}
    }
    models
}

/// What the kinds serve without further asking.
fn usual(kind: BackendKind) -> Features {
    let text = Features::CHAT.with(Features::COMPLETIONS);
    match kind {
        BackendKind::Ollama => text.with(Features::JSON_SCHEMA),
        BackendKind::Vllm | BackendKind::Sglang | BackendKind::LlamaCpp => {
            text.with(Features::JSON_SCHEMA).with(Features::LOGPROBS)
        }
        _ => text,
    }
}

// -------------------------------------------------------------------------------------------------------- Ollama

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

/// Ollama tells what each model can do without loading it.
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

/// What asking a server about a model has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    features: Features,
    context: Option<u32>,
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
            context: None,
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
    Shown { features, context }
}

// ----------------------------------------------------------------------------------------------------- llama.cpp

fn read_props(models: &mut [Model], props: &[u8]) {
    #[derive(Deserialize)]
    struct Props {
        #[serde(default)]
        total_slots: Option<u16>,
        #[serde(default)]
        default_generation_settings: Settings,
        #[serde(default)]
        modalities: Modalities,
        #[serde(default)]
        chat_template_caps: Template,
    }
    #[derive(Default, Deserialize)]
    struct Settings {
        #[serde(default)]
        n_ctx: Option<u32>,
    }
    #[derive(Default, Deserialize)]
    struct Modalities {
        #[serde(default)]
        vision: bool,
    }
    #[derive(Default, Deserialize)]
    struct Template {
        #[serde(default)]
        supports_tools: bool,
    }
    let Ok(props) = serde_json::from_slice::<Props>(props) else {
        return;
    };
    for model in models {
        model.slots = props.total_slots;
        model.context = props.default_generation_settings.n_ctx;
        if props.modalities.vision {
            model.features = model.features.with(Features::VISION);
        }
        if props.chat_template_caps.supports_tools {
            model.features = model.features.with(Features::TOOLS);
        }
    }
}

// -------------------------------------------------------------------------------------------------------- trials

/// A small request whose answer shows a feature.
#[derive(Clone, Copy, Debug)]
enum Trial {
    Embeddings,
    Tools,
}

impl Trial {
    fn shows(self) -> Features {
        match self {
            Self::Embeddings => Features::EMBEDDINGS,
            Self::Tools => Features::TOOLS,
        }
    }

    fn request(self, model: &str) -> (&'static str, String) {
        let name = quoted(model);
        match self {
            Self::Embeddings => ("/v1/embeddings", format!(r#"{{"model":{name},"input":"a"}}"#)),
            Self::Tools => (
                "/v1/chat/completions",
                format!(
                    r#"{{"model":{name},"max_tokens":1,"messages":[{{"role":"user","content":"a"}}],"tool_choice":"auto","tools":[{{"type":"function","function":{{"name":"a","parameters":{{"type":"object","properties":{{}}}}}}}}]}}"#
                ),
            ),
        }
    }
}

/// Adds what trials show. A server that does not answer them now is asked again the next time.
async fn try_out(backend: &OpenAiBackend, model: &mut Model, trials: &[Trial]) {
    let shown = match backend.remembered(&model.name) {
        Some(shown) => shown,
        None => {
            let mut shown = Shown::default();
            for trial in trials {
                let (path, body) = trial.request(&model.name);
                match backend.ask(path, body).await {
                    Ok((200, _)) => shown.features = shown.features.with(trial.shows()),
                    Ok((408 | 425 | 429 | 500 | 502..=599, _))
                    | Err(BackendError::Timeout(_) | BackendError::Unreachable { .. }) => {
                        return;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            backend.remember(&model.name, shown);
            shown
        }
    };
    model.features = model.features.with(shown.features);
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn llamacpp_tells_slots_context_and_tools() {
        // Shape: github.com/ggml-org/llama.cpp, tools/server/README.md, "GET /props", and a server of October 2026.
        let props = br#"{"default_generation_settings":{"id":0,"n_ctx":1024,"params":{}},"total_slots":4,
            "model_path":"x.gguf","chat_template":"...","modalities":{"vision":true},
            "chat_template_caps":{"supports_tools":true,"supports_tool_calls":true}}"#;
        let mut models = vec![Model::named("x").unwrap()];
        read_props(&mut models, props);
        assert_eq!((models[0].slots, models[0].context), (Some(4), Some(1024)));
        assert!(models[0].features.contains(Features::VISION.with(Features::TOOLS)));
    }

    #[test]
    fn trials_are_requests() {
        for trial in [Trial::Embeddings, Trial::Tools] {
            let (_, body) = trial.request("a \"quoted\" name");
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
        }
    }
}
