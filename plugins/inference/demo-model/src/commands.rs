//! The commands.
use anyhow::Result;
use std::io::Write;
#[derive(Debug, clap::Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Corpus,
    Random,
}
pub(crate) fn run(command: &Command, out: &mut dyn Write) -> Result<()> {
    use crate::corpus::{dice::Dice, stories};
    match command {
        Command::Corpus => {
            for i in 0..30 {
                writeln!(
                    out,
                    "{}\n-----",
                    stories::story(Default::default(), &mut Dice::new(1, i)).text
                )?;
            }
        }
        Command::Random => {
            let texts: Vec<_> = (0..5000)
                .map(|i| {
                    let s = stories::story(Default::default(), &mut Dice::new(1, i));
                    format!(
                        "user\nTell me a story about a {} and a {}.\nassistant\n{}",
                        s.hero.noun, s.friend.noun, s.text
                    )
                })
                .collect();
            let t = crate::tokenizer::train(&texts)?;
            let n = crate::export::write(
                &crate::model::weights::initial(1)?,
                &t,
                std::path::Path::new("plugins/inference/demo-model/infernet-demo.gguf"),
            )?;
            let chars: usize = texts.iter().map(String::len).sum();
            let toks: usize = texts
                .iter()
                .map(|x| crate::tokenizer::encode(&t, x).unwrap().len())
                .sum();
            writeln!(
                out,
                "{n} bytes; {} chars {} tokens per doc",
                chars / texts.len(),
                toks / texts.len()
            )?;
        }
    }
    Ok(())
}
