//! What answers used and cost: of one, for the line below it, and of a whole session. Money is whole micro-USD.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use infernet_protocol::MicroUsd;
use serde_json::Value;

use crate::out::short_peer;

/// Answers whose receipts are still awaited; older ones are left to `infernet receipts`.
const AWAITED: usize = 64;
/// Shorter than this, the time from the first text to the last says nothing of an engine's speed.
const STREAMED: Duration = Duration::from_millis(100);

/// What one answer used, or several did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cost: MicroUsd,
}

impl Usage {
    /// From the usage object of a stream's end; `None` where it is none.
    pub(super) fn read(usage: &Value) -> Option<Self> {
        Some(Self {
            input: usage["prompt_tokens"].as_u64()?,
            output: usage["completion_tokens"].as_u64()?,
            cost: MicroUsd(usage["infernet"]["cost_microusd"].as_u64().unwrap_or(0)),
        })
    }

    /// From rows of the ledger, one for each provider that a request was sent to; `None` while a receipt is missing.
    pub(super) fn of_rows(rows: &[Value]) -> Option<Self> {
        let mut all = Self::default();
        for row in rows {
            row["receipt"].as_str()?;
            all.add(Self {
                input: row["input_tokens"].as_u64()?,
                output: row["output_tokens"].as_u64()?,
                cost: MicroUsd(row["amount_microusd"].as_u64()?),
            });
        }
        (!rows.is_empty()).then_some(all)
    }

    fn add(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cost = MicroUsd(self.cost.0.saturating_add(other.cost.0));
    }
}

/// What a session has used.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    requests: u64,
    used: Usage,
    /// Requests whose answers were cut, and whose receipts tell what they cost.
    awaited: VecDeque<String>,
}

impl Costs {
    /// An answer that came to its end; one that told no usage has its receipt awaited.
    pub(super) fn add(&mut self, request: Option<String>, usage: Option<Usage>) {
        self.requests += 1;
        match (usage, request) {
            (Some(usage), _) => self.used.add(usage),
            (None, Some(request)) => {
                self.awaited.push_back(request);
                if self.awaited.len() > AWAITED {
                    self.awaited.pop_front();
                }
            }
            (None, None) => {}
        }
    }

    /// Requests whose receipts are awaited.
    pub(super) fn awaited(&self) -> Vec<String> {
        self.awaited.iter().cloned().collect()
    }

    /// The receipt of an awaited request came.
    pub(super) fn settled(&mut self, request: &str, usage: Usage) {
        let before = self.awaited.len();
        self.awaited.retain(|awaited| awaited != request);
        if self.awaited.len() < before {
            self.used.add(usage);
        }
    }

    /// Whether nothing was asked.
    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// All of it in one line.
    pub(super) fn line(&self) -> String {
        let requests = match self.requests {
            1 => "1 request".to_owned(),
            several => format!("{several} requests"),
        };
        let Usage { input, output, cost } = self.used;
        let line = format!("{requests} · {input} tokens in, {output} out · {cost}");
        match self.awaited.len() {
            0 => line,
            1 => format!("{line} · and 1 cut answer whose receipt has not come yet"),
            several => format!("{line} · and {several} cut answers whose receipts have not come yet"),
        }
    }
}

/// How fast an answer comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    asked: Instant,
    /// When its first and its latest text came.
    came: Option<(Instant, Instant)>,
}

impl Pace {
    pub(super) fn new(asked: Instant) -> Self {
        Self { asked, came: None }
    }

    /// Text came.
    pub(super) fn text(&mut self, now: Instant) {
        let first = self.came.map_or(now, |(first, _)| first);
        self.came = Some((first, now));
    }

    fn first_token(&self) -> Option<Duration> {
        self.came.map(|(first, _)| first - self.asked)
    }

    /// Tokens per second after the first one; of an answer that came all but at once, of all of it.
    fn speed(&self, tokens: u64) -> Option<u64> {
        let (first, last) = self.came?;
        let (tokens, time) = match last - first {
            streamed if streamed >= STREAMED => (tokens.checked_sub(1)?, streamed),
            _ => (tokens, last - self.asked),
        };
        let micros = u64::try_from(time.as_micros()).ok().filter(|micros| *micros > 0)?;
        (tokens > 1).then(|| tokens.saturating_mul(1_000_000) / micros)
    }

    /// The line below an answer: who gave it, how fast, and what it cost. What is not known is left out.
    pub(super) fn line(&self, provider: Option<&str>, usage: Option<Usage>) -> String {
        let parts = [
            provider.map(short_peer),
            self.first_token().map(|time| format!("first token {}", span(time))),
            usage.and_then(|usage| Some(format!("{} tokens/s", self.speed(usage.output)?))),
            usage.map(|usage| format!("{} in, {} out", usage.input, usage.output)),
            usage.map(|usage| usage.cost.to_string()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

fn span(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..10_000 => format!("{millis} ms"),
        millis => format!("{} s", millis / 1000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(input: u64, output: u64, cost: u64) -> Usage {
        let cost = MicroUsd(cost);
        Usage { input, output, cost }
    }

    #[test]
    fn usage_is_read_from_streams_and_from_the_ledger() {
        let told = json!({ "prompt_tokens": 7, "completion_tokens": 4, "infernet": { "cost_microusd": 12 } });
        assert_eq!(Usage::read(&told), Some(usage(7, 4, 12)));
        assert_eq!(Usage::read(&json!(null)), None);
        let row = |receipt| json!({ "receipt": receipt, "input_tokens": 1, "output_tokens": 2, "amount_microusd": 3 });
        assert_eq!(
            Usage::of_rows(&[row(json!("ab")), row(json!("cd"))]),
            Some(usage(2, 4, 6))
        );
        assert_eq!(Usage::of_rows(&[row(json!("ab")), row(json!(null))]), None);
        assert_eq!(Usage::of_rows(&[]), None);
    }

    #[test]
    fn a_session_adds_up_exactly() {
        let mut costs = Costs::default();
        assert!(costs.is_empty());
        costs.add(Some("a".to_owned()), Some(usage(10, 20, 250_000)));
        assert_eq!(costs.line(), "1 request · 10 tokens in, 20 out · $0.25");
        costs.add(Some("b".to_owned()), None);
        assert!(
            costs
                .line()
                .ends_with("$0.25 · and 1 cut answer whose receipt has not come yet")
        );
        costs.settled("b", usage(1, 2, 7));
        costs.settled("b", usage(1, 2, 7));
        costs.settled("stranger", usage(1, 2, 7));
        assert_eq!(costs.line(), "2 requests · 11 tokens in, 22 out · $0.250007");
        assert!(costs.awaited().is_empty());
    }

    #[test]
    fn what_is_awaited_is_bounded() {
        let mut costs = Costs::default();
        (0..AWAITED + 3).for_each(|request| costs.add(Some(request.to_string()), None));
        assert_eq!((costs.awaited().len(), costs.awaited()[0].as_str()), (AWAITED, "3"));
    }

    #[test]
    fn the_line_below_an_answer_says_who_how_fast_and_how_dear() {
        let asked = Instant::now();
        let mut pace = Pace::new(asked);
        assert_eq!(pace.line(None, None), "");
        for millis in [120, 500, 2_120] {
            pace.text(asked + Duration::from_millis(millis));
        }
        assert_eq!(
            pace.line(Some("16Uiu2HAmQ8bXQ6yQm3kWm7Lx1uJp9gk2tVxR"), Some(usage(12, 81, 60))),
            "16Uiu2HA…k2tVxR · first token 120 ms · 40 tokens/s · 12 in, 81 out · $0.00006"
        );
        assert_eq!(
            pace.line(None, Some(usage(1, 0, 0))),
            "first token 120 ms · 1 in, 0 out · $0"
        );
        let mut slow = Pace::new(asked);
        slow.text(asked + Duration::from_secs(12));
        assert_eq!(
            slow.line(None, Some(usage(1, 1, 0))),
            "first token 12 s · 1 in, 1 out · $0"
        );
        let mut at_once = Pace::new(asked);
        for micros in [500_000, 500_060] {
            at_once.text(asked + Duration::from_micros(micros));
        }
        assert_eq!(
            at_once.line(None, Some(usage(1, 50, 0))),
            "first token 500 ms · 99 tokens/s · 1 in, 50 out · $0"
        );
    }
}
