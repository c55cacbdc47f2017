//! What a bootstrap node records of what it does: gossip with its verdict, peers as they come and go, and itself from
//! time to time. It hands records over and never waits for a disk. Implements `specs/recording.md`, "Records".

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use infernet_protocol::codec::{Blob, Text};
use infernet_protocol::{Digest, Identity, Millis, Network, UnixMillis};
use infernet_study::place::{Path as Way, Place, Transport};
use infernet_study::record::{self, Body, Change, Heard, Peer, PeerEvent, Record, Sample};
use infernet_study::recording::{Limits, Recorder, Session, Writer};
use infernet_swarm::{Direction, Event, PeerId, PeerInfo, Verdict};

/// What a recorder is named by: a hash, of which nobody can tell whose key went into it.
const RECORDER: &[u8] = b"infernet recorder";

/// What was told of a connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    transport: Transport,
    path: Way,
    outbound: Option<bool>,
    agent: Option<Text<64>>,
}

const NOTHING_YET: Told = Told {
    transport: Transport::Unknown,
    path: Way::Unknown,
    outbound: None,
    agent: None,
};

/// Turns what happens into records.
#[derive(Debug)]
pub struct Observer {
    recorder: Recorder,
    /// Connected peers: as many as the swarm lets in.
    told: BTreeMap<PeerId, Told>,
    lost: u64,
}

impl Observer {
    /// Begins a recording in `directory`.
    ///
    /// # Errors
    /// Where the directory cannot be written to, or another process does so.
    pub fn start(directory: &Path, identity: &Identity, network: &Network, limits: Limits) -> Result<Self> {
        let named = Digest::of(&[RECORDER, &identity.secret()]).0;
        let mut recorder = [0; 16];
        recorder.copy_from_slice(&named[..16]);
        let session = Session {
            network: network.clone(),
            recorder,
            recording: rand::random(),
            agent: concat!("infernet-bootstrap/", env!("CARGO_PKG_VERSION")).to_owned(),
            sample_every: Millis(u32::try_from(crate::SWEEP.as_millis())?),
            is_publication: false,
        };
        let writer = Writer::create(directory, session, limits)?;
        Ok(Self {
            recorder: Recorder::start(writer)?,
            told: BTreeMap::new(),
            lost: 0,
        })
    }

    /// What is recorded from now on goes into another file, so that the others can be taken away.
    pub(crate) fn begin_file(&self) {
        self.recorder.begin_file();
    }

    fn take(&self, body: Body) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = UnixMillis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        self.recorder.take(Record { at, body });
    }

    fn tell(&self, peer: &PeerId, change: Change, told: Told) {
        let Some(peer) = Peer::new(&peer.to_bytes()) else {
            return;
        };
        self.take(Body::Peer(PeerEvent {
            peer,
            change,
            transport: told.transport,
            path: told.path,
            outbound: told.outbound,
            agent: told.agent,
        }));
    }

    /// A peer came or went; all else is recorded when it was judged or seen.
    pub(crate) fn on_event(&mut self, event: &Event) {
        match event {
            Event::Connected { peer } => {
                self.told.insert(*peer, NOTHING_YET);
                self.tell(peer, Change::Connected, NOTHING_YET);
            }
            Event::Disconnected { peer } => {
                self.told.remove(peer);
                self.tell(peer, Change::Disconnected, NOTHING_YET);
            }
            _ => {}
        }
    }

    /// A gossip message was judged.
    pub(crate) fn on_judged(&self, topic: &str, source: &PeerId, verdict: Verdict, data: impl Into<Vec<u8>>) {
        let Some(source) = Peer::new(&source.to_bytes()) else {
            return;
        };
        self.take(Body::Heard(Heard {
            topic: Text::lossy(topic),
            source,
            verdict: match verdict {
                Verdict::Accept => record::Verdict::Accept,
                Verdict::Ignore => record::Verdict::Ignore,
                Verdict::Reject => record::Verdict::Reject,
                Verdict::Pass => record::Verdict::Pass,
            },
            data: Blob(data.into()),
        }));
    }

    /// Time for a sample, and to tell what has become known of peers.
    pub(crate) fn on_sweep(&mut self, peers: &[PeerInfo], ads: usize) {
        for info in peers {
            let now = told(info);
            if self.told.get(&info.peer) != Some(&now) {
                self.tell(&info.peer, Change::Described, now.clone());
                self.told.insert(info.peer, now);
            }
        }
        // A swarm that was far behind loses events; who is no longer there is forgotten, and was said to be here.
        let gone: Vec<PeerId> = self
            .told
            .keys()
            .filter(|peer| !peers.iter().any(|info| info.peer == **peer))
            .copied()
            .collect();
        for peer in gone {
            self.told.remove(&peer);
            self.tell(&peer, Change::Disconnected, NOTHING_YET);
        }
        self.take(Body::Sample(sample(peers, ads)));
        let lost = self.recorder.lost();
        if lost > self.lost && !self.recorder.has_stopped() {
            tracing::warn!(lost, "the disk is too slow for the recording, which has gaps now");
        }
        self.lost = lost;
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

fn sample(peers: &[PeerInfo], ads: usize) -> Sample {
    let mut trips: Vec<_> = peers.iter().filter_map(|info| info.round_trip).collect();
    trips.sort_unstable();
    let median = trips.get(trips.len() / 2);
    Sample {
        peers: count(peers.len()),
        relayed: count(peers.iter().filter(|info| info.relayed()).count()),
        ads: count(ads),
        mesh: None,
        round_trip: median.map(|trip| Millis(u32::try_from(trip.as_millis()).unwrap_or(u32::MAX))),
    }
}

fn told(info: &PeerInfo) -> Told {
    // The connection that what follows will use: a direct one, if there is any.
    let connections = &info.connections;
    let Some(connection) = connections
        .iter()
        .find(|connection| !connection.relayed)
        .or(connections.first())
    else {
        return NOTHING_YET;
    };
    let place = Place::of(&connection.address.to_string());
    Told {
        transport: place.map_or(Transport::Unknown, |place| place.transport),
        path: if connection.relayed { Way::Relayed } else { Way::Direct },
        outbound: Some(connection.direction == Direction::Outbound),
        agent: info.agent.as_deref().map(Text::lossy),
    }
}
