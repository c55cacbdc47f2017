//! What each command does, one file each: a function of its arguments and the `Context`, which says how it went.

mod batch;
mod bench;
mod chat;
mod completions;
mod config;
mod demo;
mod doctor;
mod foreground;
mod identity;
mod init;
mod keys;
mod logs;
mod loopback;
mod model;
mod models;
mod network;
mod receipts;
mod running;
mod start;
mod status;
mod stop;
mod version;

use crate::cli::{Cli, Command, Global};
use crate::config::{Environment, Overrides, Resolved};
use crate::home::Home;
use crate::out::{Exit, Failure, Out};

/// What every command works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The node's home.
    pub home: Home,
    /// Where to speak.
    pub out: Out,
    /// The variables of the process.
    pub environment: Environment,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// How a command went.
pub type Result<T = Exit> = std::result::Result<T, Failure>;

impl Context {
    /// From what every command takes.
    pub fn new(global: &Global, environment: Environment) -> Result<Self> {
        Ok(Self {
            home: Home::resolve(
                global.home.as_deref(),
                environment.get("INFERNET_HOME"),
                environment.get("HOME"),
            )?,
            out: Out::new(global.json, environment.get("NO_COLOR").is_some()),
            environment,
            verbose: global.verbose,
        })
    }

    /// Resolves the configuration, and warns of what somebody should look at.
    pub fn config(&self, flags: &Overrides) -> Result<Resolved> {
        let resolved = crate::config::load(&self.home, &self.environment, flags)?;
        for warning in &resolved.warnings {
            self.out.note(format_args!("warning: {warning}"));
        }
        Ok(resolved)
    }
}

/// Runs a command of the command line, and says what went wrong if it did.
#[must_use]
pub fn run(cli: &Cli) -> Exit {
    let environment = Environment::of_process();
    let out = Out::new(cli.global.json, environment.get("NO_COLOR").is_some());
    let ended = Context::new(&cli.global, environment).and_then(|context| dispatch(&cli.command, &context));
    ended.unwrap_or_else(|failure| {
        out.error(&failure.message);
        failure.exit
    })
}

fn dispatch(command: &Command, context: &Context) -> Result {
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Identity(args) => identity::run(args, context),
        Command::Config(args) => config::run(args, context),
        Command::Start(args) if args.foreground => foreground::start(&args.node, context),
        Command::Start(args) => start::run(args, context),
        Command::Gateway(args) => foreground::gateway(args, context),
        Command::Stop(args) => stop::run(args, context),
        Command::Restart(args) => start::restart(args, context),
        Command::Status => status::run(context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Logs(args) => logs::run(args, context),
        Command::Models(args) => models::run(args, context),
        Command::Model(command) => model::run(command, context),
        Command::Peers(args) => network::peers(args, context),
        Command::Batch(args) => batch::run(args, context),
        Command::Keys(args) => keys::run(args, context),
        Command::Receipts(args) => receipts::run(args, context),
        Command::Completions(args) => completions::run(*args, context),
        Command::Version => version::run(context),
        Command::Demo(args) => demo::run(args, context),
        Command::Chat(args) => chat::run(args, context),
        Command::Bench(args) => bench::run(args, context),
    }
}
