//! Rates: so much in time, and so much at once.

use std::time::Duration;

use tokio::time::Instant;

/// How much may come in a second, and how much at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    pub(crate) const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    pub(crate) fn per_second(self) -> u64 {
        self.per_second.into()
    }

    pub(crate) fn burst(self) -> u64 {
        self.burst.into()
    }

    /// The time that `amount` takes at this rate.
    fn time_of(self, amount: u32) -> Duration {
        Duration::from_secs(1) * amount / self.per_second.max(1)
    }
}

/// What somebody has used of a rate: the generic cell rate algorithm of ITU-T I.371, which needs one time for all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// When all that was used is paid off.
    paid_off: Option<Instant>,
}

impl Pace {
    /// Uses `amount` of the rate, or nothing of it where that is too much now.
    pub(crate) fn takes(&mut self, amount: u32, rate: Rate, now: Instant) -> bool {
        let paid_off = self.paid_off.map_or(now, |at| at.max(now)) + rate.time_of(amount);
        if paid_off.duration_since(now) > rate.time_of(rate.burst) {
            return false;
        }
        self.paid_off = Some(paid_off);
        true
    }

    /// Whether nothing is owed, so that it need not be remembered.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.paid_off.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_allows_a_burst_and_then_so_much_in_time() {
        let (rate, mut pace, start) = (Rate::new(10, 50), Pace::default(), Instant::now());
        assert!(pace.is_idle(start));
        assert_eq!((0..100).filter(|_| pace.takes(1, rate, start)).count(), 50);
        let later = start + Duration::from_secs(2);
        assert!(!pace.is_idle(later));
        assert_eq!((0..100).filter(|_| pace.takes(1, rate, later)).count(), 20);
        assert!(
            !pace.takes(51, rate, start + Duration::from_secs(3600)),
            "more than comes at once"
        );
        assert!(pace.takes(50, rate, start + Duration::from_secs(3600)));
    }
}
