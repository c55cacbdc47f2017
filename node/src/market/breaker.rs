//! A circuit breaker per provider: who fails several times in a row is left alone for a while, and then tried once.
//!
//! Reputation says whom to prefer over weeks; this says whom not to ask in the next seconds. It keeps nobody out for
//! good, and where nobody else is left it is not asked.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use infernet_protocol::NodeId;

/// Failures in a row that open a circuit.
const FAILURES: u32 = 3;
/// How long it is open the first time; each time after that twice as long.
const OPEN_FIRST: Duration = Duration::from_secs(5);
/// And at most: a provider that was repaired is found again soon.
const OPEN_MOST: Duration = Duration::from_secs(5 * 60);
/// Streams that are lost within this time of each other are lost to the same thing.
const INCIDENT: Duration = Duration::from_secs(1);
/// Circuits held: those of providers that failed lately, which are few.
const HELD: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Circuit {
    failures: u32,
    opened: u32,
    until: Option<Instant>,
    lost: Option<Instant>,
}

/// All circuits that are not in their first state.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    circuits: HashMap<NodeId, Circuit>,
}

impl Breaker {
    /// A request failed; whether that opened the circuit.
    pub(super) fn failed(&mut self, provider: NodeId, now: Instant) -> bool {
        let circuit = self.circuit(provider, now);
        // Requests that were under way when it opened say nothing new.
        if circuit.until.is_some_and(|until| now < until) {
            return false;
        }
        circuit.failures += 1;
        let was_tried_again = circuit.until.is_some();
        if circuit.failures < FAILURES && !was_tried_again {
            return false;
        }
        let open = OPEN_FIRST.saturating_mul(1 << circuit.opened.min(10)).min(OPEN_MOST);
        circuit.until = Some(now + open);
        circuit.opened = circuit.opened.saturating_add(1);
        circuit.failures = 0;
        true
    }

    /// Whether the loss of a stream is not another of those that were lost just now.
    pub(super) fn is_new_incident(&mut self, provider: NodeId, now: Instant) -> bool {
        let lost = &mut self.circuit(provider, now).lost;
        let is_new = lost.is_none_or(|began| now.saturating_duration_since(began) > INCIDENT);
        if is_new {
            *lost = Some(now);
        }
        is_new
    }

    fn circuit(&mut self, provider: NodeId, now: Instant) -> &mut Circuit {
        if self.circuits.len() >= HELD {
            self.circuits
                .retain(|_, circuit| circuit.until.is_some_and(|until| now < until));
        }
        self.circuits.entry(provider).or_insert(Circuit {
            failures: 0,
            opened: 0,
            until: None,
            lost: None,
        })
    }

    /// A request was answered.
    pub(super) fn served(&mut self, provider: &NodeId) {
        if !self.circuits.is_empty() {
            self.circuits.remove(provider);
        }
    }

    /// Whether a provider is to be left alone now.
    pub(super) fn is_open(&self, provider: &NodeId, now: Instant) -> bool {
        let circuit = self.circuits.get(provider);
        circuit.is_some_and(|circuit| circuit.until.is_some_and(|until| now < until))
    }

    /// How many are left alone now.
    pub(super) fn open(&self, now: Instant) -> usize {
        let until = self.circuits.values().filter_map(|circuit| circuit.until);
        until.filter(|until| now < *until).count()
    }
}

#[cfg(test)]
mod tests {
    use infernet_protocol::Identity;

    use super::*;

    fn provider(number: u8) -> NodeId {
        Identity::from_secret(&[number; 32]).unwrap().node()
    }

    #[test]
    fn it_opens_after_some_failures_in_a_row_and_closes_with_a_success() {
        let (mut breaker, now, one) = (Breaker::default(), Instant::now(), provider(1));
        assert!(!breaker.failed(one, now) && !breaker.failed(one, now));
        breaker.served(&one);
        assert!(!breaker.failed(one, now) && !breaker.failed(one, now), "in a row");
        assert!(breaker.failed(one, now) && breaker.is_open(&one, now));
        assert!(!breaker.is_open(&provider(2), now));
        assert!(!breaker.failed(one, now), "what was under way does not count twice");
        assert_eq!(breaker.open(now), 1);

        let later = now + OPEN_FIRST;
        assert!(!breaker.is_open(&one, later), "it is tried again");
        assert!(breaker.failed(one, later), "and one failure is enough then");
        assert!(breaker.is_open(&one, later + OPEN_FIRST) && !breaker.is_open(&one, later + 2 * OPEN_FIRST));
        breaker.served(&one);
        assert!(!breaker.is_open(&one, later));
    }

    #[test]
    fn streams_that_are_lost_together_are_one_incident() {
        let (mut breaker, now, one) = (Breaker::default(), Instant::now(), provider(1));
        assert!(breaker.is_new_incident(one, now));
        assert!((0..32).all(|_| !breaker.is_new_incident(one, now)));
        assert!(breaker.is_new_incident(one, now + 2 * INCIDENT));
        let often = (1..=40_u32).filter(|step| breaker.is_new_incident(one, now + 2 * INCIDENT + INCIDENT * *step / 4));
        assert!(
            often.count() >= 7,
            "one that loses streams all the time does so again and again"
        );
        assert!(breaker.is_new_incident(provider(2), now));
    }

    #[test]
    fn no_ban_is_for_good() {
        let (mut breaker, mut now, one) = (Breaker::default(), Instant::now(), provider(1));
        for _ in 0..100 {
            breaker.failed(one, now);
            now += OPEN_MOST;
        }
        assert!(!breaker.is_open(&one, now));
    }
}
