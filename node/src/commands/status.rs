//! `infernet status`: how the running node fares.

use serde_json::{Value, json};

use super::{Context, Result};
use crate::ipc::{self, CallError};
use crate::out::{Exit, Out};

pub(super) fn run(context: &Context) -> Result {
    let out = &context.out;
    match ipc::call(&context.home, "status", Value::Null) {
        Ok(mut status) if out.is_json() => {
            status["running"] = json!(true);
            out.json(&status);
            Ok(Exit::Done)
        }
        Ok(status) => {
            print(&status, out);
            Ok(Exit::Done)
        }
        Err(CallError::NotRunning(_)) if out.is_json() => {
            out.json(&json!({ "running": false }));
            Ok(Exit::Unreachable)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints an object as names and values.
fn print(object: &Value, out: &Out) {
    let members = object.as_object().into_iter().flatten();
    let fields: Vec<(String, String)> = members
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (super::network::heading(name), super::network::cell(name, value)))
        .collect();
    let fields: Vec<(&str, String)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    out.fields(&fields);
}
