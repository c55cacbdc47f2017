//! What this node's own consumers may spend: per request, per hour, per day, and per key of the gateway.
//!
//! The most that a request can cost is set aside before it is sent, and what it did cost takes its place when its
//! receipt is accepted. A request whose provider was lost stays at its most until the books are even. Amounts count at
//! the time the request was made, in minutes, so a window frees what lies an hour or a day back. What counts is in the
//! journal, and a restart finds it again. Requests that cost nothing are not looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use infernet_protocol::{MicroUsd, RequestId, UnixMillis};

use crate::runtime::unpoisoned;

const MINUTE: u64 = 60_000;
/// Minutes of the two windows.
const HOUR: u64 = 60;
const DAY: u64 = 24 * HOUR;
/// The longest window: older amounts do not matter to anything.
pub const WINDOW_MS: u64 = DAY * MINUTE;

/// A key of the gateway, by the name that the journal has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub [u8; 16]);

/// Who asked for a request, where a key says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key.
    pub id: CallerId,
    /// The most that all its requests of a day may cost.
    pub day: Option<MicroUsd>,
}

/// The most that may be spent; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// By one request.
    pub request: Option<MicroUsd>,
    /// In any hour.
    pub hour: Option<MicroUsd>,
    /// In any 24 hours.
    pub day: Option<MicroUsd>,
}

/// Which limit a request would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of one request.
    Request,
    /// That of an hour.
    Hour,
    /// That of a day.
    Day,
    /// That of the caller's key.
    Key,
}

impl Scope {
    /// The setting that raises it.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Request => "consumer.budget_request_microusd",
            Self::Hour => "consumer.budget_hour_microusd",
            Self::Day => "consumer.budget_day_microusd",
            Self::Key => "the key's budget (`infernet keys add --budget-day`)",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Request => "for one request",
            Self::Hour => "for an hour",
            Self::Day => "for a day",
            Self::Key => "for a day of this key",
        }
    }
}

/// A request that may cost more than is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it may cost up to {worst}, and {left} is left of the {limit} {}; lower `max_tokens`, or raise {}",
    .scope.words(), .scope.setting()
)]
pub struct OverBudget {
    /// Which limit.
    pub scope: Scope,
    /// The limit.
    pub limit: MicroUsd,
    /// What is left of it.
    pub left: MicroUsd,
    /// The most that the request can cost.
    pub worst: MicroUsd,
    /// When something that was spent leaves the window; `None` where waiting does not help.
    pub frees_in: Option<Duration>,
}

/// An amount that the journal knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// When the request was made.
    pub at: UnixMillis,
    /// What it cost.
    pub amount: MicroUsd,
    /// Who asked for it.
    pub caller: Option<CallerId>,
}

/// What was spent, and what is set aside.
#[derive(Debug, Default)]
pub struct Spending {
    limits: Limits,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    all: Minutes,
    callers: HashMap<CallerId, Minutes>,
    /// Requests whose cost is not known yet, at the most that it can be.
    aside: HashMap<RequestId, Spent>,
}

/// Amounts by the minute.
#[derive(Debug, Default)]
struct Minutes(BTreeMap<u64, u64>);

impl Minutes {
    fn add(&mut self, at: UnixMillis, amount: MicroUsd) {
        let sum = self.0.entry(at.0 / MINUTE).or_default();
        *sum = sum.saturating_add(amount.0);
    }

    fn take(&mut self, at: UnixMillis, amount: MicroUsd) {
        if let Some(sum) = self.0.get_mut(&(at.0 / MINUTE)) {
            *sum = sum.saturating_sub(amount.0);
        }
    }

    /// Drops what no window reaches.
    fn prune(&mut self, now: UnixMillis) {
        let first = (now.0 / MINUTE).saturating_sub(DAY - 1);
        if self.0.first_key_value().is_some_and(|(minute, _)| *minute < first) {
            self.0 = self.0.split_off(&first);
        }
    }

    fn since(&self, minutes: u64, now: UnixMillis) -> u64 {
        let first = (now.0 / MINUTE).saturating_sub(minutes - 1);
        self.0
            .range(first..)
            .fold(0, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// When the oldest amount of a window leaves it.
    fn frees_in(&self, minutes: u64, now: UnixMillis) -> Option<Duration> {
        let first = (now.0 / MINUTE).saturating_sub(minutes - 1);
        let (oldest, _) = self.0.range(first..).find(|(_, amount)| **amount > 0)?;
        let leaves = UnixMillis(oldest.saturating_add(minutes).saturating_mul(MINUTE));
        Some(Duration::from_millis(leaves.since(now)))
    }
}

impl Book {
    fn add(&mut self, spent: &Spent) {
        self.all.add(spent.at, spent.amount);
        if let Some(caller) = spent.caller {
            self.callers.entry(caller).or_default().add(spent.at, spent.amount);
        }
    }

    fn take(&mut self, spent: &Spent) {
        self.all.take(spent.at, spent.amount);
        if let Some(minutes) = spent.caller.and_then(|caller| self.callers.get_mut(&caller)) {
            minutes.take(spent.at, spent.amount);
        }
    }

    fn prune(&mut self, now: UnixMillis) {
        self.all.prune(now);
        self.callers.retain(|_, minutes| {
            minutes.prune(now);
            !minutes.0.is_empty()
        });
    }
}

impl Spending {
    /// With what the journal knows: amounts, and requests that may still cost so much.
    #[must_use]
    pub fn new(
        limits: Limits,
        spent: impl IntoIterator<Item = Spent>,
        open: impl IntoIterator<Item = (RequestId, Spent)>,
    ) -> Self {
        let mut book = Book::default();
        for spent in spent {
            book.add(&spent);
        }
        for (request, worst) in open {
            book.add(&worst);
            book.aside.insert(request, worst);
        }
        Self {
            limits,
            book: Mutex::new(book),
        }
    }

    /// Sets the most that a request can cost aside, or says which limit that would break.
    pub fn set_aside(
        &self,
        request: RequestId,
        caller: Option<&Caller>,
        worst: MicroUsd,
        now: UnixMillis,
    ) -> Result<(), OverBudget> {
        if worst == MicroUsd(0) {
            return Ok(());
        }
        let mut book = unpoisoned(&self.book);
        book.prune(now);
        let none = Minutes::default();
        let of_caller = caller.and_then(|caller| book.callers.get(&caller.id)).unwrap_or(&none);
        for (scope, limit, minutes, window) in [
            (Scope::Request, self.limits.request, &none, 1),
            (Scope::Hour, self.limits.hour, &book.all, HOUR),
            (Scope::Day, self.limits.day, &book.all, DAY),
            (Scope::Key, caller.and_then(|caller| caller.day), of_caller, DAY),
        ] {
            let Some(limit) = limit else { continue };
            let left = limit.0.saturating_sub(minutes.since(window, now));
            if worst.0 > left {
                return Err(OverBudget {
                    scope,
                    limit,
                    left: MicroUsd(left),
                    worst,
                    frees_in: (worst <= limit).then(|| minutes.frees_in(window, now)).flatten(),
                });
            }
        }
        let spent = Spent {
            at: now,
            amount: worst,
            caller: caller.map(|caller| caller.id),
        };
        book.add(&spent);
        book.aside.insert(request, spent);
        Ok(())
    }

    /// What a request cost is known: nothing, where nothing is owed for it.
    pub fn settle(&self, request: &RequestId, amount: MicroUsd) {
        let mut book = unpoisoned(&self.book);
        if let Some(worst) = book.aside.remove(request) {
            book.take(&worst);
            book.add(&Spent { amount, ..worst });
        }
    }

    /// What was spent or is set aside: in the last hour, and in the last day.
    #[must_use]
    pub fn totals(&self, now: UnixMillis) -> (MicroUsd, MicroUsd) {
        let book = unpoisoned(&self.book);
        (MicroUsd(book.all.since(HOUR, now)), MicroUsd(book.all.since(DAY, now)))
    }

    /// The same of each key, in the last day.
    #[must_use]
    pub fn by_caller(&self, now: UnixMillis) -> Vec<(CallerId, MicroUsd)> {
        let book = unpoisoned(&self.book);
        let callers = book.callers.iter();
        callers
            .map(|(caller, minutes)| (*caller, MicroUsd(minutes.since(DAY, now))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn request(number: u8) -> RequestId {
        RequestId([number; 16])
    }

    fn later(minutes: u64) -> UnixMillis {
        UnixMillis(NOW.0 + minutes * MINUTE)
    }

    fn limited(request: u64, hour: u64, day: u64) -> Spending {
        let limit = |amount| Some(MicroUsd(amount));
        Spending::new(
            Limits {
                request: limit(request),
                hour: limit(hour),
                day: limit(day),
            },
            [],
            [],
        )
    }

    #[test]
    fn each_limit_holds_and_is_named() {
        let spending = limited(50, 100, 150);
        let scope = |number, worst, at| {
            spending
                .set_aside(request(number), None, MicroUsd(worst), at)
                .map_err(|over| over.scope)
        };
        assert_eq!(scope(0, 51, NOW), Err(Scope::Request));
        assert_eq!(scope(1, 50, NOW), Ok(()));
        assert_eq!(scope(2, 50, NOW), Ok(()));
        assert_eq!(scope(3, 1, NOW), Err(Scope::Hour));
        assert_eq!(scope(4, 0, NOW), Ok(()), "what costs nothing is never refused");
        assert_eq!(
            scope(5, 50, later(61)),
            Ok(()),
            "the first two lie more than an hour back"
        );
        assert_eq!(scope(6, 1, later(122)), Err(Scope::Day));
        assert_eq!(scope(7, 50, later(24 * 60 + 1)), Ok(()));
    }

    #[test]
    fn what_was_set_aside_becomes_what_it_cost() {
        let spending = limited(100, 100, 100);
        spending.set_aside(request(1), None, MicroUsd(90), NOW).unwrap();
        assert!(spending.set_aside(request(2), None, MicroUsd(20), NOW).is_err());
        spending.settle(&request(1), MicroUsd(5));
        spending.settle(&request(1), MicroUsd(5));
        assert_eq!(spending.totals(NOW), (MicroUsd(5), MicroUsd(5)));
        spending.set_aside(request(2), None, MicroUsd(20), NOW).unwrap();
        spending.settle(&request(2), MicroUsd(0));
        assert_eq!(spending.totals(NOW).0, MicroUsd(5));
    }

    #[test]
    fn a_key_has_its_own_day() {
        let spending = Spending::default();
        let caller = |number, day| Caller {
            id: CallerId([number; 16]),
            day: Some(MicroUsd(day)),
        };
        spending
            .set_aside(request(1), Some(&caller(1, 10)), MicroUsd(10), NOW)
            .unwrap();
        let over = spending
            .set_aside(request(2), Some(&caller(1, 10)), MicroUsd(1), NOW)
            .unwrap_err();
        assert_eq!((over.scope, over.left), (Scope::Key, MicroUsd(0)));
        assert_eq!(over.frees_in.map(|wait| wait.as_secs() / 3600), Some(23));
        spending
            .set_aside(request(3), Some(&caller(2, 10)), MicroUsd(1), NOW)
            .unwrap();
        assert!(spending.by_caller(NOW).contains(&(CallerId([1; 16]), MicroUsd(10))));
    }

    #[test]
    fn a_restart_finds_what_was_spent_and_what_is_open() {
        let spent = |amount| Spent {
            at: NOW,
            amount: MicroUsd(amount),
            caller: None,
        };
        let limits = Limits {
            hour: Some(MicroUsd(100)),
            ..Limits::default()
        };
        let spending = Spending::new(limits, [spent(30)], [(request(1), spent(60))]);
        assert!(spending.set_aside(request(2), None, MicroUsd(11), later(1)).is_err());
        spending.settle(&request(1), MicroUsd(1));
        assert!(spending.set_aside(request(2), None, MicroUsd(69), later(1)).is_ok());
    }

    proptest! {
        /// Whatever is asked and settled, what was accepted never exceeds the limit of any hour.
        #[test]
        fn no_hour_exceeds_its_limit(
            steps in prop::collection::vec((0..4 * HOUR, 1..60_u64, 0..100_u64), 1..120)
        ) {
            let spending = Spending::new(Limits { hour: Some(MicroUsd(100)), ..Limits::default() }, [], []);
            let mut steps = steps;
            steps.sort_unstable();
            let mut kept: Vec<(u64, u64)> = Vec::new();
            for (number, (minute, worst, percent)) in steps.into_iter().enumerate() {
                let id = request(u8::try_from(number).unwrap());
                if spending.set_aside(id, None, MicroUsd(worst), later(minute)).is_ok() {
                    let cost = worst * percent / 100;
                    spending.settle(&id, MicroUsd(cost));
                    kept.push((minute, cost));
                    let hour: u64 = kept.iter().filter(|(at, _)| at + HOUR > minute).map(|(_, cost)| cost).sum();
                    prop_assert!(hour <= 100);
                    prop_assert_eq!(spending.totals(later(minute)).0, MicroUsd(hour));
                }
            }
        }
    }
}
