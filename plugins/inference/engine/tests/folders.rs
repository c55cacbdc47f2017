//! Folders that hold no embedding model, a damaged one, or one that asks for what the engine does not have: each gives
//! its own error, and none costs more than reading it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use infernet_engine::{EmbedError, Embedder, EmbeddingModel, LoadError};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a fixture that can be damaged.
struct Folder(TempDir);

impl Folder {
    fn of(name: &str) -> Self {
        let copy = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        for file in [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "1_Pooling/config.json",
        ] {
            if from.join(file).exists() {
                fs::create_dir_all(copy.path().join(file).parent().unwrap()).unwrap();
                fs::copy(from.join(file), copy.path().join(file)).unwrap();
            }
        }
        Self(copy)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.file(name), content).unwrap();
        self
    }

    /// Sets one value of a JSON file.
    fn set(self, name: &str, key: &str, value: Value) -> Self {
        let mut settings: Value = serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap();
        settings[key] = value;
        self.with(name, settings.to_string())
    }

    fn without(self, name: &str) -> Self {
        fs::remove_file(self.file(name)).unwrap();
        self
    }

    /// Changes the header of the weights; the tensors stay as they are.
    fn header(self, change: impl FnOnce(&mut Value)) -> Self {
        let raw = fs::read(self.file("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(raw[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&raw[8..8 + length]).unwrap();
        change(&mut header);
        let header = header.to_string();
        let whole = [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            &raw[8 + length..],
        ]
        .concat();
        self.with("model.safetensors", whole)
    }

    fn open(&self) -> Result<EmbeddingModel, LoadError> {
        EmbeddingModel::open(self.0.path())
    }

    fn refused(&self) -> LoadError {
        self.open().unwrap_err()
    }
}

macro_rules! assert_refused {
    ($folder:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $folder.refused();
        assert!(matches!(&error, $pattern $(if $guard)?), "{error}");
    }};
}

#[test]
fn each_file_that_is_missing_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = Folder::of("bert").without(name);
        assert_refused!(folder, LoadError::MissingFile { name: missing, .. } if *missing == name);
    }
    let nowhere = EmbeddingModel::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(nowhere, LoadError::Read { .. }), "{nowhere}");
    Folder::of("bert").without("modules.json").open().unwrap();
}

#[test]
fn weights_that_are_none_are_refused_before_anything_is_allocated_for_them() {
    let weights = |bytes: &[u8]| Folder::of("bert").with("model.safetensors", bytes);
    assert_refused!(weights(b""), LoadError::Truncated { .. });
    assert_refused!(weights(&u64::MAX.to_le_bytes()), LoadError::Damaged(_));
    assert_refused!(weights(&1000u64.to_le_bytes()), LoadError::Truncated { .. });
    assert_refused!(weights(b"\x02\0\0\0\0\0\0\0[]"), LoadError::Damaged(_));
    assert_refused!(weights(b"\x02\0\0\0\0\0\0\0{}"), LoadError::MissingTensor(_));
    let whole = fs::read(Folder::of("bert").file("model.safetensors")).unwrap();
    assert_refused!(weights(&whole[..whole.len() - 1]), LoadError::Truncated { .. });
}

#[test]
fn tensors_are_checked_one_by_one() {
    const LAST: &str = "encoder.layer.1.output.dense.bias";
    let folder = Folder::of("bert").header(|header| {
        let tensor = header.as_object_mut().unwrap().remove(LAST).unwrap();
        header["something.else"] = tensor;
    });
    assert_refused!(folder, LoadError::MissingTensor(name) if name == LAST);
    let folder = Folder::of("bert").header(|header| header[LAST]["shape"] = json!([4, 8]));
    assert_refused!(folder, LoadError::TensorShape { name, .. } if name == LAST);
    let folder = Folder::of("bert").header(|header| header[LAST]["dtype"] = json!("I32"));
    assert_refused!(folder, LoadError::TensorForm { found, .. } if found == "I32");
    for wrong in [json!([u64::MAX / 2, 4]), json!([33]), json!([-1])] {
        let folder = Folder::of("bert").header(|header| header[LAST]["shape"] = wrong);
        assert_refused!(folder, LoadError::Damaged(_));
    }
    for offsets in [json!([0, 128]), json!([128, 0]), json!([u64::MAX - 128, u64::MAX])] {
        let folder = Folder::of("bert").header(|header| header[LAST]["data_offsets"] = offsets);
        assert_refused!(folder, LoadError::Damaged(_));
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let set = |key: &str, value: Value| Folder::of("bert").set("config.json", key, value);
    for key in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ] {
        for value in [json!(0), json!(u64::MAX)] {
            assert_refused!(set(key, value), LoadError::Setting { key: named, .. } if *named == key);
        }
        for value in [json!(-1), json!("many"), Value::Null] {
            assert_refused!(
                set(key, value),
                LoadError::Json {
                    file: "config.json",
                    ..
                }
            );
        }
        assert_refused!(
            set(key, json!(7)),
            LoadError::Feature(_)
                | LoadError::TensorShape { .. }
                | LoadError::MissingTensor(_)
                | LoadError::Vocabulary(_)
        );
    }
    assert_refused!(set("layer_norm_eps", json!(-1.0)), LoadError::Setting { .. });
    let padding = Folder::of("roberta").set("config.json", "pad_token_id", json!(u64::MAX));
    assert_refused!(
        padding,
        LoadError::Setting {
            key: "pad_token_id",
            ..
        }
    );
    assert_refused!(Folder::of("bert").with("config.json", "{"), LoadError::Json { .. });
    let long = " ".repeat(2 << 20);
    assert_refused!(Folder::of("bert").with("config.json", &long), LoadError::TooLong { .. });
    assert_refused!(
        Folder::of("bert").with("modules.json", &long),
        LoadError::TooLong { .. }
    );
}

#[test]
fn what_the_engine_does_not_have_is_refused_by_name() {
    let set = |key: &str, value: &str| Folder::of("bert").set("config.json", key, value.into());
    assert_refused!(set("model_type", "mpnet"), LoadError::Architecture { found, .. } if found == "mpnet");
    assert_refused!(set("hidden_act", "mish"), LoadError::Feature(what) if what.contains("mish"));
    assert_refused!(
        set("position_embedding_type", "relative_key"),
        LoadError::Feature(what) if what.contains("relative_key")
    );
    let ranker = Folder::of("bert").set("config.json", "architectures", json!(["BertForSequenceClassification"]));
    assert_refused!(ranker, LoadError::Feature(what) if what.contains("BertForSequenceClassification"));
    let dense = json!([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]).to_string();
    assert_refused!(
        Folder::of("bert").with("modules.json", dense),
        LoadError::Feature(what) if what.contains("Dense")
    );
    let max = Folder::of("bert").with("1_Pooling/config.json", r#"{"pooling_mode_max_tokens":true}"#);
    assert_refused!(max, LoadError::Feature(what) if what.contains("max_tokens"));
}

#[test]
fn a_list_of_modules_leads_nowhere_else() {
    for path in ["..", "../other", "/etc", "a/b", "a/../.."] {
        let modules = json!([{"path": path, "type": "sentence_transformers.models.Transformer"}]).to_string();
        assert_refused!(
            Folder::of("bert").with("modules.json", modules),
            LoadError::Json {
                file: "modules.json",
                ..
            }
        );
    }
}

#[test]
fn a_tokenizer_must_fit_the_model() {
    let with = |text: &str| Folder::of("bert").with("tokenizer.json", text);
    for text in ["", "{}", "[1]", r#"{"model":{"type":"WordPiece"}}"#] {
        assert_refused!(
            with(text),
            LoadError::Json {
                file: "tokenizer.json",
                ..
            }
        );
    }
    let folder = Folder::of("bert");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(folder.file("tokenizer.json")).unwrap()).unwrap();
    tokenizer["model"]["vocab"]["beyond"] = json!(100_000);
    assert_refused!(
        folder.with("tokenizer.json", tokenizer.to_string()),
        LoadError::Vocabulary(_)
    );
}

#[test]
fn weights_that_give_no_numbers_are_found_out() {
    let folder = Folder::of("bert");
    let mut raw = fs::read(folder.file("model.safetensors")).unwrap();
    let end = raw.len();
    raw[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = folder.with("model.safetensors", raw);
    let embedder = Embedder::start(folder.open().unwrap(), 1).unwrap();
    let told = embedder.embed(vec![vec![5]]).unwrap().blocking_vectors();
    assert_eq!(told, Some(Err(EmbedError::NotFinite)));
    assert_eq!(embedder.in_flight(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a few bytes of any file become: an error or a model, and no panic.
    #[test]
    fn damage_is_an_error(
        name in prop::sample::select(vec!["config.json", "tokenizer.json", "model.safetensors", "modules.json"]),
        changes in prop::collection::vec((0usize..4096, any::<u8>()), 1..4),
    ) {
        let folder = Folder::of("bert");
        let mut bytes = fs::read(folder.file(name)).unwrap();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let folder = folder.with(name, bytes);
        if let Ok(model) = folder.open() {
            let _ = model.tokenize("The quick brown fox");
        }
    }
}
