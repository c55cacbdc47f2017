//! One HTML page of a recording, a crawl or both: self-contained, without scripts, in light and dark, and for paper.
//!
//! ```text
//!   collect {auctions,spread,timeline}   one pass over records, within bounds: what the page tells
//!   figures                              from that to headline numbers, charts and tables
//!   chart {axis} topology                       SVG
//!   page                                 HTML
//! ```
//!
//! The SVG is written here and not by a plotting library, since a reader gains by it: colours follow the page into
//! dark mode, each mark has its value as a tooltip, and text stays text.

mod auctions;
mod axis;
mod chart;
mod collect;
mod figures;
mod page;
mod spread;
mod timeline;
mod topology;

use infernet_protocol::UnixMillis;

pub use collect::Collector;

use crate::crawl::Row;
use crate::publish::Pseudonyms;
use crate::record::{PSEUDONYM_BYTES, Peer};

/// How peers are called on the page.
#[derive(Clone, Debug)]
pub enum Names {
    /// By pseudonyms, so that the page can be shown.
    Hidden(Pseudonyms),
    /// By their own names.
    Real,
}

impl Names {
    /// What a peer is called: eight characters tell peers apart on a page.
    fn show(&self, peer: &Peer) -> String {
        match self {
            Self::Hidden(pseudonyms) => pseudonyms.peer(peer).to_string()[..8].to_owned(),
            Self::Real => {
                let name = peer.to_string();
                let is_pseudonym = peer.as_bytes().len() == PSEUDONYM_BYTES;
                // PeerIds of one type of key begin alike and differ at their ends.
                let start = if is_pseudonym { 0 } else { name.len().saturating_sub(8) };
                name[start..].chars().take(8).collect()
            }
        }
    }

    fn agent(&self, agent: &str) -> String {
        match self {
            Self::Hidden(_) => {
                let agent = crate::publish::agent(&infernet_protocol::codec::Text::lossy(agent));
                agent.as_str().to_owned()
            }
            Self::Real => agent.to_owned(),
        }
    }
}

/// What a page is made of.
#[derive(Debug)]
pub struct Input<'a> {
    /// What was recorded.
    pub recording: Option<&'a Collector>,
    /// What was found by walking the DHT.
    pub crawl: Option<&'a [Row]>,
    /// How peers are called.
    pub names: Names,
    /// Files that could not be read to their ends.
    pub warnings: Vec<String>,
    /// When the page is drawn.
    pub drawn_at: UnixMillis,
}

/// Draws the page.
#[must_use]
pub fn page(input: &Input<'_>) -> String {
    page::render(&figures::of(input))
}
