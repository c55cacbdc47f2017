//! Tables: CSV that is compared, Markdown that is read.

use std::fmt::Write as _;

use crate::measures::{COLUMNS, Row};

/// All rows with all columns.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from("scenario,nodes");
    for (name, _) in COLUMNS {
        text.push(',');
        text.push_str(name);
    }
    text.push('\n');
    for row in rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}

/// The rows of a CSV that [`csv`] made; none where its columns are others.
#[must_use]
pub fn rows(csv: &str) -> Vec<Row> {
    let mut lines = csv.lines();
    if lines.next() != self::csv(&[]).lines().next() {
        return Vec::new();
    }
    lines.filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let (scenario, numbers) = line.strip_prefix('"')?.split_once("\",")?;
    let numbers: Option<Vec<u64>> = numbers.split(',').map(|number| number.parse().ok()).collect();
    let (nodes, values) = numbers.as_deref()?.split_first()?;
    Some(Row {
        scenario: scenario.to_owned(),
        nodes: usize::try_from(*nodes).ok()?,
        values: values.to_vec(),
    })
}

/// A row as it stands in the CSV.
#[must_use]
pub fn line(row: &Row) -> String {
    let mut text = format!("\"{}\",{}", row.scenario, row.nodes);
    for value in &row.values {
        // Writing to a string does not fail.
        let _ = write!(text, ",{value}");
    }
    text
}

/// The groups in which the numbers are read, each a table.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Ads",
        &[
            "connections",
            "interval",
            "ad_bytes",
            "ads_per_s",
            "ad_in",
            "ad_in_p99",
            "ad_out",
            "ad_out_p99",
            "ad_named",
            "ad_cost",
            "copies",
            "half_ms",
            "most_ms",
            "most_p99_ms",
            "delivered",
            "ads_held",
            "ads_kib",
        ],
    ),
    (
        "Jobs",
        &[
            "jobs",
            "failed",
            "place_ms",
            "place_p99_ms",
            "newcomer_ms",
            "misses",
            "bids",
            "bids_p99",
            "bids_max",
            "job_messages",
            "job_copies",
            "job_cost",
        ],
    ),
    (
        "DHT",
        &[
            "dht_hops",
            "dht_asked",
            "dht_first_ms",
            "dht_first_p99_ms",
            "dht_ms",
            "dht_found",
            "dht_honest",
            "dht_upkeep",
            "greeting",
        ],
    ),
    ("Trouble", &["drops", "held_back", "blamed", "heal_s"]),
];

/// The rows as Markdown tables, one for each group of columns.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text =
        String::from("# Simulated networks\n\nMade by `infernet-scale run`; [scale.md](../scale.md) reads them.\n");
    for (title, columns) in GROUPS {
        let _ = write!(text, "\n## {title}\n\n| scenario | nodes |");
        for column in columns {
            let _ = write!(text, " {column} |");
        }
        text.push_str("\n|---|---:|");
        text.push_str(&"---:|".repeat(columns.len()));
        text.push('\n');
        for row in rows {
            let _ = write!(text, "| {} | {} |", row.scenario, thousands(row.nodes as u64));
            for column in columns {
                let _ = write!(text, " {} |", shown(column, row.get(column)));
            }
            text.push('\n');
        }
    }
    text.push_str("\n## Columns\n\n| column | is |\n|---|---|\n");
    for (name, about) in COLUMNS {
        let _ = writeln!(text, "| `{name}` | {} |", about.replace(", in hundredths", ""));
    }
    text
}

/// A number as people read it; what is counted in hundredths gets its point.
fn shown(column: &str, value: u64) -> String {
    let hundredths = COLUMNS
        .iter()
        .any(|(name, about)| *name == column && about.ends_with("in hundredths"));
    if hundredths {
        format!("{}.{:02}", thousands(value / 100), value % 100)
    } else {
        thousands(value)
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(shown("copies", 512), "5.12");
        assert_eq!(shown("jobs", 60), "60");
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let row = |scenario: &str, first| Row {
            scenario: scenario.to_owned(),
            nodes: 100,
            values: (first..).take(COLUMNS.len()).collect(),
        };
        let table = [row("steady, none closed", 7), row("churn", 1_000_000)];
        assert_eq!(rows(&csv(&table)), table);
        assert!(rows("scenario,nodes,other\n").is_empty());
    }

    #[test]
    fn every_column_of_a_table_exists() {
        for column in GROUPS.iter().flat_map(|(_, columns)| *columns) {
            assert!(COLUMNS.iter().any(|(name, _)| name == column), "{column}");
        }
    }
}
