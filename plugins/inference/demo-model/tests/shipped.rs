//! The shipped file is what the documentation says: its size, its metadata and the types of its tensors.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

const MAX_BYTES: u64 = 4 * 1024 * 1024;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("infernet-demo.gguf")
}

fn content() -> Content {
    Content::read(&mut File::open(path()).unwrap()).unwrap()
}

fn list<'a>(content: &'a Content, key: &str) -> &'a Vec<Value> {
    content.metadata[key].to_vec().unwrap()
}

#[test]
fn is_at_most_four_mebibytes() {
    let size = std::fs::metadata(path()).unwrap().len();
    assert!((1..=MAX_BYTES).contains(&size), "{size} bytes");
}

#[test]
fn says_what_it_is() {
    let content = content();
    let text = |key: &str| content.metadata[key].to_string().unwrap().as_str();
    let number = |key: &str| content.metadata[key].to_u32().unwrap();
    assert_eq!(text("general.architecture"), "llama");
    assert_eq!(text("general.name"), "infernet-demo");
    assert_eq!(text("general.license"), "mit");
    assert_eq!(number("llama.context_length"), 512);
    assert_eq!(number("llama.embedding_length"), 192);
    assert_eq!(number("llama.block_count"), 4);
    assert_eq!(number("llama.attention.head_count"), 6);
    assert_eq!(number("llama.attention.head_count_kv"), 6);
    assert_eq!(number("llama.rope.dimension_count"), 32);
    assert_eq!(number("llama.feed_forward_length"), 512);
}

#[test]
fn carries_its_tokenizer_and_chat_format() {
    let content = content();
    assert_eq!(content.metadata["tokenizer.ggml.model"].to_string().unwrap(), "gpt2");
    assert_eq!(content.metadata["tokenizer.ggml.pre"].to_string().unwrap(), "gpt-2");
    assert!(!content.metadata["tokenizer.ggml.add_bos_token"].to_bool().unwrap());

    let tokens = list(&content, "tokenizer.ggml.tokens");
    let types = list(&content, "tokenizer.ggml.token_type");
    assert_eq!((tokens.len(), types.len()), (1_536, 1_536));
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    for (id, (token, kind)) in tokens.iter().zip(types).enumerate() {
        let special = specials.get(id).copied();
        assert_eq!(
            kind.to_i32().unwrap(),
            if special.is_some() { 3 } else { 1 },
            "token {id}"
        );
        assert!(
            special.is_none_or(|special| token.to_string().unwrap() == special),
            "token {id}"
        );
    }
    for (key, id) in [("bos", 0), ("eos", 2), ("eot", 2)] {
        assert_eq!(
            content.metadata[&format!("tokenizer.ggml.{key}_token_id")]
                .to_u32()
                .unwrap(),
            id,
            "{key}"
        );
    }

    let known: BTreeSet<&str> = tokens.iter().map(|token| token.to_string().unwrap().as_str()).collect();
    for merge in list(&content, "tokenizer.ggml.merges") {
        let (left, right) = merge.to_string().unwrap().split_once(' ').unwrap();
        assert!(known.contains(format!("{left}{right}").as_str()), "{left} {right}");
    }

    let template = content.metadata["tokenizer.chat_template"].to_string().unwrap();
    for part in ["<|im_start|>", "<|im_end|>", "add_generation_prompt", "assistant"] {
        assert!(template.contains(part), "{part}");
    }
}

#[test]
fn has_quantised_matrices_full_norms_and_no_second_embedding() {
    let content = content();
    assert!(!content.tensor_infos.contains_key("output.weight"));
    let mut parameters = 0;
    for (name, tensor) in &content.tensor_infos {
        let expected = if name.contains("norm") {
            GgmlDType::F32
        } else {
            GgmlDType::Q8_0
        };
        assert_eq!(tensor.ggml_dtype, expected, "{name}");
        parameters += tensor.shape.elem_count();
    }
    assert!((1_000_000..3_000_000).contains(&parameters), "{parameters} parameters");
}
