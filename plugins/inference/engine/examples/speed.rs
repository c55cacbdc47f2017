//! Measures a model on this machine: `speed MODEL.gguf [TOKENS]` prints the time to open it, the time to read a prompt,
//! and tokens per second with one, two and four sequences at once; `speed DIRECTORY [TOKENS]` prints how many inputs of so
//! many tokens are embedded per second, one in each request and many.
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use infernet_engine::{ChatMessage, Embedder, EmbeddingModel, Engine, Event, Model, Params};

const DEFAULT_TOKENS: u32 = 512;
/// Tokens of one input where nobody says.
const INPUT_TOKENS: u32 = 32;
/// Inputs embedded in one measurement.
const INPUTS: usize = 256;
const PROMPT: &str = "Tell me a story about a fox.";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = PathBuf::from(arguments.next().context("usage: speed MODEL.gguf|DIRECTORY [TOKENS]")?);
    let tokens = arguments.next().map(|number| number.to_string_lossy().parse());
    let tokens = tokens.transpose()?;
    if EmbeddingModel::is_at(&path) {
        return embeddings(&path, tokens.unwrap_or(INPUT_TOKENS));
    }
    let tokens = tokens.unwrap_or(DEFAULT_TOKENS);
    let begun = Instant::now();
    let model = Model::open(&path)?;
    println!("{:?}", model.info());
    println!("opened in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let prompt = model.tokenize(
        &model.render_chat(&[ChatMessage::new("user", PROMPT)], None, true)?,
        true,
    )?;
    for together in [1, 2, 4] {
        measure(&model, &prompt, tokens, together)?;
    }
    let long: Vec<u32> = prompt
        .iter()
        .copied()
        .cycle()
        .take(model.info().context_length - 2)
        .collect();
    let engine = Engine::start(model, 1)?;
    let begun = Instant::now();
    let mut sequence = engine.generate(
        long.clone(),
        Params {
            max_tokens: 1,
            ..Params::default()
        },
    )?;
    while sequence.blocking_recv().is_some() {}
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "prompt of {} tokens: {:.0} ms, {:.0} tokens/s",
        long.len(),
        seconds * 1e3,
        long.len() as f64 / seconds
    );
    Ok(())
}

fn embeddings(path: &Path, tokens: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    let model = EmbeddingModel::open(path)?;
    println!("{:?}", model.info());
    println!("opened in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let last = model.info().vocabulary as u32 - 1;
    let embedder = Embedder::start(model, 1)?;
    for together in [1, 32] {
        let begun = Instant::now();
        for request in 0..INPUTS / together {
            let input = |index: usize| (0..tokens).map(|at| (at * 31 + index as u32) % last).collect();
            let inputs = (0..together).map(|index| input(request * together + index)).collect();
            let told = embedder.embed(inputs)?.blocking_vectors();
            told.context("the engine has stopped")??;
        }
        let rate = INPUTS as f64 / begun.elapsed().as_secs_f64();
        println!("{together} in each request: {rate:.0} inputs of {tokens} tokens per second");
    }
    Ok(())
}

/// Ends of answers are ignored by starting over, so that every sequence makes as many tokens as asked for.
fn measure(model: &Model, prompt: &[u32], tokens: u32, together: usize) -> anyhow::Result<()> {
    let engine = Engine::start(model.clone(), together)?;
    let (begun, mut first) = (Instant::now(), None);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..together)
            .map(|index| {
                let engine = &engine;
                scope.spawn(move || -> anyhow::Result<(u32, Option<Instant>)> {
                    let (mut made, mut first) = (0, None);
                    let mut seed = index as u64;
                    while made < tokens {
                        seed += 100;
                        let params = Params {
                            max_tokens: tokens - made,
                            temperature: 0.7,
                            seed: Some(seed),
                            ..Params::default()
                        };
                        let mut sequence = engine.generate(prompt.to_vec(), params)?;
                        while let Some(event) = sequence.blocking_recv() {
                            if let Event::Token { ids, .. } = event {
                                first.get_or_insert_with(Instant::now);
                                made += ids.len() as u32;
                            }
                        }
                    }
                    Ok((made, first))
                })
            })
            .collect();
        let mut made = 0;
        for reader in readers {
            let (tokens, at) = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
            made += tokens;
            first = first.min(at).or(at);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let ttft = first.map_or(0.0, |at| (at - begun).as_secs_f64() * 1e3);
        println!(
            "{together} at once: {:.0} tokens/s in all, first token after {ttft:.2} ms",
            f64::from(made) / seconds
        );
        Ok(())
    })
}
