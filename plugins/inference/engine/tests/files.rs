//! Files that are not models, are damaged, or ask for what the engine does not have: each gives its own error, and none
//! costs more than reading it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "support/toy.rs"]
mod toy;

use std::io::Write;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use infernet_engine::{LoadError, Model};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toy::Toy;

fn refused(toy: &Toy) -> LoadError {
    Model::from_bytes(&toy.write()).unwrap_err()
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// A header with these counts and nothing behind it but what is given.
fn header(version: u32, tensors: u64, pairs: u64, rest: &[u8]) -> Vec<u8> {
    [
        b"GGUF".as_slice(),
        &version.to_le_bytes(),
        &tensors.to_le_bytes(),
        &pairs.to_le_bytes(),
        rest,
    ]
    .concat()
}

/// A metadata pair of this type whose value bytes are given.
fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [
        &(key.len() as u64).to_le_bytes(),
        key.as_bytes(),
        &kind.to_le_bytes(),
        value,
    ]
    .concat()
}

#[test]
fn a_whole_file_opens_and_says_what_it_is() {
    let mut toy = Toy::new("llama");
    toy.dtype = GgmlDType::Q8_0;
    let bytes = toy.write();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let model = Model::open(file.path()).unwrap();
    let info = model.info();
    assert_eq!((info.name.as_str(), info.architecture.as_str()), ("toy-llama", "llama"));
    assert_eq!((info.context_length, info.vocabulary), (toy::CONTEXT, 270));
    assert_eq!(info.quantisation, "Q8_0");
    let elements: usize = toy
        .tensors
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(info.parameters, elements as u64);
    assert!(!info.has_chat_template);
    assert_eq!(
        info.weights_digest,
        Model::from_bytes(&bytes).unwrap().info().weights_digest
    );
}

#[test]
fn the_context_can_be_limited_and_not_stretched() {
    let model = Model::from_bytes(&Toy::new("llama").write()).unwrap();
    assert_eq!(model.clone().with_context_limit(100).info().context_length, 100);
    assert_eq!(model.with_context_limit(1_000_000).info().context_length, toy::CONTEXT);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Model::open(std::path::Path::new("/no/such/model.gguf")).unwrap_err();
    assert!(error.to_string().contains("/no/such/model.gguf"), "{error}");
}

#[test]
fn what_is_no_gguf_is_said_to_be_none() {
    for bytes in [b"".as_slice(), b"GG", b"PK\x03\x04 a zip file", &[0; 64]] {
        assert!(matches!(Model::from_bytes(bytes), Err(LoadError::NotGguf)));
    }
}

#[test]
fn other_versions_are_named() {
    for version in [0, 1, 4, 3u32.swap_bytes()] {
        let error = Model::from_bytes(&header(version, 0, 0, &[])).unwrap_err();
        assert!(
            matches!(error, LoadError::Version(found) if found == version),
            "{error}"
        );
    }
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let bytes = Toy::new("llama").write();
    // Every length in the header's first part, then steps through the rest that meet all kinds of places.
    let lengths = (4..2_000)
        .chain((2_000..bytes.len()).step_by(997))
        .chain([bytes.len() - 33]);
    for length in lengths {
        let error = Model::from_bytes(&bytes[..length]).unwrap_err();
        assert!(matches!(error, LoadError::Truncated { .. }), "{length}: {error}");
    }
}

#[test]
fn absurd_counts_and_lengths_are_refused_before_anything_is_allocated() {
    let huge = u64::MAX.to_le_bytes();
    let long_list = [&8u32.to_le_bytes(), (1u64 << 23).to_le_bytes().as_slice()].concat();
    let files = [
        header(3, u64::MAX, 0, &[]),
        header(3, 0, u64::MAX, &[]),
        header(3, 60_000, 60_000, &[]),
        header(3, 0, 1, &huge),
        header(3, 0, 1, &pair("k", 8, &huge)),
        header(3, 0, 1, &pair("k", 9, &[&8u32.to_le_bytes(), huge.as_slice()].concat())),
        header(3, 0, 1, &pair("k", 9, &long_list)),
        header(
            3,
            0,
            1,
            &pair("k", 9, &[&9u32.to_le_bytes(), 1u64.to_le_bytes().as_slice()].concat()),
        ),
        header(3, 0, 1, &pair("k", 99, &[])),
        // A tensor with five dimensions, and one whose size overflows.
        header(3, 1, 0, &[&pair("t", 5, &[])[..], &[0; 64]].concat()),
        header(
            3,
            1,
            0,
            &[&pair("t", 2, &[]), huge.as_slice(), &huge, &[0; 16]].concat(),
        ),
        // Alignment zero.
        header(3, 0, 1, &pair("general.alignment", 4, &0u32.to_le_bytes())),
    ];
    for (index, file) in files.iter().enumerate() {
        let error = Model::from_bytes(file).unwrap_err();
        let named = matches!(
            error,
            LoadError::Damaged(_) | LoadError::Truncated { .. } | LoadError::BadKey { .. }
        );
        assert!(named, "{index}: {error}");
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for (key, value) in [
        ("block_count", 0),
        ("block_count", u32::MAX),
        ("embedding_length", 0),
        ("embedding_length", u32::MAX),
        ("attention.head_count", 0),
        ("attention.head_count_kv", 0),
        ("attention.head_count_kv", 9),
        ("attention.key_length", 0),
        ("context_length", 0),
        ("feed_forward_length", 0),
        ("rope.dimension_count", 1_000),
    ] {
        let error = refused(Toy::new("llama").own(key, Value::U32(value)));
        assert!(
            matches!(&error, LoadError::BadKey { key: found, .. } if found.ends_with(key)),
            "{key}: {error}"
        );
    }
    let error = refused(Toy::new("llama").own("block_count", text("seven")));
    assert!(matches!(error, LoadError::BadKey { .. }), "{error}");
    let error = refused(Toy::new("llama").own("block_count", Value::U32(1_000)));
    assert!(
        matches!(&error, LoadError::MissingTensor(name) if name.starts_with("blk.7.")),
        "{error}"
    );
    let error = refused(Toy::new("llama").own("feed_forward_length", Value::U32(256)));
    assert!(matches!(error, LoadError::TensorShape { .. }), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    for key in [
        "general.architecture",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ] {
        let error = refused(Toy::new("llama").remove(key));
        assert!(
            matches!(&error, LoadError::MissingKey(found) if found == key),
            "{key}: {error}"
        );
    }
    for name in [
        "token_embd.weight",
        "output_norm.weight",
        "blk.3.attn_k.weight",
        "blk.6.ffn_norm.weight",
    ] {
        let error = refused(Toy::new("llama").remove(name));
        assert!(
            matches!(&error, LoadError::MissingTensor(found) if found == name),
            "{name}: {error}"
        );
    }
}

#[test]
fn what_is_not_supported_is_named_with_what_is() {
    let error = refused(Toy::new("llama").set("general.architecture", text("mamba")));
    assert!(
        error.to_string().contains("`mamba`") && error.to_string().contains("`llama`"),
        "{error}"
    );
    let error = refused(Toy::new("llama").set("tokenizer.ggml.model", text("t5")));
    assert!(
        error.to_string().contains("`t5`") && error.to_string().contains("`gpt2`"),
        "{error}"
    );
    let error = refused(Toy::new("llama").set("tokenizer.ggml.pre", text("chameleon")));
    assert!(
        error.to_string().contains("chameleon") && error.to_string().contains("`llama-bpe`"),
        "{error}"
    );
    let error = refused(Toy::new("llama").own("expert_count", Value::U32(8)));
    assert!(matches!(error, LoadError::Feature(_)), "{error}");
    let error = refused(Toy::new("qwen2").own("rope.scaling.type", text("yarn")));
    assert!(error.to_string().contains("`yarn`"), "{error}");
}

#[test]
fn a_vocabulary_that_contradicts_itself_is_refused() {
    let few = Value::Array(vec![Value::I32(1); 3]);
    let error = refused(Toy::new("llama").set("tokenizer.ggml.token_type", few));
    assert!(matches!(error, LoadError::Vocabulary(_)), "{error}");
    let error = refused(Toy::new("llama").set("tokenizer.ggml.eos_token_id", Value::U32(9_999)));
    assert!(matches!(error, LoadError::Vocabulary(_)), "{error}");
    let merges = Value::Array(vec![text("no-space")]);
    let error = refused(Toy::new("llama").set("tokenizer.ggml.merges", merges));
    assert!(matches!(error, LoadError::Vocabulary(_)), "{error}");
    let error = refused(Toy::new("llama").set("tokenizer.ggml.merges", Value::Array(vec![text("zz yy")])));
    assert!(matches!(error, LoadError::Vocabulary(_)), "{error}");
}

#[test]
fn a_tensor_of_an_unknown_type_is_named() {
    let mut bytes = Toy::new("llama").write();
    // The type of a tensor follows its name, the number of its dimensions and two sizes.
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 16;
    bytes[at..at + 4].copy_from_slice(&77u32.to_le_bytes());
    let error = Model::from_bytes(&bytes).unwrap_err();
    assert!(
        matches!(&error, LoadError::TensorType { code: 77, name } if name == "token_embd.weight"),
        "{error}"
    );
}

#[test]
fn a_chat_template_that_does_not_parse_is_refused() {
    let error = refused(Toy::new("llama").set("tokenizer.chat_template", text("{% if %}")));
    assert!(matches!(error, LoadError::Template(_)), "{error}");
}

#[test]
fn every_error_says_what_to_do() {
    let toys = [
        refused(Toy::new("llama").remove("general.architecture")),
        refused(Toy::new("llama").remove("token_embd.weight")),
        refused(Toy::new("llama").set("general.architecture", text("x"))),
        Model::from_bytes(b"no").unwrap_err(),
        Model::from_bytes(&header(9, 0, 0, &[])).unwrap_err(),
        Model::from_bytes(&header(3, 1, 1, &[])).unwrap_err(),
    ];
    for error in toys {
        let text = error.to_string();
        let advice = ["download", "convert", "take a model"]
            .iter()
            .any(|word| text.contains(word));
        assert!(advice && !text.ends_with('.'), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Bytes changed anywhere give a model or an error, and never a panic.
    #[test]
    fn changed_bytes_never_panic(seed in any::<u64>(), changes in 1usize..12, header_only in any::<bool>()) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = small();
        let within = if header_only { bytes.len().min(12_000) } else { bytes.len() };
        for _ in 0..changes {
            let at = random.next_u32() as usize % within;
            bytes[at] = random.next_u32() as u8;
        }
        if let Ok(model) = Model::from_bytes(&bytes) {
            prop_assert!(model.info().context_length > 0);
        }
    }
}

/// A toy of one layer, written once.
fn small() -> Vec<u8> {
    static BYTES: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let mut toy = Toy::new("llama");
        toy.own("block_count", Value::U32(1));
        toy.tensors
            .retain(|(name, _)| !name.starts_with("blk.") || name.starts_with("blk.0."));
        toy.dtype = GgmlDType::Q8_0;
        toy.write()
    });
    BYTES.clone()
}
