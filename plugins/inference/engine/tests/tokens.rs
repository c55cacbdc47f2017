//! Cutting texts into tokens, as a model's user sees it. That the cuts are those of other engines is shown by the
//! comparison with llama.cpp; here are the rules that must hold by themselves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "support/toy.rs"]
mod toy;

use candle_core::quantized::gguf_file::Value;
use infernet_engine::Model;
use proptest::prelude::*;
use toy::{END_OF_TEXT, IM_END, IM_START, SENTENCE_PIECE, Toy};

const CUTS: [&str; 6] = ["gpt-2", "default", "llama-bpe", "qwen2", "smollm", SENTENCE_PIECE];

fn model(cut: &'static str) -> Model {
    Model::from_bytes(&Toy::with_cut("llama", cut).write()).unwrap()
}

/// Ids of merges, in order after the 256 bytes.
const TH: u32 = 256;
const THE: u32 = 257;
const SPACE_THE: u32 = 258;
const SPACE_A: u32 = 261;

#[test]
fn merges_join_within_words() {
    let model = model("gpt-2");
    assert_eq!(model.tokenize("the the", true).unwrap(), [THE, SPACE_THE]);
    assert_eq!(model.tokenize("thx a", true).unwrap(), [TH, u32::from(b'x'), SPACE_A]);
}

#[test]
fn special_tokens_are_found_only_where_they_are_asked_for() {
    let model = model("gpt-2");
    let text = "<|im_start|>the<|im_end|>";
    assert_eq!(model.tokenize(text, true).unwrap(), [IM_START, THE, IM_END]);
    let plain = model.tokenize(text, false).unwrap();
    assert!(plain.iter().all(|id| *id < END_OF_TEXT), "{plain:?}");
    assert_eq!(model.detokenize(&plain), text);
    assert_eq!(model.detokenize(&[IM_START, THE, IM_END]), "the");
    assert!(model.is_end(IM_END) && model.is_end(END_OF_TEXT) && !model.is_end(IM_START) && !model.is_end(THE));
}

#[test]
fn the_first_token_is_added_once_and_only_if_the_file_asks() {
    let mut toy = Toy::new("llama");
    toy.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    let model = Model::from_bytes(&toy.write()).unwrap();
    assert_eq!(model.tokenize("the", true).unwrap(), [END_OF_TEXT, THE]);
    assert_eq!(model.tokenize("<|endoftext|>the", true).unwrap(), [END_OF_TEXT, THE]);
    assert_eq!(model.tokenize("the", false).unwrap(), [THE]);
}

#[test]
fn llama_3_keeps_three_digits_together_and_qwen_none() {
    // Without merges of digits every digit is a token, so the cut shows in what a merge over it does.
    let cut = |pre| {
        let mut toy = Toy::with_cut("llama", pre);
        let (mut merges, mut tokens) = (list(&toy, "merges"), list(&toy, "tokens"));
        merges.insert(0, Value::String("1 2".to_owned()));
        // In the place of "th": the vocabulary keeps its size.
        tokens[TH as usize] = Value::String("12".to_owned());
        merges.retain(|merge| {
            !merge.to_string().unwrap().starts_with("t h") && !merge.to_string().unwrap().contains("th")
        });
        toy.set("tokenizer.ggml.merges", Value::Array(merges));
        toy.set("tokenizer.ggml.tokens", Value::Array(tokens));
        Model::from_bytes(&toy.write())
            .unwrap()
            .tokenize("12", false)
            .unwrap()
            .len()
    };
    assert_eq!(
        (cut("llama-bpe"), cut("qwen2"), cut("smollm"), cut("gpt-2")),
        (1, 2, 2, 1)
    );
}

fn list(toy: &Toy, name: &str) -> Vec<Value> {
    let key = format!("tokenizer.ggml.{name}");
    let (_, value) = toy.metadata.iter().find(|(found, _)| *found == key).unwrap();
    value.to_vec().unwrap().clone()
}

#[test]
fn sentence_piece_takes_the_best_pair_first_and_spells_the_unknown() {
    let model = model(SENTENCE_PIECE);
    let pieces = |text: &str| -> Vec<String> {
        model
            .tokenize(text, false)
            .unwrap()
            .iter()
            .map(|id| model.detokenize(&[*id]))
            .collect()
    };
    assert_eq!(pieces("the and"), [" the", " and"]);
    assert_eq!(pieces("xing"), [" ", "x", "ing"]);
    let spelt = model.tokenize("é", false).unwrap();
    assert_eq!(spelt.len(), 3);
    assert_eq!(model.detokenize(&spelt), " é");
    assert_eq!(model.tokenize("the", true).unwrap()[0], 1);
}

proptest! {
    #[test]
    fn every_text_comes_back(text in "\\PC{0,60}", cut in 0usize..5) {
        // Composition (NFC) is the one change that a family asks for.
        prop_assume!(CUTS[cut] != "qwen2" || text.is_ascii());
        let model = shared(cut);
        prop_assert_eq!(model.detokenize(&model.tokenize(&text, false).unwrap()), text);
    }

    #[test]
    fn every_text_comes_back_from_sentence_piece_with_its_leading_space(text in "[^\u{2581}]{1,60}") {
        let model = shared(5);
        prop_assert_eq!(model.detokenize(&model.tokenize(&text, false).unwrap()), format!(" {text}"));
    }
}

fn shared(cut: usize) -> &'static Model {
    static MODELS: std::sync::LazyLock<Vec<Model>> = std::sync::LazyLock::new(|| CUTS.map(model).into());
    &MODELS[cut]
}
