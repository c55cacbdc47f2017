//! What this node saw of others: first-hand outcomes, smoothed towards where a newcomer starts and decaying back to
//! it. Nobody else's word counts. All figures are integers in parts per million. Implements `specs/auction.md`,
//! "Reputation".

use std::collections::BTreeMap;

use crate::codec::List;
use crate::ids::NodeId;
use crate::units::{Millis, UnixMillis};

/// The whole of a share.
pub const WHOLE: u32 = 1_000_000;
/// Where a newcomer starts: below the 0.9 and more of a provider that works, above every policy's floor.
pub const NEWCOMER_SCORE: u32 = 500_000;
/// How much of a newcomer's claims is believed.
pub const NEWCOMER_KEPT: u32 = 700_000;
/// A claim that is kept to this share counts as kept: engines and networks vary that much.
pub const KEPT_WITHIN: u32 = 900_000;
/// Outcomes that the start weighs as much as where the news is worse than what is known: one failure puts nobody
/// below the floors.
const PRIOR_WEIGHT_BAD: u32 = 2 * WHOLE;
/// The same where the news is better: most who served well once do so again, and one who had to prove itself many
/// times over before it counts as much as the one used so far would never be used at all.
const PRIOR_WEIGHT_GOOD: u32 = WHOLE / 2;
/// Outcomes that are remembered at most: one more always moves the score by a sixteenth.
const WEIGHT_MAX: u32 = 14 * WHOLE;
/// After this long without news, half of what set a record apart from a newcomer's is gone: two weeks.
const HALF_LIFE: u64 = 14 * 24 * 60 * 60 * 1_000;
/// Busy answers in a row that cost nothing.
const BUSY_FREE: u32 = 2;
/// What one busy answer more counts as.
const BUSY_VALUE: u32 = 300_000;
/// Unanswered offers in a row that make a signer one that need not be waited for.
const MISSED_LATELY: u32 = 2;
/// Unanswered offers are forgotten after this: ten minutes, a restart or a flaky uplink.
const MISSED_MEMORY: u64 = 10 * 60 * 1_000;
/// Records held: as many as ads.
pub const RECORDS: usize = 8_192;

/// Time to first token and speed, as promised or as seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Time to first token without the round trip; 0 where nothing is said.
    pub ttft: Millis,
    /// Speed in thousandths of a token per second; 0 where nothing is said.
    pub speed: u32,
}

/// What happened between this node and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered a request to the end.
    Served {
        /// What its bid said.
        bid: Service,
        /// What came.
        seen: Service,
    },
    /// It failed a request that it had taken.
    Failed,
    /// It refused the accept of its own bid.
    Refused,
    /// It was full although it held a lease.
    Busy,
    /// Its receipt had to be disputed.
    Disputed,
    /// It answered an offer.
    Answered,
    /// It let an offer pass that was sent to it.
    Missed,
}

wire_struct! {
    /// One signer's record.
    #[derive(Copy)]
    pub struct Record {
        /// Who.
        pub node: NodeId,
        /// Share of requests that it served well, smoothed.
        pub score: u32,
        /// Share of its time to first token that it keeps.
        pub ttft_kept: u32,
        /// Share of its speed that it keeps.
        pub speed_kept: u32,
        /// Outcomes behind it, in millionths.
        pub weight: u32,
        /// Busy answers in a row.
        pub busy: u32,
        /// Offers in a row that it let pass.
        pub missed: u32,
        /// When the last of them passed.
        pub missed_at: UnixMillis,
        /// When anything was last learned.
        pub updated_at: UnixMillis,
    }
}

wire_struct! {
    /// A whole table, for the store.
    pub struct Book {
        /// Records in the order of their signers.
        pub records: List<Record, RECORDS>,
    }
}

/// How this node sees another at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Share of requests that it serves well.
    pub score: u32,
    /// Share of a promised time to first token that it keeps.
    pub ttft_kept: u32,
    /// Share of a promised speed that it keeps.
    pub speed_kept: u32,
    /// Whether anything is known at all.
    pub has_history: bool,
    /// Whether it let offers pass lately.
    pub missed_lately: bool,
}

impl Standing {
    /// How anybody starts.
    pub const NEWCOMER: Self = Self {
        score: NEWCOMER_SCORE,
        ttft_kept: NEWCOMER_KEPT,
        speed_kept: NEWCOMER_KEPT,
        has_history: false,
        missed_lately: false,
    };
}

impl Record {
    fn new(node: NodeId, now: UnixMillis) -> Self {
        Self {
            node,
            score: NEWCOMER_SCORE,
            ttft_kept: NEWCOMER_KEPT,
            speed_kept: NEWCOMER_KEPT,
            weight: 0,
            busy: 0,
            missed: 0,
            missed_at: UnixMillis(0),
            updated_at: now,
        }
    }

    /// The record as it stands at `now`: every figure has gone back towards a newcomer's.
    fn decayed(&self, now: UnixMillis) -> Self {
        let keep = kept_share(now.since(self.updated_at));
        let back = |value: u32, start: u32| {
            let distance = (i64::from(value) - i64::from(start)) * i64::from(keep) / i64::from(WHOLE);
            share(i64::from(start) + distance)
        };
        Self {
            score: back(self.score, NEWCOMER_SCORE),
            ttft_kept: back(self.ttft_kept, NEWCOMER_KEPT),
            speed_kept: back(self.speed_kept, NEWCOMER_KEPT),
            weight: back(self.weight, 0).min(WEIGHT_MAX),
            missed: if now.since(self.missed_at) > MISSED_MEMORY {
                0
            } else {
                self.missed
            },
            ..*self
        }
    }

    fn learn(&mut self, outcome: Outcome, now: UnixMillis) {
        match outcome {
            Outcome::Served { bid, seen } => {
                let ttft = kept(u64::from(bid.ttft.0), u64::from(seen.ttft.0));
                let speed = kept(u64::from(seen.speed), u64::from(bid.speed));
                if bid.ttft.0 > 0 {
                    self.ttft_kept = smooth(self.ttft_kept, ttft, self.weight);
                }
                if bid.speed > 0 && seen.speed > 0 {
                    self.speed_kept = smooth(self.speed_kept, speed, self.weight);
                }
                let worst = match (bid.ttft.0, bid.speed.min(seen.speed)) {
                    (0, 0) => WHOLE,
                    (0, _) => speed,
                    (_, 0) => ttft,
                    _ => ttft.min(speed),
                };
                // An answer that came late is worth half of one that came as promised, plus what was kept of it.
                self.score(WHOLE / 2 + worst / 2);
                self.busy = 0;
            }
            Outcome::Failed | Outcome::Refused => self.score(0),
            Outcome::Busy => {
                self.busy = self.busy.saturating_add(1);
                if self.busy > BUSY_FREE {
                    self.score(BUSY_VALUE);
                }
            }
            Outcome::Disputed => {
                self.score(0);
                self.score(0);
            }
            Outcome::Answered => self.missed = 0,
            Outcome::Missed => {
                self.missed = self.missed.saturating_add(1);
                self.missed_at = now;
            }
        }
        self.updated_at = now;
    }

    fn score(&mut self, value: u32) {
        self.score = smooth(self.score, value, self.weight);
        self.weight = self.weight.saturating_add(WHOLE).min(WEIGHT_MAX);
    }

    fn has_history(&self) -> bool {
        self.weight >= WHOLE / 2
    }
}

/// `good` over `bad`, where anything within the tolerance is the whole.
fn kept(good: u64, bad: u64) -> u32 {
    if bad == 0 {
        return WHOLE;
    }
    let part = u32::try_from((good * u64::from(WHOLE) / bad).min(u64::from(WHOLE))).unwrap_or(WHOLE);
    if part >= KEPT_WITHIN { WHOLE } else { part }
}

/// The average of `old`, which `weight` outcomes and the start stand behind, and one more value.
fn smooth(old: u32, value: u32, weight: u32) -> u32 {
    let start = if value < old {
        PRIOR_WEIGHT_BAD
    } else {
        PRIOR_WEIGHT_GOOD
    };
    let behind = i64::from(start) + i64::from(weight) + i64::from(WHOLE);
    share(i64::from(old) + (i64::from(value) - i64::from(old)) * i64::from(WHOLE) / behind)
}

fn share(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// What is left of a difference after `elapsed` milliseconds: halves every half-life, straight lines in between.
fn kept_share(elapsed: u64) -> u32 {
    let halvings = elapsed / HALF_LIFE;
    if halvings >= 20 {
        return 0;
    }
    let whole = u64::from(WHOLE) >> halvings;
    let rest = elapsed % HALF_LIFE;
    u32::try_from(whole - whole * rest / (2 * HALF_LIFE)).unwrap_or(0)
}

/// The table of one node.
#[derive(Clone, Debug, Default)]
pub struct Reputation {
    records: BTreeMap<NodeId, Record>,
}

impl Reputation {
    /// Learns from one outcome and gives the record as it now is, for the store.
    pub fn observe(&mut self, node: NodeId, outcome: Outcome, now: UnixMillis) -> Record {
        if !self.records.contains_key(&node) && self.records.len() >= RECORDS {
            self.evict();
        }
        let record = self.records.entry(node).or_insert_with(|| Record::new(node, now));
        *record = record.decayed(now);
        record.learn(outcome, now);
        *record
    }

    /// How a signer stands at `now`.
    #[must_use]
    pub fn standing(&self, node: &NodeId, now: UnixMillis) -> Standing {
        let Some(record) = self.records.get(node).map(|record| record.decayed(now)) else {
            return Standing::NEWCOMER;
        };
        Standing {
            score: record.score,
            ttft_kept: record.ttft_kept,
            speed_kept: record.speed_kept,
            has_history: record.has_history(),
            missed_lately: record.missed >= MISSED_LATELY,
        }
    }

    /// Every record, in the order of the signers.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The table for the store.
    #[must_use]
    pub fn export(&self) -> Book {
        Book {
            records: List::first_of(self.records.values().copied()),
        }
    }

    /// Takes records from the store; those held already stay where they are newer.
    pub fn import(&mut self, book: &Book) {
        for record in &book.records {
            let newer = self
                .records
                .get(&record.node)
                .is_none_or(|held| held.updated_at < record.updated_at);
            if newer && (self.records.len() < RECORDS || self.records.contains_key(&record.node)) {
                let record = Record {
                    score: record.score.min(WHOLE),
                    ttft_kept: record.ttft_kept.min(WHOLE),
                    speed_kept: record.speed_kept.min(WHOLE),
                    weight: record.weight.min(WEIGHT_MAX),
                    ..*record
                };
                self.records.insert(record.node, record);
            }
        }
    }

    /// Drops the record that says least: one without history first, then the one that is oldest.
    fn evict(&mut self) {
        let least = self
            .records
            .values()
            .min_by_key(|record| (record.has_history(), record.updated_at))
            .map(|record| record.node);
        if let Some(node) = least {
            self.records.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 32]);
    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn served(percent: u32) -> Outcome {
        let bid = Service {
            ttft: Millis(200),
            speed: 50_000,
        };
        let seen = Service {
            ttft: Millis(200 * 100 / percent),
            speed: 500 * percent,
        };
        Outcome::Served { bid, seen }
    }

    #[test]
    fn good_work_rises_above_a_newcomer_and_failures_fall_below_every_floor() {
        let (mut good, mut bad) = (Reputation::default(), Reputation::default());
        for _ in 0..8 {
            good.observe(NODE, served(100), NOW);
            bad.observe(NODE, Outcome::Failed, NOW);
        }
        let (good, bad) = (good.standing(&NODE, NOW), bad.standing(&NODE, NOW));
        assert!(good.score > 850_000 && good.has_history && good.speed_kept > 850_000);
        assert!(bad.score < 150_000);
    }

    #[test]
    fn a_promise_half_kept_halves_what_is_believed() {
        let mut table = Reputation::default();
        for _ in 0..60 {
            table.observe(NODE, served(50), NOW);
        }
        let standing = table.standing(&NODE, NOW);
        assert!((480_000..=520_000).contains(&standing.speed_kept), "{standing:?}");
        assert!((480_000..=520_000).contains(&standing.ttft_kept), "{standing:?}");
        assert!((730_000..=770_000).contains(&standing.score), "{standing:?}");
    }

    #[test]
    fn what_is_known_fades_back_to_a_newcomer() {
        let mut table = Reputation::default();
        for _ in 0..30 {
            table.observe(NODE, Outcome::Failed, NOW);
        }
        let fresh = table.standing(&NODE, NOW).score;
        let later = table.standing(&NODE, UnixMillis(NOW.0 + HALF_LIFE)).score;
        let end = table.standing(&NODE, UnixMillis(NOW.0 + 30 * HALF_LIFE));
        assert!(fresh < later && later < NEWCOMER_SCORE);
        assert_eq!(end, Standing::NEWCOMER);
    }

    #[test]
    fn busy_is_free_at_first_and_silence_is_remembered_for_a_while() {
        let mut table = Reputation::default();
        table.observe(NODE, Outcome::Busy, NOW);
        table.observe(NODE, Outcome::Busy, NOW);
        assert_eq!(table.standing(&NODE, NOW).score, NEWCOMER_SCORE);
        table.observe(NODE, Outcome::Busy, NOW);
        assert!(table.standing(&NODE, NOW).score < NEWCOMER_SCORE);
        table.observe(NODE, Outcome::Missed, NOW);
        table.observe(NODE, Outcome::Missed, NOW);
        assert!(table.standing(&NODE, NOW).missed_lately);
        assert!(
            !table
                .standing(&NODE, UnixMillis(NOW.0 + MISSED_MEMORY + 1))
                .missed_lately
        );
    }

    #[test]
    fn a_table_survives_the_store_and_stays_bounded() {
        let mut table = Reputation::default();
        for number in 0..RECORDS as u64 + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            table.observe(NodeId(id), Outcome::Failed, UnixMillis(NOW.0 + number));
        }
        assert_eq!(table.records().count(), RECORDS);
        let bytes = crate::codec::to_vec(&table.export());
        let mut other = Reputation::default();
        other.import(&crate::codec::from_slice(&bytes).unwrap());
        assert!(other.records().eq(table.records()));
    }
}
