//! `infernet config show`: every setting, its value, and where that comes from.

use serde_json::{Value, json};

use super::{Context, Result};
use crate::cli::ConfigCommand;
use crate::config::{Overrides, Setting};
use crate::out::{Exit, Style};

pub(super) fn run(args: &ConfigCommand, context: &Context) -> Result {
    let ConfigCommand::Show = args;
    let resolved = context.config(&Overrides::default())?;
    let out = &context.out;
    if out.is_json() {
        let all: Vec<Value> = resolved.settings.iter().map(as_json).collect();
        out.json(&json!(all));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = resolved
        .settings
        .iter()
        .map(|setting| {
            let value = setting.shown();
            let value = if value.is_empty() { "-".to_owned() } else { value };
            vec![
                setting.key.name.to_owned(),
                value,
                setting.origin.to_string(),
                setting.key.about.to_owned(),
            ]
        })
        .collect();
    out.table(&["setting", "value", "from", "what it does"], &rows);
    out.note(out.paint(
        Style::Dim,
        &format!(
            "set any of them in {}, or as a variable: `INFERNET_` and its name, such as INFERNET_P2P_PORT",
            context.home.config_file().display()
        ),
    ));
    Ok(Exit::Done)
}

fn as_json(setting: &Setting) -> Value {
    json!({
        "key": setting.key.name,
        "value": setting.shown(),
        "from": setting.origin.to_string(),
        "variable": setting.key.variable(),
        "about": setting.key.about,
    })
}
