//! The command line: every command and flag. What they do is in `commands`, one file each.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use infernet_protocol::auction::Policy;
use infernet_protocol::{MicroUsd, NodeId};

use crate::config::{Backend, Overrides, Role};

/// Peer-to-peer inference: sell what your GPU can do, or use what others offer, with no server in between.
#[derive(Debug, Parser)]
#[command(
    name = "infernet",
    version,
    propagate_version = false,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Directory that holds everything of this node [default: ~/.config/infernet]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print results as JSON on stdout, and everything else on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a whole network at work on this machine, with nothing configured and nothing left behind
    Demo(DemoArgs),
    /// Create this node's identity and configuration, or import them
    Init(InitArgs),
    /// Show who this node is
    Identity(IdentityArgs),
    /// Show the configuration, and where each value comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Start the node in the background, or with --foreground here
    Start(StartArgs),
    /// Stop the node that runs in the background
    Stop(StopArgs),
    /// Stop the node and start it again, with the flags of its last start unless others are given
    Restart(NodeArgs),
    /// Show how the running node fares
    Status,
    /// Find out what is wrong, why, and what to do: the way to others, the router, the clock, the key, the engine
    Doctor(NodeArgs),
    /// Show the log of the node that runs in the background
    Logs(LogsArgs),
    /// Use the network from local programs: join as a consumer and serve the OpenAI API here, in the foreground
    Gateway(NodeArgs),
    /// Ask a model of the network, once or in a conversation
    Chat(ChatArgs),
    /// List the models that the network serves, with prices and speed
    Models(ModelsArgs),
    /// Get, list and remove models of this machine, and choose which one is served
    #[command(subcommand)]
    Model(ModelCommand),
    /// List the peers that the node is connected to, or tell how one of them behaves
    Peers(PeersArgs),
    /// Run files of many requests over the network, as its providers have time
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Make, list and revoke keys for callers of the local API, each with a budget and a rate of its own
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show, export and check receipts
    #[command(subcommand)]
    Receipts(ReceiptsCommand),
    /// Measure what the network adds to asking an engine directly
    Bench(BenchArgs),
    /// Print the script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Show the version and what it was built from
    Version,
}

/// `infernet demo`
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// What to ask
    #[arg(default_value = "Tell me a story about a fox.")]
    pub prompt: String,
    /// Most tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub max_tokens: u32,
    /// Number that makes the answer repeatable
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// `infernet init`
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Take the key from a file with `nsec1...`, 64 hex digits or an older `config.json`; `-` reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
}

/// `infernet identity`
#[derive(Args, Clone, Debug)]
pub struct IdentityArgs {
    /// Print the secret key as `nsec1...`: whoever has it is this node
    #[arg(long)]
    pub nsec: bool,
}

/// `infernet config`
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, its value, and where that comes from
    Show,
}

/// `infernet start`
#[derive(Args, Clone, Debug, Default)]
pub struct StartArgs {
    /// Stay in the foreground
    #[arg(long)]
    pub foreground: bool,
    /// How the node is set up.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `infernet stop`
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// Kill the node if it does not end by itself
    #[arg(long)]
    pub force: bool,
}

/// `infernet logs`
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// Go on as lines are added
    #[arg(short, long)]
    pub follow: bool,
    /// Lines to show from the end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub lines: usize,
}

/// `infernet models`
#[derive(Args, Clone, Debug, Default)]
pub struct ModelsArgs {
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    pub sort: ModelOrder,
    /// Only those with this word in their name, features or quantisations
    #[arg(long, value_name = "WORD")]
    pub search: Option<String>,
    /// Only those that cost nothing
    #[arg(long)]
    pub free: bool,
}

/// What comes first in a list of models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ModelOrder {
    /// The cheapest, and of those the fastest
    #[default]
    Price,
    /// Most tokens per second
    Speed,
    /// Shortest time to the first token
    Latency,
    /// Longest context
    Context,
    /// Most providers
    Providers,
    /// By the alphabet
    Name,
}

/// `infernet chat`
#[derive(Args, Clone, Debug)]
pub struct ChatArgs {
    /// What to ask, with what comes on stdin behind it; without it stdin is the question, and on a terminal a
    /// conversation begins
    pub prompt: Option<String>,
    /// Model to ask [default: the first that the network serves]
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What the model is told beforehand
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// How much chance there is in an answer, from 0
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Only this provider, by its peer id or npub [default: whoever suits best]
    #[arg(long, value_name = "PROVIDER", value_parser = provider)]
    pub provider: Option<NodeId>,
    /// Keep what is typed in a conversation for the next one, in a file of the home [default: forget it]
    #[arg(long)]
    pub history: bool,
    /// How to reach the network where no node runs here.
    #[command(flatten)]
    pub join: JoinArgs,
}

/// `infernet model`
#[derive(Clone, Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models that this machine has, Ollama's among them
    List,
    /// Download a model from Hugging Face for the embedded engine, or have Ollama pull one; goes on where it was broken off
    Pull(ModelPullArgs),
    /// Show what a model is
    Show(ModelNameArgs),
    /// Have the embedded engine serve a model, from the next start on
    Use(ModelNameArgs),
    /// Remove a model
    Rm(ModelRmArgs),
}

/// `infernet model pull`
#[derive(Args, Clone, Debug)]
pub struct ModelPullArgs {
    /// `hf:owner/name`, `hf:owner/name:file`, or a name that Ollama knows
    pub name: String,
}

/// `infernet model show` and `infernet model use`
#[derive(Args, Clone, Debug)]
pub struct ModelNameArgs {
    /// A model as `infernet model list` names it, or the end of its name
    pub name: String,
}

/// `infernet model rm`
#[derive(Args, Clone, Debug)]
pub struct ModelRmArgs {
    /// A model as `infernet model list` names it, or the end of its name
    pub name: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Also where the configuration names it
    #[arg(long)]
    pub force: bool,
}

/// `infernet bench`
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure [default: what the network adds to asking an engine directly]
    #[command(subcommand)]
    pub what: Option<BenchCommand>,
    /// Requests of each kind
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub requests: u32,
    /// Requests at once in the second half
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub at_once: u16,
}

/// `infernet receipts`
#[derive(Clone, Debug, Subcommand)]
pub enum ReceiptsCommand {
    /// List requests, the latest first
    List(ReceiptsListArgs),
    /// Show one request, or all of one job
    Show(ReceiptsShowArgs),
    /// Write the co-signed receipts of a job to a file that anybody can check
    Export(ReceiptsExportArgs),
    /// Check an exported file, with no node and no network
    Verify(ReceiptsVerifyArgs),
}

/// `infernet peers ...`
#[derive(Args, Clone, Debug)]
pub struct PeersArgs {
    /// What to tell; without it, who is connected.
    #[command(subcommand)]
    pub command: Option<PeersCommand>,
}

/// `infernet peers ...`
#[derive(Clone, Debug, Subcommand)]
pub enum PeersCommand {
    /// Tell what a peer has done, what that adds up to, and whether it is kept out
    Why {
        /// Its peer id, or its npub
        peer: String,
    },
    /// List the bounds that are kept against peers, and how often each was met
    Limits,
}

/// `infernet bench ...`
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the gateway under load, beside the engine asked directly and beside another gateway
    Gateway(BenchGatewayArgs),
    /// The scripted engine of the bench
    #[command(hide = true)]
    Engine,
}

/// `infernet bench gateway`
#[derive(Args, Clone, Debug)]
pub struct BenchGatewayArgs {
    /// Requests of each kind for the time to the first token
    #[arg(long, value_name = "N", default_value_t = 320)]
    pub requests: u32,
    /// Streams at 50 tokens/s
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub paced: u32,
    /// Streams as fast as they go
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub unpaced: u16,
    /// Another gateway: its name and a program that starts it in front of $ENGINE_URL, prints its address and perhaps a
    /// key in one line, and runs until it is ended
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = against)]
    pub against: Option<(String, PathBuf)>,
}

/// `infernet batch`
#[derive(Clone, Debug, Subcommand)]
pub enum BatchCommand {
    /// Hand a file in OpenAI's batch format to the node that runs here
    Submit(BatchSubmitArgs),
    /// Show how far a batch is
    Status(BatchStatusArgs),
    /// Write the results of a batch, in the order of its requests
    Results(BatchResultsArgs),
    /// List the batches
    List,
    /// Stop a batch; what has ended by then is in its results
    Cancel(BatchIdArgs),
}

/// `infernet batch submit`
#[derive(Args, Clone, Debug)]
pub struct BatchSubmitArgs {
    /// One request per line: `{"custom_id": ..., "method": "POST", "url": "/v1/embeddings", "body": {...}}`
    pub file: PathBuf,
    /// Route of all requests [default: what the first line says]
    #[arg(long, value_name = "ROUTE")]
    pub endpoint: Option<String>,
    /// Time after which what is left is given up, such as 90m, 24h or 2d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub window: String,
    /// Show progress until it is over
    #[arg(long)]
    pub wait: bool,
}

/// `infernet batch status`
#[derive(Args, Clone, Debug)]
pub struct BatchStatusArgs {
    /// The batch
    pub id: String,
    /// Show progress until it is over
    #[arg(long)]
    pub wait: bool,
}

/// `infernet batch results`
#[derive(Args, Clone, Debug)]
pub struct BatchResultsArgs {
    /// The batch
    pub id: String,
    /// File to make [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The requests that failed instead of those that succeeded
    #[arg(long)]
    pub errors: bool,
}

/// A command of one batch.
#[derive(Args, Clone, Debug)]
pub struct BatchIdArgs {
    /// The batch
    pub id: String,
}

/// `infernet keys`
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, once
    Add(KeysAddArgs),
    /// List the keys
    List,
    /// Take a key away: a running gateway refuses it a second later
    Revoke(KeysRevokeArgs),
}

/// `infernet keys add`
#[derive(Args, Clone, Debug)]
pub struct KeysAddArgs {
    /// What to call it
    pub name: String,
    /// Most that its requests may cost in 24 hours, in dollars [default: what the node's own budget allows]
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub budget_day: Option<MicroUsd>,
    /// Most requests per minute [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
}

/// `infernet keys revoke`
#[derive(Args, Clone, Debug)]
pub struct KeysRevokeArgs {
    /// What it is called
    pub name: String,
}

/// `infernet receipts list`
#[derive(Args, Clone, Debug)]
pub struct ReceiptsListArgs {
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Only those where this node was buyer or provider
    #[arg(long, value_parser = ["buyer", "provider"])]
    pub role: Option<String>,
}

/// `infernet receipts show`
#[derive(Args, Clone, Debug)]
pub struct ReceiptsShowArgs {
    /// A request or a job, or the beginning of one
    pub id: String,
}

/// `infernet receipts export`
#[derive(Args, Clone, Debug)]
pub struct ReceiptsExportArgs {
    /// A job or a request of it, or the beginning of one
    pub id: String,
    /// The file to write
    pub file: PathBuf,
    /// Which attempt of the job [default: the last that has receipts]
    #[arg(long, value_name = "N")]
    pub attempt: Option<u16>,
}

/// `infernet receipts verify`
#[derive(Args, Clone, Debug)]
pub struct ReceiptsVerifyArgs {
    /// An exported file
    pub file: PathBuf,
}

/// `infernet completions`
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell that can complete commands.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[expect(missing_docs, reason = "shells need no description")]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Zsh,
}

/// How a node joins: what every command that joins takes.
#[derive(Args, Clone, Debug, Default)]
pub struct JoinArgs {
    /// Network to join [default: main]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub network: Option<String>,
    /// TCP and UDP port, 0 for any [default: 46337]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub p2p_port: Option<u16>,
    /// Address to listen on instead of all interfaces; repeatable
    #[arg(long, value_name = "MULTIADDR", help_heading = "Network")]
    pub listen: Vec<String>,
    /// Node to join through, or where a list of them is: `/dnsaddr/NAME`, `https://...`, `file:PATH`; repeatable
    #[arg(long, value_name = "MULTIADDR", help_heading = "Network")]
    pub bootstrap: Vec<String>,
    /// Do not look for nodes on the local network
    #[arg(long, help_heading = "Network")]
    pub no_mdns: bool,
    /// Do not ask the router to open the port
    #[arg(long, help_heading = "Network")]
    pub no_upnp: bool,
    /// What matters when buying [default: balanced]
    #[arg(long, value_name = "POLICY", value_parser = words(Policy::ALL.iter().map(|policy| policy.as_str())), help_heading = "Buying")]
    pub policy: Option<String>,
    /// Most that is paid, in micro-USD: per million input tokens, per million output tokens, per request [default: 0,0,0]
    #[arg(long, value_name = "IN,OUT[,REQUEST]", value_parser = price, help_heading = "Buying")]
    pub price_cap: Option<[u64; 3]>,
}

/// How a node is set up: what `start` and `gateway` take.
#[derive(Args, Clone, Debug, Default)]
pub struct NodeArgs {
    /// How it joins.
    #[command(flatten)]
    pub join: JoinArgs,
    /// Do not publish what this node serves
    #[arg(long, help_heading = "Network")]
    pub no_advertise: bool,
    /// What the node does [default: a provider where a real engine answers, else a consumer]
    #[arg(long, value_name = "ROLE", value_parser = words(Role::WORDS.iter().copied()), help_heading = "Selling")]
    pub role: Option<String>,
    /// Engine that runs the models [default: auto]
    #[arg(long, value_name = "ENGINE", value_parser = words(Backend::WORDS.iter().copied()), help_heading = "Selling")]
    pub backend: Option<String>,
    /// GGUF file for the embedded engine, or a directory with an embedding model [default: the demo model]
    #[arg(long, value_name = "PATH", help_heading = "Selling")]
    pub model: Option<PathBuf>,
    /// Requests at once [default: what the engine says, else 16, embedded 4]
    #[arg(long, value_name = "N", help_heading = "Selling")]
    pub slots: Option<u32>,
    /// How many of them one unknown buyer may hold [default: 4]
    #[arg(long, value_name = "N", help_heading = "Selling")]
    pub stranger_slots: Option<u32>,
    /// What is asked, in micro-USD: per million input tokens, per million output tokens, per request [default: 0,0,0]
    #[arg(long, value_name = "IN,OUT[,REQUEST]", value_parser = price, help_heading = "Selling")]
    pub price: Option<[u64; 3]>,
    /// Where local programs find the API, port 0 for any [default: 127.0.0.1:46338]
    #[arg(long, value_name = "ADDR", conflicts_with = "no_gateway", help_heading = "Local API")]
    pub gateway: Option<String>,
    /// Serve no API
    #[arg(long, help_heading = "Local API")]
    pub no_gateway: bool,
    /// Where Prometheus reads measurements
    #[arg(long, value_name = "ADDR", help_heading = "Local API")]
    pub metrics: Option<String>,
}

impl JoinArgs {
    /// The flags given that say how a node is to be, and nothing of what one request is to be.
    pub(crate) fn only_for_a_node_of_its_own(&self) -> Vec<&'static str> {
        let given = [
            ("--p2p-port", self.p2p_port.is_some()),
            ("--listen", !self.listen.is_empty()),
            ("--bootstrap", !self.bootstrap.is_empty()),
            ("--no-mdns", self.no_mdns),
            ("--no-upnp", self.no_upnp),
            ("--price-cap", self.price_cap.is_some()),
        ];
        given
            .into_iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(flag, _)| flag)
            .collect()
    }
}

fn words(words: impl Iterator<Item = &'static str>) -> clap::builder::PossibleValuesParser {
    words.collect::<Vec<_>>().into()
}

fn against(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text
        .split_once('=')
        .ok_or("use NAME=PROGRAM, such as litellm=tests/benches/litellm")?;
    Ok((name.to_owned(), PathBuf::from(program)))
}

fn dollars(text: &str) -> Result<MicroUsd, String> {
    MicroUsd::from_dollars(text).ok_or_else(|| "use dollars such as 5 or 0.25, with at most six decimals".to_owned())
}

fn provider(text: &str) -> Result<NodeId, String> {
    NodeId::parse(text).map_err(|_| "use a peer id (16Uiu2...) or an npub, as `infernet receipts` shows".to_owned())
}

/// `IN,OUT` or `IN,OUT,REQUEST`.
fn price(text: &str) -> Result<[u64; 3], String> {
    let parts: Result<Vec<u64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match parts.as_deref() {
        Ok([input, output]) => Ok([*input, *output, 0]),
        Ok([input, output, request]) => Ok([*input, *output, *request]),
        _ => Err("use whole micro-USD such as `150000,600000` (0.15 and 0.60 dollars per million tokens)".to_owned()),
    }
}

/// One flag that was given.
enum Given {
    One(String),
    Many(Vec<String>),
    /// A switch, and the value that it stands for.
    Switch(&'static str),
}

/// Keys of the price settings, in the order of the flag's parts.
const PRICE: [&str; 3] = crate::config::PRICE_KEYS;
const PRICE_CAP: [&str; 3] = crate::config::PRICE_CAP_KEYS;

/// Flags with their settings, in one list for both readers.
#[derive(Default)]
struct Flags(Vec<(&'static str, &'static str, Given)>);

impl Flags {
    fn one(&mut self, key: &'static str, flag: &'static str, value: Option<impl ToString>) {
        self.0
            .extend(value.map(|value| (key, flag, Given::One(value.to_string()))));
    }

    fn many(&mut self, key: &'static str, flag: &'static str, values: &[String]) {
        if !values.is_empty() {
            self.0.push((key, flag, Given::Many(values.to_vec())));
        }
    }

    fn switch(&mut self, key: &'static str, flag: &'static str, given: bool, value: &'static str) {
        if given {
            self.0.push((key, flag, Given::Switch(value)));
        }
    }

    fn join(&mut self, args: &JoinArgs) {
        self.one("network", "--network", args.network.as_ref());
        self.one("p2p.port", "--p2p-port", args.p2p_port);
        self.many("p2p.listen", "--listen", &args.listen);
        self.many("p2p.bootstrap", "--bootstrap", &args.bootstrap);
        self.switch("p2p.mdns", "--no-mdns", args.no_mdns, "false");
        self.switch("p2p.upnp", "--no-upnp", args.no_upnp, "false");
        self.one("consumer.policy", "--policy", args.policy.as_ref());
    }

    fn node(&mut self, args: &NodeArgs) {
        self.switch("p2p.advertise", "--no-advertise", args.no_advertise, "false");
        self.one("role", "--role", args.role.as_ref());
        self.one("provider.backend", "--backend", args.backend.as_ref());
        self.one(
            "provider.model",
            "--model",
            args.model.as_ref().map(|path| path.display()),
        );
        self.one("provider.slots", "--slots", args.slots);
        self.one("provider.stranger_slots", "--stranger-slots", args.stranger_slots);
        self.one("gateway.listen", "--gateway", args.gateway.as_ref());
        self.switch("gateway.listen", "--no-gateway", args.no_gateway, "off");
        self.one("metrics.listen", "--metrics", args.metrics.as_ref());
    }

    fn overrides(self) -> Overrides {
        let mut overrides = Overrides::default();
        for (key, flag, given) in self.0 {
            match given {
                Given::One(value) => overrides.text(key, flag, value),
                Given::Switch(value) => overrides.text(key, flag, value),
                Given::Many(values) => overrides.list(key, flag, values),
            }
        }
        overrides
    }

    fn arguments(self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for (_, flag, given) in self.0 {
            match given {
                Given::One(value) => arguments.extend([flag.into(), value.into()]),
                Given::Switch(_) => arguments.push(flag.into()),
                Given::Many(values) => {
                    arguments.extend(values.into_iter().flat_map(|value| [flag.into(), value.into()]));
                }
            }
        }
        arguments
    }
}

fn prices(overrides: &mut Overrides, keys: [&'static str; 3], flag: &'static str, price: Option<[u64; 3]>) {
    for (key, part) in keys.into_iter().zip(price.into_iter().flatten()) {
        overrides.text(key, flag, part.to_string());
    }
}

fn price_arguments(flag: &str, price: Option<[u64; 3]>) -> impl Iterator<Item = OsString> {
    let text = price.map(|[input, output, request]| format!("{input},{output},{request}"));
    text.into_iter()
        .flat_map(move |text| [OsString::from(flag), text.into()])
}

impl JoinArgs {
    /// The settings that these flags set.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let mut flags = Flags::default();
        flags.join(self);
        let mut overrides = flags.overrides();
        prices(&mut overrides, PRICE_CAP, "--price-cap", self.price_cap);
        overrides
    }
}

impl ChatArgs {
    /// The settings that these flags set.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let mut overrides = self.join.overrides();
        if self.history {
            overrides.text("chat.history", "--history", "true".to_owned());
        }
        overrides
    }
}

impl NodeArgs {
    /// The settings that these flags set.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let mut flags = Flags::default();
        flags.join(&self.join);
        flags.node(self);
        let mut overrides = flags.overrides();
        prices(&mut overrides, PRICE_CAP, "--price-cap", self.join.price_cap);
        prices(&mut overrides, PRICE, "--price", self.price);
        overrides
    }

    /// The same flags as words for another process. A relative model path is made absolute.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args = self.clone();
        args.model = args.model.map(|path| std::path::absolute(&path).unwrap_or(path));
        let mut flags = Flags::default();
        flags.join(&args.join);
        flags.node(&args);
        let mut arguments = flags.arguments();
        arguments.extend(price_arguments("--price-cap", args.join.price_cap));
        arguments.extend(price_arguments("--price", args.price));
        arguments
    }

    /// Whether no flag was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arguments().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_survive_the_way_to_another_process() {
        let words = "infernet start --p2p-port 0 --listen /ip4/127.0.0.1/tcp/0 --bootstrap /ip4/127.0.0.1/tcp/1 --bootstrap /dnsaddr/b.example --no-advertise \
                     --no-mdns --no-upnp --role both --backend embedded --model /m.gguf --slots 3 --stranger-slots 2 \
                     --gateway 127.0.0.1:0 --metrics 127.0.0.1:0 --network lab --policy fastest --price 1,2,3 --price-cap 4,5";
        let parse = |words: Vec<OsString>| match Cli::try_parse_from(words).unwrap().command {
            Command::Start(args) => args,
            other => panic!("{other:?}"),
        };
        let first = parse(words.split_whitespace().map(OsString::from).collect());
        let mut again = vec!["infernet".into(), "start".into()];
        again.extend(first.node.arguments());
        let second = parse(again);
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert!(!first.node.is_empty() && NodeArgs::default().is_empty());

        let home = crate::home::Home::temporary().unwrap();
        let config =
            crate::config::load(&home, &crate::config::Environment::default(), &first.node.overrides()).unwrap();
        let config = config.config;
        assert_eq!(
            (config.p2p.port, config.p2p.bootstrap.len(), config.p2p.mdns),
            (0, 2, false)
        );
        assert_eq!(
            (config.provider.price.output.0, config.consumer.price_cap.output.0),
            (2, 5)
        );
        assert_eq!(
            (config.provider.slots, config.provider.backend),
            (Some(3), Backend::Embedded)
        );
        assert_eq!(config.network.as_str(), "lab");
    }

    #[test]
    fn wrong_flags_are_told() {
        for words in [
            "infernet start --role boss",
            "infernet start --price 0.5,1",
            "infernet start --gateway 127.0.0.1:1 --no-gateway",
            "infernet receipts list --role judge",
            "infernet chat --provider me x",
            "infernet models --sort beauty",
            "infernet",
        ] {
            assert!(Cli::try_parse_from(words.split_whitespace()).is_err(), "{words}");
        }
    }
}
