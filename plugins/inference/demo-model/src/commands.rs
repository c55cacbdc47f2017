//! The commands, each a step of making the model, and `make-all`, which takes them all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args as Arguments, Parser, Subcommand};

use crate::chat::{self, Turn};
use crate::sample::{Manner, Sampler};
use crate::{corpus, export, tokenizer, train};

/// Documents that the tokenizer is trained on.
const TOKENIZER_DOCUMENTS: u64 = 12_000;
/// Their stream; the trainer's is another one.
const TOKENIZER_SEED: u64 = 4;
/// Steps of the run that made the shipped file.
const STEPS: u64 = 4_000;

/// Makes Infernet's demo model.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print documents of the corpus
    Corpus {
        /// How many
        #[arg(long, default_value_t = 10)]
        count: u64,
        /// Which stream of documents
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Train the tokenizer
    Tokenizer(Work),
    /// Train the model, going on from the last checkpoint if there is one
    Train {
        #[command(flatten)]
        work: Work,
        /// Steps in all
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
    },
    /// Write the last checkpoint as a Q8_0 GGUF
    Export {
        #[command(flatten)]
        work: Work,
        /// The file to write
        out: PathBuf,
    },
    /// Tokenizer, training and export in one go
    MakeAll {
        #[command(flatten)]
        work: Work,
        /// Steps in all
        #[arg(long, default_value_t = STEPS)]
        steps: u64,
        /// The file to write
        #[arg(default_value = "plugins/inference/demo-model/infernet-demo.gguf")]
        out: PathBuf,
    },
    /// Copy a GGUF with all weights as F32, to compare engines token by token
    Dequantize {
        /// The file to read
        from: PathBuf,
        /// The file to write
        to: PathBuf,
    },
    /// Ask a GGUF
    Sample {
        /// The file to ask
        #[arg(long, default_value = "plugins/inference/demo-model/infernet-demo.gguf")]
        model: PathBuf,
        /// What to ask; each prompt is a conversation of its own
        #[arg(required = true)]
        prompts: Vec<String>,
        /// Instructions before the conversation
        #[arg(long)]
        system: Option<String>,
        /// 0 takes the likeliest token each time
        #[arg(long, default_value_t = 0.7)]
        temperature: f64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Most tokens of an answer
        #[arg(long, default_value_t = 400)]
        max_tokens: usize,
        /// Continue the prompt as it stands, without the chat format
        #[arg(long)]
        raw: bool,
    },
}

/// Where a run keeps its files.
#[derive(Debug, Arguments)]
pub(crate) struct Work {
    /// Folder for the tokenizer and the checkpoint
    #[arg(long, default_value = "target/demo-model")]
    work: PathBuf,
}

impl Work {
    fn vocabulary(&self) -> PathBuf {
        self.work.join("tokenizer.json")
    }
}

/// Runs `command`; results go to `out`.
pub(crate) fn run(command: &Command, out: &mut dyn Write) -> Result<()> {
    match command {
        Command::Corpus { count, seed } => {
            for index in 0..*count {
                writeln!(out, "{}\n", corpus::text(*seed, index))?;
            }
            Ok(())
        }
        Command::Tokenizer(work) => make_tokenizer(work, out),
        Command::Train { .. } | Command::MakeAll { .. } if candle_core::utils::get_num_threads() != 1 => {
            single_threaded()
        }
        Command::Train { work, steps } => make_weights(work, *steps, out),
        Command::Export { work, out: path } => make_file(work, path, out),
        Command::MakeAll { work, steps, out: path } => {
            let begin = Instant::now();
            if !work.vocabulary().exists() {
                make_tokenizer(work, out)?;
            }
            make_weights(work, *steps, out)?;
            make_file(work, path, out)?;
            writeln!(out, "made in {} minutes", begin.elapsed().as_secs() / 60)?;
            Ok(())
        }
        Command::Dequantize { from, to } => {
            let size = export::dequantize(from, to)?;
            writeln!(out, "{}: {size} bytes", to.display())?;
            Ok(())
        }
        Command::Sample {
            model,
            prompts,
            system,
            temperature,
            seed,
            max_tokens,
            raw,
        } => {
            let manner = Manner {
                temperature: *temperature,
                seed: *seed,
                limit: *max_tokens,
            };
            let texts: Vec<_> = prompts
                .iter()
                .map(|text| {
                    if *raw {
                        text.clone()
                    } else {
                        conversation(system.as_deref(), text)
                    }
                })
                .collect();
            sample(model, prompts, &texts, manner, out)
        }
    }
}

/// Runs this same command again with one thread per operator: the trainer fills the machine with its two halves.
fn single_threaded() -> Result<()> {
    let status = std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("RAYON_NUM_THREADS", "1")
        // glibc else gives every large buffer back to the system, only to have it cleared again for the next one.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "33554432")
        .env("MALLOC_TRIM_THRESHOLD_", "4294967296")
        .status()
        .context("cannot start the trainer")?;
    ensure!(
        status.success(),
        "training did not finish; run the same command again to go on from the last checkpoint"
    );
    Ok(())
}

fn make_tokenizer(work: &Work, out: &mut dyn Write) -> Result<()> {
    std::fs::create_dir_all(&work.work)?;
    let texts: Vec<_> = (0..TOKENIZER_DOCUMENTS)
        .map(|index| corpus::text(TOKENIZER_SEED, index))
        .collect();
    let vocabulary = tokenizer::train(&texts)?;
    tokenizer::save(&vocabulary, &work.vocabulary())?;
    let letters: usize = texts.iter().map(String::len).sum();
    let tokens = texts.iter().try_fold(0, |sum, text| {
        Ok::<_, anyhow::Error>(sum + tokenizer::encode(&vocabulary, text)?.len())
    })?;
    writeln!(
        out,
        "tokenizer: {letters} bytes in {tokens} tokens, {:.2} each",
        letters as f64 / tokens as f64
    )?;
    Ok(())
}

fn make_weights(work: &Work, steps: u64, out: &mut dyn Write) -> Result<()> {
    train::run(&tokenizer::load(&work.vocabulary())?, &work.work, steps, out)
}

fn make_file(work: &Work, path: &Path, out: &mut dyn Write) -> Result<()> {
    let size = export::write(
        &train::averaged(&work.work)?,
        &tokenizer::load(&work.vocabulary())?,
        path,
    )?;
    writeln!(out, "{}: {size} bytes", path.display())?;
    Ok(())
}

fn conversation(system: Option<&str>, text: &str) -> String {
    let mut turns: Vec<_> = system.map(Turn::system).into_iter().collect();
    turns.push(Turn::user(text));
    chat::prompt(&turns)
}

fn sample(model: &Path, prompts: &[String], texts: &[String], manner: Manner, out: &mut dyn Write) -> Result<()> {
    let mut sampler = Sampler::open(model)?;
    for (prompt, text) in prompts.iter().zip(texts) {
        writeln!(out, "> {prompt}")?;
        let begin = Instant::now();
        let tokens = sampler.answer(text, manner, out)?;
        writeln!(
            out,
            "[{tokens} tokens, {:.0} per second]\n",
            tokens as f64 / begin.elapsed().as_secs_f64()
        )?;
    }
    Ok(())
}
