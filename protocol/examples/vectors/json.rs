//! JSON with members in the order in which they were put: the vectors must come out the same whatever is built beside
//! them.

use std::fmt::Write as _;

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

/// Integers that JavaScript reads exactly.
const EXACT: u64 = (1 << 53) - 1;

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        if value > EXACT {
            Self::Text(value.to_string())
        } else {
            Self::Number(value)
        }
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<u16> for Json {
    fn from(value: u16) -> Self {
        Self::Number(value.into())
    }
}

/// Bytes as hex digits.
pub(crate) fn hexed(bytes: &[u8]) -> Json {
    Json::Text(hex::encode(bytes))
}

/// `object! { "name": value, ... }`
macro_rules! object {
    ($($name:literal: $value:expr),+ $(,)?) => {
        $crate::json::Json::Object(vec![$(($name, $crate::json::Json::from($value))),+])
    };
}
pub(crate) use object;

impl FromIterator<Json> for Json {
    fn from_iter<I: IntoIterator<Item = Json>>(values: I) -> Self {
        Self::List(values.into_iter().collect())
    }
}

impl Json {
    /// Pretty, with a new line at the end.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(value) => drop(write!(out, "{value}")),
            Self::Text(value) => quote(value, out),
            Self::List(values) => {
                let items = values.iter().map(|value| (None, value));
                block(out, depth, ['[', ']'], items);
            }
            Self::Object(members) => {
                let items = members.iter().map(|(name, value)| (Some(*name), value));
                block(out, depth, ['{', '}'], items);
            }
        }
    }
}

fn block<'a>(
    out: &mut String,
    depth: usize,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
) {
    out.push(open);
    let mut empty = true;
    for (name, value) in items {
        out.push_str(if empty { "\n" } else { ",\n" });
        empty = false;
        indent(out, depth + 1);
        if let Some(name) = name {
            quote(name, out);
            out.push_str(": ");
        }
        value.write(out, depth + 1);
    }
    if !empty {
        out.push('\n');
        indent(out, depth);
    }
    out.push(close);
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
