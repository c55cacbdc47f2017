//! The line editor of a session: history, several lines, completion. It reads on a thread of its own, since reading a
//! terminal cannot be cancelled; the thread ends with the process.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::{History as _, MemHistory};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Helper};
use tokio::sync::{mpsc, oneshot};

use super::history::ENTRIES;
use super::orders::{self, Names};
use crate::out::{Out, Style};

/// Lines that are read at once: the next one is asked for when the last one is dealt with.
const READING: usize = 1;
const PROMPT: &str = "> ";

/// What a person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C; whether the line was empty.
    Cancelled {
        empty: bool,
    },
    /// Ctrl-D on an empty line, or the terminal went away.
    End,
}

struct Reading {
    names: Names,
    typed: oneshot::Sender<Typed>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Editor {
    lines: mpsc::Sender<Reading>,
}

impl Editor {
    /// Begins with what was typed in earlier sessions.
    pub(super) fn start(earlier: Vec<String>, out: Out) -> io::Result<Self> {
        let (lines, wanted) = mpsc::channel(READING);
        let thread = std::thread::Builder::new().name("line editor".to_owned());
        thread.spawn(move || read_lines(wanted, &earlier, out))?;
        Ok(Self { lines })
    }

    /// The next line.
    pub(super) async fn read(&self, names: Names) -> Typed {
        let (typed, line) = oneshot::channel();
        if self.lines.send(Reading { names, typed }).await.is_err() {
            return Typed::End;
        }
        line.await.unwrap_or(Typed::End)
    }
}

fn read_lines(mut wanted: mpsc::Receiver<Reading>, earlier: &[String], out: Out) {
    let colours = if out.is_coloured() {
        ColorMode::Enabled
    } else {
        ColorMode::Disabled
    };
    let config = Config::builder()
        .max_history_size(ENTRIES)
        .and_then(|config| config.history_ignore_dups(true))
        .map(|config| config.completion_type(CompletionType::List).color_mode(colours).build())
        .unwrap_or_default();
    let mut history = MemHistory::with_config(&config);
    for entry in earlier {
        let _ = history.add(entry);
    }
    let Ok(mut editor) = rustyline::Editor::with_history(config, history) else {
        return;
    };
    editor.set_helper(Some(Helping::new(out)));
    let prompt = (PROMPT, out.paint(Style::Bold, PROMPT));
    while let Some(Reading { names, typed }) = wanted.blocking_recv() {
        if let Some(helping) = editor.helper() {
            helping.names.replace(names);
        }
        let read = match editor.readline(&prompt) {
            Ok(line) => {
                let line = orders::joined(&line);
                let _ = editor.add_history_entry(&line);
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Cancelled {
                empty: editor.helper().is_none_or(|helping| helping.empty.get()),
            },
            Err(_) => Typed::End,
        };
        if typed.send(read).is_err() {
            return;
        }
    }
}

/// What the editor asks while somebody types.
struct Helping {
    out: Out,
    names: RefCell<Names>,
    /// Whether nothing is on the line.
    empty: Cell<bool>,
}

impl Helping {
    fn new(out: Out) -> Self {
        Self {
            out,
            names: RefCell::default(),
            empty: Cell::new(true),
        }
    }
}

impl Helper for Helping {}

impl Completer for Helping {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(orders::complete(&line[..at], &self.names.borrow()))
    }
}

/// A hint that is shown and cannot be taken.
struct Takes(String);

impl Hint for Takes {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Helping {
    type Hint = Takes;

    fn hint(&self, line: &str, at: usize, _: &rustyline::Context<'_>) -> Option<Takes> {
        self.empty.set(line.is_empty());
        let takes = orders::hint(line).filter(|_| at == line.len())?;
        let gap = if line.ends_with(' ') { "" } else { " " };
        Some(Takes(format!("{gap}{takes}")))
    }
}

impl Highlighter for Helping {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        self.out.paint(Style::Dim, hint).into()
    }
}

impl Validator for Helping {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if orders::goes_on(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}
