//! What was typed in earlier sessions. It is on disk only where somebody asked for that, since prompts are nobody
//! else's business: a file for the owner alone, with one JSON string per line, the oldest first.

use std::path::PathBuf;

use crate::home::{Home, HomeError, read_private, write_atomically};

/// Entries that are kept.
pub(super) const ENTRIES: usize = 1000;
/// Longest entry in bytes that is kept on disk: what is longer was pasted, and is a document rather than a question.
const ENTRY_BYTES: usize = 16 * 1024;

/// The file, where it is wanted.
#[derive(Clone, Debug)]
pub(super) struct History {
    file: Option<PathBuf>,
}

impl History {
    pub(super) fn new(home: &Home, wanted: bool) -> Self {
        let file = wanted.then(|| home.chat_history_file());
        Self { file }
    }

    /// The entries, the oldest first. A line that cannot be read is left out.
    pub(super) fn entries(&self) -> Result<Vec<String>, HomeError> {
        let Some(file) = &self.file else {
            return Ok(Vec::new());
        };
        let text = read_private(file)?.unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Keeps an entry, if entries are kept. The file is read again first: another session may have added to it.
    pub(super) fn keep(&self, entry: &str) -> Result<(), HomeError> {
        let Some(file) = &self.file else { return Ok(()) };
        if entry.len() > ENTRY_BYTES {
            return Ok(());
        }
        let mut entries = self.entries()?;
        if entries.last().is_some_and(|last| last == entry) {
            return Ok(());
        }
        entries.push(entry.to_owned());
        let oldest = entries.len().saturating_sub(ENTRIES);
        let lines = entries[oldest..]
            .iter()
            .map(|entry| format!("{}\n", serde_json::json!(entry)));
        write_atomically(file, lines.collect::<String>().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nothing_is_kept_unless_it_is_wanted() {
        let home = Home::temporary().unwrap();
        let history = History::new(&home, false);
        history.keep("a secret").unwrap();
        assert!(history.entries().unwrap().is_empty());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn entries_are_kept_for_the_owner_alone() {
        let home = Home::temporary().unwrap();
        let history = History::new(&home, true);
        for entry in ["one", "two\nlines", "two\nlines", "three"] {
            history.keep(entry).unwrap();
        }
        history.keep(&"x".repeat(ENTRY_BYTES + 1)).unwrap();
        assert_eq!(
            History::new(&home, true).entries().unwrap(),
            ["one", "two\nlines", "three"]
        );
        let mode = fs::metadata(home.chat_history_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(home.chat_history_file(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(history.entries().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn the_oldest_go_first() {
        let home = Home::temporary().unwrap();
        let history = History::new(&home, true);
        let lines: String = (0..ENTRIES).map(|entry| format!("\"{entry}\"\n")).collect();
        write_atomically(&home.chat_history_file(), format!("no json\n{lines}").as_bytes()).unwrap();
        history.keep("new").unwrap();
        let entries = history.entries().unwrap();
        assert_eq!((entries.len(), entries[0].as_str()), (ENTRIES, "1"));
        assert_eq!(entries.last().unwrap(), "new");
    }
}
