//! The terminal of a session: what is typed while an answer comes does not mix with it, and it is left as it was found.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::out::Out;

/// Ends the mode in which a terminal marks what is pasted.
const NO_PASTE_MARKS: &str = "\x1b[?2004l";

/// The terminal as it was found. Dropped, it is that again.
#[derive(Debug)]
pub(super) struct Terminal {
    found: Termios,
}

impl Terminal {
    pub(super) fn new() -> io::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        Ok(Self { found })
    }

    /// Shows nothing of what is typed until the guard is dropped. Ctrl-C is still a signal, and the rest waits for the
    /// next line.
    pub(super) fn hush(&self) -> Hush<'_> {
        let mut quiet = self.found.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &quiet);
        Hush(self)
    }

    /// Takes the terminal back from a line editor that still reads.
    pub(super) fn reclaim(&self, out: &Out) {
        out.piece(NO_PASTE_MARKS);
        self.restore();
        out.line("");
    }

    fn restore(&self) {
        // A terminal that went away needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.found);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// See [`Terminal::hush`].
#[derive(Debug)]
pub(super) struct Hush<'a>(&'a Terminal);

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        self.0.restore();
    }
}
