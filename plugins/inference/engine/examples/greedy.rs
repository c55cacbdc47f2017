//! Answers prompts greedily, for comparison with other engines: `greedy MODEL.gguf [MAX_TOKENS]` reads one JSON object
//! per line, `{"prompt": "text"}` or `{"ids": [1, 2]}`, and prints `{"prompt_ids": [...], "ids": [...], "text": "..."}`.
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, bail};
use infernet_engine::{Engine, Event, Model, Params};
use serde_json::{Value, json};

const DEFAULT_MAX_TOKENS: u32 = 64;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = PathBuf::from(
        arguments
            .next()
            .context("usage: greedy MODEL.gguf [MAX_TOKENS] < PROMPTS.jsonl")?,
    );
    let max_tokens = match arguments.next() {
        Some(number) => number.to_string_lossy().parse()?,
        None => DEFAULT_MAX_TOKENS,
    };
    let model = Model::open(&path)?;
    let engine = Engine::start(model.clone(), 1)?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let prompt_ids: Vec<u32> = match (&request["prompt"], &request["ids"]) {
            (Value::String(text), _) => model.tokenize(text, true)?,
            (_, ids @ Value::Array(_)) => serde_json::from_value(ids.clone())?,
            _ => bail!("a line needs `prompt` or `ids`"),
        };
        let params = Params {
            max_tokens,
            temperature: 0.0,
            ..Params::default()
        };
        let mut sequence = engine.generate(prompt_ids.clone(), params)?;
        let (mut ids, mut text) = (Vec::new(), String::new());
        while let Some(event) = sequence.blocking_recv() {
            match event {
                Event::Token { text: more, ids: new } => {
                    text.push_str(&more);
                    ids.extend(new);
                }
                Event::Done { .. } => break,
                Event::Failed(error) => return Err(error.into()),
            }
        }
        println!("{}", json!({ "prompt_ids": prompt_ids, "ids": ids, "text": text }));
    }
    Ok(())
}
