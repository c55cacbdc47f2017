//! Orders of a session: what each does.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::super::orders::{self, ORDERS, Order};
use super::Session;
use crate::cli::ModelOrder;
use crate::commands::Result;
use crate::commands::models::{sort, table};
use crate::home::private_file;
use crate::out::{Exit, Style, terminal_width};

/// Keys that a person may look for.
const KEYS: [(&str, &str); 5] = [
    ("Tab", "completes orders, models, providers"),
    ("Up, Ctrl-R", "what was typed before; search in it"),
    ("\\ at a line's end", "goes on in another line, as pasted lines do"),
    ("Ctrl-C", "stops an answer; clears the line; twice leaves"),
    ("Ctrl-D", "leaves"),
];

impl Session<'_> {
    /// Does what is ordered; an exit code where that ends the session.
    pub(super) async fn obey(&mut self, order: Order) -> Result<Option<Exit>> {
        match order {
            Order::Quit => return Ok(Some(Exit::Done)),
            Order::Help => self.help(),
            Order::Models => self.list_models().await,
            Order::Model(name) => self.choose_model(&name).await,
            Order::Provider(word) => self.choose_provider(word.as_deref()),
            Order::Policy(policy) => {
                self.wishes.policy = policy.or(self.wishes.policy);
                self.aside(match self.wishes.policy {
                    Some(policy) => policy.as_str(),
                    None => "as the node is configured; `/policy fastest`, for one, changes that here",
                });
            }
            Order::System(text) => self.tell_beforehand(text),
            Order::Cost => {
                self.settle().await;
                self.aside(&self.costs.line());
            }
            Order::Clear => {
                self.talk.clear();
                self.aside("forgotten");
            }
            Order::Save(file) => self.save(&file),
            Order::Retry => return Ok(self.retry().await),
        }
        Ok(None)
    }

    fn help(&self) {
        let orders = ORDERS
            .iter()
            .map(|known| (format!("{} {}", known.name, known.takes), known.about));
        let keys = KEYS.iter().map(|(key, about)| ((*key).to_owned(), *about));
        let lines: Vec<(String, &str)> = orders.chain(keys).collect();
        let widest = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, about) in lines {
            let about = self.out.paint(Style::Dim, about);
            self.out.line(format_args!("  {name:<widest$}  {about}"));
        }
    }

    /// Looks again what is served; where that fails, what was known stays.
    async fn look_again(&mut self) {
        match self.connection.models().await {
            Ok(models) => self.models = models,
            Err(failure) => self.out.error(failure.message),
        }
    }

    async fn list_models(&mut self) {
        self.look_again().await;
        let mut models = self.models.clone();
        sort(&mut models, ModelOrder::Price);
        let current = self.served(&self.wishes.model).map(|model| model.id.as_str());
        let (columns, rows) = table(&models, Some(current.unwrap_or_default()));
        self.out.table_within(&columns, &rows, terminal_width());
    }

    async fn choose_model(&mut self, name: &str) {
        self.look_again().await;
        match self.served(name) {
            Some(model) => {
                self.aside(&format!("{} · {}", model.id, model.in_short()));
                self.wishes.model = model.id.clone();
            }
            None => self.out.error(self.nobody_serves(name)),
        }
    }

    fn choose_provider(&mut self, word: Option<&str>) {
        if let Some(word) = word {
            match orders::provider(word, self.answered.make_contiguous()) {
                Ok(provider) => self.wishes.provider = provider,
                Err(wrong) => return self.out.error(wrong),
            }
        }
        self.aside(&match self.wishes.provider {
            Some(provider) => format!("only {}; `/provider any` frees the choice", provider.peer_id()),
            None => "any provider".to_owned(),
        });
        if let Some(last) = self.answered.back() {
            self.aside(&format!("the last answer came from {}", last.peer_id()));
            self.aside(&format!("                            = {}", last.npub()));
        }
    }

    fn tell_beforehand(&mut self, text: Option<String>) {
        match text.as_deref() {
            Some("off") => self.talk.system = None,
            Some(_) => self.talk.system = text,
            None => {}
        }
        self.aside(match &self.talk.system {
            Some(text) => text,
            None => "nothing is told to the model beforehand",
        });
    }

    fn save(&self, file: &str) {
        if self.talk.is_empty() {
            return self.out.error("there is nothing to save yet: ask something");
        }
        let path = match (file.strip_prefix("~/"), &self.user_home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(file),
        };
        match write_new(&path, &self.talk.markdown()) {
            Ok(()) => self.aside(&format!("saved in `{}`", path.display())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let why = format!("`{}` is there already: name a new file", path.display());
                self.out.error(why);
            }
            Err(error) => self
                .out
                .error(format_args!("cannot write `{}`: {error}", path.display())),
        }
    }

    async fn retry(&mut self) -> Option<Exit> {
        let Some(asked) = self.talk.ask_again() else {
            self.out.error("there is no question to ask again yet");
            return None;
        };
        if self.wishes.provider.is_some() && self.wishes.provider == self.tried {
            self.out
                .error("this provider is the only one that may answer: `/provider any` frees the choice");
            return None;
        }
        self.ask(asked, self.tried).await
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = private_file().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
