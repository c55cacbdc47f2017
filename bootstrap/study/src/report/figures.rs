//! From what was collected to what stands on the page: facts, headline numbers, and sections of charts and tables.

mod curves;
mod market;
mod network;
mod traffic;

use infernet_protocol::{MicroUsd, UnixMillis};

use super::Input;
use super::collect::Collector;
use super::spread::{Spread, Summary};
use crate::crawl::{Reachable, Row};
use crate::stamp;

/// All that stands on a page.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) title: String,
    /// Name and value, in the head of the page.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) tiles: Vec<Tile>,
    pub(super) sections: Vec<Section>,
    /// What is missing, said first.
    pub(super) warnings: Vec<String>,
    /// How names are shown, and what was not checked.
    pub(super) notes: Vec<String>,
}

/// A headline number.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) aside: String,
}

/// A chart with its table.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Its anchor.
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// What is measured, in a sentence.
    pub(super) about: String,
    /// Class and name of each series.
    pub(super) legend: Vec<(&'static str, &'static str)>,
    pub(super) svg: Option<String>,
    pub(super) notes: Vec<String>,
    pub(super) table: Table,
    pub(super) is_wide: bool,
    /// Why there is nothing, where there is nothing.
    pub(super) no_data: Option<&'static str>,
}

/// A table: columns of numbers are those that end in a unit or count.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Name of each column, and whether it holds numbers.
    pub(super) columns: Vec<(&'static str, bool)>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Rows of a table on the page; whoever wants all takes the recording.
const ROWS: usize = 60;

impl Table {
    fn new(columns: &[(&'static str, bool)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// At most as many rows as a page bears; every so many of a longer series.
    fn thinned(mut self) -> Self {
        let stride = self.rows.len().div_ceil(ROWS).max(1);
        self.rows = self.rows.into_iter().step_by(stride).collect();
        self
    }

    /// At most as many rows as a page bears, the first of them.
    fn first(mut self) -> (Self, Option<String>) {
        let all = self.rows.len();
        self.rows.truncate(ROWS);
        let note = (all > ROWS).then(|| format!("The table shows the first {ROWS} of {} rows.", number(all as u64)));
        (self, note)
    }
}

impl Section {
    fn empty(id: &'static str, name: &'static str, about: &str, why: &'static str) -> Self {
        Self {
            id,
            name,
            about: about.to_owned(),
            no_data: Some(why),
            ..Self::default()
        }
    }
}

/// `1,234,567`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `37%`, with a decimal where it is small, and `–` of nothing.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let thousandths = u128::from(part) * 1000 / u128::from(whole);
    if thousandths > 0 && thousandths < 100 {
        format!("{}.{}%", thousandths / 10, thousandths % 10)
    } else {
        format!("{}%", (thousandths + 5) / 10)
    }
}

/// Milliseconds as they are read at a glance: `85 ms`, `1.2 s`, `4 min`.
fn latency(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 if millis % 1000 < 100 => format!("{} s", millis / 1000),
        1_000..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => stamp::duration(millis),
    }
}

/// The same in one unit, to stand at an axis.
fn latency_mark(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..1_000_000 => format!("{} s", millis / 1000),
        1_000_000..100_000_000 => format!("{} min", (millis + 30_000) / 60_000),
        _ => format!("{} h", number((millis + 1_800_000) / 3_600_000)),
    }
}

/// Bytes as people say them.
fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{} bytes", number(count)),
        10_000..10_000_000 => format!("{} kB", number(count / 1000)),
        _ => format!("{} MB", number(count / 1_000_000)),
    }
}

/// A price in dollars, rounded to three digits that count.
fn dollars(micro: u64) -> String {
    let digits = micro.checked_ilog10().unwrap_or(0);
    let step = 10_u64.pow(digits.saturating_sub(2));
    MicroUsd((micro + step / 2) / step * step).to_string()
}

fn of_summary(summary: Option<Summary>, show: impl Fn(u64) -> String) -> [String; 5] {
    match summary {
        Some(of) => [of.least, of.median, of.p90, of.p99, of.most].map(show),
        None => std::array::from_fn(|_| "–".to_owned()),
    }
}

/// All figures of a page.
pub(super) fn of(input: &Input<'_>) -> Figures {
    let recording = input.recording.filter(|recording| !recording.is_empty());
    let crawl = input.crawl.filter(|rows| !rows.is_empty());
    let empty = Collector::default();
    let held = recording.unwrap_or(&empty);
    let networks = names(&held.networks);
    let mut sections = vec![
        traffic::peers(held),
        traffic::ads(held),
        traffic::gossip(held),
        curves::delay(held),
        curves::interval(held),
        market::auctions(held),
        market::prices(held),
        market::models(held),
        market::gpus(held),
        market::work(held),
        network::reach(recording, crawl),
        network::agents(recording, crawl, &input.names),
        network::protocols(crawl),
        traffic::verdicts(held),
        network::topology(recording, crawl, &input.names),
        traffic::gaps(held),
    ];
    // What there is comes first; the rest keeps its order.
    sections.sort_by_key(|section| section.no_data.is_some());
    Figures {
        title: if networks.is_empty() {
            "A crawl".to_owned()
        } else {
            format!("The network {networks}")
        },
        facts: facts(input, recording, crawl),
        tiles: tiles(recording, crawl),
        sections,
        warnings: input.warnings.clone(),
        notes: notes(input, recording),
    }
}

fn names(names: &std::collections::BTreeSet<String>) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn facts(input: &Input<'_>, recording: Option<&Collector>, crawl: Option<&[Row]>) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(recording) = recording
        && let (Some(first), Some(last)) = (recording.first, recording.last)
    {
        facts.push(("from", stamp::long(first)));
        facts.push(("to", stamp::long(last)));
        facts.push(("recorded", {
            let missing = match recording.missing {
                0 => String::new(),
                missing => format!(", of which {} are missing", stamp::duration(missing)),
            };
            format!("{}{missing}", stamp::duration(last.since(first)))
        }));
        facts.push(("records", number(recording.records)));
        facts.push(("recorders", number(recording.recorders.len() as u64)));
    }
    if let Some(rows) = crawl {
        let from = rows.iter().map(|row| row.first_seen).min().unwrap_or_default();
        let to = rows.iter().map(|row| row.last_seen).max().unwrap_or_default();
        let time = stamp::duration(to.saturating_sub(from));
        facts.push(("crawled", format!("{}, in {time}", stamp::long(UnixMillis(from)))));
    }
    facts.push(("drawn", stamp::long(input.drawn_at)));
    facts
}

fn tiles(recording: Option<&Collector>, crawl: Option<&[Row]>) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut tile = |name, value: String, aside: String| tiles.push(Tile { name, value, aside });
    if let Some(held) = recording {
        let auctions = &held.auctions;
        let median = |spread: &Spread| spread.summary().map_or_else(|| "–".to_owned(), |of| latency(of.median));
        let p90 = |spread: &Spread| match spread.summary() {
            Some(of) => format!("90% within {}", latency(of.p90)),
            None => "no data".to_owned(),
        };
        let round_trip = match held.round_trips.summary() {
            Some(of) => format!("round trip {}", latency(of.median)),
            None => "no round trip measured".to_owned(),
        };
        tile("peers at most", number(u64::from(held.most_peers)), round_trip);
        let selling = held
            .providers
            .values()
            .filter(|provider| !provider.ad.models.is_empty());
        let models = market::listed(held).len() as u64;
        tile(
            "providers",
            number(selling.count() as u64),
            format!("{} models", number(models)),
        );
        tile("ads reach the recorder in", median(&held.ad_delay), p90(&held.ad_delay));
        let share = format!("{} accepted", percent(auctions.accepted, auctions.offers));
        tile("auctions", number(auctions.offers), share);
        tile("first bid after", median(&auctions.to_bid), p90(&auctions.to_bid));
        tile("accepted after", median(&auctions.to_accept), p90(&auctions.to_accept));
        let asked = format!("{} deals settled", number(auctions.settled));
        tile("paid for", dollars(auctions.amount), asked);
    }
    if let Some(rows) = crawl {
        let count = |which| rows.iter().filter(|row| row.reachable == which).count() as u64;
        let (all, direct, relayed) = (rows.len() as u64, count(Reachable::Yes), count(Reachable::Relayed));
        let aside = format!("{} more through relays", percent(relayed, all));
        tile("peers found", number(all), "by walking the DHT".to_owned());
        tile("reached directly", percent(direct, all), aside);
    }
    tiles
}

fn notes(input: &Input<'_>, recording: Option<&Collector>) -> Vec<String> {
    let mut notes = Vec::new();
    match input.names {
        super::Names::Hidden(_) => notes.push(
            "Peers are called by pseudonyms that were drawn for this page and hold on no other; nobody keeps the key."
                .to_owned(),
        ),
        super::Names::Real => {
            notes.push(
                "Peers are called by the last characters of their own names: this page is not for publication."
                    .to_owned(),
            );
        }
    }
    if let Some(recording) = recording {
        notes.push(
            "Figures are as the recorder saw them, from its place in the network and by its clock; deals that are not \
             public are not among them. Signatures were checked when the messages were heard, not for this page."
                .to_owned(),
        );
        if recording.is_publication {
            notes.push(
                "They were drawn from a publication, which holds neither names nor signatures, and of messages that were \
                 not accepted only the number."
                    .to_owned(),
            );
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(number),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [(1, 0), (1, 3), (1, 1000), (999, 1000), (5, 5)].map(|(part, of)| percent(part, of)),
            ["–", "33%", "0.1%", "100%", "100%"]
        );
        assert_eq!(
            [7, 1_000, 1_250, 61_000, 240_000].map(latency),
            ["7 ms", "1 s", "1.2 s", "61 s", "4 min"]
        );
        assert_eq!(
            [0, 7, 123_456, 1_999_000].map(dollars),
            ["$0", "$0.000007", "$0.123", "$2"]
        );
    }
}
