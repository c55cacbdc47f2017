//! The key-value pairs of a file, read by type: a missing key and one of the wrong type are different errors.

use std::collections::HashMap;

use crate::error::LoadError;

/// A metadata value. Integers of all widths are widened, floats too.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
}

impl Value {
    /// A form short enough for an error message.
    fn brief(&self) -> String {
        match self {
            Value::Integer(v) => v.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Bool(v) => v.to_string(),
            Value::String(v) => v.chars().take(40).collect(),
            Value::Strings(v) => format!("a list of {} strings", v.len()),
            Value::Integers(v) => format!("a list of {} integers", v.len()),
            Value::Floats(v) => format!("a list of {} numbers", v.len()),
        }
    }
}

/// All key-value pairs of a file.
#[derive(Debug, Default)]
pub(crate) struct Metadata(HashMap<String, Value>);

impl Metadata {
    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.0.insert(key, value);
    }

    /// This key has a value that cannot be used.
    pub(super) fn bad(&self, key: &str, expected: &'static str) -> LoadError {
        let found = self.0.get(key).map(Value::brief).unwrap_or_default();
        LoadError::BadKey {
            key: key.to_owned(),
            found,
            expected,
        }
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(key, "a text")),
        }
    }

    /// A count: zero to `u32::MAX`.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Integer(n)) => {
                let n = u32::try_from(*n).map_err(|_| self.bad(key, "a count"))?;
                Ok(Some(n as usize))
            }
            // Some converters write one equal count per layer.
            Some(Value::Integers(list)) if !list.is_empty() && list.iter().all(|n| *n == list[0]) => {
                let n = u32::try_from(list[0]).map_err(|_| self.bad(key, "a count"))?;
                Ok(Some(n as usize))
            }
            Some(_) => Err(self.bad(key, "a count")),
        }
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) if x.is_finite() => Ok(Some(*x as f32)),
            Some(Value::Integer(n)) => Ok(Some(*n as f32)),
            Some(_) => Err(self.bad(key, "a finite number")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<&[String]>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Strings(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "a list of texts")),
        }
    }

    pub(crate) fn integers(&self, key: &str) -> Result<Option<&[i64]>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Integers(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "a list of integers")),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<&[f32]>, LoadError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Floats(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "a list of numbers")),
        }
    }

    pub(crate) fn needed<T>(key: &str, value: Option<T>) -> Result<T, LoadError> {
        value.ok_or_else(|| LoadError::MissingKey(key.to_owned()))
    }
}
