//! Names on the wire, and every limit that a stranger can meet. Implements `specs/README.md`, "Names and limits".

use crate::codec::Reason;
use crate::units::Millis;

/// TCP and UDP port of a node.
pub const PORT: u16 = 46337;
/// Port of the gateway on localhost.
pub const GATEWAY_PORT: u16 = 46338;
/// The workload that this project is about.
pub const INFERENCE: &str = "infernet.inference";

/// Largest gossip message in bytes.
pub const GOSSIP_BYTES: usize = 16 * 1024;
/// Largest payload of an envelope: a gossip message less the envelope's own fields.
pub const PAYLOAD_BYTES: usize = GOSSIP_BYTES - 128;
/// Largest frame of the direct stream in bytes.
pub const FRAME_BYTES: usize = 1024 * 1024;
/// Largest request body in bytes, all parts together.
pub const BODY_BYTES: u64 = 32 * 1024 * 1024;
/// Largest part of a body or of an answer in one frame: leaves room for the frame's other fields.
pub const PART_BYTES: usize = FRAME_BYTES - 4 * 1024;

/// K: signers that an offer invites.
pub const INVITED: usize = 8;
/// Invitations that go to signers without history, drawn at random.
pub const INVITED_NEWCOMERS: usize = 2;
/// The auction window is at least this.
pub const WINDOW_MIN: Millis = Millis(250);
/// The auction window is at most this.
pub const WINDOW_MAX: Millis = Millis(2_000);
/// Added to 1.5 round trips to make the window: a worker's own thinking time.
pub const WINDOW_GRACE: Millis = Millis(50);

/// Tolerated difference between two clocks.
pub const CLOCK_SKEW: Millis = Millis(30_000);
/// How long an offer may say that it lives.
pub const OFFER_LIFE_MAX: Millis = Millis(60_000);
/// An ad lives this many of its own intervals.
pub const AD_LIFE_INTERVALS: u32 = 3;
/// Interval between ads in a small network.
pub const AD_INTERVAL: Millis = Millis(30_000);
/// Longest interval that an ad may claim, so that a dead provider is forgotten within the hour.
pub const AD_INTERVAL_MAX: Millis = Millis(20 * 60_000);

/// Longest lease.
pub const LEASE_MAX: Millis = Millis(60 * 60_000);
/// Most requests at once that an offer may ask for.
pub const AT_ONCE_MAX: u16 = 1024;
/// An accept holds a slot for this long until its stream starts.
pub const ACCEPT_HOLD: Millis = Millis(2_000);
/// A missing countersignature suspends a lease after this.
pub const COUNTERSIGN_WITHIN: Millis = Millis(2_000);
/// Running requests and uncountersigned steps of one buyer: at most this many times its `at_once`.
pub const EXPOSURE_FACTOR: u32 = 2;

/// A worker with nothing to say beats this often.
pub const BEAT_EVERY: Millis = Millis(500);
/// Missed beats that make a loss.
pub const BEATS_MISSED: u32 = 3;
/// A job runs on this long after its connection is lost without a Cancel.
pub const RESUME_WITHIN: Millis = Millis(10_000);

/// The network that a node joins: keeps signatures, topics and protocol ids of networks apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network(String);

impl Default for Network {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Network {
    type Err = Reason;

    fn from_str(name: &str) -> Result<Self, Reason> {
        Self::new(name)
    }
}

impl Network {
    /// A network by name: 1 to 32 of `a-z`, `0-9` and `-`.
    pub fn new(name: &str) -> Result<Self, Reason> {
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(ok) {
            return Err(Reason::Value("a network name is 1 to 32 of a-z, 0-9 and `-`"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_main(&self) -> bool {
        self.0 == "main"
    }

    /// `name` itself on `main`; elsewhere with the network's name after the first segment
    /// (`c0mpute/cap/v1` becomes `c0mpute/NAME/cap/v1`, `/c0mpute/kad/1.0.0` becomes `/c0mpute/NAME/kad/1.0.0`).
    #[must_use]
    pub fn scoped(&self, name: &str) -> String {
        if self.is_main() {
            return name.to_owned();
        }
        let start = usize::from(name.starts_with('/'));
        match name[start..].find('/') {
            Some(end) => format!("{}/{}{}", &name[..start + end], self.0, &name[start + end..]),
            None => format!("{name}/{}", self.0),
        }
    }

    /// Topic of capability ads.
    #[must_use]
    pub fn capability_topic(&self) -> String {
        self.scoped("c0mpute/cap/v1")
    }

    /// Topic of one workload's auctions.
    #[must_use]
    pub fn jobs_topic(&self, workload: &str) -> String {
        self.scoped(&format!("c0mpute/jobs/{workload}"))
    }

    /// Tag of the BIP-340 tagged hash that messages of this kind are signed under.
    #[must_use]
    pub fn signing_tag(&self, kind: &str) -> String {
        format!("c0mpute/{}/{kind}/v1", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_networks_have_other_names() {
        let (main, test) = (Network::default(), Network::new("test-1").unwrap());
        assert_eq!(main.capability_topic(), "c0mpute/cap/v1");
        assert_eq!(test.capability_topic(), "c0mpute/test-1/cap/v1");
        assert_eq!(test.scoped("/c0mpute/kad/1.0.0"), "/c0mpute/test-1/kad/1.0.0");
        assert_eq!(test.jobs_topic(INFERENCE), "c0mpute/test-1/jobs/infernet.inference");
        assert!(Network::new("").is_err() && Network::new("A/b").is_err());
    }
}
