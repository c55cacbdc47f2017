//! Small requests whose answers show what a model can do, where nothing tells.

use infernet_protocol::capability::Features;

use super::Shown;
use crate::backend::{BackendError, Model};
use crate::json::quoted;
use crate::openai::OpenAiBackend;

/// A white square: 56 pixels a side are two patches of the models that want the largest ones.
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAADgAAAA4AQAAAACA/QazAAAAEElEQVR42mP4DwEMo/SQpAG+u4aIVGNb8gAAAABJRU5ErkJggg==";

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trial {
    Embeddings,
    Tools,
    Vision,
}

impl Trial {
    fn shows(self) -> Features {
        match self {
            Self::Embeddings => Features::EMBEDDINGS,
            Self::Tools => Features::TOOLS,
            Self::Vision => Features::VISION,
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
            Self::Vision => (
                "/v1/chat/completions",
                format!(
                    r#"{{"model":{name},"max_tokens":1,"messages":[{{"role":"user","content":[{{"type":"text","text":"a"}},{{"type":"image_url","image_url":{{"url":"{IMAGE}"}}}}]}}]}}"#
                ),
            ),
        }
    }
}

/// Adds what trials show, and gives it. A server that does not answer them now is asked again the next time.
pub(super) async fn try_out(backend: &OpenAiBackend, model: &mut Model, trials: &[Trial]) -> Option<Shown> {
    let shown = match backend.remembered(&model.name) {
        Some(shown) => shown,
        None => {
            let mut shown = Shown::default();
            let mut answers = false;
            for trial in trials {
                let (path, body) = trial.request(&model.name);
                match backend.ask(path, body).await {
                    Ok((200, _)) => shown.features = shown.features.with(trial.shows()),
                    // Some servers fall over what they cannot do: where others were answered, that is an answer.
                    Ok((500, _)) if answers => {}
                    Ok((408 | 425 | 429 | 500 | 502..=599, _))
                    | Err(BackendError::Timeout(_) | BackendError::Unreachable { .. }) => return None,
                    Ok(_) | Err(_) => {}
                }
                answers = true;
            }
            backend.remember(&model.name, shown);
            shown
        }
    };
    shown.give(model);
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_requests() {
        for trial in [Trial::Embeddings, Trial::Tools, Trial::Vision] {
            let (_, body) = trial.request("a \"quoted\" name");
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
        }
    }
}
