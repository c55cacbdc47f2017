//! What is counted of an answer while it comes: how much may be billed for it, how fast it was, and its commitment. The
//! text is not kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_inference::backend::ContentType;
use infernet_inference::watch::{self, Watch};
use infernet_protocol::Millis;
use infernet_protocol::market::lease::Bounds;
use infernet_protocol::receipt::Commitment;
use infernet_protocol::receipt::ledger::Seen;
use infernet_protocol::reputation::Service;
use infernet_protocol::stream::frames::{self, Request};

use super::Purchase;

/// Tokens that mark structure and bring no byte, in an answer that is not streamed.
const JSON_SILENT_TOKENS: u64 = 64;

/// What is counted of an answer as it comes.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) commitment: Commitment,
    watch: Option<(ContentType, Watch)>,
    request_bytes: u64,
    answer_bytes: u64,
    output_tokens_max: u32,
    pub(super) frames: u64,
    pub(super) usage: frames::Usage,
    began: Instant,
    first: Option<Duration>,
    /// When the first text of a stream came.
    first_word: Option<Duration>,
}

impl Receiving {
    pub(super) fn new(purchase: &Purchase, request: &Request) -> Self {
        Self {
            commitment: Commitment::of_request(&request.salt, &request.request, &purchase.body),
            watch: None,
            // What is continued is a part of the prompt.
            request_bytes: purchase.body.len() as u64
                + purchase
                    .continuation
                    .as_ref()
                    .map_or(0, |told| told.tokens.len() as u64),
            answer_bytes: 0,
            output_tokens_max: purchase.max_output.unwrap_or(u32::MAX),
            frames: 0,
            usage: frames::Usage {
                input_tokens: 0,
                output_tokens: 0,
            },
            began: Instant::now(),
            first: None,
            first_word: None,
        }
    }

    /// Whether the consumer gains from what came: a first token, and not only an engine's greeting.
    pub(super) fn is_worth_telling(&self) -> bool {
        match &self.watch {
            Some((ContentType::EventStream, watch)) => watch.seen().text_bytes > 0 || watch.seen().finish.is_some(),
            // An answer that is not streamed is told when it is whole.
            _ => false,
        }
    }

    /// How fast it came, as we saw it.
    pub(super) fn pace(&self, output_tokens: u32, promised: Service) -> Service {
        self.pace_after(self.began.elapsed(), output_tokens, promised)
    }

    fn pace_after(&self, whole: Duration, output_tokens: u32, promised: Service) -> Service {
        if output_tokens > 1 && matches!(self.watch, Some((ContentType::Json, _))) {
            return in_one_piece(whole, output_tokens, promised);
        }
        let first = self.first.unwrap_or_default();
        let streaming = whole.saturating_sub(first).as_millis().max(1);
        let speed = u128::from(output_tokens.saturating_sub(1)) * 1_000_000 / streaming;
        Service {
            ttft: Millis(u32::try_from(first.as_millis()).unwrap_or(u32::MAX)),
            speed: u32::try_from(speed).unwrap_or(u32::MAX),
        }
    }

    /// When the first text of a stream came.
    pub(super) fn first_word(&self) -> Option<Duration> {
        self.first_word
    }

    pub(super) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether the engine's head has come.
    pub(super) fn has_begun(&self) -> bool {
        self.watch.is_some()
    }

    pub(super) fn begin(&mut self, content_type: &str) {
        let framing = ContentType::of(content_type);
        self.watch = Some((framing, Watch::new(framing)));
    }

    /// Counts a Data frame; whether it is the first.
    pub(super) fn take(&mut self, frame: u64, bytes: &Bytes) -> bool {
        self.commitment.add(frame, bytes);
        self.frames = frame + 1;
        self.first.get_or_insert_with(|| self.began.elapsed());
        self.answer_bytes += bytes.len() as u64;
        if let Some((ContentType::EventStream, watch)) = &mut self.watch {
            // What cannot be read is bounded by its bytes all the same.
            let _ = watch.push(bytes);
            if self.first_word.is_none() && watch.seen().text_bytes > 0 {
                self.first_word = Some(self.began.elapsed());
            }
        }
        frame == 0
    }

    /// What may be billed if a crash loses the rest: no more than was asked for.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            input_tokens: tokens(watch::input_at_most(self.request_bytes)),
            output_tokens: self.output_tokens_max,
        }
    }

    /// Of a streamed answer by its text, of a document by all its bytes.
    fn output_at_most(&self) -> u32 {
        match &self.watch {
            Some((ContentType::EventStream, watch)) => tokens(watch.seen().output_at_most()),
            Some((ContentType::Json, _)) => tokens(self.answer_bytes + JSON_SILENT_TOKENS),
            None => 0,
        }
    }

    /// What may be billed for what came.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            input_tokens_max: tokens(watch::input_at_most(self.request_bytes)),
            output_tokens_max: self.output_at_most(),
            commitment: Some(self.commitment.digest()),
        }
    }
}

fn tokens(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A text that came in one piece tells only how long all of it took: its first token and its speed count as kept, or not,
/// by the same share.
fn in_one_piece(whole: Duration, output_tokens: u32, promised: Service) -> Service {
    let whole = whole.as_millis().max(1);
    // Tokens behind the first, as milliseconds at a thousandth of a token per second.
    let rest = u128::from(output_tokens.saturating_sub(1)) * 1_000_000;
    let (ttft, speed) = (u128::from(promised.ttft.0), u128::from(promised.speed));
    let (ttft, speed) = match rest.checked_div(speed).map(|rest| ttft + rest) {
        Some(expected) if expected > 0 => (ttft * whole / expected, speed * expected / whole),
        _ => (ttft, rest / whole),
    };
    Service {
        ttft: Millis(u32::try_from(ttft).unwrap_or(u32::MAX)),
        speed: u32::try_from(speed).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use infernet_inference::{Endpoint, Request as Asked};
    use infernet_protocol::{ModelId, RequestId};

    use super::*;

    /// How an answer counts that began after a second and took `whole` milliseconds, of a provider that promised this.
    fn pace(content_type: &str, whole: u64, tokens: u32, (ttft, speed): (u32, u32)) -> (u32, u32) {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
        let asked = Asked::read(Endpoint::ChatCompletions, body).unwrap();
        let purchase = Purchase::new(
            ModelId::new("m").unwrap(),
            &asked,
            Bytes::from_static(body),
            Instant::now(),
        );
        let request = Request {
            request: RequestId([1; 16]),
            endpoint: frames::Endpoint::ChatCompletions,
            salt: [2; 32],
            length: body.len() as u64,
            continuation: None,
        };
        let mut receiving = Receiving::new(&purchase, &request);
        receiving.begin(content_type);
        receiving.first = Some(Duration::from_secs(1));
        let promised = Service {
            ttft: Millis(ttft),
            speed,
        };
        let pace = receiving.pace_after(Duration::from_millis(whole), tokens, promised);
        (pace.ttft.0, pace.speed)
    }

    #[test]
    fn a_text_in_one_piece_keeps_its_promises_by_how_long_all_of_it_took() {
        let document = |whole, tokens, promised| pace("application/json", whole, tokens, promised);
        let promised = (200, 50_000);
        assert_eq!(document(1_200, 51, promised), promised, "kept");
        assert_eq!(document(2_400, 51, promised), (400, 25_000), "half as fast");
        assert_eq!(document(600, 51, promised), (100, 100_000), "twice as fast");
        assert_eq!(document(440, 2, promised), (400, 25_000), "be it short or long");
        assert_eq!(document(1_000, 51, (0, 100_000)), (0, 50_000), "a speed alone");
        assert_eq!(
            document(1_000, 51, (200, 0)),
            (200, 50_000),
            "nothing to hold it against"
        );
    }

    #[test]
    fn streams_and_vectors_show_when_they_began() {
        let promised = (200, 50_000);
        assert_eq!(pace("text/event-stream", 2_000, 51, promised), (1_000, 50_000));
        assert_eq!(pace("application/json", 1_000, 0, promised), (1_000, 0));
    }
}
