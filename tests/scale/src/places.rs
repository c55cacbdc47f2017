//! Where nodes are, and how long a message takes between two of them.
//!
//! A plane of a thousand by a thousand, on which 1,000 units are 80 ms one way, and an access line of 1 to 15 ms at
//! each end: round trips of 30 to 250 ms, half of them below 120 ms, as between homes and data centres around the
//! world.

use crate::rng::Rng;

/// One way over a thousand units, in milliseconds.
const ACROSS: u64 = 80;
/// Longest way through an access line.
const ACCESS: u64 = 15;
/// Between any two machines.
const LEAST: u64 = 1;
/// Packets that are lost and come again, per mille, and when: the least retransmission timeout of TCP (RFC 6298, as
/// Linux has it).
const LOST: u32 = 10;
const AGAIN: u64 = 200;

#[derive(Clone, Copy, Debug)]
struct Place {
    x: u16,
    y: u16,
    access: u8,
}

/// The places of all nodes; none where all are on one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<Place>);

impl Places {
    pub(crate) fn new(count: usize, rng: &mut Rng) -> Self {
        let place = |_| Place {
            x: u16::try_from(rng.below(1_000)).unwrap_or(0),
            y: u16::try_from(rng.below(1_000)).unwrap_or(0),
            access: u8::try_from(rng.between(1, ACCESS)).unwrap_or(1),
        };
        Self((0..count).map(place).collect())
    }

    /// One way between two nodes in milliseconds, without jitter.
    pub(crate) fn between(&self, a: u32, b: u32) -> u64 {
        let (Some(a), Some(b)) = (self.0.get(a as usize), self.0.get(b as usize)) else {
            return LEAST;
        };
        let (dx, dy) = (u64::from(a.x.abs_diff(b.x)), u64::from(a.y.abs_diff(b.y)));
        let distance = (dx * dx + dy * dy).isqrt();
        LEAST + distance * ACROSS / 1_000 + u64::from(a.access) + u64::from(b.access)
    }

    /// One way of one message: up to a tenth more, and now and then a loss.
    pub(crate) fn latency(&self, a: u32, b: u32, rng: &mut Rng) -> u64 {
        let way = self.between(a, b);
        if self.0.is_empty() {
            return way;
        }
        let lost = if rng.chance(LOST) { AGAIN } else { 0 };
        way + rng.below(way / 10 + 1) + lost
    }
}
