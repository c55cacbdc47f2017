//! The commands from end to end, against a stub of Hugging Face and with the models that come with this project.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Context, run};
use crate::cli::{ModelCommand, ModelNameArgs, ModelPullArgs, ModelRmArgs};
use crate::commands::Result;
use crate::config::Environment;
use crate::home::Home;
use crate::models::local;
use crate::models::stub::Stub;
use crate::out::{Exit, Out};

const INFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/inference");
const GGUF: &str = "demo-model/infernet-demo.gguf";
const BERT: &str = "engine/tests/fixtures/bert";

/// A home, a hub, and the runtime that the hub runs on.
struct Bench {
    context: Context,
    stub: Stub,
    _hub: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let hub = crate::runtime::executor().unwrap();
        let stub = hub.block_on(Stub::start());
        let home = Home::temporary().unwrap();
        // Nobody listens on port 1, so that no Ollama of the machine takes part.
        let variables = [("HF_ENDPOINT", stub.address.as_str()), ("OLLAMA_HOST", "127.0.0.1:1")];
        let context = Context {
            home,
            out: Out::new(true, true),
            environment: Environment::of(variables),
            verbose: 0,
        };
        Self {
            context,
            stub,
            _hub: hub,
        }
    }

    fn offer(&self, name: &str, file: impl AsRef<Path>) {
        let bytes = std::fs::read(Path::new(INFERENCE).join(file)).unwrap();
        self.stub.offer(name, &bytes);
    }

    fn pull(&self, name: &str) -> Result {
        let args = ModelPullArgs { name: name.to_owned() };
        run(&ModelCommand::Pull(args), &self.context)
    }

    fn remove(&self, name: &str, force: bool) -> Result {
        let args = ModelRmArgs {
            name: name.to_owned(),
            yes: true,
            force,
        };
        run(&ModelCommand::Rm(args), &self.context)
    }

    fn names(&self) -> Vec<String> {
        let all = local::list(&self.context.home.models()).unwrap();
        all.into_iter().map(|local| local.name).collect()
    }

    fn served(&self) -> Option<PathBuf> {
        super::config(&self.context).unwrap().provider.model
    }
}

fn named(name: &str) -> ModelNameArgs {
    ModelNameArgs { name: name.to_owned() }
}

fn exit(result: Result) -> Exit {
    result.unwrap_or_else(|failure| failure.exit)
}

#[test]
fn a_file_is_pulled_shown_used_and_removed() {
    let bench = Bench::new();
    bench.offer("m-Q8_0.gguf", GGUF);
    bench.stub.offer("m-F16.gguf", b"another");
    bench.pull("hf:owner/name").unwrap();
    assert_eq!(bench.names(), ["owner/name/m-Q8_0.gguf"]);
    run(&ModelCommand::List, &bench.context).unwrap();

    let shown = super::show::described(&super::find(&bench.context, "m-Q8_0").unwrap().unwrap()).unwrap();
    assert_eq!(
        (&shown["architecture"], &shown["quantisation"]),
        (&Value::from("llama"), &Value::from("Q8_0"))
    );
    run(&ModelCommand::Show(named("m-Q8_0")), &bench.context).unwrap();
    run(&ModelCommand::Use(named("m-Q8_0")), &bench.context).unwrap();
    let path = bench.context.home.models().join("owner/name/m-Q8_0.gguf");
    assert_eq!(bench.served(), Some(path.clone()));
    let backend = super::config(&bench.context).unwrap().provider.backend;
    assert_eq!(backend, crate::config::Backend::Embedded);

    assert_eq!(exit(bench.remove("m-Q8_0", false)), Exit::Failed, "it is in use");
    assert!(path.exists());
    bench.remove("m-Q8_0", true).unwrap();
    assert!(bench.names().is_empty() && bench.context.home.models().exists());
}

#[test]
fn an_embedding_model_is_pulled_as_a_folder_and_used_by_its_name() {
    let bench = Bench::new();
    for file in [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "modules.json",
        "1_Pooling/config.json",
    ] {
        bench.offer(file, Path::new(BERT).join(file));
    }
    bench.pull("hf:owner/name").unwrap();
    assert_eq!(bench.names(), ["owner/name"]);
    run(&ModelCommand::Use(named("name")), &bench.context).unwrap();
    assert_eq!(bench.served(), Some(bench.context.home.models().join("owner/name")));
    let shown = super::show::described(&super::find(&bench.context, "owner/name").unwrap().unwrap()).unwrap();
    assert_eq!(
        (&shown["architecture"], &shown["dimensions"]),
        (&Value::from("bert"), &Value::from(32))
    );
}

#[test]
fn weights_that_cannot_be_served_are_not_downloaded() {
    let bench = Bench::new();
    bench.stub.offer("config.json", br#"{"model_type":"llama","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":1,"intermediate_size":8,"vocab_size":8,"max_position_embeddings":8}"#);
    bench.stub.offer("tokenizer.json", b"{}");
    bench.stub.offer("model.safetensors", b"much");
    let refused = bench.pull("hf:owner/name").unwrap_err();
    assert!(refused.message.contains("`llama`"), "{}", refused.message);
    assert!(
        !bench
            .context
            .home
            .models()
            .join("owner/name/model.safetensors")
            .exists()
    );
}

#[test]
fn every_failure_has_its_exit_code() {
    let bench = Bench::new();
    assert_eq!(exit(bench.pull("hf:../x")), Exit::Usage);
    assert_eq!(exit(bench.pull("hf:owner/other")), Exit::Failed);
    assert_eq!(exit(bench.pull("hf:owner/name")), Exit::Failed, "it is empty");
    assert_eq!(exit(bench.pull("llama3.2")), Exit::Unreachable, "no Ollama answers");
    assert_eq!(
        exit(run(&ModelCommand::Use(named("nothing")), &bench.context)),
        Exit::Failed
    );
    assert_eq!(
        exit(run(&ModelCommand::Show(named("nothing")), &bench.context)),
        Exit::Unreachable
    );
    assert_eq!(exit(bench.remove("nothing", false)), Exit::Unreachable);
    let unasked = ModelRmArgs {
        name: "own".into(),
        yes: false,
        force: false,
    };
    std::fs::create_dir_all(bench.context.home.models()).unwrap();
    std::fs::write(bench.context.home.models().join("own.gguf"), b"x").unwrap();
    // Tests have no terminal on stdin where nextest runs them; at a terminal this would ask.
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        assert_eq!(exit(run(&ModelCommand::Rm(unasked), &bench.context)), Exit::Usage);
    }
    assert_eq!(bench.names(), ["own.gguf"]);
}
