//! The table of settings: names, environment variables, defaults.

use super::Backend;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in `config.toml`, with the section before the dot.
    pub name: &'static str,
    /// Environment variables beside `INFERNET_` and the name; the first that is set counts.
    pub aliases: &'static [&'static str],
    /// The default as it would be written; empty where there is none.
    pub default: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// What it does, in one line.
    pub about: &'static str,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One,
    /// A list; in the environment with commas between.
    Many,
    /// One value that is never shown.
    Secret,
}

impl Key {
    /// `INFERNET_` and the name in upper case.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("INFERNET_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The default as it would stand in `config.toml`.
    #[must_use]
    pub fn example(&self) -> String {
        match self.shape {
            Shape::Many => "[]".to_owned(),
            _ if self.default.parse::<u64>().is_ok() || self.default.parse::<bool>().is_ok() => self.default.to_owned(),
            _ => format!("\"{}\"", self.default),
        }
    }

    const fn new(name: &'static str, default: &'static str, about: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            default,
            shape: Shape::One,
            about,
        }
    }

    const fn many(mut self) -> Self {
        self.shape = Shape::Many;
        self
    }

    const fn secret(mut self) -> Self {
        self.shape = Shape::Secret;
        self
    }

    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// The parts of a provider's price: micro-USD per million input tokens, per million output tokens, per request.
pub const PRICE_KEYS: [&str; 3] = [
    "provider.price_input_microusd_per_mtok",
    "provider.price_output_microusd_per_mtok",
    "provider.price_request_microusd",
];
/// The parts of the most that a consumer pays.
pub const PRICE_CAP_KEYS: [&str; 3] = [
    "consumer.cap_input_microusd_per_mtok",
    "consumer.cap_output_microusd_per_mtok",
    "consumer.cap_request_microusd",
];

/// The most that is spent: per request, in any hour, in any day.
pub(super) const BUDGET_KEYS: [&str; 3] = [
    "consumer.budget_request_microusd",
    "consumer.budget_hour_microusd",
    "consumer.budget_day_microusd",
];

/// A service outside that answers where the network cannot.
pub(super) struct FallbackKeys {
    pub(super) name: &'static str,
    pub(super) api_key: &'static str,
    pub(super) url: &'static str,
    pub(super) model: &'static str,
}

/// In the order in which they are asked.
pub(super) const FALLBACKS: [FallbackKeys; 2] = [
    FallbackKeys {
        name: "nim",
        api_key: "fallback.nim_api_key",
        url: "fallback.nim_url",
        model: "fallback.nim_model",
    },
    FallbackKeys {
        name: "openai",
        api_key: "fallback.openai_api_key",
        url: "fallback.openai_url",
        model: "fallback.openai_model",
    },
];

/// Where one kind of engine is looked for.
pub(super) struct EngineKeys {
    pub(super) kind: Backend,
    pub(super) host: &'static str,
    pub(super) api_key: &'static str,
    pub(super) port: u16,
}

const fn engine(kind: Backend, host: &'static str, api_key: &'static str, port: u16) -> EngineKeys {
    EngineKeys {
        kind,
        host,
        api_key,
        port,
    }
}

/// In the order in which they are tried.
pub(super) const ENGINES: &[EngineKeys] = &[
    engine(Backend::Ollama, "engines.ollama_host", "engines.ollama_api_key", 11434),
    engine(Backend::Vllm, "engines.vllm_host", "engines.vllm_api_key", 8000),
    engine(Backend::Sglang, "engines.sglang_host", "engines.sglang_api_key", 30000),
    engine(Backend::Max, "engines.max_host", "engines.max_api_key", 8000),
    engine(
        Backend::Llamacpp,
        "engines.llamacpp_host",
        "engines.llamacpp_api_key",
        8080,
    ),
    engine(Backend::Openai, "engines.openai_host", "engines.openai_api_key", 80),
];

/// Every setting, in the order of `infernet config show`.
pub const KEYS: &[Key] = &[
    Key::new("network", "main", "network to join"),
    Key::new("role", "auto", "auto, provider, consumer or both"),
    Key::new("p2p.port", "46337", "TCP and UDP port, 0 for any"),
    Key::new("p2p.listen", "", "multiaddrs to listen on instead of all interfaces").many(),
    Key::new(
        "p2p.bootstrap",
        "",
        "nodes to join through: multiaddrs, `/dnsaddr/NAME`, `https://...` or `file:PATH` for a list",
    )
    .many()
    .or(&["INFERNET_BOOTSTRAP"]),
    Key::new("p2p.advertise", "true", "publish what this node serves"),
    Key::new("p2p.mdns", "true", "look for nodes on the local network"),
    Key::new("p2p.upnp", "true", "ask the router to open the port"),
    Key::new("provider.backend", "auto", "engine that runs the models").or(&["INFERNET_BACKEND"]),
    Key::new(
        "provider.model",
        "",
        "GGUF file for the embedded engine, or a directory with an embedding model",
    )
    .or(&["INFERNET_MODEL"]),
    Key::new("provider.slots", "", "requests at once; default what the engine says"),
    Key::new(
        "provider.stranger_slots",
        "4",
        "how many of them one unknown buyer may hold",
    ),
    Key::new("provider.public", "true", "let everybody see who buys from this node"),
    Key::new(PRICE_KEYS[0], "0", "asked per million input tokens, in micro-USD"),
    Key::new(PRICE_KEYS[1], "0", "asked per million output tokens, in micro-USD"),
    Key::new(PRICE_KEYS[2], "0", "asked per request, in micro-USD"),
    Key::new("consumer.policy", "balanced", "cheapest, balanced, fastest or trusted").or(&["INFERNET_POLICY"]),
    Key::new(
        PRICE_CAP_KEYS[0],
        "0",
        "most paid per million input tokens, in micro-USD",
    ),
    Key::new(
        PRICE_CAP_KEYS[1],
        "0",
        "most paid per million output tokens, in micro-USD",
    ),
    Key::new(PRICE_CAP_KEYS[2], "0", "most paid per request, in micro-USD"),
    Key::new(BUDGET_KEYS[0], "", "most that one request may cost, in micro-USD"),
    Key::new(BUDGET_KEYS[1], "", "most that is spent in any hour, in micro-USD"),
    Key::new(BUDGET_KEYS[2], "", "most that is spent in any 24 hours, in micro-USD"),
    Key::new(
        "consumer.failover",
        "true",
        "let another provider go on where one breaks off",
    ),
    Key::new(
        "consumer.hedging",
        "true",
        "ask a second provider where the first is later than it usually is",
    ),
    Key::new(
        "consumer.local_first",
        "false",
        "ask this node's own engines before the network",
    ),
    Key::new("consumer.public", "true", "let everybody see from whom this node buys"),
    Key::new(
        "consumer.names",
        "",
        "names for models, each with the models to try: `work = qwen2.5:7b > llama3.2`",
    )
    .many(),
    Key::new(
        "fallback.nim_api_key",
        "",
        "key of NVIDIA NIM, asked where the network cannot",
    )
    .secret()
    .or(&["NVIDIA_NIM_API_KEY"]),
    Key::new(
        "fallback.nim_url",
        "https://integrate.api.nvidia.com/v1",
        "where NIM answers",
    )
    .or(&["NVIDIA_NIM_API_URL"]),
    Key::new(
        "fallback.nim_model",
        "",
        "model it is asked for; default the one wanted",
    )
    .or(&["NVIDIA_NIM_DEFAULT_MODEL"]),
    Key::new(
        "fallback.openai_api_key",
        "",
        "key of another service with OpenAI's API, asked where the network cannot",
    )
    .secret(),
    Key::new("fallback.openai_url", "https://api.openai.com/v1", "where it answers"),
    Key::new(
        "fallback.openai_model",
        "",
        "model it is asked for; default the one wanted",
    ),
    Key::new(
        "chat.history",
        "false",
        "keep what is typed into `infernet chat` in a file of the home",
    ),
    Key::new("gateway.listen", "127.0.0.1:46338", "address of the local API, or off").or(&["INFERNET_GATEWAY"]),
    Key::new("gateway.api_key", "", "key that callers of the local API must send").secret(),
    Key::new("gateway.allowed_hosts", "", "further host names of the local API").many(),
    Key::new("gateway.cors_origins", "", "web pages that may call the local API").many(),
    Key::new("metrics.listen", "", "address for Prometheus, or off").or(&["INFERNET_METRICS"]),
    Key::new("log.level", "info", "error, warn, info, debug, trace, or a filter").or(&["INFERNET_LOG"]),
    Key::new(
        "hub.endpoint",
        "https://huggingface.co",
        "where `model pull hf:` downloads from",
    )
    .or(&["HF_ENDPOINT"]),
    Key::new("hub.token", "", "token for models that are gated or private")
        .secret()
        .or(&["HF_TOKEN"]),
    Key::new("engines.prefer", "", "engine that goes before all others").or(&["INFERNET_ENGINE_BACKEND"]),
    Key::new("engines.ollama_host", "127.0.0.1:11434", "where Ollama answers").or(&["OLLAMA_HOST"]),
    Key::new("engines.ollama_api_key", "", "its key")
        .secret()
        .or(&["OLLAMA_API_KEY"]),
    Key::new("engines.vllm_host", "127.0.0.1:8000", "where vLLM answers").or(&["VLLM_HOST"]),
    Key::new("engines.vllm_api_key", "", "its key")
        .secret()
        .or(&["VLLM_API_KEY"]),
    Key::new("engines.sglang_host", "127.0.0.1:30000", "where SGLang answers").or(&["SGLANG_HOST"]),
    Key::new("engines.sglang_api_key", "", "its key")
        .secret()
        .or(&["SGLANG_API_KEY"]),
    Key::new("engines.max_host", "127.0.0.1:8000", "where Modular MAX answers").or(&["MODULAR_MAX_HOST"]),
    Key::new("engines.max_api_key", "", "its key")
        .secret()
        .or(&["MODULAR_MAX_API_KEY", "MAX_API_KEY"]),
    Key::new(
        "engines.llamacpp_host",
        "127.0.0.1:8080",
        "where llama.cpp's server answers",
    )
    .or(&["LLAMACPP_HOST"]),
    Key::new("engines.llamacpp_api_key", "", "its key")
        .secret()
        .or(&["LLAMACPP_API_KEY"]),
    Key::new("engines.openai_host", "", "any other server with OpenAI's routes").or(&["INFERNET_OPENAI_HOST"]),
    Key::new("engines.openai_api_key", "", "its key")
        .secret()
        .or(&["INFERNET_OPENAI_API_KEY"]),
];
