//! The functions over a corpus, as it is and mutated. What `node/fuzz` finds is put into the corpus.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::mutation::{Change, mutated};
use super::{READERS, answer, number, request};

/// Cases of each kind: some seconds' worth.
const CASES: u32 = 12_000;

fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// As text where it fails.
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Cases are the same in each run; a failure is shrunk to few changes of one seed.
fn mutations(kind: &str, holds: impl Fn(&[u8])) {
    let seeds = corpus(kind);
    assert!(seeds.len() > 10, "the corpus of {kind}");
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let seed = prop::sample::select(seeds);
    let changes = prop::collection::vec(any::<Change>(), 1..5);
    let input = (seed, changes).prop_map(|(seed, changes)| Input(mutated(&seed, &changes)));
    let checked = TestRunner::new_with_rng(config, rng).run(&input, |input| {
        holds(&input.0);
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}

#[test]
fn good_requests_are_read_by_the_reader_that_they_are_for() {
    let mut read = [false; READERS as usize];
    for seed in corpus("request") {
        let good = request(&seed);
        read[usize::from(number(seed[0]))] |= good;
    }
    assert_eq!(read, [true; READERS as usize]);
}

#[test]
fn good_answers_come_through() {
    let told: Vec<_> = corpus("answer").iter().map(|seed| answer(seed)).collect();
    let good = told.iter().filter(|status| **status == 200).count();
    assert!(good > told.len() / 2, "{told:?}");
}

#[test]
fn no_request_is_too_odd() {
    let read = std::cell::Cell::new(0);
    mutations("request", |input| read.set(read.get() + u32::from(request(input))));
    let read = read.get();
    assert!(
        read > CASES / 50 && read < CASES,
        "{read} of {CASES} were read: the mutations are too wild, or too tame"
    );
}

#[test]
fn no_answer_is_too_odd() {
    let whole = std::cell::Cell::new(0);
    mutations("answer", |input| {
        whole.set(whole.get() + u32::from(answer(input) == 200))
    });
    let whole = whole.get();
    assert!(whole > CASES / 4, "{whole} of {CASES} were told");
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn bytes_are_no_trouble(input in prop::collection::vec(any::<u8>(), 0..200)) {
        request(&input);
        answer(&input);
    }
}
