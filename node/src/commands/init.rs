//! `infernet init`: an identity and a configuration file, new or from elsewhere.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use infernet_protocol::Identity;
use serde_json::{Value, json};

use super::{Context, Result, identity as show_identity};
use crate::cli::InitArgs;
use crate::config::KEYS;
use crate::home;
use crate::identity::{self, IdentityError};
use crate::out::{Exit, Failure, Style};

/// Most that is read of a file with a key in it.
const IMPORT_BYTES: u64 = 1024 * 1024;

pub(super) fn run(args: &InitArgs, context: &Context) -> Result {
    let out = &context.out;
    let (identity, created) = match &args.import {
        Some(path) => (identity::import(&context.home, &secret(path, context)?)?, true),
        None => match identity::load(&context.home) {
            Ok(identity) => (identity, false),
            Err(IdentityError::Missing(_)) => (identity::create(&context.home)?, true),
            Err(error) => return Err(error.into()),
        },
    };
    let file = context.home.config_file();
    let configured = file.exists();
    if !configured {
        home::write_atomically(&file, template().as_bytes())?;
    }
    if out.is_json() {
        let mut value = show_identity::as_json(&identity, context);
        value["created"] = json!(created);
        value["config_file"] = json!(file);
        out.json(&value);
        return Ok(Exit::Done);
    }
    let what = match (created, args.import.is_some()) {
        (true, true) => "imported",
        (true, false) => "created",
        (false, _) => "there already, and kept",
    };
    out.line(out.paint(Style::Bold, &format!("identity {what}")));
    next_step(&identity, context);
    Ok(Exit::Done)
}

fn next_step(identity: &Identity, context: &Context) {
    let out = &context.out;
    show_identity::show(identity, context);
    out.line("");
    out.line("back the key file up: it is this node, and nobody can restore it");
    out.line(format_args!(
        "next: {} to use or serve models, {} to see it work on this machine first",
        out.paint(Style::Cyan, "infernet start"),
        out.paint(Style::Cyan, "infernet demo"),
    ));
}

/// The key in a file or on stdin, so that it stands in no shell's history.
fn secret(path: &Path, context: &Context) -> Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(IMPORT_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(IMPORT_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::new(Exit::Failed, format_args!("cannot read `{}`: {error}", path.display())))?;
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(older)) => from_older(&Value::Object(older), context),
        _ => Ok(text),
    }
}

/// The key in an older `config.json`. Nothing else of it is taken: what it knows besides belongs to a control plane.
fn from_older(older: &Value, context: &Context) -> Result<String> {
    let mut found = Vec::new();
    secrets("", older, &mut found);
    match &found[..] {
        [] => Err(Failure::new(
            Exit::Failed,
            "the file holds no secret key: pass one with `nsec1...` or 64 hex digits in it",
        )),
        [(name, secret), others @ ..] if others.iter().all(|(_, other)| other == secret) => {
            context
                .out
                .note(format_args!("took `{name}` from the file, and nothing else"));
            Ok(secret.clone())
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(Failure::new(
                Exit::Failed,
                format_args!(
                    "the file holds several secret keys ({}): pass the one you mean alone",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// Values that are keys, under names that say so.
fn secrets(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let says_so = ["priv", "secret", "nsec", "seckey"]
        .iter()
        .any(|word| name.to_lowercase().contains(word));
    match value {
        Value::String(text) if says_so && Identity::parse_secret(text).is_ok() => {
            found.push((name.to_owned(), text.clone()));
        }
        Value::Object(members) => members.iter().for_each(|(name, value)| secrets(name, value, found)),
        _ => {}
    }
}

/// A configuration file in which everything is explained and nothing is set.
fn template() -> String {
    let mut text =
        "# What is not set here has its default. `infernet config show` prints what counts, and why.\n".to_owned();
    let mut section = "";
    // What belongs to no section stands before the first one.
    for key in KEYS
        .iter()
        .filter(|key| !key.name.contains('.'))
        .chain(KEYS.iter().filter(|key| key.name.contains('.')))
    {
        let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if of != section {
            section = of;
            let _ = write!(text, "\n[{section}]\n");
        }
        let _ = write!(text, "# {}\n# {name} = {}\n", key.about, key.example());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_sets_nothing_and_every_line_of_it_is_valid() {
        let nothing: toml::Table = toml::from_str(&template()).unwrap();
        assert!(
            nothing
                .values()
                .all(|section| section.as_table().is_some_and(toml::Table::is_empty))
        );
        let home = crate::home::Home::temporary().unwrap();
        let set: String = template()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        home::write_atomically(&home.config_file(), set.as_bytes()).unwrap();
        let load = |home: &crate::home::Home| {
            crate::config::load(
                home,
                &crate::config::Environment::default(),
                &crate::config::Overrides::default(),
            )
        };
        let resolved = load(&home).unwrap();
        let of_file = resolved
            .settings
            .iter()
            .filter(|setting| matches!(setting.origin, crate::config::Origin::File(_)));
        assert_eq!(of_file.count(), KEYS.len());
        let empty = crate::home::Home::temporary().unwrap();
        let same = |one: &crate::config::Config| {
            (
                one.p2p.port,
                one.role,
                one.gateway.listen,
                one.provider.slots,
                one.engines.hosts.len(),
            )
        };
        assert_eq!(same(&resolved.config), same(&load(&empty).unwrap().config));
    }
}
