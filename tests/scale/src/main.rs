//! `infernet-scale`: simulates networks of up to ten thousand nodes, and says whether what is written down still
//! holds.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use infernet_scale::{Row, Setup, plot, report, simulate};

/// Simulates the network at size.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulates and writes tables and pictures
    Run {
        /// Every scenario and size, which takes an hour; without it the small ones, shown only
        #[arg(long)]
        all: bool,
        /// Only scenarios with this in their name
        #[arg(long)]
        only: Option<String>,
        /// Only networks of this many nodes
        #[arg(long)]
        nodes: Option<usize>,
        /// The seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the tables and pictures go; rows of other networks that are there stay
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Simulates the small networks again and compares them with the table
    Check {
        /// The table
        #[arg(long, default_value = "specs/scale/scale.csv")]
        table: PathBuf,
    },
}

/// The table that is compared.
const TABLE: &str = "scale.csv";

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run {
            all,
            only,
            nodes,
            seed,
            out,
        } => {
            let mut setups = if all { Setup::all() } else { Setup::small() };
            setups.retain(|setup| only.as_ref().is_none_or(|only| setup.name.contains(only.as_str())));
            setups.retain(|setup| nodes.is_none_or(|nodes| setup.nodes == nodes));
            run(&setups, seed, out.as_deref())
        }
        Command::Check { table } => check(&table),
    }
}

fn run(setups: &[Setup], seed: u64, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<Row> = Vec::new();
    if let Some(folder) = out {
        std::fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
        rows = report::rows(&std::fs::read_to_string(folder.join(TABLE)).unwrap_or_default());
    }
    for setup in setups {
        let setup = Setup { seed, ..setup.clone() };
        say(&format!("{} with {} nodes", setup.name, setup.nodes));
        put(&mut rows, simulate(&setup));
        if let Some(folder) = out {
            write(folder, &rows)?;
        }
    }
    if out.is_none() {
        std::io::stdout().write_all(report::markdown(&rows).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a row in the place of an older one of the same network, all in the order of [`Setup::all`].
fn put(rows: &mut Vec<Row>, new: Row) {
    let order: Vec<(&str, usize)> = Setup::all().iter().map(|setup| (setup.name, setup.nodes)).collect();
    let place = |row: &Row| order.iter().position(|it| *it == (row.scenario.as_str(), row.nodes));
    rows.retain(|row| place(row).is_some() && (&row.scenario, row.nodes) != (&new.scenario, new.nodes));
    rows.push(new);
    rows.sort_by_key(place);
}

fn write(folder: &Path, rows: &[Row]) -> anyhow::Result<()> {
    for (name, text) in [(TABLE, report::csv(rows)), ("tables.md", report::markdown(rows))] {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    plot::pictures(rows)
        .iter()
        .try_for_each(|picture| plot::draw(picture, folder))
}

fn check(table: &Path) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(table).with_context(|| format!("`{}` cannot be read", table.display()))?;
    let mut differ = 0;
    for setup in Setup::small() {
        let line = report::line(&simulate(&setup));
        let holds = text.lines().any(|known| known == line);
        say(&format!(
            "{} with {} nodes: {}",
            setup.name,
            setup.nodes,
            if holds { "as written" } else { "differs" }
        ));
        if !holds {
            say(&format!("  it is now {line}"));
            differ += 1;
        }
    }
    if differ == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    say("make the tables anew: cargo run --release -p infernet-scale -- run --all --out specs/scale");
    Ok(ExitCode::FAILURE)
}

fn say(line: &str) {
    // Nobody reads it where this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
}
