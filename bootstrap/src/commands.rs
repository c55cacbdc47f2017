//! What the binary does beside serving: each a function of its arguments that says on `out` what came of it.

pub(crate) mod crawl;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod report;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, Result};
use infernet_study::crawl::{self as rows, Row};
use infernet_study::recording::Reader;

/// Reads a crawl, of whichever of the two formats its name says.
fn read_crawl(path: &Path) -> Result<Vec<Row>> {
    let cannot = || format!("cannot read `{}`", path.display());
    let file = BufReader::new(File::open(path).with_context(cannot)?);
    let is_csv = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let read = if is_csv {
        rows::read_csv(file)
    } else {
        rows::read_jsonl(file)
    };
    read.with_context(cannot)
}

/// Says what a recording lacked.
fn warn(reader: &Reader) {
    for warning in reader.warnings() {
        tracing::warn!("{warning}");
    }
}
