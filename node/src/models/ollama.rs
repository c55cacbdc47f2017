//! Ollama's own models, by its own API: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use indicatif::ProgressBar;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::hub::innermost;
use crate::config::Engine;

/// Longest answer that is one document: a list of models, or a model with its template and licence.
const DOCUMENT_BYTES: usize = 4 << 20;
/// Longest line of a stream: a few words, a digest and two numbers.
const LINE_BYTES: usize = 64 * 1024;

/// Why Ollama did not do it.
#[derive(Debug, thiserror::Error)]
pub enum OllamaError {
    /// Nothing answers there.
    #[error("Ollama cannot be reached at `{url}` ({reason}): start it, set OLLAMA_HOST, or use `hf:owner/name`")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// It says why not.
    #[error("Ollama says: {0}")]
    Said(String),
    /// It has no such model.
    #[error("there is no model `{0}`, here or in Ollama: see `infernet model list`")]
    NoModel(String),
    /// What it said cannot be read, or ended early.
    #[error("Ollama's answer broke off ({0}): run the same again, and it goes on where it ended")]
    Broken(String),
}

/// A model that Ollama has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tag {
    /// Its name, with the tag.
    pub name: String,
    /// Bytes of its files.
    #[serde(default)]
    pub size: u64,
    /// SHA-256 of its manifest.
    #[serde(default)]
    pub digest: String,
}

/// A line of the stream of `/api/pull`.
#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    status: String,
    error: Option<String>,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    completed: u64,
}

/// An Ollama.
#[derive(Debug, Clone)]
pub struct Ollama {
    client: Client,
    engine: Engine,
}

impl Ollama {
    /// The one at this address.
    pub fn new(engine: &Engine) -> Result<Self, OllamaError> {
        let client = super::client().map_err(|error| OllamaError::Unreachable {
            url: engine.url.clone(),
            reason: innermost(&error),
        })?;
        Ok(Self {
            client,
            engine: engine.clone(),
        })
    }

    /// What it has.
    pub async fn tags(&self) -> Result<Vec<Tag>, OllamaError> {
        #[derive(Deserialize)]
        struct Tags {
            models: Vec<Tag>,
        }
        let document = self.send(self.request(Method::GET, "/api/tags"), "").await?;
        let tags: Tags = serde_json::from_value(read(document).await?).map_err(unreadable)?;
        Ok(tags.models)
    }

    /// What it says of a model.
    pub async fn show(&self, name: &str) -> Result<Value, OllamaError> {
        let request = self.request(Method::POST, "/api/show").json(&json!({ "model": name }));
        read(self.send(request, name).await?).await
    }

    /// Removes a model.
    pub async fn delete(&self, name: &str) -> Result<(), OllamaError> {
        let request = self
            .request(Method::DELETE, "/api/delete")
            .json(&json!({ "model": name }));
        self.send(request, name).await.map(|_| ())
    }

    /// Has it pull a model, and tells `progress` how far it is.
    pub async fn pull(&self, name: &str, progress: &ProgressBar) -> Result<(), OllamaError> {
        let body = json!({ "model": name, "stream": true });
        let request = self.request(Method::POST, "/api/pull").json(&body);
        let mut response = self.send(request, name).await?;
        let (mut pending, mut success) = (Vec::new(), false);
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                success |= step(&line, progress)?;
            }
            if pending.len() > LINE_BYTES {
                return Err(OllamaError::Broken("a line has no end".to_owned()));
            }
        }
        success |= step(&pending, progress)?;
        match success {
            true => Ok(()),
            false => Err(OllamaError::Broken("it ended early".to_owned())),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.engine.url));
        match &self.engine.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder, name: &str) -> Result<Response, OllamaError> {
        let response = request.send().await.map_err(|error| OllamaError::Unreachable {
            url: self.engine.url.clone(),
            reason: innermost(&error),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == reqwest::StatusCode::NOT_FOUND {
            return Err(OllamaError::NoModel(name.to_owned()));
        }
        let said = read(response).await.ok();
        let said = said.as_ref().and_then(|body| body["error"].as_str()).map(str::to_owned);
        Err(OllamaError::Said(
            said.unwrap_or_else(|| format!("status {}", status.as_u16())),
        ))
    }
}

/// Reads one line; whether it is the last of a success.
fn step(line: &[u8], progress: &ProgressBar) -> Result<bool, OllamaError> {
    if line.trim_ascii().is_empty() {
        return Ok(false);
    }
    let step: Step = serde_json::from_slice(line).map_err(unreadable)?;
    if let Some(error) = step.error {
        return Err(OllamaError::Said(error));
    }
    if step.total > 0 {
        progress.set_length(step.total);
        progress.set_position(step.completed);
    }
    let success = step.status == "success";
    progress.set_message(step.status);
    Ok(success)
}

async fn read(mut response: Response) -> Result<Value, OllamaError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > DOCUMENT_BYTES {
            return Err(OllamaError::Broken("it is too long".to_owned()));
        }
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> OllamaError {
    OllamaError::Broken(error.to_string())
}

fn broken(error: &reqwest::Error) -> OllamaError {
    OllamaError::Broken(innermost(error))
}
