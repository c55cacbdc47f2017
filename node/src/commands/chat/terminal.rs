//! The terminal of a session: what is typed while an answer comes does not mix with it, and it is left as it was found.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::out::Out;

/// Ends the mode in which a terminal marks what is pasted.
const NO_PASTE_MARKS: &str = "\x1b[?2004l";

/// A terminal that shows nothing of what is typed unless the line editor does. Dropped, it is as it was found.
#[derive(Debug)]
pub(super) struct Terminal {
    found: Termios,
}

impl Terminal {
    /// Ctrl-C is still a signal; everything else waits for the next line.
    pub(super) fn hushed() -> io::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        let mut quiet = found.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
        tcsetattr(io::stdin(), OptionalActions::Drain, &quiet)?;
        Ok(Self { found })
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
