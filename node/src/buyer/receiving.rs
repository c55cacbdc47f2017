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
    pub(super) fn pace(&self, output_tokens: u32) -> Service {
        let first = self.first.unwrap_or_default();
        let streaming = self.began.elapsed().saturating_sub(first).as_millis().max(1);
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
        let framing = match content_type.starts_with(ContentType::EventStream.as_str()) {
            true => ContentType::EventStream,
            false => ContentType::Json,
        };
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
