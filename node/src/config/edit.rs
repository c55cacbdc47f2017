//! Changes single values of `config.toml` and leaves every other line as somebody wrote it.

use std::fmt::Write as _;

use super::ConfigError;
use crate::home::{self, Home};

/// Sets keys of the file to texts: each in its line where it has one, also one that is commented out, else in its section,
/// which is made where it is missing. A file that would not mean what was asked for is left as it was.
pub fn set(home: &Home, values: &[(&'static str, &str)]) -> Result<(), ConfigError> {
    let path = home.config_file();
    let before = home::read_private(&path)?.unwrap_or_default();
    let mut text = before;
    for (key, value) in values {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        text = edited(&text, section, name, &quoted(value));
    }
    let table: toml::Table = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
        path: path.clone(),
        error: Box::new(error),
    })?;
    for (key, value) in values {
        let found = key.split('.').try_fold(&table, |table, part| match table.get(part) {
            Some(toml::Value::Table(inner)) => Ok(inner),
            other => Err(other.and_then(toml::Value::as_str)),
        });
        if found.err().flatten() != Some(*value) {
            return Err(ConfigError::Edit { path, key });
        }
    }
    home.ensure()?;
    Ok(home::write_atomically(&path, text.as_bytes())?)
}

fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn edited(text: &str, section: &str, name: &str, value: &str) -> String {
    let line = format!("{name} = {value}");
    let mut lines: Vec<&str> = text.lines().collect();
    let header = |line: &str| {
        line.trim()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .map(str::to_owned)
    };
    let begins = match section {
        "" => Some(0),
        section => lines
            .iter()
            .position(|line| header(line).as_deref() == Some(section))
            .map(|at| at + 1),
    };
    let Some(begins) = begins else {
        let mut out = text.to_owned();
        let gap = if out.is_empty() || out.ends_with("\n\n") {
            ""
        } else {
            "\n"
        };
        // Writing into a string does not fail.
        let _ = writeln!(out, "{gap}[{section}]\n{line}");
        return out;
    };
    let ends = lines[begins..].iter().position(|line| header(line).is_some());
    let ends = ends.map_or(lines.len(), |offset| begins + offset);
    let sets = |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim() == name);
    let place = |is: &dyn Fn(&str) -> bool| (begins..ends).find(|at| is(lines[*at]));
    let commented = |line: &str| line.trim_start().strip_prefix('#').is_some_and(sets);
    match place(&sets).or_else(|| place(&commented)) {
        Some(at) => lines[at] = &line,
        None => lines.insert(begins, &line),
    }
    let mut out = lines.join("\n");
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &str, values: &[(&'static str, &str)]) -> Result<String, ConfigError> {
        let home = Home::temporary().unwrap();
        home::write_atomically(&home.config_file(), before.as_bytes()).unwrap();
        let set = set(&home, values);
        let text = std::fs::read_to_string(home.config_file()).unwrap();
        if set.is_err() {
            assert_eq!(text, before, "a refused change changes nothing");
        }
        set.map(|()| text)
    }

    #[test]
    fn a_value_takes_its_line_and_every_other_line_stays() {
        let values = [("provider.backend", "embedded"), ("provider.model", "/m \"x\".gguf")];
        for (before, expected) in [
            ("", "[provider]\nmodel = '/m \"x\".gguf'\nbackend = \"embedded\"\n"),
            (
                "# mine\nnetwork = \"lab\"\n\n[provider]\n# engine\n# backend = \"auto\"\nslots = 2 # two\n[gateway]\n# model = \"\"\n",
                "# mine\nnetwork = \"lab\"\n\n[provider]\nmodel = '/m \"x\".gguf'\n# engine\nbackend = \"embedded\"\nslots = 2 # two\n[gateway]\n# model = \"\"\n",
            ),
            (
                "[provider]\nmodel = \"/old\"\nbackend = \"ollama\"\n",
                "[provider]\nmodel = '/m \"x\".gguf'\nbackend = \"embedded\"\n",
            ),
        ] {
            assert_eq!(after(before, &values).unwrap(), expected);
        }
        assert_eq!(
            after("[p2p]\nport = 1\n", &[("network", "lab")]).unwrap(),
            "network = \"lab\"\n[p2p]\nport = 1\n"
        );
    }

    #[test]
    fn what_would_not_mean_what_was_asked_for_is_refused() {
        let set = |before: &str| after(before, &[("provider.model", "/m")]);
        assert!(matches!(
            set("provider.model = \"/old\"\n"),
            Err(ConfigError::Syntax { .. })
        ));
        assert!(matches!(set("x = \n"), Err(ConfigError::Syntax { .. })));
    }
}
