//! Server-sent events cut out of a byte stream: whole events, their bytes untouched.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// Longest single event: a chunk with many logprobs or an image stays far below it.
pub const EVENT_BYTES: usize = 8 * 1024 * 1024;

/// An event longer than [`EVENT_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {EVENT_BYTES} bytes")]
pub struct TooLong;

/// One event as it came, with the blank line that ends it.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Its bytes.
    pub raw: Bytes,
}

impl std::fmt::Debug for Event {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({} bytes)", self.raw.len())
    }
}

impl Event {
    /// What its `data:` lines say, joined as the standard has it; `None` for a comment or an empty event.
    #[must_use]
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut data: Option<Cow<'_, [u8]>> = None;
        for line in self.raw.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(value) = line.strip_prefix(b"data:") else {
                continue;
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            data = Some(match data {
                None => Cow::Borrowed(value),
                Some(before) => {
                    let mut joined = before.into_owned();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                    Cow::Owned(joined)
                }
            });
        }
        data
    }
}

/// Cuts chunks, however they were split on the way, into whole events. Chunks that hold whole events are not copied.
#[derive(Default)]
pub struct Splitter {
    /// An unfinished event.
    carry: BytesMut,
    /// Bytes of `carry` that hold no end of an event.
    searched: usize,
    /// What was pushed and not yet taken.
    ready: Bytes,
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splitter")
            .field("carried", &self.carry.len())
            .finish_non_exhaustive()
    }
}

impl Splitter {
    /// Adds what came next. All events that were whole before must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        if self.carry.is_empty() {
            self.ready = chunk;
        } else {
            self.carry.extend_from_slice(&chunk);
            self.ready = self.carry.split().freeze();
        }
    }

    /// The next whole event.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLong> {
        if self.ready.is_empty() {
            return Ok(None);
        }
        if let Some(end) = event_end(&self.ready, self.searched) {
            self.searched = 0;
            return Ok(Some(Event {
                raw: self.ready.split_to(end),
            }));
        }
        let rest = std::mem::take(&mut self.ready);
        if rest.len() > EVENT_BYTES {
            return Err(TooLong);
        }
        // The last three bytes may be the beginning of a blank line.
        self.searched = rest.len().saturating_sub(3);
        // No copy where the chunk is ours alone, which it is after the first cut.
        self.carry = rest.try_into_mut().unwrap_or_else(|rest| BytesMut::from(&rest[..]));
        Ok(None)
    }

    /// Whether nothing is held at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.carry.is_empty() && self.ready.is_empty()
    }

    /// Whether an unfinished event is left.
    #[must_use]
    pub fn is_inside_event(&self) -> bool {
        !self.carry.iter().all(u8::is_ascii_whitespace)
    }
}

/// The index after the blank line that ends the first event of `text`.
fn event_end(text: &[u8], searched: usize) -> Option<usize> {
    if searched == 0 {
        // A stray blank line before an event is an event without content.
        if text.starts_with(b"\n") {
            return Some(1);
        }
        if text.starts_with(b"\r\n") {
            return Some(2);
        }
    }
    let mut at = searched;
    while let Some(found) = memchr(b'\n', &text[at..]) {
        at += found + 1;
        match &text[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<Bytes> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = splitter.next_event().unwrap() {
                found.push(event.raw);
            }
        }
        found
    }

    #[test]
    fn data_lines_are_joined_and_comments_have_none() {
        let data = |raw: &'static str| {
            Event {
                raw: Bytes::from_static(raw.as_bytes()),
            }
            .data()
            .map(Cow::into_owned)
        };
        assert_eq!(data("data: a\n\n").unwrap(), b"a");
        assert_eq!(data("data:a\r\n\r\n").unwrap(), b"a");
        assert_eq!(data("event: x\nid: 7\ndata: a\ndata:  b\n\n").unwrap(), b"a\n b");
        assert_eq!(data(": ping\n\n"), None);
        assert_eq!(data("\n"), None);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut splitter = Splitter::default();
        splitter.push(Bytes::from(vec![b'x'; EVENT_BYTES]));
        assert_eq!(splitter.next_event(), Ok(None));
        splitter.push(Bytes::from_static(b"x"));
        assert_eq!(splitter.next_event(), Err(TooLong));
    }

    proptest! {
        /// However the bytes are cut on the way, the same events come out and no byte is lost.
        #[test]
        fn cuts_do_not_matter(
            lines in prop::collection::vec(("(data: |: |)[a-zü\u{1f98a} ]{0,9}", prop::bool::ANY), 1..12),
            cuts in prop::collection::vec(1_usize..9, 1..60),
        ) {
            let mut text = Vec::new();
            for (line, crlf) in &lines {
                text.extend_from_slice(line.as_bytes());
                text.extend_from_slice(if *crlf { b"\r\n\r\n" } else { b"\n\n" });
            }
            let mut chunks = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(head);
                rest = tail;
                if rest.is_empty() { break }
            }
            let cut = events(&chunks);
            prop_assert_eq!(cut.concat(), text.clone());
            let whole = events(&[&text]);
            let content = |events: &[Bytes]| -> Vec<Vec<u8>> {
                events.iter().filter_map(|raw| Event { raw: raw.clone() }.data().map(Cow::into_owned)).collect()
            };
            prop_assert_eq!(content(&cut), content(&whole));
        }
    }
}
