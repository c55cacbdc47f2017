//! `publish`: copies of recordings and crawls in which nobody is named.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use infernet_study::crawl;
use infernet_study::publish::{Outcome, Pseudonyms, publish};
use infernet_study::recording::Reader;

/// Names of a crawl's copies.
const CRAWL_JSONL: &str = "crawl.published.jsonl";
const CRAWL_CSV: &str = "crawl.published.csv";

/// What is published, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Recordings: files, or directories of them
    #[arg(value_name = "RECORDING")]
    recordings: Vec<PathBuf>,

    /// A crawl, as JSONL or CSV; its peers get the same pseudonyms as those of the recordings
    #[arg(long, value_name = "FILE")]
    crawl: Option<PathBuf>,

    /// Directory for the copies
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Keep names, addresses and signatures: a plain copy
    #[arg(long)]
    keep_identities: bool,

    /// Say what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Writes the copies.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    if arguments.recordings.is_empty() && arguments.crawl.is_none() {
        bail!("there is nothing to publish; name a recording, or a crawl with `--crawl FILE`");
    }
    let directory = &arguments.out;
    let pseudonyms = (!arguments.keep_identities).then(Pseudonyms::random);
    let mut outcome = Outcome::default();
    if !arguments.recordings.is_empty() {
        let mut reader = Reader::open(&arguments.recordings)?;
        outcome = publish(&mut reader, directory, pseudonyms.as_ref())?;
        super::warn(&reader);
    }
    let mut peers = 0;
    if let Some(path) = &arguments.crawl {
        let rows = super::read_crawl(path)?;
        let rows = match &pseudonyms {
            Some(pseudonyms) => crawl::hidden(&rows, pseudonyms),
            None => rows,
        };
        peers = rows.len();
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
        let create = |name: &str| -> Result<BufWriter<File>> {
            let path = directory.join(name);
            let file = File::create_new(&path)
                .with_context(|| format!("cannot write `{}`; name another directory with `--out`", path.display()))?;
            Ok(BufWriter::new(file))
        };
        crawl::write_jsonl(&rows, create(CRAWL_JSONL)?)?;
        crawl::write_csv(&rows, create(CRAWL_CSV)?)?;
    }
    let Outcome { records, withheld } = outcome;
    let is_hidden = pseudonyms.is_some();
    if arguments.json {
        let told = serde_json::json!({
            "event": "published", "directory": directory, "records": records, "withheld": withheld,
            "crawled": peers, "pseudonyms": is_hidden,
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let how = if is_hidden {
        "under pseudonyms whose key is gone"
    } else {
        "with all names"
    };
    writeln!(
        out,
        "published {records} records and {peers} crawled peers {how}: {}",
        directory.display()
    )?;
    if withheld > 0 {
        writeln!(
            out,
            "withheld the contents of {withheld} messages that were not accepted"
        )?;
    }
    Ok(())
}
