//! The programs of the bench, each in a process of its own, so that what each uses can be told apart.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::Result;
use super::loopback_failed as failed;
use crate::home::Home;

/// Requests at once that the provider takes: more than is measured.
const SLOTS: &str = "512";
/// Where Linux tells how much time of its processors a process has used, in ticks.
const TICKS_PER_SECOND: f64 = 100.0;

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _home: Option<Home>,
}

impl Program {
    fn start(name: &str, mut command: Command, home: Option<Home>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| failed(format_args!("{name} does not start: {error}")))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| failed("a program without an output"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            lines: BufReader::new(stdout).lines(),
            _home: home,
        })
    }

    async fn line(&mut self) -> Result<String> {
        let line = self.lines.next_line().await?;
        line.ok_or_else(|| failed(format_args!("{} ended before it was ready", self.name)))
    }

    async fn ready(&mut self) -> Result<Value> {
        serde_json::from_str(&self.line().await?).map_err(failed)
    }

    /// Seconds of processor time that it has used, with those of its children that it has waited for.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The name in brackets may hold anything; what follows is numbers: fields 14 to 17 of proc(5).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields
            .get(11..15)?
            .iter()
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Some(ticks / TICKS_PER_SECOND)
    }
}

fn infernet(arguments: &[&str], home: Option<&Home>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(home) = home {
        command.arg("--home").arg(home.path());
    }
    command.args(arguments).stderr(Stdio::null());
    Ok(command)
}

const QUIET: [&str; 7] = [
    "--no-mdns",
    "--no-upnp",
    "--network",
    "bench",
    "--listen",
    "/ip4/127.0.0.1/tcp/0",
    "--gateway",
];

/// The scripted engine, and its address.
pub(super) async fn engine() -> Result<(Program, String)> {
    let mut program = Program::start("engine", infernet(&["bench", "engine"], None)?, None)?;
    let address = program.line().await?;
    Ok((program, address))
}

/// A consumer's gateway, its address, and where others join through it.
pub(super) async fn gateway() -> Result<(Program, String, String)> {
    let home = Home::temporary()?;
    let mut command = infernet(&["--json", "gateway"], Some(&home))?;
    command.args(QUIET).arg("127.0.0.1:0");
    let mut program = Program::start("gateway", command, Some(home))?;
    let ready = program.ready().await?;
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| failed("a ready line without an address"))
    };
    Ok((program, text(&ready["gateway"])?, text(&ready["listen"][0])?))
}

/// A provider in front of the engine.
pub(super) async fn provider(engine: &str, at: &str) -> Result<Program> {
    let home = Home::temporary()?;
    let arguments = [
        "--json",
        "start",
        "--foreground",
        "--backend",
        "openai",
        "--slots",
        SLOTS,
    ];
    let mut command = infernet(&arguments, Some(&home))?;
    command.args(["--stranger-slots", SLOTS, "--bootstrap", at]);
    command.args(&QUIET[..6]).arg("--no-gateway");
    command.env("INFERNET_OPENAI_HOST", engine);
    let mut program = Program::start("provider", command, Some(home))?;
    program.ready().await?;
    Ok(program)
}

/// Another gateway: a command that is told the engine's address and says its own, and perhaps a key, in its first line.
pub(super) async fn other(name: &str, script: &Path, engine: &str) -> Result<(Program, String, Option<String>)> {
    let mut command = Command::new(script);
    command.env("ENGINE_URL", engine);
    let mut program = Program::start(name, command, None)?;
    let line = program.line().await?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let url = words
        .next()
        .ok_or_else(|| failed(format_args!("{name} did not say where it is")))?;
    Ok((program, url, words.next()))
}
