//! What a command says: results on stdout, everything else on stderr; for people, or as JSON for scripts.

mod table;
mod wrap;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

pub use table::Column;
pub use wrap::{Wrap, plain, width, wrapped};

/// Between two pictures of a spinner.
const SPIN_EVERY: Duration = Duration::from_millis(120);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked to.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Nothing is reachable that could do it.
    Unreachable = 69,
    /// Somebody interrupted it.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What a person reads: lower case, ends in what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }
}

/// Gives the errors of a module their exit code.
macro_rules! exits {
    ($($error:ty => $exit:ident),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(Exit::$exit, error)
            }
        }
    )+};
}

exits! {
    crate::config::ConfigError => Usage,
    crate::gateway::keys::KeysError => Failed,
    crate::models::local::LocalError => Failed,
    crate::models::name::NameError => Usage,
    std::io::Error => Failed,
}

impl From<crate::home::HomeError> for Failure {
    fn from(error: crate::home::HomeError) -> Self {
        let exit = match error {
            crate::home::HomeError::Unknown | crate::home::HomeError::Permissions { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<crate::identity::IdentityError> for Failure {
    fn from(error: crate::identity::IdentityError) -> Self {
        match error {
            crate::identity::IdentityError::Home(error) => error.into(),
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        match error {
            crate::store::StoreError::Home(error) => error.into(),
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl From<crate::launch::LaunchError> for Failure {
    fn from(error: crate::launch::LaunchError) -> Self {
        let exit = match error {
            crate::launch::LaunchError::Identity(error) => return error.into(),
            crate::launch::LaunchError::Store(error) => return error.into(),
            crate::launch::LaunchError::Gateway(crate::gateway::GatewayError::Exposed(_))
            | crate::launch::LaunchError::Address(_)
            | crate::launch::LaunchError::Fallback { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<crate::models::hub::HubError> for Failure {
    fn from(error: crate::models::hub::HubError) -> Self {
        let exit = match error {
            crate::models::hub::HubError::Unreachable { .. } => Exit::Unreachable,
            crate::models::hub::HubError::Endpoint(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<crate::models::download::DownloadError> for Failure {
    fn from(error: crate::models::download::DownloadError) -> Self {
        match error {
            crate::models::download::DownloadError::Hub(error) => error.into(),
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl From<crate::models::ollama::OllamaError> for Failure {
    fn from(error: crate::models::ollama::OllamaError) -> Self {
        let exit = match error {
            crate::models::ollama::OllamaError::Unreachable { .. } => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<crate::ipc::CallError> for Failure {
    fn from(error: crate::ipc::CallError) -> Self {
        let exit = match error {
            crate::ipc::CallError::NotRunning(_) => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// Where a command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    json: bool,
    colour: bool,
}

/// How a piece of text stands out on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Headings and names.
    Bold,
    /// What matters less.
    Dim,
    /// What is well.
    Green,
    /// What deserves a look.
    Yellow,
    /// What is wrong.
    Red,
    /// What somebody may want to copy.
    Cyan,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Cyan => "36",
        }
    }
}

impl Out {
    /// For this process: colours only on a terminal, and not where `NO_COLOR` is set.
    #[must_use]
    pub fn new(json: bool, no_colour: bool) -> Self {
        Self {
            json,
            colour: !json && !no_colour && std::io::stdout().is_terminal(),
        }
    }

    /// A sign that something goes on, with what that is as its message; nothing for scripts.
    #[must_use]
    pub fn spinner(&self) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{spinner} {msg}");
        let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(SPIN_EVERY);
        bar
    }

    /// Whether results are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether results go to a person's terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }

    /// Whether styles are shown.
    #[must_use]
    pub fn is_coloured(&self) -> bool {
        self.colour
    }

    /// `text` in a style, where styles are shown.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// A line of the result. A reader that went away is not an error: it has what it wanted.
    pub fn line(&self, text: impl std::fmt::Display) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    /// A piece of the result without a line's end, shown at once.
    pub fn piece(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// One JSON value as a line of the result.
    pub fn json(&self, value: &Value) {
        self.line(value);
    }

    /// What a person may want to know, on stderr.
    pub fn note(&self, text: impl std::fmt::Display) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// What went wrong, on stderr.
    pub fn error(&self, text: impl std::fmt::Display) {
        let error = if self.colour && std::io::stderr().is_terminal() {
            self.paint(Style::Red, "error")
        } else {
            "error".to_owned()
        };
        self.note(format_args!("{error}: {text}"));
    }

    /// A small table: left-aligned columns, numbers to the right.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        let columns: Vec<Column> = header.iter().map(|name| Column::always(name)).collect();
        self.table_within(&columns, rows, None);
    }

    /// The same in so many columns of a terminal: what matters least is left out until the rest fits.
    pub fn table_within(&self, columns: &[Column], rows: &[Vec<String>], width: Option<usize>) {
        let mut lines = table::lines(columns, rows, width).into_iter();
        self.line(self.paint(Style::Dim, &lines.next().unwrap_or_default()));
        lines.for_each(|line| self.line(line));
    }

    /// Names and values, one per line.
    pub fn fields(&self, fields: &[(&str, String)]) {
        let widest = fields.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        for (name, value) in fields {
            let padding = " ".repeat(widest - width(name));
            self.line(format_args!("{}{padding}  {value}", self.paint(Style::Dim, name)));
        }
    }
}

/// Columns of the terminal that results go to; none where they go elsewhere.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    // A terminal that does not know says 0.
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// A peer id for people: its beginning is that of all others, its end tells it apart.
#[must_use]
pub fn short_peer(peer: &str) -> String {
    let end = peer.len().saturating_sub(6);
    match (peer.get(..8), peer.get(end..)) {
        (Some(begin), Some(end)) => format!("{begin}…{end}"),
        _ => peer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_output_has_no_escapes() {
        assert_eq!(Out::new(true, false).paint(Style::Red, "x"), "x");
        assert_eq!(Out::new(false, true).paint(Style::Red, "x"), "x");
    }

    #[test]
    fn peers_are_told_apart_by_their_ends() {
        let peer = "16Uiu2HAmQ8bXQ6yQm3kWm7Lx1uJp9gk2tVxR";
        assert_eq!(short_peer(peer), "16Uiu2HA…k2tVxR");
        assert_eq!(short_peer("me"), "me");
    }
}
