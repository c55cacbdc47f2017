//! `infernet start` in the background, and `infernet restart`: this program once more, in the foreground, without a
//! terminal, and watched until it is ready.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::{Context, Result, logs, stop};
use crate::cli::{NodeArgs, StartArgs};
use crate::home;
use crate::out::{Exit, Failure, Style};

/// A node has this long to bind its sockets; an engine that loads a large model may need most of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// A log above this size is put aside at the next start; one older one is kept.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Lines of the log that are shown when a start fails.
const LINES_SHOWN: usize = 20;

pub(super) fn run(args: &StartArgs, context: &Context) -> Result {
    // A mistake in the configuration is told here, and not in a log.
    context.config(&args.node.overrides())?;
    detach(args.node.arguments(), context)
}

/// Stops the node and starts it again, with the flags of its last start where none are given.
pub(super) fn restart(args: &NodeArgs, context: &Context) -> Result {
    let arguments = if args.is_empty() {
        last_arguments(context)?
    } else {
        args.arguments()
    };
    if let Some(pid) = stop::stop(false, context)? {
        context.out.note(format_args!("stopped (pid {pid})"));
    }
    detach(arguments, context)
}

fn detach(arguments: Vec<OsString>, context: &Context) -> Result {
    context.home.ensure()?;
    if let Some(pid) = context.home.holder()? {
        return Err(Failure::new(
            Exit::Failed,
            format_args!("a node runs here already (pid {pid}): stop it with `infernet stop`, or use another `--home`"),
        ));
    }
    let (log, before) = open_log(&context.home.log_file())?;
    let mut child = spawn(&arguments, log, context)?;
    let pid = format!("{}\n", child.id());
    home::write_atomically(&context.home.pid_file(), pid.as_bytes())?;
    match ready_line(&mut child) {
        Ok(line) => {
            write_flags(&child, &arguments, context)?;
            say_ready(&line, &child, context);
            Ok(Exit::Done)
        }
        Err(Failure { exit, message }) => {
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_file(context.home.pid_file());
            Err(Failure::new(exit, message + &log_tail(before, context)))
        }
    }
}

fn spawn(arguments: &[OsString], log: File, context: &Context) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--home")
        .arg(context.home.path())
        .args(["--json", "start", "--foreground"]);
    command.args(arguments);
    command.args(std::iter::repeat_n("-v", context.verbose.into()));
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        .process_group(0)
        .spawn()?;
    Ok(child)
}

/// The log, open for appending, and its size so far. One that has grown too long is put aside first.
fn open_log(path: &Path) -> Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let log = home::private_file().append(true).create(true).open(path)?;
    let before = log.metadata()?.len();
    Ok((log, before))
}

/// The first line that the node prints, which it does when its sockets are bound.
fn ready_line(child: &mut Child) -> std::result::Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, why);
    let Some(stdout) = child.stdout.take() else {
        return Err(failed("the node has no output".to_owned()));
    };
    let (say, heard) = mpsc::sync_channel(1);
    // A plain thread, since a pipe has no read with a deadline. It ends with the line, or with the node.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = say.send(line);
    });
    match heard.recv_timeout(PATIENCE) {
        Ok(line) if line.ends_with('\n') => Ok(line.trim().to_owned()),
        Ok(_) => match child.wait() {
            Ok(status) => {
                let usage = status.code() == Some(Exit::Usage as i32);
                let exit = if usage { Exit::Usage } else { Exit::Failed };
                let why = format_args!("the node ended before it was ready ({status})");
                Err(Failure::new(exit, why))
            }
            Err(error) => Err(failed(format!("the node ended before it was ready ({error})"))),
        },
        Err(_) => Err(failed(format!(
            "the node was not ready after {} s, and was stopped",
            PATIENCE.as_secs()
        ))),
    }
}

fn say_ready(line: &str, child: &Child, context: &Context) {
    let out = &context.out;
    if out.is_json() {
        out.line(line);
        return;
    }
    out.line(format_args!(
        "{} (pid {})",
        out.paint(Style::Green, "running"),
        child.id()
    ));
    let Ok(ready) = serde_json::from_str::<Value>(line) else {
        return;
    };
    let listen: Vec<&str> = ready["listen"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let named = [
        ("peer id", ready["peer_id"].as_str().map(str::to_owned)),
        (
            "listens on",
            (!listen.is_empty()).then(|| listen.join("\n            ")),
        ),
        ("local API", ready["gateway"].as_str().map(|url| format!("{url}/v1"))),
        ("metrics", ready["metrics"].as_str().map(str::to_owned)),
        ("log", Some(context.home.log_file().display().to_string())),
    ];
    let fields: Vec<(&str, String)> = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    out.fields(&fields);
}

fn log_tail(before: u64, context: &Context) -> String {
    let path = context.home.log_file();
    let lines = File::open(&path).and_then(|mut log| logs::tail(&mut log, LINES_SHOWN, before));
    match lines {
        Ok(lines) if !lines.is_empty() => format!("; the end of `{}`:\n  {}", path.display(), lines.join("\n  ")),
        _ => format!(": look at `{}`", path.display()),
    }
}

/// The process id on the first line, then the flags, one per line: `restart` reads them again, also when it has stopped.
fn write_flags(child: &Child, arguments: &[OsString], context: &Context) -> Result<()> {
    let mut text = child.id().to_string();
    for argument in arguments {
        text.push('\n');
        text.push_str(&argument.to_string_lossy());
    }
    text.push('\n');
    Ok(home::write_atomically(&context.home.flags_file(), text.as_bytes())?)
}

/// The flags of the last start in the background. Those of a node that runs in another way are not known.
fn last_arguments(context: &Context) -> Result<Vec<OsString>> {
    let Ok(text) = fs::read_to_string(context.home.flags_file()) else {
        let why = "no node was begun here by `infernet start`, so there are no flags to begin one with: use that";
        return Err(Failure::new(Exit::Usage, why));
    };
    let mut lines = text.lines();
    let started: Option<u32> = lines.next().and_then(|pid| pid.parse().ok());
    match context.home.holder()? {
        Some(pid) if started != Some(pid) => Err(Failure::new(
            Exit::Usage,
            format_args!(
                "the node that runs here (pid {pid}) was not begun by `infernet start`, so its flags are not known: \
                 name them, or end it and begin it again as before"
            ),
        )),
        _ => Ok(lines.map(OsString::from).collect()),
    }
}
