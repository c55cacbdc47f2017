//! Writes a toy model with random weights: `toy ARCHITECTURE OUT.gguf [PRE]`. For comparisons with other engines.

use anyhow::{Context, bail};

#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests, which use more of it"
)]
#[path = "../tests/support/toy.rs"]
mod toy;

const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "phi3", "gemma3"];
const CUTS: [&str; 6] = ["gpt-2", "default", "llama-bpe", "qwen2", "smollm", toy::SENTENCE_PIECE];

fn main() -> anyhow::Result<()> {
    let usage = "usage: toy ARCHITECTURE OUT.gguf [PRE]";
    let mut arguments = std::env::args().skip(1);
    let (architecture, out) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let Some(family) = FAMILIES.into_iter().find(|family| *family == architecture) else {
        bail!("`{architecture}` is none of {FAMILIES:?}");
    };
    let pre = arguments.next().unwrap_or_else(|| CUTS[0].to_owned());
    let cut = CUTS
        .into_iter()
        .find(|cut| *cut == pre)
        .with_context(|| format!("`{pre}` is none of {CUTS:?}"))?;
    let toy = toy::Toy::with_cut(family, cut);
    std::fs::write(out, toy.write())?;
    Ok(())
}
