//! Which engines there are, where they usually listen, and how one is told from another by what it answers.
//!
//! Reading the environment is the configuration's affair: its values are arguments here.

mod describe;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::backend::{Backend, BackendError, Model};
use crate::openai::OpenAiBackend;
pub(crate) use describe::Shown;

/// A response header that every gateway of this network sets.
pub const GATEWAY_HEADER: &str = "x-infernet-gateway";

/// What `--backend` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// Whatever answers.
    Auto,
    /// The engine in this process.
    Embedded,
    /// Ollama.
    Ollama,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Modular MAX.
    Max,
    /// llama.cpp's server.
    LlamaCpp,
    /// Any other server with OpenAI's API.
    OpenAi,
    /// Nothing: the node does not provide.
    None,
}

impl BackendKind {
    /// All of them, in the order in which they are named to users.
    pub const ALL: [Self; 9] = [
        Self::Auto,
        Self::Embedded,
        Self::Ollama,
        Self::Vllm,
        Self::Sglang,
        Self::Max,
        Self::LlamaCpp,
        Self::OpenAi,
        Self::None,
    ];

    /// Servers that are looked for, in this order.
    pub const SERVERS: [Self; 6] = [
        Self::Ollama,
        Self::Vllm,
        Self::Sglang,
        Self::Max,
        Self::LlamaCpp,
        Self::OpenAi,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Max => "max",
            Self::LlamaCpp => "llamacpp",
            Self::OpenAi => "openai",
            Self::None => "none",
        }
    }

    /// The port it usually has on this machine; any other OpenAI server has none.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Ollama => Some(11434),
            Self::Vllm | Self::Max => Some(8000),
            Self::Sglang => Some(30000),
            Self::LlamaCpp => Some(8080),
            Self::Auto | Self::Embedded | Self::OpenAi | Self::None => None,
        }
    }

    /// The environment variables that name its address and its key.
    #[must_use]
    pub fn variables(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ollama => Some(("OLLAMA_HOST", "OLLAMA_API_KEY")),
            Self::Vllm => Some(("VLLM_HOST", "VLLM_API_KEY")),
            Self::Sglang => Some(("SGLANG_HOST", "SGLANG_API_KEY")),
            Self::Max => Some(("MODULAR_MAX_HOST", "MAX_API_KEY")),
            Self::LlamaCpp => Some(("LLAMACPP_HOST", "LLAMACPP_API_KEY")),
            Self::OpenAi => Some(("INFERNET_OPENAI_HOST", "INFERNET_OPENAI_API_KEY")),
            Self::Auto | Self::Embedded | Self::None => None,
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No backend has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no backend `{0}`; choose auto, embedded, ollama, vllm, sglang, max, llamacpp, openai or none")]
pub struct UnknownBackend(String);

impl FromStr for BackendKind {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownBackend(name.to_owned()))
    }
}

/// Where a server may be.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What is expected there.
    pub kind: BackendKind,
    /// Its base address.
    pub address: String,
    /// Its key.
    pub api_key: Option<String>,
    /// Whether somebody named it, so that its absence is worth a word.
    pub named: bool,
}

impl fmt::Debug for Candidate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("kind", &self.kind)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Where servers of `kind`, or with `auto` of every kind, may be. `env` looks a variable up.
pub fn candidates(kind: BackendKind, env: impl Fn(&str) -> Option<String>) -> Vec<Candidate> {
    let env = |name: &str| {
        env(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    };
    let candidate = |kind: BackendKind| {
        let (host, key) = kind.variables()?;
        let host = env(host);
        let address = match &host {
            Some(host) => base_address(host, kind.port()),
            None => format!("http://127.0.0.1:{}", kind.port()?),
        };
        Some(Candidate {
            kind,
            address,
            api_key: env(key),
            named: host.is_some(),
        })
    };
    let kinds = BackendKind::SERVERS
        .into_iter()
        .filter(|known| kind == BackendKind::Auto || *known == kind);
    let mut found: Vec<Candidate> = kinds.filter_map(candidate).collect();
    // vLLM and MAX share a port: one look tells which it is.
    let mut seen = std::collections::HashSet::new();
    found.retain(|candidate| seen.insert(candidate.address.clone()));
    found
}

/// `OLLAMA_HOST` and its like hold a host, a host with a port, or an address; `0.0.0.0` means that the server listens
/// everywhere, so it is found here.
fn base_address(host: &str, port: Option<u16>) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let bare_v6 = !authority.starts_with('[') && authority.matches(':').count() > 1;
    let mut authority = if bare_v6 {
        format!("[{authority}]")
    } else {
        authority.to_owned()
    };
    if let Some(port) = port.filter(|_| !host.contains("://") && (bare_v6 || !after_brackets.contains(':'))) {
        authority = format!("{authority}:{port}");
    }
    let authority = match authority.strip_prefix("0.0.0.0") {
        Some(rest) => format!("127.0.0.1{rest}"),
        None => authority.replace("[::]", "[::1]"),
    };
    format!("{scheme}://{authority}/{path}")
        .trim_end_matches('/')
        .to_owned()
}

/// A server that answers.
#[derive(Clone, Debug)]
pub struct Detected {
    /// What it turned out to be.
    pub kind: BackendKind,
    /// It.
    pub backend: Arc<dyn Backend>,
    /// What it serves.
    pub models: Vec<Model>,
}

/// How long an address may take to accept a connection before nobody listens there.
const LISTENS_WITHIN: Duration = Duration::from_secs(2);

/// Whether anything accepts connections at a candidate's address: a cheap question, which can be asked every few seconds.
pub async fn listens(candidate: &Candidate) -> bool {
    let Ok(url) = reqwest::Url::parse(&candidate.address) else {
        return false;
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connecting = tokio::net::TcpStream::connect((host, port));
    matches!(tokio::time::timeout(LISTENS_WITHIN, connecting).await, Ok(Ok(_)))
}

/// Asks a candidate what it is and what it serves.
pub async fn probe(candidate: &Candidate) -> Result<Detected, BackendError> {
    let key = candidate.api_key.as_deref();
    let backend = OpenAiBackend::new(candidate.kind, &candidate.address, key)?;
    let list = list(&backend).await?;
    let kind = identify(&backend, &list).await;
    let backend = OpenAiBackend::new(kind, &candidate.address, key)?;
    let models = describe::models(&backend, kind, list).await;
    Ok(Detected {
        kind,
        backend: Arc::new(backend),
        models,
    })
}

/// Everything that answers, in the order of interfaces; what was named by somebody and does not answer is told beside.
pub async fn probe_all(candidates: Vec<Candidate>) -> (Vec<Detected>, Vec<(Candidate, BackendError)>) {
    let probes = candidates.into_iter().map(|candidate| async move {
        let probed = probe(&candidate).await;
        (candidate, probed)
    });
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for (candidate, probed) in futures::future::join_all(probes).await {
        match probed {
            Ok(detected) => found.push(detected),
            Err(error) if candidate.named => absent.push((candidate, error)),
            Err(_) => {}
        }
    }
    (found, absent)
}

/// What a server serves now.
pub(crate) async fn models(backend: &OpenAiBackend) -> Result<Vec<Model>, BackendError> {
    let list = list(backend).await?;
    // A server that was named as any of them may still be one whose ways are known.
    let kind = match backend.kind() {
        BackendKind::OpenAi => identify(backend, &list).await,
        kind => kind,
    };
    Ok(describe::models(backend, kind, list).await)
}

/// `GET /v1/models`, as far as engines agree on it and a little beyond.
#[derive(Clone, Debug, Default, Deserialize)]
struct List {
    #[serde(default)]
    data: Vec<Listed>,
}

#[derive(Clone, Debug, Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
    /// vLLM and SGLang.
    #[serde(default)]
    max_model_len: Option<u32>,
    /// llama.cpp.
    #[serde(default)]
    meta: Option<Meta>,
    /// llama.cpp as a router of several models.
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Meta {
    #[serde(default)]
    ftype: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    value: String,
}

impl List {
    fn owner(&self) -> &str {
        let first = self.data.first();
        first.and_then(|listed| listed.owned_by.as_deref()).unwrap_or_default()
    }

    fn is_owned_by(&self, owner: &str) -> bool {
        self.owner() == owner
    }

    /// The kind of engine whose name its models bear.
    fn kind_by_owner(&self) -> Option<BackendKind> {
        match self.owner() {
            "vllm" => Some(BackendKind::Vllm),
            "sglang" => Some(BackendKind::Sglang),
            "llamacpp" | describe::llamacpp::SWAP_OWNER => Some(BackendKind::LlamaCpp),
            _ => None,
        }
    }
}

fn read_list(body: &[u8]) -> Result<List, BackendError> {
    serde_json::from_slice(body).map_err(|_| BackendError::Broken("its list of models is not one"))
}

async fn list(backend: &OpenAiBackend) -> Result<List, BackendError> {
    let Some((headers, body)) = backend.get("/v1/models").await? else {
        return Err(BackendError::Broken("it does not list its models at /v1/models"));
    };
    let list = read_list(&body)?;
    let ours = |listed: &Listed| listed.owned_by.as_deref() == Some("infernet");
    if headers.contains_key(GATEWAY_HEADER) || list.data.iter().any(ours) {
        return Err(BackendError::Loop {
            address: backend.address().to_owned(),
        });
    }
    Ok(list)
}

/// Told apart by `owned_by`, then by routes that only one of them has; what stays unknown is what it was taken for,
/// unless it was only looked for at a port.
async fn identify(backend: &OpenAiBackend, list: &List) -> BackendKind {
    if let Some(kind) = list.kind_by_owner() {
        return kind;
    }
    let has = async |path, field: &str| {
        let body = backend.get(path).await.ok().flatten().map(|(_, body)| body);
        body.is_some_and(|body| crate::json::Object::read(&body).is_ok_and(|object| object.get(field).is_some()))
    };
    if has("/api/version", "version").await {
        return BackendKind::Ollama;
    }
    if has("/props", "total_slots").await {
        return BackendKind::LlamaCpp;
    }
    match backend.kind() {
        BackendKind::Max => BackendKind::Max,
        // MAX names no owner of its own and shares vLLM's port.
        BackendKind::Vllm => BackendKind::Max,
        _ => BackendKind::OpenAi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in BackendKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!(
            "llama"
                .parse::<BackendKind>()
                .unwrap_err()
                .to_string()
                .contains("llamacpp")
        );
    }

    #[test]
    fn addresses_are_read_as_engines_write_them() {
        for (host, address) in [
            ("gpu-box", "http://gpu-box:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:9", "http://127.0.0.1:9"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("http://x:1/", "http://x:1"),
            ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1"),
            ("[::1]", "http://[::1]:11434"),
            ("[::]:7", "http://[::1]:7"),
            ("::1", "http://[::1]:11434"),
        ] {
            assert_eq!(base_address(host, Some(11434)), address, "{host}");
        }
    }

    #[test]
    fn the_environment_names_servers_and_keys() {
        let env = |name: &str| match name {
            "VLLM_HOST" => Some("gpu:9000".to_owned()),
            "VLLM_API_KEY" => Some("secret-key".to_owned()),
            "OLLAMA_HOST" => Some("  ".to_owned()),
            _ => None,
        };
        let found = candidates(BackendKind::Auto, env);
        let told: Vec<_> = found
            .iter()
            .map(|c| (c.kind.as_str(), c.address.as_str(), c.named))
            .collect();
        let expected = [
            ("ollama", "http://127.0.0.1:11434", false),
            ("vllm", "http://gpu:9000", true),
            ("sglang", "http://127.0.0.1:30000", false),
            ("max", "http://127.0.0.1:8000", false),
            ("llamacpp", "http://127.0.0.1:8080", false),
        ];
        assert_eq!(told, expected);
        assert_eq!(found[1].api_key.as_deref(), Some("secret-key"));
        assert!(!format!("{found:?}").contains("secret-key"));
        assert_eq!(
            candidates(BackendKind::Auto, |_| None).len(),
            4,
            "vLLM and MAX share a port"
        );
        assert_eq!(candidates(BackendKind::OpenAi, |_| None), []);
        assert_eq!(candidates(BackendKind::Embedded, |_| None), []);
    }
}
