//! The bench's figures: medians and tails, and what was added.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::BenchArgs;
use crate::out::{Out, Style};

/// Times of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<Duration>);

impl Series {
    pub(super) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Microseconds below which so many percent lie.
    pub(super) fn percentile(&self, percent: usize) -> i64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len().saturating_sub(1)) * percent / 100;
        sorted
            .get(place)
            .map_or(0, |time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    name: &'static str,
    count: usize,
    /// Microseconds at the median, and below which 90% and 99% lie.
    percentiles: [i64; 3],
    /// The medians' difference to the direct request.
    added: Option<i64>,
}

const PERCENTS: [usize; 3] = [50, 90, 99];

impl Row {
    pub(super) fn ttft(name: &'static str, series: &Series, direct: Option<&Series>) -> Self {
        Self {
            name,
            count: series.0.len(),
            percentiles: PERCENTS.map(|percent| series.percentile(percent)),
            added: direct.map(|direct| series.percentile(50) - direct.percentile(50)),
        }
    }

    pub(super) fn auction(name: &'static str, series: &Series) -> Self {
        Self::ttft(name, series, None)
    }

    fn to_json(&self) -> Value {
        let [p50, p90, p99] = self.percentiles;
        json!({ "name": self.name, "count": self.count, "p50_us": p50, "p90_us": p90, "p99_us": p99,
            "added_p50_us": self.added })
    }
}

/// Prints all of it.
pub(super) fn print(out: &Out, rows: &[Row], tokens_per_second: [u64; 2], args: &BenchArgs) {
    let [direct, gateway] = tokens_per_second;
    if out.is_json() {
        let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
        return out.json(&json!({ "time_to_first_token": rows, "streams": args.at_once,
            "tokens_per_second": { "direct": direct, "gateway": gateway } }));
    }
    out.line(out.paint(Style::Bold, "time to first token, one request at a time"));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut cells = vec![row.name.to_owned(), row.count.to_string()];
            cells.extend(row.percentiles.iter().map(|us| ms(*us)));
            cells.push(row.added.map_or_else(|| "-".to_owned(), ms));
            cells
        })
        .collect();
    out.table(&["", "count", "median", "p90", "p99", "added at the median"], &cells);
    let share = gateway * 100 / direct.max(1);
    out.line(format_args!(
        "\n{} {direct} tokens/s directly, {gateway} through gateway and provider ({share}%)",
        out.paint(Style::Bold, &format!("{} streams at once:", args.at_once))
    ));
    out.note(out.paint(
        Style::Dim,
        "engine, three providers, consumer and load share this machine's cores",
    ));
}

/// Milliseconds with two decimals.
pub(super) fn ms(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    format!("{sign}{}.{:02} ms", us / 1000, us % 1000 / 10)
}

/// The same of a measured figure.
pub(super) fn ms_of(ms: f64) -> String {
    format!("{ms:.2} ms")
}
