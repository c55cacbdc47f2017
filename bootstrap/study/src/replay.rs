//! Recorded gossip again: at its own pace, to be published into a network, or judged anew by the code that judges
//! gossip in a node.

use std::collections::BTreeMap;
use std::time::Duration;

use infernet_protocol::capability::{Limits, Registry};
use infernet_protocol::market::admission::{Ignored, Judgement};
use infernet_protocol::market::gossip::{Gossip, Topic};
use infernet_protocol::market::{Admission, Mono, Now};
use infernet_protocol::{Network, UnixMillis};

use crate::contents::{self, Sort};
use crate::record::{Body, Heard, Record, Verdict};
use crate::recording::{ReadError, Reader};

/// Between two looks at what may be forgotten: as often as a bootstrap node looks.
const SWEEP: u64 = 10_000;

/// Why there is nothing to replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was published.
    #[error("a publication holds no signed message; replay the recording that it was made from")]
    Publication,
    /// Its header names no network that could be.
    #[error("the recording names the network `{0}`, which cannot be; leave the file out")]
    Network(String),
}

/// A gossip message, and how long after the one before it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it was heard.
    pub at: UnixMillis,
    /// Time since the message before; 0 for the first.
    pub delay: Duration,
    /// The topic in full.
    pub topic: String,
    /// The message.
    pub data: Vec<u8>,
    /// What the recorder did with it.
    pub verdict: Verdict,
}

/// Gossip in the order in which it was heard.
#[derive(Debug)]
pub struct Replay {
    reader: Reader,
    /// How fast recorded time passes.
    pace: Pace,
    last: Option<UnixMillis>,
}

/// How fast recorded time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As it did, times so many thousandths: 1000 is as it was, 2000 twice as fast.
    Thousandths(u32),
    /// Without a pause.
    AtOnce,
}

impl Replay {
    /// Replays what a reader reads.
    #[must_use]
    pub fn new(reader: Reader, pace: Pace) -> Self {
        Self {
            reader,
            pace,
            last: None,
        }
    }

    /// The reader, for its warnings.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    fn delay(&mut self, at: UnixMillis) -> Duration {
        // A clock that was set back makes no pause, and is followed from there.
        let passed = self.last.replace(at).map_or(0, |last| at.since(last));
        match self.pace {
            Pace::AtOnce => Duration::ZERO,
            Pace::Thousandths(pace) => Duration::from_millis(passed.saturating_mul(1000) / u64::from(pace.max(1))),
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Due, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.reader.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error.into())),
            };
            match record.body {
                Body::Heard(heard) => {
                    return Some(Ok(Due {
                        at: record.at,
                        delay: self.delay(record.at),
                        topic: heard.topic.as_str().to_owned(),
                        data: heard.data.0,
                        verdict: heard.verdict,
                    }));
                }
                Body::Header(header) if header.is_publication() => return Some(Err(ReplayError::Publication)),
                _ => {}
            }
        }
    }
}

/// Verdicts of the recorder, and those of the same messages judged anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many there are of each recorded verdict and new verdict.
    pub verdicts: BTreeMap<(Verdict, Verdict), u64>,
    /// The new verdicts by the sort of message.
    pub sorts: BTreeMap<(Sort, Verdict), u64>,
    /// Why messages are ignored now.
    pub ignored: BTreeMap<&'static str, u64>,
    /// Recorders that began anew, and forgot what they had heard.
    pub starts: u64,
}

impl Judged {
    /// Messages whose new verdict is this one.
    #[must_use]
    pub fn now(&self, verdict: Verdict) -> u64 {
        let of = |((_, now), count): (&(Verdict, Verdict), &u64)| if *now == verdict { *count } else { 0 };
        self.verdicts.iter().map(of).sum()
    }

    /// Messages whose recorded verdict is this one.
    #[must_use]
    pub fn recorded(&self, verdict: Verdict) -> u64 {
        let of = |((then, _), count): (&(Verdict, Verdict), &u64)| if *then == verdict { *count } else { 0 };
        self.verdicts.iter().map(of).sum()
    }

    /// Messages that are judged as they were.
    #[must_use]
    pub fn alike(&self) -> u64 {
        let of = |((then, now), count): (&(Verdict, Verdict), &u64)| if then == now { *count } else { 0 };
        self.verdicts.iter().map(of).sum()
    }

    /// All messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.verdicts.values().sum()
    }
}

/// Judges all gossip of a recording anew, at the times at which it was heard.
///
/// # Errors
/// [`ReplayError`].
pub fn judge(reader: &mut Reader) -> Result<Judged, ReplayError> {
    let mut judged = Judged::default();
    let mut judge: Option<Judge> = None;
    for record in reader {
        let Record { at, body } = record?;
        match body {
            Body::Header(header) if header.is_publication() => return Err(ReplayError::Publication),
            // A recorder that goes on in another file remembers; one that was started anew does not.
            Body::Header(header) if judge.as_ref().is_none_or(|judge| judge.recording != header.recording) => {
                let name = header.network.as_str();
                let network = Network::new(name).map_err(|_| ReplayError::Network(name.to_owned()))?;
                judge = Some(Judge::new(header.recording, network, at));
                judged.starts += 1;
            }
            Body::Heard(heard) => {
                let Some(judge) = &mut judge else { continue };
                let (now, why) = judge.judge(&heard, at);
                *judged.verdicts.entry((heard.verdict, now)).or_default() += 1;
                let sort = Sort::of(&contents::messages(&heard.data.0));
                *judged.sorts.entry((sort, now)).or_default() += 1;
                if let Some(why) = why {
                    *judged.ignored.entry(reason(why)).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    Ok(judged)
}

/// A forwarder without a network.
#[derive(Debug)]
struct Judge {
    recording: [u8; 16],
    network: Network,
    admission: Admission,
    registry: Registry,
    began: UnixMillis,
    /// Time of the recording, which never steps back.
    mono: u64,
    swept: u64,
}

impl Judge {
    fn new(recording: [u8; 16], network: Network, began: UnixMillis) -> Self {
        Self {
            recording,
            network,
            admission: Admission::default(),
            registry: Registry::new(Limits::default()),
            began,
            mono: 0,
            swept: 0,
        }
    }

    fn judge(&mut self, heard: &Heard, at: UnixMillis) -> (Verdict, Option<Ignored>) {
        self.mono = self.mono.max(at.since(self.began));
        let now = Now {
            wall: at,
            mono: Mono(self.mono),
        };
        if self.mono >= self.swept.saturating_add(SWEEP) {
            self.admission.tick(now);
            self.registry.expire(at);
            self.swept = self.mono;
        }
        let topic = if heard.topic.as_str() == self.network.capability_topic() {
            Topic::Capability
        } else {
            Topic::Jobs
        };
        let judgement = match Gossip::from_bytes(topic, &heard.data.0, &self.network) {
            Ok(gossip) => self.admission.judge(gossip, &mut self.registry, now),
            Err(refused) => Judgement::of_refused(&refused),
        };
        match judgement {
            Judgement::Accept(_) => (Verdict::Accept, None),
            Judgement::Ignore(why) => (Verdict::Ignore, Some(why)),
            Judgement::Reject => (Verdict::Reject, None),
        }
    }
}

fn reason(why: Ignored) -> &'static str {
    match why {
        Ignored::Stale => "stale",
        Ignored::Duplicate => "duplicate",
        Ignored::Unknown => "unknown",
        Ignored::Unfit => "unfit",
        Ignored::Uninvited => "uninvited",
        Ignored::Crowded => "crowded",
        Ignored::Private => "private",
        Ignored::Foreign => "foreign",
    }
}
