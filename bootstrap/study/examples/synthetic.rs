//! Writes a recording, a crawl and a report of a network that never was, to look at.
//!
//! `cargo run -p infernet-study --example synthetic -- DIRECTORY`

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;

use infernet_study::crawl;
use infernet_study::publish::Pseudonyms;
use infernet_study::recording::{Limits, Reader, Writer};
use infernet_study::report::{Collector, Input, Names, page};
use infernet_study::synthetic::{self, Shape};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("name a directory")?);
    let recording = directory.join("recording");
    if recording.exists() {
        return Err("the directory holds a recording already; name another".into());
    }
    let mut writer = Writer::create(&recording, synthetic::session(), Limits::default())?;
    for record in synthetic::records(&Shape::default()) {
        writer.write(&record)?;
    }
    writer.finish()?;

    let mut collector = Collector::default();
    for record in Reader::open(&[recording])? {
        collector.take(&record?);
    }
    let rows = synthetic::crawl(90, 1);
    crawl::write_jsonl(&rows, File::create(directory.join("crawl.jsonl"))?)?;
    crawl::write_csv(&rows, File::create(directory.join("crawl.csv"))?)?;
    for (name, recording, crawl) in [
        ("report.html", Some(&collector), Some(rows.as_slice())),
        ("recording.html", Some(&collector), None),
        ("crawl.html", None, Some(rows.as_slice())),
    ] {
        let html = page(&Input {
            recording,
            crawl,
            names: Names::Hidden(Pseudonyms::random()),
            warnings: Vec::new(),
            drawn_at: synthetic::BEGAN,
        });
        std::fs::write(directory.join(name), html)?;
    }
    Ok(())
}
