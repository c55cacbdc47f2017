//! `infernet` at a terminal, as a person meets it: keys in, and what stands on the screen out. The terminal is made by
//! `script` of util-linux, which every Linux has.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::processes::{NodeHome, PATIENCE, program, soon};

/// Ctrl-C.
pub const INTERRUPT: &str = "\x03";
/// Ctrl-D.
pub const END: &str = "\x04";

/// A program at a terminal of 100 columns. Dropped, it loses its terminal and ends.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    keys: ChildStdin,
    output: ChildStdout,
    /// What was written, without the sequences that move the cursor or colour text.
    text: Vec<u8>,
    /// How much of it was read.
    read: usize,
    escape: Escape,
}

/// Where in a sequence the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Sequence,
}

impl Terminal {
    /// Runs `infernet` with these arguments, none of which holds a quote.
    ///
    /// # Panics
    /// Where `script` cannot be run.
    #[must_use]
    pub fn infernet(home: &NodeHome, arguments: &[&str]) -> Self {
        let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "stty cols 100 rows 30; exec '{}' --home '{}' {}",
            program("infernet").display(),
            home.path().display(),
            words.join(" ")
        );
        let path = std::env::vars_os().find(|(name, _)| name == "PATH");
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_clear()
            .envs(path)
            .envs([("TERM", "xterm"), ("SHELL", "/bin/sh"), ("LC_ALL", "C.UTF-8")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("`script` of util-linux runs");
        Self {
            keys: script.stdin.take().expect("it takes keys"),
            output: script.stdout.take().expect("it shows something"),
            script,
            text: Vec::new(),
            read: 0,
            escape: Escape::None,
        }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// Where the program is gone.
    pub async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("somebody reads");
        self.keys.flush().await.expect("somebody reads");
    }

    /// Reads until this was written, and gives what stood before it. What was read is not read again.
    ///
    /// # Panics
    /// Where it is not written in time, with what was.
    pub async fn until(&mut self, wanted: &str) -> String {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(at) = find(&self.text[self.read..], wanted.as_bytes()) {
                    let before = self.text[self.read..][..at].to_vec();
                    self.read += at + wanted.len();
                    return Some(before);
                }
                let mut bytes = [0; 4096];
                match self.output.read(&mut bytes).await {
                    Ok(read) if read > 0 => bytes[..read].iter().for_each(|byte| self.take(*byte)),
                    _ => return None,
                }
            }
        });
        match found.await {
            Ok(Some(before)) => String::from_utf8_lossy(&before).into_owned(),
            _ => panic!(
                "no {wanted:?} in:\n{}",
                String::from_utf8_lossy(&self.text[self.read..])
            ),
        }
    }

    /// The exit code, once the program has ended by itself.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn ended(mut self) -> Option<i32> {
        let status = soon("the program ends", async {
            // What it still writes must not block it.
            let mut rest = Vec::new();
            let _ = self.output.read_to_end(&mut rest).await;
            self.script.wait().await
        });
        status.await.expect("it was started here").code()
    }

    fn take(&mut self, byte: u8) {
        self.escape = match (self.escape, byte) {
            (Escape::None, 0x1b) => Escape::Begun,
            (Escape::None, _) => {
                self.text.push(byte);
                Escape::None
            }
            (Escape::Begun, b'[') => Escape::Sequence,
            (Escape::Sequence, 0x20..0x40) => Escape::Sequence,
            (Escape::Begun | Escape::Sequence, _) => Escape::None,
        };
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
