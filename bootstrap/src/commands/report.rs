//! `report`: a page of recordings, publications or a crawl.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use infernet_protocol::UnixMillis;
use infernet_study::publish::Pseudonyms;
use infernet_study::recording::Reader;
use infernet_study::report::{self, Collector, Input, Names};

/// What a page is drawn of.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Recordings or publications: files, or directories of them
    #[arg(value_name = "RECORDING")]
    recordings: Vec<PathBuf>,

    /// A crawl, as JSONL or CSV
    #[arg(long, value_name = "FILE")]
    crawl: Option<PathBuf>,

    /// Where to write the page
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,

    /// Call peers by their own names; the page is not for publication then
    #[arg(long)]
    keep_identities: bool,

    /// Say what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Draws the page.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    if arguments.recordings.is_empty() && arguments.crawl.is_none() {
        bail!("there is nothing to draw; name a recording, or a crawl with `--crawl FILE`");
    }
    let mut collector = Collector::default();
    let mut warnings = Vec::new();
    if !arguments.recordings.is_empty() {
        let mut reader = Reader::open(&arguments.recordings)?;
        for record in reader.by_ref() {
            collector.take(&record?);
        }
        super::warn(&reader);
        // Where files lie on this machine is nobody's business.
        let file = |warning: &infernet_study::recording::Warning| {
            let name = warning.path.file_name().map(PathBuf::from).unwrap_or_default();
            infernet_study::recording::Warning {
                path: name,
                ..warning.clone()
            }
            .to_string()
        };
        warnings.extend(reader.warnings().iter().map(file));
    }
    let rows = arguments.crawl.as_deref().map(super::read_crawl).transpose()?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let page = report::page(&Input {
        recording: (!collector.is_empty()).then_some(&collector),
        crawl: rows.as_deref(),
        names: if arguments.keep_identities {
            Names::Real
        } else {
            Names::Hidden(Pseudonyms::random())
        },
        warnings,
        drawn_at: UnixMillis(u64::try_from(wall.as_millis()).unwrap_or_default()),
    });
    let path = &arguments.out;
    std::fs::write(path, page)
        .with_context(|| format!("cannot write `{}`; name another file with `--out`", path.display()))?;
    let (records, peers) = (collector.records(), rows.map_or(0, |rows| rows.len()));
    if arguments.json {
        let told = serde_json::json!({ "event": "report", "file": path, "records": records, "crawled": peers });
        writeln!(out, "{told}")?;
    } else {
        writeln!(
            out,
            "drew {records} records and {peers} crawled peers: open {}",
            path.display()
        )?;
    }
    Ok(())
}
