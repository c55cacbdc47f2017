//! `infernet logs`: the log of the node that runs in the background.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use super::{Context, Result};
use crate::cli::LogsArgs;
use crate::out::{Exit, Failure, Out};

/// The end of a log in which the wanted lines are looked for: some ten thousand of them.
const TAIL_BYTES: u64 = 2 * 1024 * 1024;
/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(args: &LogsArgs, context: &Context) -> Result {
    let path = context.home.log_file();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(
                Exit::Failed,
                format_args!("no log at `{}`: `infernet start` writes one", path.display()),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    for line in tail(&mut file, args.lines, 0)? {
        context.out.line(line);
    }
    if args.follow {
        follow(&path, file, &context.out)?;
    }
    Ok(Exit::Done)
}

/// The last lines of a log behind byte `from`; the file then stands at its end.
pub(super) fn tail(file: &mut File, lines: usize, from: u64) -> io::Result<Vec<String>> {
    let end = file.seek(SeekFrom::End(0))?;
    let start = end.saturating_sub(TAIL_BYTES).max(from);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    if start > from && found.len() > 1 {
        // The first is the end of a line that began earlier.
        found.remove(0);
    }
    let surplus = found.len().saturating_sub(lines);
    Ok(found.split_off(surplus))
}

/// Prints lines as they come, also those of a new file in the old one's place, until the process is interrupted.
fn follow(path: &Path, file: File, out: &Out) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        if reader.read_until(b'\n', &mut line)? > 0 {
            if line.ends_with(b"\n") {
                out.piece(&String::from_utf8_lossy(&line));
                line.clear();
            }
            continue;
        }
        std::thread::sleep(LOOK_EVERY);
        let at = reader.stream_position()?;
        if std::fs::metadata(path).is_ok_and(|now| now.len() < at) {
            reader = BufReader::new(File::open(path)?);
            line.clear();
        }
    }
}
