//! The engine at work on toy models: several sequences at once, cancellation, readers that do not read, limits, and
//! continuations. The toys talk nonsense, reproducibly.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "support/toy.rs"]
mod toy;

use std::sync::LazyLock;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use infernet_engine::{Engine, Event, Model, Params, Reason, Refusal, Sequence, Usage};
use toy::{CONTEXT, Toy};

/// A toy without tokens that end an answer: it talks until a limit.
fn model() -> Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| {
        let mut toy = Toy::new("llama");
        let plain = vec![Value::I32(1); 270];
        toy.set("tokenizer.ggml.token_type", Value::Array(plain))
            .remove("tokenizer.ggml.eos_token_id");
        Model::from_bytes(&toy.write()).unwrap()
    });
    MODEL.clone()
}

fn greedy(max_tokens: u32) -> Params {
    Params {
        max_tokens,
        temperature: 0.0,
        ..Params::default()
    }
}

fn prompt(text: &str) -> Vec<u32> {
    model().tokenize(text, true).unwrap()
}

/// Everything a sequence said.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    text: String,
    ids: Vec<u32>,
    reason: Reason,
    usage: Usage,
}

fn read(mut sequence: Sequence) -> Answer {
    let (mut text, mut ids) = (String::new(), Vec::new());
    loop {
        match sequence.blocking_recv().expect("a sequence ends with `Done`") {
            Event::Token { text: more, ids: new } => {
                assert!(!new.is_empty());
                text.push_str(&more);
                ids.extend(new);
            }
            Event::Done { reason, usage } => {
                assert_eq!(sequence.blocking_recv(), None, "nothing follows the end");
                assert_eq!(usage.completion_tokens as usize, ids.len());
                return Answer {
                    text,
                    ids,
                    reason,
                    usage,
                };
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

fn ask(engine: &Engine, prompt: Vec<u32>, params: Params) -> Answer {
    read(engine.generate(prompt, params).unwrap())
}

const TEXTS: [&str; 4] = [
    "the fox and the owl",
    "12345",
    "Once upon a time, in a land far away",
    "hello",
];

#[test]
fn sequences_at_once_say_what_each_says_alone() {
    let engine = Engine::start(model(), 1).unwrap();
    let alone: Vec<Answer> = TEXTS
        .iter()
        .map(|text| ask(&engine, prompt(text), greedy(60)))
        .collect();
    assert!(
        alone.iter().any(|answer| answer.ids.len() == 60),
        "the toys should talk: {alone:?}"
    );
    let engine = Engine::start(model(), 4).unwrap();
    let sequences: Vec<Sequence> = TEXTS
        .iter()
        .map(|text| engine.generate(prompt(text), greedy(60)).unwrap())
        .collect();
    let together: Vec<Answer> = sequences.into_iter().map(read).collect();
    assert_eq!(together, alone);
}

#[test]
fn sequences_take_turns() {
    let engine = Engine::start(model(), 2).unwrap();
    let mut long = engine.generate(prompt("the fox"), greedy(200)).unwrap();
    let first = long.blocking_recv();
    assert!(matches!(first, Some(Event::Token { .. })));
    // Begun later and shorter, it ends while the other still runs: neither waits for the other's end.
    let short = ask(&engine, prompt("hello"), greedy(5));
    assert_eq!(short.reason, Reason::Length);
    assert_eq!(engine.in_flight(), 1);
}

#[test]
fn a_long_prompt_is_read_in_chunks_with_the_same_result() {
    let engine = Engine::start(model(), 2).unwrap();
    let long: Vec<u32> = prompt(&"the owl and ".repeat(20));
    assert!(long.len() > 64);
    let whole = ask(&engine, long.clone(), greedy(30));
    // The same text, its last part generated instead of read, agrees token by token: what was read in chunks is what
    // was made one by one.
    let mut longer = long;
    longer.extend(&whole.ids[..10]);
    let rest = ask(&engine, longer, greedy(20));
    assert_eq!(rest.ids, whole.ids[10..]);
}

#[test]
fn another_engine_continues_exactly() {
    for family in ["llama", "qwen2", "qwen3", "phi3", "gemma3"] {
        let model = Model::from_bytes(&Toy::new(family).write()).unwrap();
        let ids = model.tokenize("the fox and the owl went", true).unwrap();
        for (temperature, seed) in [(0.0, None), (0.9, Some(42))] {
            let params = Params {
                max_tokens: 40,
                temperature,
                seed,
                top_p: 0.95,
                presence_penalty: 0.1,
                ..Params::default()
            };
            let first = ask(&Engine::start(model.clone(), 1).unwrap(), ids.clone(), params.clone());
            for after in [1, first.ids.len() / 2] {
                let so_far = [ids.as_slice(), &first.ids[..after]].concat();
                let left = params.max_tokens - after as u32;
                let params = Params {
                    max_tokens: left,
                    already_generated: after as u32,
                    ..params.clone()
                };
                let second = ask(&Engine::start(model.clone(), 1).unwrap(), so_far, params);
                assert_eq!(
                    second.ids,
                    first.ids[after..],
                    "{family} at {temperature} after {after}"
                );
            }
        }
    }
}

#[test]
fn quantised_models_answer_too() {
    for dtype in [GgmlDType::Q8_0, GgmlDType::F16, GgmlDType::BF16] {
        let mut toy = Toy::new("llama");
        toy.dtype = dtype;
        let engine = Engine::start(Model::from_bytes(&toy.write()).unwrap(), 1).unwrap();
        assert_eq!(
            ask(&engine, prompt("the fox"), greedy(10)).usage.prompt_tokens,
            prompt("the fox").len() as u32
        );
    }
}

#[test]
fn the_same_seed_says_the_same() {
    let engine = Engine::start(model(), 2).unwrap();
    let with = |seed| {
        let params = Params {
            max_tokens: 30,
            temperature: 1.0,
            seed,
            ..Params::default()
        };
        ask(&engine, prompt("the fox"), params)
    };
    assert_eq!(with(Some(1)), with(Some(1)));
    assert_ne!(with(Some(1)).ids, with(Some(2)).ids);
    assert_ne!(with(None).ids, with(None).ids);
}

#[test]
fn limits_end_an_answer_as_length() {
    let engine = Engine::start(model(), 1).unwrap();
    let none = ask(&engine, prompt("the fox"), greedy(0));
    assert_eq!((none.reason, none.ids.len()), (Reason::Length, 0));
    let long: Vec<u32> = prompt("the fox").into_iter().cycle().take(CONTEXT - 10).collect();
    let params = Params {
        max_tokens: 1_000,
        temperature: 1.0,
        seed: Some(3),
        ..Params::default()
    };
    let full = ask(&engine, long, params);
    assert_eq!((full.reason, full.ids.len()), (Reason::Length, 10));
}

#[test]
fn the_end_token_ends_and_is_not_counted() {
    let model = Model::from_bytes(&Toy::new("llama").write()).unwrap();
    let engine = Engine::start(model.clone(), 1).unwrap();
    // At temperature 1 each token of a toy is an end token once in some dozens of draws.
    let answers = (0..20).map(|seed| {
        let params = Params {
            max_tokens: 200,
            temperature: 1.0,
            seed: Some(seed),
            ..Params::default()
        };
        ask(&engine, prompt("the"), params)
    });
    let ended: Vec<Answer> = answers.filter(|answer| answer.reason == Reason::Eos).collect();
    assert!(!ended.is_empty());
    assert!(ended.iter().flat_map(|answer| &answer.ids).all(|id| !model.is_end(*id)));
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let engine = Engine::start(model(), 1).unwrap();
    let drawn = Params {
        max_tokens: 120,
        temperature: 1.0,
        seed: Some(11),
        ..Params::default()
    };
    let whole = ask(&engine, prompt("the fox"), drawn.clone());
    // Two characters that stand together somewhere after the beginning, whatever tokens they are of.
    let printable: Vec<char> = whole.text.chars().skip(8).collect();
    let pair = printable
        .windows(2)
        .find(|pair| pair.iter().all(char::is_ascii_graphic))
        .unwrap();
    let stop: String = pair.iter().collect();
    let stopped = ask(
        &engine,
        prompt("the fox"),
        Params {
            stop: vec![stop.clone()],
            ..drawn
        },
    );
    assert_eq!(stopped.reason, Reason::Stop);
    assert_eq!(stopped.text, whole.text[..whole.text.find(&stop).unwrap()]);
    assert_eq!(stopped.ids, whole.ids[..stopped.ids.len()]);
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let engine = Engine::start(model(), 1).unwrap();
    let refused = |prompt: Vec<u32>, params| engine.generate(prompt, params).unwrap_err();
    assert_eq!(refused(vec![], greedy(1)), Refusal::EmptyPrompt);
    let last = model().info().vocabulary as u32 - 1;
    assert_eq!(
        refused(vec![last + 1], greedy(1)),
        Refusal::UnknownToken { id: last + 1, last }
    );
    let too_long = Refusal::PromptTooLong {
        prompt: CONTEXT,
        context: CONTEXT,
    };
    assert_eq!(refused(vec![65; CONTEXT], greedy(1)), too_long);
    let params = Params {
        top_p: 2.0,
        ..greedy(1)
    };
    assert!(matches!(
        refused(vec![65], params),
        Refusal::Parameter { name: "top_p", .. }
    ));
    assert_eq!(engine.in_flight(), 0);
}

/// An answer that no reader reads: it stops when its channel is full and keeps its slot.
fn unread(engine: &Engine) -> Sequence {
    engine
        .generate(
            prompt("the fox"),
            Params {
                max_tokens: 240,
                seed: Some(1),
                ..Params::default()
            },
        )
        .unwrap()
}

#[test]
fn full_slots_and_queue_are_busy_until_one_ends() {
    let engine = Engine::start(model(), 1).unwrap();
    let (first, second) = (unread(&engine), unread(&engine));
    assert_eq!(
        engine.generate(prompt("x"), greedy(1)).unwrap_err(),
        Refusal::Busy { slots: 1 }
    );
    drop(first);
    // The second gets the slot as soon as the thread has seen that the first is gone.
    let answer = read(second);
    assert!(!answer.ids.is_empty());
    assert_eq!(ask(&engine, prompt("the"), greedy(1)).ids.len(), 1);
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    let engine = Engine::start(model(), 2).unwrap();
    let stuck = unread(&engine);
    let whole = read(unread(&engine));
    assert!(
        whole.ids.len() > 100,
        "the answer must be longer than what may wait: {}",
        whole.ids.len()
    );
    // The other has run to its end; had this one not paused, it would have ended too.
    assert_eq!(engine.in_flight(), 1);
    assert_eq!(read(stuck), whole);
}

#[test]
fn a_dropped_sequence_is_cancelled() {
    let engine = Engine::start(model(), 1).unwrap();
    let mut sequence = unread(&engine);
    assert!(matches!(sequence.blocking_recv(), Some(Event::Token { .. })));
    drop(sequence);
    // The next one runs to its end although there is one slot: the first has given it back.
    assert_eq!(ask(&engine, prompt("hello"), greedy(3)).ids.len(), 3);
    assert_eq!(engine.in_flight(), 0);
}

#[test]
fn dropping_the_engine_ends_everything() {
    let engine = Engine::start(model(), 1).unwrap();
    let (mut running, mut queued) = (unread(&engine), unread(&engine));
    drop(engine);
    assert_eq!(queued.blocking_recv(), None);
    while let Some(event) = running.blocking_recv() {
        assert!(matches!(event, Event::Token { .. }), "{event:?}");
    }
}

#[test]
fn a_model_of_broken_numbers_fails_by_name() {
    let mut bytes = Toy::new("llama").write();
    let length = bytes.len();
    // The output matrix is the last tensor; not-a-number everywhere in it leaves nothing to choose.
    for number in bytes[length - 270 * 64 * 4..].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let engine = Engine::start(Model::from_bytes(&bytes).unwrap(), 1).unwrap();
    let mut sequence = engine.generate(prompt("the"), greedy(5)).unwrap();
    let event = sequence.blocking_recv();
    assert_eq!(event, Some(Event::Failed(infernet_engine::GenerateError::NotFinite)));
    assert_eq!(sequence.blocking_recv(), None);
}
