//! An engine's bytes on their way to the consumer: the model's name restored, a usage chunk that only this node asked
//! for taken out, usage read, everything else as it came. No I/O.

use bytes::{Bytes, BytesMut};

use crate::backend::{BackendError, Piece, Usage};
use crate::json::{self, Edit, Object};
use crate::sse::{Event, Splitter};
use crate::watch::{ANSWER_BYTES, Seen};
use crate::wire::DONE;

/// How one answer is relayed.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// The network's name of the model, as JSON text.
    pub(super) model: String,
    /// Whether the usage chunk is for this node alone.
    pub(super) usage_is_ours: bool,
    /// Bytes of the request body, for an estimate where the engine counts nothing.
    pub(super) input_bytes: u64,
}

/// A streamed answer.
#[derive(Debug)]
pub(super) struct Events {
    terms: Terms,
    splitter: Splitter,
    seen: Seen,
    out: BytesMut,
    usage_told: bool,
}

impl Events {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            splitter: Splitter::default(),
            seen: Seen::default(),
            out: BytesMut::new(),
            usage_told: false,
        }
    }

    /// Takes what the engine sent next.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<(), BackendError> {
        self.splitter.push(chunk);
        while let Some(event) = self
            .splitter
            .next_event()
            .map_err(|_| BackendError::Broken("it sent an event without end"))?
        {
            // What an engine says after its end is nobody's answer.
            if !self.seen.done {
                self.relay(&event)?;
            }
        }
        Ok(())
    }

    fn relay(&mut self, event: &Event) -> Result<(), BackendError> {
        let data = event.data();
        let payload = match data.as_deref() {
            None => {
                self.out.extend_from_slice(&event.raw);
                return Ok(());
            }
            Some(b"[DONE]") => {
                self.seen.done = true;
                self.out.extend_from_slice(&event.raw);
                return Ok(());
            }
            Some(payload) => payload,
        };
        let marks = self.seen.read(payload);
        if marks.error {
            return Err(BackendError::Failed {
                body: Bytes::copy_from_slice(payload),
            });
        }
        if marks.usage_only && self.terms.usage_is_ours {
            return Ok(());
        }
        let Some(range) = marks
            .model
            .filter(|range| payload[range.clone()] != *self.terms.model.as_bytes())
        else {
            self.out.extend_from_slice(&event.raw);
            return Ok(());
        };
        self.out.extend_from_slice(b"data: ");
        self.out.extend_from_slice(&payload[..range.start]);
        self.out.extend_from_slice(self.terms.model.as_bytes());
        self.out.extend_from_slice(&payload[range.end..]);
        self.out.extend_from_slice(b"\n\n");
        Ok(())
    }

    /// Bytes that are ready.
    pub(super) fn ready(&self) -> usize {
        self.out.len()
    }

    /// Whether the engine has said that it is done.
    pub(super) fn is_done(&self) -> bool {
        self.seen.done
    }

    /// What is ready to go on: data first, and usage once after the last of it.
    pub(super) fn take(&mut self) -> Option<Piece> {
        if !self.out.is_empty() {
            return Some(Piece::data(self.out.split().freeze()));
        }
        if self.seen.done && !std::mem::replace(&mut self.usage_told, true) {
            return Some(Piece::Usage(self.usage()));
        }
        None
    }

    fn usage(&self) -> Usage {
        self.seen
            .usage
            .unwrap_or_else(|| Usage::estimated(self.terms.input_bytes, &self.seen))
    }

    /// The engine has closed. One that gave its reason to finish and forgot `[DONE]` is whole.
    pub(super) fn end(&mut self) -> Result<(), BackendError> {
        if self.seen.done {
            return Ok(());
        }
        if self.seen.finish.is_none() || self.splitter.is_inside_event() {
            return Err(BackendError::Broken("the stream ended before its time"));
        }
        self.seen.done = true;
        self.out.extend_from_slice(DONE.as_bytes());
        Ok(())
    }
}

/// An answer that is one document.
#[derive(Debug)]
pub(super) struct Document {
    terms: Terms,
    body: BytesMut,
}

impl Document {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            body: BytesMut::new(),
        }
    }

    /// Takes what the engine sent next.
    pub(super) fn push(&mut self, chunk: &Bytes) -> Result<(), BackendError> {
        if self.body.len() + chunk.len() > ANSWER_BYTES {
            return Err(BackendError::Broken("its answer is too long"));
        }
        self.body.extend_from_slice(chunk);
        Ok(())
    }

    /// The whole answer.
    pub(super) fn end(self) -> Result<[Piece; 2], BackendError> {
        let body = self.body.freeze();
        json::validate(&body).map_err(|_| BackendError::Broken("its answer is not JSON"))?;
        let mut seen = Seen::default();
        let marks = seen.read(&body);
        if marks.error {
            return Err(BackendError::Failed { body });
        }
        let usage = seen
            .usage
            .unwrap_or_else(|| Usage::estimated(self.terms.input_bytes, &seen));
        let object = Object::read(&body).map_err(|_| BackendError::Broken("its answer is not a JSON object"))?;
        let body = match object.get("model") {
            Some(model) if model != self.terms.model.as_bytes() => {
                object.edited(&[Edit::set("model", self.terms.model.as_str())]).into()
            }
            _ => body,
        };
        Ok([Piece::data(body), Piece::Usage(usage)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Counted;

    fn terms(usage_is_ours: bool) -> Terms {
        Terms {
            model: "\"net\"".into(),
            usage_is_ours,
            input_bytes: 40,
        }
    }

    fn relay(text: &str, usage_is_ours: bool, cut: usize) -> (String, Option<Usage>, Result<(), BackendError>) {
        let mut events = Events::new(terms(usage_is_ours));
        let (mut out, mut usage) = (String::new(), None);
        let mut drain = |events: &mut Events| {
            while let Some(piece) = events.take() {
                match piece {
                    Piece::Data { bytes, .. } => {
                        assert!(
                            bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n"),
                            "whole events only"
                        );
                        out.push_str(std::str::from_utf8(&bytes).unwrap());
                    }
                    Piece::Usage(told) => assert_eq!(usage.replace(told), None, "usage is told once"),
                }
            }
        };
        for chunk in text.as_bytes().chunks(cut) {
            if let Err(error) = events.push(Bytes::copy_from_slice(chunk)) {
                drain(&mut events);
                return (out, usage, Err(error));
            }
            drain(&mut events);
        }
        let end = events.end();
        drain(&mut events);
        (out, usage, end)
    }

    const HELLO: &str =
        "data: {\"id\":\"1\", \"model\":\"engine/own\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\"}}] }\n\n";
    const USAGE: &str = "data: {\"model\":\"engine/own\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\r\n\r\n";
    const FINISH: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"model\":\"net\"}\n\n";

    #[test]
    fn bytes_pass_and_the_name_is_restored() {
        let text = format!("{HELLO}: ping\n\n{FINISH}{USAGE}{DONE}");
        for cut in [1, 2, 5, 33, 10_000] {
            let (out, usage, end) = relay(&text, false, cut);
            assert!(end.is_ok());
            let named = text.replace("\"engine/own\"", "\"net\"").replace("\r\n", "\n");
            assert_eq!(out, named, "cut {cut}");
            assert_eq!(
                usage.unwrap(),
                Usage {
                    input_tokens: 5,
                    output_tokens: 2,
                    counted: Counted::Engine
                }
            );
            let (out, usage, _) = relay(&text, true, cut);
            assert_eq!(
                out,
                format!("{HELLO}: ping\n\n{FINISH}{DONE}").replace("\"engine/own\"", "\"net\"")
            );
            assert_eq!(usage.unwrap().output_tokens, 2);
        }
    }

    #[test]
    fn usage_beside_content_stays() {
        let both = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
        let (out, usage, _) = relay(&format!("{both}{DONE}"), true, 999);
        assert_eq!(out, format!("{both}{DONE}"));
        assert_eq!(usage.unwrap().input_tokens, 5);
    }

    #[test]
    fn an_engine_that_counts_nothing_is_counted() {
        let (_, usage, _) = relay(&format!("{HELLO}{HELLO}{DONE}"), true, 999);
        assert_eq!(
            usage.unwrap(),
            Usage {
                input_tokens: 10,
                output_tokens: 2,
                counted: Counted::Estimated
            }
        );
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error() {
        assert!(matches!(relay(HELLO, true, 999).2, Err(BackendError::Broken(_))));
        assert!(matches!(
            relay(&format!("{FINISH}data: {{"), true, 999).2,
            Err(BackendError::Broken(_))
        ));
        let (out, usage, end) = relay(&format!("{HELLO}{FINISH}"), true, 999);
        assert!(
            end.is_ok() && out.ends_with(DONE) && usage.is_some(),
            "a forgotten [DONE] is made good"
        );
    }

    #[test]
    fn an_error_in_the_middle_is_an_error() {
        let (out, _, end) = relay(
            &format!("{HELLO}data: {{\"error\":{{\"message\":\"x\"}}}}\n\n{DONE}"),
            true,
            999,
        );
        assert!(matches!(end, Err(BackendError::Failed { .. })));
        assert!(out.contains("h\u{e9}") && !out.contains("error"));
    }

    #[test]
    fn documents_are_renamed_and_counted() {
        let mut document = Document::new(terms(false));
        let text = r#"{ "model":"engine/own", "choices":[{"message":{"content":"abcd"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        document.push(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let [data, usage] = document.end().unwrap();
        assert_eq!(data, Piece::data(text.replace("\"engine/own\"", "\"net\"").into()));
        assert_eq!(
            usage,
            Piece::Usage(Usage {
                input_tokens: 3,
                output_tokens: 1,
                counted: Counted::Engine
            })
        );
        let mut cut = Document::new(terms(false));
        cut.push(&Bytes::copy_from_slice(&text.as_bytes()[..50])).unwrap();
        assert!(matches!(cut.end(), Err(BackendError::Broken(_))));
    }
}
