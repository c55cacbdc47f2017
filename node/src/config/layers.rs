//! Where each value comes from: defaults, `config.toml`, the environment, flags. Values are still text here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::keys::{KEYS, Key, Shape};
use crate::home::{self, Home};

/// Variables that are read beside those of settings.
const OTHER_VARIABLES: &[&str] = &["HOME", "INFERNET_HOME", "NO_COLOR"];
/// A known key is suggested when it is at least this much like the unknown one (0 to 1).
const LIKENESS: f64 = 0.7;

/// The variables that matter here, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// From a list. Empty values count as unset, and variables that concern nobody here are not kept.
    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let known = |name: &str| {
            name.starts_with("INFERNET_")
                || OTHER_VARIABLES.contains(&name)
                || KEYS.iter().any(|key| key.aliases.contains(&name))
        };
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .filter(|(name, value)| !value.is_empty() && known(name))
                .collect(),
        )
    }

    /// A variable that is set to something.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| {
            !OTHER_VARIABLES.contains(name)
                && !KEYS
                    .iter()
                    .any(|key| key.variable() == *name || key.aliases.contains(name))
        })
    }
}

/// A value before it has a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// One value.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Raw {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::One(text) => text,
            Self::Many(list) => list.first().map_or("", String::as_str),
        }
    }

    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::One(text) if text.is_empty() => Vec::new(),
            Self::One(text) => vec![text.clone()],
            Self::Many(list) => list.clone(),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// `config.toml`.
    File(PathBuf),
    /// A variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One resolved setting.
#[derive(Clone)]
pub struct Setting {
    /// Which.
    pub key: &'static Key,
    /// Its value as it was written.
    pub raw: Raw,
    /// Who wrote it.
    pub origin: Origin,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {} ({})", self.key.name, self.shown(), self.origin)
    }
}

impl Setting {
    /// The value for people: lists with commas, secrets only as being there.
    #[must_use]
    pub fn shown(&self) -> String {
        match (self.key.shape, &self.raw) {
            (Shape::Secret, raw) if raw.text().is_empty() => String::new(),
            (Shape::Secret, _) => "[set, not shown]".to_owned(),
            (_, Raw::One(text)) => text.clone(),
            (_, Raw::Many(list)) => list.join(","),
        }
    }
}

/// Values given by flags.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(&'static str, &'static str, Raw)>);

impl Overrides {
    /// A flag's single value.
    pub fn text(&mut self, key: &'static str, flag: &'static str, value: impl Into<String>) {
        self.0.push((key, flag, Raw::One(value.into())));
    }

    /// A repeatable flag's values.
    pub fn list(&mut self, key: &'static str, flag: &'static str, values: Vec<String>) {
        self.0.push((key, flag, Raw::Many(values)));
    }
}

pub(super) struct Layers {
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn resolve(home: &Home, environment: &Environment, flags: &Overrides) -> Result<Layers, ConfigError> {
    let path = home.config_file();
    let file = read_file(&path)?;
    let settings = KEYS
        .iter()
        .map(|key| {
            let flag = flags.0.iter().rev().find(|(name, ..)| *name == key.name);
            let (raw, origin) = if let Some((_, flag, raw)) = flag {
                (raw.clone(), Origin::Flag(flag))
            } else if let Some((name, text)) = variable(key, environment) {
                (split(key, text), Origin::Variable(name))
            } else if let Some(raw) = file.get(key.name) {
                (raw.clone(), Origin::File(path.clone()))
            } else {
                (split(key, key.default), Origin::Default)
            };
            let setting = Setting { key, raw, origin };
            if key.shape != Shape::Many && matches!(setting.raw, Raw::Many(_)) {
                return Err(ConfigError::Value {
                    key: key.name,
                    value: setting.shown(),
                    origin: setting.origin,
                    why: "use one value, not a list".to_owned(),
                });
            }
            Ok(setting)
        })
        .collect::<Result<_, _>>()?;
    let warnings = environment
        .unknown()
        .map(|name| format!("the variable `{name}` means nothing here: `infernet config show` lists every setting"))
        .collect();
    Ok(Layers { settings, warnings })
}

fn variable<'a>(key: &Key, environment: &'a Environment) -> Option<(String, &'a str)> {
    std::iter::once(key.variable())
        .chain(key.aliases.iter().map(|alias| (*alias).to_owned()))
        .find_map(|name| environment.get(&name).map(|value| (name.clone(), value)))
}

fn split(key: &Key, text: &str) -> Raw {
    if key.shape == Shape::Many {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Raw::Many(parts.map(str::to_owned).collect())
    } else {
        Raw::One(text.trim().to_owned())
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    let Some(text) = home::read_private(path)? else {
        return Ok(BTreeMap::new());
    };
    let table: toml::Table = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        error: Box::new(error),
    })?;
    let mut values = BTreeMap::new();
    flatten("", &table, &mut values).map_err(|key| ConfigError::UnknownKey {
        path: path.to_owned(),
        nearest: nearest(&key),
        key,
    })?;
    Ok(values)
}

/// Collects the leaves of a table under their dotted names; the error is a name that no setting has.
fn flatten(prefix: &str, table: &toml::Table, into: &mut BTreeMap<&'static str, Raw>) -> Result<(), String> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        let section = format!("{name}.");
        if let Some(key) = KEYS.iter().find(|key| key.name == name) {
            into.insert(key.name, raw(value));
        } else if let (toml::Value::Table(inner), true) = (value, KEYS.iter().any(|key| key.name.starts_with(&section)))
        {
            flatten(&section, inner, into)?;
        } else {
            return Err(name);
        }
    }
    Ok(())
}

fn raw(value: &toml::Value) -> Raw {
    match value {
        toml::Value::String(text) => Raw::One(text.clone()),
        toml::Value::Array(items) => Raw::Many(items.iter().map(|item| raw(item).text().to_owned()).collect()),
        other => Raw::One(other.to_string()),
    }
}

fn nearest(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|known| (strsim::jaro_winkler(known.name, key), known.name))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}
