//! `specs/recording.cddl` and `specs/vectors/recording*` are what the code makes and reads.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::path::PathBuf;

use cddl_cat::context::BasicContext;
use cddl_cat::flatten::flatten_from_str;
use ciborium::Value;
use infernet_protocol::codec;
use infernet_study::record::Record;
use infernet_study::recording::Reader;
use infernet_study::replay::judge;
use infernet_study::synthetic::vector;

fn specs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../specs").join(name)
}

#[test]
fn the_vector_is_what_the_code_makes() {
    let held = std::fs::read_to_string(specs("vectors/recording.json")).unwrap();
    assert!(
        held == vector::json(),
        "if the change is meant, run `cargo run -p infernet-study --example recording_vectors -- specs/vectors`"
    );
}

#[test]
fn the_sample_file_holds_the_records_of_the_vector() {
    let path = specs("vectors/recording.cborseq.gz");
    let read: Vec<Record> = Reader::open(&[&path]).unwrap().map(Result::unwrap).collect();
    let made: Vec<Record> = vector::recording().into_iter().map(|(_, record)| record).collect();
    assert_eq!(read, made);
    // They are real: judged anew, each gets the verdict that stands there.
    let judged = judge(&mut Reader::open(&[&path]).unwrap()).unwrap();
    assert_eq!((judged.messages(), judged.alike()), (7, 7), "{judged:?}");
}

/// The grammar, and whether it describes a record.
fn describes(grammar: &BasicContext, value: &Value) -> bool {
    let rule = grammar.rules.get("record").unwrap();
    cddl_cat::cbor::validate_cbor(rule, value, grammar).is_ok()
}

#[test]
fn the_grammar_describes_every_record_and_no_other() {
    let text = std::fs::read_to_string(specs("recording.cddl")).unwrap();
    let grammar = BasicContext::new(flatten_from_str(&text).unwrap());
    let records = vector::recording().into_iter().chain(vector::publication());
    let mut refused = 0;
    for (name, record) in records {
        let value: Value = ciborium::from_reader(codec::to_vec(&record).as_slice()).unwrap();
        assert!(describes(&grammar, &value), "{name}");
        let Value::Array(members) = value else { panic!("{name}") };
        for wrong in 0..members.len() {
            let mut members = members.clone();
            members[wrong] = Value::Text("wrong".to_owned());
            assert!(!describes(&grammar, &Value::Array(members)), "{name} {wrong}");
            refused += 1;
        }
        // And in its body.
        let Value::Array(body) = &members[2] else {
            panic!("{name}")
        };
        for wrong in 0..body.len() {
            let mut body = body.clone();
            body[wrong] = Value::Float(0.5);
            let value = Value::Array(vec![members[0].clone(), members[1].clone(), Value::Array(body)]);
            assert!(!describes(&grammar, &value), "{name} {wrong}");
            refused += 1;
        }
    }
    assert!(refused > 150, "{refused}");
}
