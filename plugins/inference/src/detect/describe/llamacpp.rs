//! llama.cpp's server, alone with one model or as a router of several, and llama-swap in front of any servers.
//!
//! The last two load a model when it is asked for, and may put out another to make room. A model that rests is
//! therefore not asked about; what it showed when it was loaded is remembered, and until then it is said to do no more
//! than write text. Shapes: <https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md>,
//! <https://github.com/mostlygeek/llama-swap>.

use infernet_protocol::capability::Features;
use reqwest::Url;
use serde::Deserialize;

use super::trials::{Trial, try_out};
use super::{Listed, Shown, named, usual};
use crate::backend::Model;
use crate::detect::{BackendKind, List, read_list};
use crate::openai::OpenAiBackend;

/// What llama-swap's models are owned by, whatever runs them.
pub(in crate::detect) const SWAP_OWNER: &str = "llama-swap";

/// The models of its list, described.
pub(super) async fn describe(backend: &OpenAiBackend, list: List) -> Vec<Model> {
    if list.is_owned_by(SWAP_OWNER) {
        return swapped(backend, list).await;
    }
    if list.data.iter().any(|listed| listed.status.is_some()) {
        return routed(backend, list).await;
    }
    let mut models = named(list, usual(BackendKind::LlamaCpp));
    // An answer that does not come leaves the models as they were listed.
    let props = props(backend, "/props").await;
    for model in &mut models {
        if let Some(props) = &props {
            props.shown().give(model);
        }
        try_out(backend, model, &[Trial::Embeddings]).await;
    }
    models
}

/// A router: each model has a server of its own behind it.
async fn routed(backend: &OpenAiBackend, list: List) -> Vec<Model> {
    let mut models = Vec::new();
    for listed in list.data {
        let is_loaded = listed.status.as_ref().is_some_and(|status| status.value == "loaded");
        let Some(mut model) = listed.model(usual(BackendKind::LlamaCpp)) else {
            continue;
        };
        let query = |name: &str| {
            let url = Url::parse_with_params("http://x/props", [("model", name), ("autoload", "false")]).ok()?;
            Some(format!("/props?{}", url.query()?))
        };
        if let Some(shown) = backend.remembered(&model.name) {
            shown.give(&mut model);
        } else if is_loaded
            && let Some(path) = query(&model.name)
            && let Some(props) = props(backend, &path).await
        {
            let trial = try_out(backend, &mut model, &[Trial::Embeddings]).await;
            remember(backend, &mut model, props.shown(), trial);
        }
        models.push(model);
    }
    models
}

/// llama-swap: its list tells names only, and behind a name may be a server of any kind.
async fn swapped(backend: &OpenAiBackend, list: List) -> Vec<Model> {
    let mut models = named(list, usual(BackendKind::OpenAi));
    let running = running(backend).await;
    for model in &mut models {
        if let Some(shown) = backend.remembered(&model.name) {
            shown.give(model);
        } else if running.contains(&model.name)
            && let Some(shown) = behind(backend, &model.name).await
        {
            let trial = try_out(backend, model, &[Trial::Embeddings]).await;
            remember(backend, model, shown, trial);
        }
    }
    models
}

/// Keeps what was shown by routes and by a trial together; where the trial had no answer, another is made next time.
fn remember(backend: &OpenAiBackend, model: &mut Model, shown: Shown, trial: Option<Shown>) {
    let whole = Shown {
        features: shown.features.with(trial.unwrap_or_default().features),
        ..shown
    };
    whole.give(model);
    if trial.is_some() {
        backend.remember(&model.name, whole);
    }
}

/// Names of models that llama-swap has ready.
async fn running(backend: &OpenAiBackend) -> Vec<String> {
    #[derive(Deserialize)]
    struct Running {
        running: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        model: String,
        #[serde(default)]
        state: String,
    }
    let Ok(Some((_, body))) = backend.get("/running").await else {
        return Vec::new();
    };
    let running = serde_json::from_slice::<Running>(&body).map_or_else(|_| Vec::new(), |read| read.running);
    let ready = running.into_iter().filter(|entry| entry.state == "ready");
    ready.map(|entry| entry.model).collect()
}

/// What the server behind a model of llama-swap tells of itself.
async fn behind(backend: &OpenAiBackend, name: &str) -> Option<Shown> {
    if let Some(props) = props(backend, &format!("/upstream/{name}/props")).await {
        let mut shown = props.shown();
        shown.features = shown.features.with(usual(BackendKind::LlamaCpp));
        return Some(shown);
    }
    let (_, body) = backend.get(&format!("/upstream/{name}/v1/models")).await.ok()??;
    let list = read_list(&body).ok()?;
    let kind = list.kind_by_owner().unwrap_or(BackendKind::OpenAi);
    let listed: &Listed = list.data.first()?;
    Some(Shown {
        features: usual(kind),
        context: listed.max_model_len,
        slots: None,
    })
}

#[derive(Debug, Deserialize)]
struct Props {
    total_slots: u16,
    #[serde(default)]
    default_generation_settings: Settings,
    #[serde(default)]
    modalities: Modalities,
    #[serde(default)]
    chat_template_caps: Template,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    n_ctx: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
struct Modalities {
    #[serde(default)]
    vision: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Template {
    #[serde(default)]
    supports_tools: bool,
}

impl Props {
    fn shown(&self) -> Shown {
        let told = [
            (self.modalities.vision, Features::VISION),
            (self.chat_template_caps.supports_tools, Features::TOOLS),
        ];
        let told = told.into_iter().filter(|(holds, _)| *holds);
        Shown {
            features: told.fold(Features::default(), |features, (_, feature)| features.with(feature)),
            context: self.default_generation_settings.n_ctx,
            slots: Some(self.total_slots),
        }
    }
}

async fn props(backend: &OpenAiBackend, path: &str) -> Option<Props> {
    let (_, body) = backend.get(path).await.ok()??;
    serde_json::from_slice(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_slots_context_and_tools() {
        // Shape: github.com/ggml-org/llama.cpp, tools/server/README.md, "GET /props", and a server of October 2026.
        let props = br#"{"default_generation_settings":{"id":0,"n_ctx":1024,"params":{}},"total_slots":4,
            "model_path":"x.gguf","chat_template":"...","modalities":{"vision":true},
            "chat_template_caps":{"supports_tools":true,"supports_tool_calls":true}}"#;
        let mut model = Model::named("x").unwrap();
        serde_json::from_slice::<Props>(props).unwrap().shown().give(&mut model);
        assert_eq!((model.slots, model.context), (Some(4), Some(1024)));
        assert!(model.features.contains(Features::VISION.with(Features::TOOLS)));
    }
}
