//! `infernet stop`: asks the node to end, and waits until it has.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Context, Result};
use crate::cli::StopArgs;
use crate::out::{Exit, Failure};

/// A node has this long to finish what runs and to close its books.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn run(args: &StopArgs, context: &Context) -> Result {
    match stop(args.force, context)? {
        Some(pid) => context.out.note(format_args!("stopped (pid {pid})")),
        None => {
            return Err(Failure::new(
                Exit::Unreachable,
                format_args!("no node runs on `{}`", context.home.path().display()),
            ));
        }
    }
    Ok(Exit::Done)
}

/// Stops the node that holds the home; its process id, or `None` where none does.
pub(super) fn stop(force: bool, context: &Context) -> Result<Option<u32>> {
    // The lock says who runs, and not the pid file: the kernel lets go of it when a process dies, so the id is true.
    let Some(id) = context.home.holder()? else {
        return Ok(None);
    };
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new(Exit::Failed, format_args!("`{id}` is no process id")))?;
    signal(pid, Signal::TERM)?;
    if ended(context, PATIENCE)? {
        return Ok(Some(id));
    }
    if force {
        signal(pid, Signal::KILL)?;
        if ended(context, PATIENCE)? {
            return Ok(Some(id));
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format_args!(
            "the node (pid {id}) has not ended after {} s: kill it with `infernet stop --force`",
            PATIENCE.as_secs()
        ),
    ))
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format_args!("cannot stop process {}: {error}", pid.as_raw_nonzero()),
        )),
    }
}

fn ended(context: &Context, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while context.home.holder()?.is_some() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let _ = std::fs::remove_file(context.home.pid_file());
    Ok(true)
}
