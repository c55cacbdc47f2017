//! `specs/messages.cddl` describes every vector, and refuses vectors in which one thing is not what it says.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::path::PathBuf;

use cddl_cat::context::BasicContext;
use cddl_cat::flatten::flatten_from_str;
use ciborium::Value;

fn specs(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../specs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The grammar, read once.
struct Grammar(BasicContext);

impl Grammar {
    fn new() -> Self {
        let rules = flatten_from_str(&specs("messages.cddl")).unwrap_or_else(|error| panic!("messages.cddl: {error}"));
        Self(BasicContext::new(rules))
    }

    fn check(&self, rule: &str, bytes: &[u8]) -> Result<(), String> {
        let value: Value = ciborium::from_reader(bytes).map_err(|error| error.to_string())?;
        let rule = self
            .0
            .rules
            .get(rule)
            .unwrap_or_else(|| panic!("messages.cddl has no `{rule}`"));
        cddl_cat::cbor::validate_cbor(rule, &value, &self.0).map_err(|error| error.to_string())
    }
}

/// One vector and the rules that must hold of it.
struct Vector {
    name: String,
    rules: Vec<String>,
    bytes: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let file = |name: &str| -> serde_json::Value { serde_json::from_str(&specs(&format!("vectors/{name}"))).unwrap() };
    let mut vectors = Vec::new();
    let mut add = |value: &serde_json::Value, rules: Vec<String>, bytes: &str| {
        let name = format!("{} ({bytes})", value["name"].as_str().unwrap_or("file"));
        let bytes = hex::decode(value[bytes].as_str().unwrap()).unwrap();
        vectors.push(Vector { name, rules, bytes });
    };
    let rule = |value: &serde_json::Value| value["rule"].as_str().unwrap().to_owned();

    let signing = file("signing.json");
    for message in signing["messages"].as_array().unwrap() {
        let kind = message["kind_name"].as_str().unwrap();
        add(message, vec![rule(message)], "payload");
        add(
            message,
            vec![format!("{kind}-envelope"), "any-envelope".to_owned()],
            "envelope",
        );
    }
    let settled = &signing["settled"];
    add(settled, vec![rule(settled), "jobs-gossip".to_owned()], "bytes");
    let frames = file("frames.json");
    for frame in frames["frames"].as_array().unwrap() {
        let side = frame["side"].as_str().unwrap();
        add(frame, vec![rule(frame), format!("{side}-frame")], "bytes");
    }
    for message in frames["exchanges"].as_array().unwrap() {
        add(message, vec![rule(message)], "bytes");
    }
    let export = file("export.json");
    add(&export, vec![rule(&export)], "file");
    vectors
}

#[test]
fn every_vector_is_what_the_grammar_says() {
    let grammar = Grammar::new();
    let vectors = vectors();
    assert!(vectors.len() > 40, "only {} vectors", vectors.len());
    for Vector { name, rules, bytes } in vectors {
        for rule in rules {
            if let Err(error) = grammar.check(&rule, &bytes) {
                panic!("{name} is no {rule}: {error}");
            }
        }
    }
}

#[test]
fn every_message_has_a_vector() {
    let covered: Vec<String> = vectors().into_iter().flat_map(|vector| vector.rules).collect();
    let grammar = specs("messages.cddl");
    let rules = grammar
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name));
    let messages = [
        "-frame",
        "-envelope",
        "-ad",
        "-query",
        "-list",
        "-offer",
        "-bid",
        "-accept",
        "-reply",
        "-receipt",
    ];
    // Parts of other messages are there whenever those are.
    let parts = ["model-ad", "exported-receipt"];
    for rule in rules.filter(|rule| messages.iter().any(|end| rule.ends_with(end)) && !parts.contains(rule)) {
        assert!(covered.iter().any(|name| name == rule), "no vector for `{rule}`");
    }
}

/// Values that differ from `value` in one place: another type, a member more, a string longer and an integer smaller
/// than any may be.
fn mutants(value: &Value) -> Vec<Value> {
    let mut mutants = vec![Value::Float(0.5), Value::Map(Vec::new())];
    match value {
        Value::Array(members) => {
            mutants.push(Value::Array([members.as_slice(), &[Value::Float(0.5)]].concat()));
            for (place, member) in members.iter().enumerate() {
                for mutant in self::mutants(member) {
                    let mut other = members.clone();
                    other[place] = mutant;
                    mutants.push(Value::Array(other));
                }
            }
        }
        Value::Integer(_) => mutants.push(Value::Integer((-1).into())),
        Value::Text(_) => mutants.push(Value::Text("x".repeat(513))),
        Value::Bytes(bytes) => {
            mutants.push(Value::Bytes(vec![0; 1_044_481]));
            mutants.extend(
                enclosed(bytes)
                    .iter()
                    .flat_map(self::mutants)
                    .map(|mutant| Value::Bytes(encode(&mutant))),
            );
        }
        _ => {}
    }
    mutants
}

/// The array that a byte string encloses: a payload or an envelope.
fn enclosed(bytes: &[u8]) -> Option<Value> {
    let value: Value = ciborium::from_reader(bytes).ok()?;
    (value.is_array() && encode(&value) == bytes).then_some(value)
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_mutated_vector_is_refused() {
    let grammar = Grammar::new();
    let mut tried = 0;
    for Vector { name, rules, bytes } in vectors() {
        let value: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        for mutant in mutants(&value) {
            for rule in &rules {
                assert!(
                    grammar.check(rule, &encode(&mutant)).is_err(),
                    "{name} is {rule} still: {}",
                    hex::encode(encode(&mutant))
                );
            }
            tried += 1;
        }
        if let Value::Array(mut members) = value {
            members.pop();
            assert!(
                grammar.check(&rules[0], &encode(&Value::Array(members))).is_err(),
                "{name} with a member less"
            );
        }
    }
    assert!(tried > 2_000, "only {tried} mutants");
}

#[test]
fn a_message_of_one_kind_is_none_of_another() {
    let grammar = Grammar::new();
    let kinds = [
        "capability-ad",
        "job-offer",
        "job-bid",
        "job-accept",
        "job-receipt",
        "countersign",
    ];
    for vector in vectors()
        .iter()
        .filter(|vector| kinds.contains(&vector.rules[0].as_str()))
    {
        for kind in kinds.into_iter().filter(|kind| *kind != vector.rules[0]) {
            assert!(
                grammar.check(kind, &vector.bytes).is_err(),
                "{} is a {kind}",
                vector.name
            );
        }
    }
}
