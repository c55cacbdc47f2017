//! `demo-model`: makes the small language model that Infernet ships with, from nothing.
//!
//! A grammar writes simple English, a byte-level BPE tokenizer is trained on it, a Llama of about two million
//! parameters is trained on that, and the result is written as a Q8_0 GGUF. Serving the file is the engine's work
//! (`infernet-engine`); nothing of this crate is part of a running node.
//!
//! ```text
//! corpus  ->  tokenizer  ->  train (checkpoints)  ->  export  ->  infernet-demo.gguf
//!    \___________________________ make-all ______________________________/
//! ```

mod chat;
mod commands;
mod corpus;
mod export;
mod model;
mod sample;
mod shape;
mod tokenizer;
mod train;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    commands::run(&commands::Args::parse().command, &mut std::io::stdout().lock())
}
