//! The vector of `specs/vectors/recording.json`: one record of each kind, and the same as it is published.

use infernet_protocol::codec::{self, Blob, Text};
use infernet_protocol::names::INFERENCE;
use infernet_protocol::{Millis, UnixMillis};
use serde_json::{Value, json};

use super::{BEGAN, Shape, deal, members, network, session};
use crate::place::{Path, Transport};
use crate::publish::Pseudonyms;
use crate::record::{
    Body, Change, Header, Heard, Lost, PUBLICATION, PeerEvent, RECORDING, Record, Sample, VERSION, Verdict,
};

/// Key of the vector's publication. That of a real one is drawn and thrown away.
pub const KEY: [u8; 32] = *b"a key that is no secret at all!!";

/// A small recording, each record with its name.
#[must_use]
pub fn recording() -> Vec<(&'static str, Record)> {
    let shape = Shape {
        providers: 1,
        buyers: 1,
        ..Shape::default()
    };
    let members = members(&shape);
    let [seller, buyer] = &members[..] else {
        return Vec::new();
    };
    let (ads, jobs) = (network().capability_topic(), network().jobs_topic(INFERENCE));
    let heard = |topic: &str, verdict, data| {
        Body::Heard(Heard {
            topic: Text::lossy(topic),
            source: seller.peer(),
            verdict,
            data: Blob(data),
        })
    };
    let event = |change, agent: Option<&str>| {
        let is_known = agent.is_some();
        Body::Peer(PeerEvent {
            peer: seller.peer(),
            change,
            transport: if is_known { Transport::Quic } else { Transport::Unknown },
            path: if is_known { Path::Direct } else { Path::Unknown },
            outbound: is_known.then_some(false),
            agent: agent.map(Text::lossy),
        })
    };
    let sample = Sample {
        peers: 1,
        relayed: 0,
        ads: 1,
        mesh: None,
        round_trip: Some(Millis(41)),
    };
    let ad = seller.ad(BEGAN.after(Millis(1_000)), [0; 32]);
    let deal = deal::vector(seller, buyer, BEGAN.after(Millis(40_000)));
    let mut records = vec![
        (0, "header", Body::Header(header(RECORDING))),
        (100, "connected", event(Change::Connected, None)),
        (180, "described", event(Change::Described, Some("infernet/0.1.0"))),
        (1_060, "ad", heard(&ads, Verdict::Accept, ad.bytes().to_vec())),
        (1_100, "ad again", heard(&ads, Verdict::Ignore, ad.bytes().to_vec())),
        (
            2_000,
            "garbage",
            heard(&jobs, Verdict::Reject, b"not a message".to_vec()),
        ),
        (10_000, "sample", Body::Sample(sample)),
        (20_000, "lost", Body::Lost(Lost { records: 3 })),
    ];
    let times = [40_020, 40_070, 40_120, 43_000];
    let names = ["offer", "bid", "accept", "settled receipt"];
    for ((at, name), gossip) in times.into_iter().zip(names).zip(&deal) {
        records.push((at, name, heard(&jobs, Verdict::Accept, gossip.to_bytes())));
    }
    records.push((60_000, "disconnected", event(Change::Disconnected, None)));
    let record = |(after, name, body)| {
        let at = UnixMillis(BEGAN.0 + after);
        (name, Record { at, body })
    };
    records.into_iter().map(record).collect()
}

fn header(format: &str) -> Header {
    let session = session();
    Header {
        format: Text::lossy(format),
        version: VERSION,
        network: Text::lossy(session.network.as_str()),
        recorder: session.recorder,
        recording: session.recording,
        began_at: BEGAN,
        file: 1,
        agent: Text::lossy(&session.agent),
        sample_every: session.sample_every,
        sync_every: Millis(5_000),
    }
}

/// The same as it is published, under [`KEY`].
#[must_use]
pub fn publication() -> Vec<(&'static str, Record)> {
    let pseudonyms = Pseudonyms::with_key(KEY);
    let hide = |(name, record): (&'static str, Record)| match record.body {
        Body::Header(header) => {
            let hidden = pseudonyms.session(&header, network());
            let header = Header {
                format: Text::lossy(PUBLICATION),
                recorder: hidden.recorder,
                recording: hidden.recording,
                agent: Text::lossy(&hidden.agent),
                ..header
            };
            let body = Body::Header(header);
            Some((name, Record { body, ..record }))
        }
        _ => Some((name, pseudonyms.record(record)?)),
    };
    recording().into_iter().filter_map(hide).collect()
}

/// The vector as JSON.
#[must_use]
pub fn json() -> String {
    let rows = |records: Vec<(&'static str, Record)>| -> Vec<Value> {
        let row = |(name, record): (&str, Record)| {
            let bytes = hex::encode(codec::to_vec(&record));
            json!({ "name": name, "at": record.at.0, "bytes": bytes })
        };
        records.into_iter().map(row).collect()
    };
    let pseudonyms = Pseudonyms::with_key(KEY);
    let shape = Shape {
        providers: 1,
        buyers: 1,
        ..Shape::default()
    };
    let names: Vec<Value> = members(&shape)
        .iter()
        .map(|member| {
            let node = member.identity.node();
            json!({
                "node": node.to_string(),
                "peer": hex::encode(member.peer().as_bytes()),
                "node_pseudonym": pseudonyms.node(&node).to_string(),
                "peer_pseudonym": pseudonyms.peer(&member.peer()).to_string(),
            })
        })
        .collect();
    let all = json!({
        "network": network().as_str(),
        "recording": rows(recording()),
        "publication": { "key": hex::encode(KEY), "names": names, "records": rows(publication()) },
    });
    format!("{all:#}\n")
}
