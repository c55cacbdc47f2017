//! What walking the DHT found: one row for each peer, as JSONL and CSV. The walking is done elsewhere. Implements
//! `specs/recording.md`, "Crawls".

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _, Write};
use std::str::FromStr;

use infernet_protocol::UnixMillis;
use infernet_protocol::codec::Text;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::place::Place;
use crate::publish::{self, Pseudonyms};
use crate::record::Peer;

/// Most bytes of a row: a peer with as many neighbours as it can name.
const ROW_BYTES: usize = 256 * 1024;
/// Most rows that are read: ten times the largest network that this project is measured for.
const ROWS: usize = 100_000;
/// Most entries of a list in a row that are read.
const ENTRIES: usize = 4_096;

/// Whether a peer was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachable {
    /// Directly.
    Yes,
    /// Through a relay alone.
    Relayed,
    /// Not at all.
    No,
}

impl Reachable {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Relayed => "relayed",
            Self::No => "no",
        }
    }
}

/// One peer, as the crawler found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The peer.
    #[serde(serialize_with = "show", deserialize_with = "parse")]
    pub peer: Peer,
    /// What it says its program is; null where it said nothing.
    pub agent: Option<String>,
    /// Protocol ids that it speaks, sorted.
    pub protocols: Vec<String>,
    /// Its addresses by kind, such as `tcp/public`, and how many there are of each.
    pub addresses: BTreeMap<Place, u32>,
    /// Whether it was reached.
    pub reachable: Reachable,
    /// Why it was not, in a word or two.
    pub reason: Option<String>,
    /// Round trip to it.
    pub round_trip_ms: Option<u32>,
    /// Questions that were sent to it.
    pub asked: u32,
    /// Those that it answered.
    pub answered: u32,
    /// Peers in its routing table, sorted.
    #[serde(serialize_with = "show_all", deserialize_with = "parse_all")]
    pub neighbours: Vec<Peer>,
    /// When it was first named, in Unix milliseconds.
    pub first_seen: u64,
    /// When it was last named or answered.
    pub last_seen: u64,
}

fn show<S: Serializer>(peer: &Peer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(peer)
}

fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Peer, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn show_all<S: Serializer>(peers: &[Peer], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(peers.iter().map(ToString::to_string))
}

fn parse_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Peer>, D::Error> {
    let peers = Vec::<String>::deserialize(deserializer)?;
    peers
        .iter()
        .map(|peer| peer.parse().map_err(D::Error::custom))
        .collect()
}

impl Row {
    /// The row under pseudonyms, as it is published.
    #[must_use]
    pub fn hidden(&self, pseudonyms: &Pseudonyms) -> Self {
        let mut neighbours: Vec<Peer> = self.neighbours.iter().map(|peer| pseudonyms.peer(peer)).collect();
        // The order of the names would tell something of them.
        neighbours.sort();
        let agent = self.agent.as_deref().map(|agent| publish::agent(&Text::lossy(agent)));
        Self {
            peer: pseudonyms.peer(&self.peer),
            agent: agent.map(|agent| agent.as_str().to_owned()),
            // Why a peer was not reached may hold where it was looked for.
            reason: self.reason.as_ref().filter(|reason| is_plain(reason)).cloned(),
            neighbours,
            ..self.clone()
        }
    }

    /// When it was last named or answered.
    #[must_use]
    pub fn last_seen(&self) -> UnixMillis {
        UnixMillis(self.last_seen)
    }
}

/// Words of lower-case letters: no address, name or key.
fn is_plain(text: &str) -> bool {
    let is_word = |word: &str| word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    text.split(' ').count() <= 6 && text.split(' ').all(is_word)
}

/// The rows of a crawl under pseudonyms, in an order that tells nothing.
#[must_use]
pub fn hidden(rows: &[Row], pseudonyms: &Pseudonyms) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.iter().map(|row| row.hidden(pseudonyms)).collect();
    rows.sort_by(|left, right| left.peer.cmp(&right.peer));
    rows
}

/// Why a crawl cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CrawlError {
    /// The system refuses.
    #[error("cannot read the crawl ({0}); look after the file")]
    Io(#[from] io::Error),
    /// A row is none.
    #[error("row {row} of the crawl is malformed ({why}); remove it, or crawl again")]
    Row {
        /// The row, from 1.
        row: usize,
        /// What is wrong.
        why: String,
    },
    /// There are more than are read.
    #[error("the crawl has more than {ROWS} rows; divide it")]
    Rows,
}

/// Writes rows as JSON, one in a line.
///
/// # Errors
/// Those of `out`.
pub fn write_jsonl(rows: &[Row], mut out: impl Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut out, row)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads rows as [`write_jsonl`] writes them.
///
/// # Errors
/// [`CrawlError`].
pub fn read_jsonl(mut input: impl BufRead) -> Result<Vec<Row>, CrawlError> {
    let mut rows = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(ROW_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        let malformed = |why: String| CrawlError::Row {
            row: rows.len() + 1,
            why,
        };
        match read {
            0 => return Ok(rows),
            _ if rows.len() >= ROWS => return Err(CrawlError::Rows),
            read if read > ROW_BYTES => return Err(malformed(format!("it is longer than {ROW_BYTES} bytes"))),
            _ => {}
        }
        let row = serde_json::from_slice(&line).map_err(|error| malformed(error.to_string()))?;
        rows.push(bounded(row).map_err(malformed)?);
    }
}

fn bounded(row: Row) -> Result<Row, String> {
    if row.protocols.len().max(row.neighbours.len()) > ENTRIES {
        return Err(format!("a list has more than {ENTRIES} entries"));
    }
    Ok(row)
}

/// A row as CSV has it: lists are words with spaces between them.
#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    peer: String,
    agent: Option<String>,
    protocols: String,
    addresses: String,
    reachable: Reachable,
    reason: Option<String>,
    round_trip_ms: Option<u32>,
    asked: u32,
    answered: u32,
    neighbours: String,
    first_seen: u64,
    last_seen: u64,
}

/// Writes rows as CSV with a line of names: the members of a row, lists as words with spaces between them, and
/// addresses as `tcp/public:2`.
///
/// # Errors
/// Those of `out`.
pub fn write_csv(rows: &[Row], out: impl Write) -> io::Result<()> {
    let words = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
    let mut writer = csv::Writer::from_writer(out);
    for row in rows {
        writer.serialize(Flat {
            peer: row.peer.to_string(),
            agent: row.agent.clone(),
            protocols: row.protocols.join(" "),
            addresses: words(&mut row.addresses.iter().map(|(place, count)| format!("{place}:{count}"))),
            reachable: row.reachable,
            reason: row.reason.clone(),
            round_trip_ms: row.round_trip_ms,
            asked: row.asked,
            answered: row.answered,
            neighbours: words(&mut row.neighbours.iter().map(ToString::to_string)),
            first_seen: row.first_seen,
            last_seen: row.last_seen,
        })?;
    }
    writer.flush()
}

/// Reads rows as [`write_csv`] writes them.
///
/// # Errors
/// [`CrawlError`].
pub fn read_csv(input: impl io::Read) -> Result<Vec<Row>, CrawlError> {
    let mut rows = Vec::new();
    for flat in csv::Reader::from_reader(input).deserialize() {
        if rows.len() >= ROWS {
            return Err(CrawlError::Rows);
        }
        let row = flat.map_err(|error| error.to_string()).and_then(Flat::into_row);
        rows.push(row.map_err(|why| CrawlError::Row {
            row: rows.len() + 1,
            why,
        })?);
    }
    Ok(rows)
}

impl Flat {
    fn into_row(self) -> Result<Row, String> {
        fn words<T: FromStr<Err: ToString>>(text: &str) -> Result<Vec<T>, String> {
            text.split_whitespace()
                .map(|word| word.parse().map_err(|why: T::Err| why.to_string()))
                .collect()
        }
        let counted = |word: &str| -> Option<(Place, u32)> {
            let (place, count) = word.split_once(':')?;
            Some((Place::of(place)?, count.parse().ok()?))
        };
        let addresses = self.addresses.split_whitespace();
        let addresses: Option<BTreeMap<Place, u32>> = addresses.map(counted).collect();
        bounded(Row {
            peer: self.peer.parse().map_err(str::to_owned)?,
            agent: self.agent,
            protocols: words(&self.protocols)?,
            addresses: addresses.ok_or("an address is a kind and a number, such as `tcp/public:2`")?,
            reachable: self.reachable,
            reason: self.reason,
            round_trip_ms: self.round_trip_ms,
            asked: self.asked,
            answered: self.answered,
            neighbours: words(&self.neighbours)?,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    #[test]
    fn rows_survive_both_formats() {
        let rows = synthetic::crawl(40, 7);
        let (mut json, mut csv) = (Vec::new(), Vec::new());
        write_jsonl(&rows, &mut json).unwrap();
        write_csv(&rows, &mut csv).unwrap();
        assert_eq!(read_jsonl(json.as_slice()).unwrap(), rows);
        assert_eq!(read_csv(csv.as_slice()).unwrap(), rows);
        assert!(csv.starts_with(b"peer,agent,protocols,addresses,reachable,reason,round_trip_ms,asked,answered,"));
    }

    #[test]
    fn what_is_no_row_is_named_by_its_place() {
        let rows = synthetic::crawl(2, 7);
        let mut text = Vec::new();
        write_jsonl(&rows, &mut text).unwrap();
        text.extend_from_slice(b"{\"peer\":\"0\"}\n");
        assert!(
            read_jsonl(text.as_slice())
                .unwrap_err()
                .to_string()
                .starts_with("row 3 ")
        );
        let long = vec![b' '; ROW_BYTES + 2];
        assert!(
            read_jsonl(long.as_slice())
                .unwrap_err()
                .to_string()
                .contains("longer than")
        );
        assert!(read_csv(&b"peer,agent\nx,y\n"[..]).is_err());
    }

    #[test]
    fn hidden_rows_name_nobody_and_keep_who_knows_whom() {
        let mut rows = synthetic::crawl(30, 7);
        rows[0].reason = Some("no answer at /ip4/203.0.113.7/tcp/46337".to_owned());
        rows[1].agent = Some("alice's own node/1".to_owned());
        let pseudonyms = Pseudonyms::with_key([3; 32]);
        let hidden = hidden(&rows, &pseudonyms);
        let mut text = Vec::new();
        write_jsonl(&hidden, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for row in &rows {
            assert!(!text.contains(&row.peer.to_string()));
        }
        assert!(!text.contains("203.0.113.7") && !text.contains("alice"));
        let edges = |rows: &[Row]| rows.iter().map(|row| row.neighbours.len()).sum::<usize>();
        assert_eq!(edges(&hidden), edges(&rows));
        let known = |peer: &Peer| hidden.iter().any(|row| row.peer == *peer);
        assert_eq!(
            rows.iter().filter(|row| known(&pseudonyms.peer(&row.peer))).count(),
            rows.len()
        );
    }
}
