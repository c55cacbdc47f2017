//! What a command says: results on stdout, everything else on stderr; for people, or as JSON for scripts.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

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
    crate::home::HomeError => Failed,
    crate::identity::IdentityError => Failed,
    crate::models::local::LocalError => Failed,
    crate::models::name::NameError => Usage,
    crate::store::StoreError => Failed,
    std::io::Error => Failed,
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
        let widths: Vec<usize> = header
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
                cells.max().unwrap_or(0).max(width(name))
            })
            .collect();
        let numeric: Vec<bool> = (0..header.len())
            .map(|column| {
                !rows.is_empty()
                    && rows
                        .iter()
                        .all(|row| row.get(column).is_none_or(|cell| is_number(cell)))
            })
            .collect();
        let heading: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        self.line(self.paint(Style::Dim, &aligned(&heading, &widths, &numeric)));
        for row in rows {
            self.line(aligned(row, &widths, &numeric));
        }
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

fn width(text: &str) -> usize {
    text.chars().count()
}

fn is_number(cell: &str) -> bool {
    cell == "-"
        || cell.starts_with(|c: char| c.is_ascii_digit() || c == '$')
            && cell.chars().all(|c| c.is_ascii_digit() || "$.,% ms/".contains(c))
}

fn aligned(cells: &[String], widths: &[usize], numeric: &[bool]) -> String {
    let line: Vec<String> = cells
        .iter()
        .zip(widths.iter().zip(numeric))
        .map(|(cell, (width, numeric))| {
            if *numeric {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        })
        .collect();
    line.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let (widths, numeric) = ([5, 6], [false, true]);
        assert_eq!(aligned(&["ab".into(), "12".into()], &widths, &numeric), "ab         12");
        assert!(is_number("$0.25") && is_number("12 ms") && is_number("-"));
        assert!(!is_number("completed") && !is_number("ab12"));
    }

    #[test]
    fn plain_output_has_no_escapes() {
        assert_eq!(Out::new(true, false).paint(Style::Red, "x"), "x");
        assert_eq!(Out::new(false, true).paint(Style::Red, "x"), "x");
    }
}
