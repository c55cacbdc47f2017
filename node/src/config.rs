//! Every setting of a node, resolved once: defaults, then `config.toml`, then the environment, then flags.
//!
//! The settings stand in `keys`, where each comes from is worked out in `layers`, and this file gives them their types.
//! Nothing else in the project reads the environment.

mod edit;
mod keys;
mod layers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use infernet_protocol::auction::Policy;
use infernet_protocol::{MicroUsd, Network, Price};

pub use edit::set;
pub use keys::{KEYS, Key, PRICE_CAP_KEYS, PRICE_KEYS};
pub use layers::{Environment, Origin, Overrides, Raw, Setting};

use crate::home::{Home, HomeError};
use crate::joining::{Source, SourceError};
use crate::routing::Names;
use crate::spending::Limits;

/// Why the configuration cannot be used. Each names the place to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file is no TOML.
    #[error("`{path}` is not valid TOML: {error}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// The file has a key that means nothing.
    #[error("`{path}` has an unknown key `{key}`{}", .nearest.map_or_else(
        || ": `infernet config show` lists every key".to_owned(), |near| format!(": did you mean `{near}`?")))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that is spelled most like it.
        nearest: Option<&'static str>,
    },
    /// The file is written in a way that cannot be changed here.
    #[error("`{key}` cannot be set in `{path}` as it is written: change it there by hand")]
    Edit {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: &'static str,
    },
    /// A value that the setting cannot take.
    #[error("`{key}` cannot be `{value}` (from {origin}): {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What it was given; hidden for secrets.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// What it must be.
        why: String,
    },
}

/// Declares an enumeration of words.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),+
        }

        impl $name {
            /// Every word, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in files and on the command line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("use one of {}", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words! {
    /// What a node does on the market.
    pub enum Role {
        /// A provider where a real engine answers, else a consumer.
        Auto => "auto",
        /// Sells.
        Provider => "provider",
        /// Buys.
        Consumer => "consumer",
        /// Sells and buys.
        Both => "both",
    }
}

words! {
    /// Which engine runs the models.
    pub enum Backend {
        /// Every real engine that answers; embedded models only locally.
        Auto => "auto",
        /// The engine inside this program.
        Embedded => "embedded",
        /// Ollama.
        Ollama => "ollama",
        /// vLLM.
        Vllm => "vllm",
        /// SGLang.
        Sglang => "sglang",
        /// Modular MAX.
        Max => "max",
        /// The server of llama.cpp.
        Llamacpp => "llamacpp",
        /// Any other server with OpenAI's routes.
        Openai => "openai",
        /// None.
        None => "none",
    }
}

/// A text that no log and no screen shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever must send or compare it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// Every setting with its type.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network to join.
    pub network: Network,
    /// What the node does.
    pub role: Role,
    /// How it meets others.
    pub p2p: P2p,
    /// What it sells.
    pub provider: Provider,
    /// How it buys.
    pub consumer: Consumer,
    /// Conversations on this terminal.
    pub chat: Chat,
    /// The HTTP edge for local programs.
    pub gateway: Gateway,
    /// Where Prometheus reads; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where engines are looked for.
    pub engines: Engines,
    /// Where models are downloaded from.
    pub hub: Hub,
    /// What is logged, as a `tracing` filter such as `info` or `infernet_node=debug`.
    pub log: String,
}

/// How a node meets others.
#[derive(Clone, Debug)]
pub struct P2p {
    /// TCP and UDP port on all interfaces; 0 is any.
    pub port: u16,
    /// Multiaddrs to listen on instead of all interfaces.
    pub listen: Vec<String>,
    /// Where nodes to join through are found.
    pub bootstrap: Vec<Source>,
    /// Whether the node's ad is published.
    pub advertise: bool,
    /// Whether nodes on the local network are looked for.
    pub mdns: bool,
    /// Whether the router is asked to open the port.
    pub upnp: bool,
}

/// What a node sells.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Which engine.
    pub backend: Backend,
    /// A GGUF file for the embedded engine, or a directory with an embedding model; `None` is the demo model.
    pub model: Option<PathBuf>,
    /// Requests at once; `None` is what the engine says.
    pub slots: Option<u32>,
    /// How many of them one unknown buyer may hold.
    pub stranger_slots: u32,
    /// Whether deals may be seen by everybody.
    pub public: bool,
    /// What is asked.
    pub price: Price,
}

/// How a node buys.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// What it cares about.
    pub policy: Policy,
    /// The most it pays.
    pub price_cap: Price,
    /// The most it spends.
    pub budget: Limits,
    /// Whether deals may be seen by everybody.
    pub public: bool,
    /// Whether another provider may go on where one breaks off.
    pub failover: bool,
    /// Whether a second provider may be asked where the first is late.
    pub hedging: bool,
    /// Whether this node's own engines are asked before the network.
    pub local_first: bool,
    /// Names for models.
    pub names: Names,
    /// Services outside that are asked where the network cannot answer.
    pub fallbacks: Vec<Fallback>,
}

/// A service outside the network; it has a key, or it is not there.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// What it is called.
    pub name: &'static str,
    /// Base URL.
    pub url: String,
    /// Sent as a bearer token.
    pub api_key: Secret,
    /// The model that it is asked for; `None` is the one that was wanted.
    pub model: Option<String>,
}

/// Conversations on this terminal.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Whether what is typed is kept on disk.
    pub history: bool,
}

/// The HTTP edge for local programs.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Where it listens; `None` is nowhere. Port 0 is any.
    pub listen: Option<SocketAddr>,
    /// The key that callers must send; needed for any address but loopback.
    pub api_key: Option<Secret>,
    /// Host names beside loopback's that requests may be addressed to.
    pub allowed_hosts: Vec<String>,
    /// Web pages that may call it.
    pub cors_origins: Vec<String>,
    /// Whether it runs batches: not where it is up for one question only.
    pub batches: bool,
}

/// Where models are downloaded from.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Base URL of Hugging Face, or of a mirror.
    pub endpoint: String,
    /// Sent to it, and to nobody else, as a bearer token.
    pub token: Option<Secret>,
}

/// Where engines are looked for.
#[derive(Clone, Debug)]
pub struct Engines {
    /// The engine that goes before all others.
    pub prefer: Option<Backend>,
    /// One entry per kind of engine, in the order in which they are tried.
    pub hosts: Vec<Engine>,
}

/// One engine's address.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Which engine.
    pub kind: Backend,
    /// Base URL, without a trailing slash.
    pub url: String,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// Whether somebody named this address, so that silence there is worth a warning.
    pub named: bool,
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The typed values.
    pub config: Config,
    /// The same, key by key, as they were written.
    pub settings: Vec<Setting>,
    /// What somebody should look at: variables that mean nothing.
    pub warnings: Vec<String>,
}

/// Resolves every setting.
pub fn load(home: &Home, environment: &Environment, flags: &Overrides) -> Result<Resolved, ConfigError> {
    let layers::Layers { settings, warnings } = layers::resolve(home, environment, flags)?;
    let values = Values(&settings);
    let price = |keys: [&'static str; 3]| -> Result<Price, ConfigError> {
        Ok(Price {
            input: MicroUsd(values.parse(keys[0])?),
            output: MicroUsd(values.parse(keys[1])?),
            request: MicroUsd(values.parse(keys[2])?),
        })
    };
    let config = Config {
        network: values.parse("network")?,
        role: values.parse("role")?,
        p2p: P2p {
            port: values.parse("p2p.port")?,
            listen: values.multiaddrs("p2p.listen")?,
            bootstrap: values.sources("p2p.bootstrap")?,
            advertise: values.parse("p2p.advertise")?,
            mdns: values.parse("p2p.mdns")?,
            upnp: values.parse("p2p.upnp")?,
        },
        provider: Provider {
            backend: values.parse("provider.backend")?,
            model: values.optional("provider.model")?,
            slots: values.positive("provider.slots")?,
            stranger_slots: values.parse("provider.stranger_slots")?,
            public: values.parse("provider.public")?,
            price: price(keys::PRICE_KEYS)?,
        },
        consumer: Consumer {
            policy: values.parse("consumer.policy")?,
            price_cap: price(keys::PRICE_CAP_KEYS)?,
            budget: Limits {
                request: values.optional(keys::BUDGET_KEYS[0])?.map(MicroUsd),
                hour: values.optional(keys::BUDGET_KEYS[1])?.map(MicroUsd),
                day: values.optional(keys::BUDGET_KEYS[2])?.map(MicroUsd),
            },
            public: values.parse("consumer.public")?,
            failover: values.parse("consumer.failover")?,
            hedging: values.parse("consumer.hedging")?,
            local_first: values.parse("consumer.local_first")?,
            names: values.names("consumer.names")?,
            fallbacks: values.fallbacks()?,
        },
        chat: Chat {
            history: values.parse("chat.history")?,
        },
        gateway: values.gateway()?,
        metrics: values.address("metrics.listen")?,
        engines: values.engines()?,
        hub: Hub {
            endpoint: values.parse("hub.endpoint")?,
            token: values.secret("hub.token"),
        },
        log: values.parse("log.level")?,
    };
    Ok(Resolved {
        config,
        settings,
        warnings,
    })
}

/// Typed access to resolved settings.
struct Values<'a>(&'a [Setting]);

impl Values<'_> {
    fn setting(&self, key: &str) -> &Setting {
        // Every key that is asked for stands in the table: the test below reads them all.
        self.0
            .iter()
            .find(|setting| setting.key.name == key)
            .unwrap_or_else(|| unreachable!("`{key}` is not a setting"))
    }

    fn wrong(setting: &Setting, why: impl ToString) -> ConfigError {
        ConfigError::Value {
            key: setting.key.name,
            value: setting.shown(),
            origin: setting.origin.clone(),
            why: why.to_string(),
        }
    }

    fn parse<T: FromStr<Err: ToString>>(&self, key: &str) -> Result<T, ConfigError> {
        let setting = self.setting(key);
        setting
            .raw
            .text()
            .parse()
            .map_err(|why: T::Err| Self::wrong(setting, why.to_string()))
    }

    fn optional<T: FromStr<Err: ToString>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        if self.setting(key).raw.text().is_empty() {
            Ok(None)
        } else {
            self.parse(key).map(Some)
        }
    }

    fn positive(&self, key: &str) -> Result<Option<u32>, ConfigError> {
        match self.optional(key)? {
            Some(0) => Err(Self::wrong(self.setting(key), "use a number of at least 1")),
            number => Ok(number),
        }
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.setting(key).raw.list()
    }

    fn multiaddrs(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let list = self.list(key);
        match list.iter().find(|address| !address.starts_with('/')) {
            Some(_) => Err(Self::wrong(
                self.setting(key),
                "use multiaddrs such as `/ip4/203.0.113.7/tcp/46337/p2p/16Uiu2...`",
            )),
            None => Ok(list),
        }
    }

    fn sources(&self, key: &str) -> Result<Vec<Source>, ConfigError> {
        let parsed = self.list(key).into_iter().map(|text| {
            let wrong =
                |why: SourceError| Self::wrong(self.setting(key), format!("`{text}` is no place to join: {why}"));
            text.parse().map_err(wrong)
        });
        parsed.collect()
    }

    /// An address to listen on; `off` and nothing at all are none.
    fn address(&self, key: &str) -> Result<Option<SocketAddr>, ConfigError> {
        let setting = self.setting(key);
        match setting.raw.text() {
            "" | "off" => Ok(None),
            text => {
                let text = text
                    .strip_prefix("localhost")
                    .map_or_else(|| text.to_owned(), |rest| format!("127.0.0.1{rest}"));
                let parsed = text.parse().map(Some);
                parsed.map_err(|_| {
                    Self::wrong(
                        setting,
                        "use an address with a port such as `127.0.0.1:46338`, or `off`",
                    )
                })
            }
        }
    }

    fn gateway(&self) -> Result<Gateway, ConfigError> {
        Ok(Gateway {
            listen: self.address("gateway.listen")?,
            api_key: self.secret("gateway.api_key"),
            allowed_hosts: self.list("gateway.allowed_hosts"),
            cors_origins: self.list("gateway.cors_origins"),
            batches: true,
        })
    }

    fn secret(&self, key: &str) -> Option<Secret> {
        let text = self.setting(key).raw.text();
        (!text.is_empty()).then(|| Secret::new(text))
    }

    fn names(&self, key: &str) -> Result<Names, ConfigError> {
        Names::parse(&self.list(key)).map_err(|why| Self::wrong(self.setting(key), why))
    }

    fn fallbacks(&self) -> Result<Vec<Fallback>, ConfigError> {
        let mut fallbacks = Vec::new();
        for service in keys::FALLBACKS {
            let Some(api_key) = self.secret(service.api_key) else {
                continue;
            };
            let url = self.setting(service.url);
            fallbacks.push(Fallback {
                name: service.name,
                url: base_url(url.raw.text(), 443).map_err(|why| Self::wrong(url, why))?,
                api_key,
                model: self.optional(service.model)?,
            });
        }
        Ok(fallbacks)
    }

    fn engines(&self) -> Result<Engines, ConfigError> {
        let prefer: Option<Backend> = self.optional("engines.prefer")?;
        let mut hosts = Vec::new();
        for engine in keys::ENGINES {
            let setting = self.setting(engine.host);
            if setting.raw.text().is_empty() {
                continue;
            }
            hosts.push(Engine {
                kind: engine.kind,
                url: base_url(setting.raw.text(), engine.port).map_err(|why| Self::wrong(setting, why))?,
                api_key: self.secret(engine.api_key),
                named: setting.origin != Origin::Default,
            });
        }
        hosts.sort_by_key(|host| Some(host.kind) != prefer);
        Ok(Engines { prefer, hosts })
    }
}

/// An engine's base URL from what people write: a URL, `host:port`, a host, or the address that a server was told to
/// listen on.
fn base_url(text: &str, default_port: u16) -> Result<String, &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err("use an address such as `http://127.0.0.1:11434`"),
        None => ("http", text),
    };
    let rest = rest.trim_end_matches('/');
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains(char::is_whitespace) {
        return Err("use an address such as `http://127.0.0.1:11434`");
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if has_port || scheme == "https" {
        authority.to_owned()
    } else {
        format!("{authority}:{default_port}")
    };
    // A server that listens everywhere is reached on this machine.
    let authority = authority
        .strip_prefix("0.0.0.0:")
        .map_or(authority.clone(), |port| format!("127.0.0.1:{port}"));
    Ok(format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(file: &str, variables: &[(&str, &str)], flags: &Overrides) -> Result<Resolved, ConfigError> {
        let home = Home::temporary().unwrap();
        crate::home::write_atomically(&home.config_file(), file.as_bytes()).unwrap();
        load(&home, &Environment::of(variables.iter().copied()), flags)
    }

    #[test]
    fn defaults_are_free_local_and_on_the_main_network() {
        let config = load_with("", &[], &Overrides::default()).unwrap().config;
        assert_eq!(config.network, Network::default());
        assert_eq!((config.p2p.port, config.role), (46337, Role::Auto));
        assert!(config.p2p.advertise && config.p2p.mdns && config.p2p.upnp);
        assert_eq!(
            (config.provider.price, config.consumer.price_cap),
            (Price::FREE, Price::FREE)
        );
        assert_eq!((config.provider.slots, config.provider.stranger_slots), (None, 4));
        assert_eq!(config.gateway.listen, Some("127.0.0.1:46338".parse().unwrap()));
        assert_eq!((config.metrics, config.consumer.policy), (None, Policy::Balanced));
        assert!(!config.chat.history, "what is asked is nobody's business");
        let kinds: Vec<_> = config
            .engines
            .hosts
            .iter()
            .map(|host| (host.kind.as_str(), host.url.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                ("ollama", "http://127.0.0.1:11434"),
                ("vllm", "http://127.0.0.1:8000"),
                ("sglang", "http://127.0.0.1:30000"),
                ("max", "http://127.0.0.1:8000"),
                ("llamacpp", "http://127.0.0.1:8080"),
            ]
        );
    }

    #[test]
    fn later_layers_win_and_each_value_knows_its_origin() {
        let mut flags = Overrides::default();
        flags.text("p2p.port", "--p2p-port", "3");
        let file = "network = \"lab\"\n[p2p]\nport = 1\nmdns = false\nbootstrap = [\"/ip4/127.0.0.1/tcp/1\"]\n";
        let variables = [
            ("INFERNET_P2P_PORT", "2"),
            ("INFERNET_P2P_UPNP", "false"),
            ("INFERNET_ROLE", ""),
        ];
        let resolved = load_with(file, &variables, &flags).unwrap();
        assert_eq!((resolved.config.p2p.port, resolved.config.network.as_str()), (3, "lab"));
        assert!(!resolved.config.p2p.mdns && !resolved.config.p2p.upnp);
        assert_eq!(resolved.config.p2p.bootstrap, ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
        let origin = |key| {
            let setting = resolved
                .settings
                .iter()
                .find(|setting| setting.key.name == key)
                .unwrap();
            setting.origin.to_string()
        };
        assert_eq!(origin("p2p.port"), "--p2p-port");
        assert_eq!(origin("p2p.upnp"), "INFERNET_P2P_UPNP");
        assert!(origin("p2p.mdns").ends_with("config.toml"));
        assert_eq!(origin("role"), "default", "an empty variable is none");
    }

    #[test]
    fn unknown_keys_name_the_nearest_one() {
        let message = |file| load_with(file, &[], &Overrides::default()).unwrap_err().to_string();
        assert!(message("netwrok = \"x\"").ends_with("unknown key `netwrok`: did you mean `network`?"));
        assert!(message("[p2p]\nports = 1").ends_with("unknown key `p2p.ports`: did you mean `p2p.port`?"));
        assert!(message("[zzzzzzzzzzzz]\na = 1").contains("`infernet config show` lists every key"));
        assert!(message("= 1").contains("not valid TOML"));
        let resolved = load_with("", &[("INFERNET_P2P_PROT", "1")], &Overrides::default()).unwrap();
        assert!(
            resolved.warnings[0].contains("INFERNET_P2P_PROT"),
            "{:?}",
            resolved.warnings
        );
    }

    #[test]
    fn wrong_values_name_key_value_and_origin() {
        let error = load_with("", &[("INFERNET_ROLE", "boss")], &Overrides::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`role` cannot be `boss` (from INFERNET_ROLE): use one of auto, provider, consumer, both"
        );
        for file in [
            "[p2p]\nport = 70000",
            "[p2p]\nport = [1]",
            "[p2p]\nlisten = [\"127.0.0.1:1\"]",
            "[gateway]\nlisten = \"nowhere\"",
            "[provider]\nslots = 0",
            "[provider]\nprice_input_microusd_per_mtok = -1",
            "[provider]\nprice_input_microusd_per_mtok = 0.5",
            "network = \"Main!\"",
            "[p2p]\nadvertise = \"yes\"",
            "[engines]\nollama_host = \"ftp://x\"",
        ] {
            assert!(
                matches!(
                    load_with(file, &[], &Overrides::default()),
                    Err(ConfigError::Value { .. })
                ),
                "{file}"
            );
        }
    }

    #[test]
    fn engines_are_found_by_the_names_that_people_use() {
        let variables = [
            ("OLLAMA_HOST", "0.0.0.0"),
            ("VLLM_HOST", "https://gpu.example/v1/"),
            ("VLLM_API_KEY", "sk-secret"),
            ("INFERNET_OPENAI_HOST", "box:9000"),
            ("INFERNET_ENGINE_BACKEND", "vllm"),
        ];
        let resolved = load_with("", &variables, &Overrides::default()).unwrap();
        let engines = &resolved.config.engines;
        assert_eq!(engines.hosts[0].kind, Backend::Vllm);
        assert_eq!(engines.hosts[0].url, "https://gpu.example/v1");
        assert!(engines.hosts[0].named && !engines.hosts[2].named);
        assert_eq!(engines.hosts[1].url, "http://127.0.0.1:11434");
        assert_eq!(engines.hosts.last().unwrap().url, "http://box:9000");
        let shown = format!("{resolved:?}");
        assert!(!shown.contains("sk-secret"), "{shown}");
    }
}
