//! Direct streams: what they carry, and what they keep out.

use std::time::Duration;

use infernet_swarm::{Event, FrameError, MAX_FRAME, OpenError, Role};

use super::harness::{config, node, pair, soon, start};

/// Longer than any write takes whose bytes find room; a write that takes longer is held back by the reader.
const HELD_BACK: Duration = Duration::from_millis(500);

#[tokio::test]
async fn frames_of_all_sizes_come_back_in_order_on_one_stream_over_tcp_and_quic() {
    for transport in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let mut there = config(Role::Node);
        there.listen = vec![transport.parse().unwrap()];
        let (one, there) = (node(), start(there));
        let stream = soon(one.handle.open(there.id(), there.addresses().await))
            .await
            .unwrap();
        assert!(!stream.relayed && !stream.inbound);
        assert_eq!(stream.peer, there.id());
        let _echo = there.echo();
        let (mut reader, mut writer) = stream.split();
        let frame = |n: usize| {
            vec![u8::try_from(n % 251).unwrap(); if n.is_multiple_of(500) { MAX_FRAME } else { n * 7 % 3000 }]
        };
        let write = async {
            for n in 0..2000 {
                writer.send_paced(frame(n)).await.unwrap();
            }
            writer.flush().await.unwrap();
        };
        let read = async {
            for n in 0..2000 {
                assert_eq!(reader.next().await.unwrap().unwrap(), frame(n), "frame {n}");
            }
        };
        soon(async { tokio::join!(write, read) }).await;
        writer.close().await.unwrap();
        assert!(
            soon(reader.next()).await.unwrap().is_none(),
            "the end is between two frames"
        );
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_writer_back() {
    let (one, mut other) = pair().await;
    let stream = soon(one.handle.open(other.id(), Vec::new())).await.unwrap();
    let (_reader, mut writer) = stream.split();
    writer.send("first").await.unwrap();
    let (_, mut theirs, _their_writer) = other.inbound().await;

    let mut sent = 0;
    while tokio::time::timeout(HELD_BACK, writer.send(vec![0; MAX_FRAME]))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 64, "64 MiB went to a reader that reads nothing");
    }
    // The other streams of the connection do not suffer.
    let second = soon(one.handle.open(other.id(), Vec::new())).await.unwrap();
    let (_second_reader, mut second) = second.split();
    second.send("second").await.unwrap();
    let (_, mut reader, _second_writer) = other.inbound().await;
    assert_eq!(soon(reader.next()).await.unwrap().unwrap(), "second");

    // The frame whose sending was given up is still whole on the wire.
    let read = async {
        assert_eq!(theirs.next().await.unwrap().unwrap(), "first");
        for _ in 0..=sent {
            assert_eq!(theirs.next().await.unwrap().unwrap().len(), MAX_FRAME);
        }
        assert_eq!(theirs.next().await.unwrap().unwrap(), "last");
    };
    let write = async { writer.send("last").await.unwrap() };
    soon(async { tokio::join!(read, write) }).await;
}

#[tokio::test]
async fn streams_beyond_the_queue_are_answered_and_not_dropped() {
    let mut there = config(Role::Node);
    there.limits.accept_queue = 2;
    let (one, mut there) = (node(), start(there));
    let at = there.addresses().await;
    let mut waiting = Vec::new();
    for n in 0..5 {
        let (mut reader, mut writer) = soon(one.handle.open(there.id(), at.clone())).await.unwrap().split();
        writer.send(format!("{n}")).await.unwrap();
        if n < 2 {
            // Taken into the queue, or else the next ones would not be refused.
            soon(async {
                while there.handle.counters().await.unwrap().streams_accepted <= n {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            waiting.push((reader, writer));
        } else {
            assert_eq!(soon(reader.next()).await.unwrap().unwrap(), "full");
            assert!(soon(reader.next()).await.unwrap().is_none());
        }
    }
    for n in 0..2 {
        let (peer, mut reader, _writer) = there.inbound().await;
        assert_eq!(peer, one.id());
        assert_eq!(soon(reader.next()).await.unwrap().unwrap(), format!("{n}"));
    }
    let counters = there.handle.counters().await.unwrap();
    assert_eq!(
        (
            counters.streams_accepted,
            counters.streams_refused,
            counters.streams_dropped
        ),
        (2, 3, 0)
    );
}

#[tokio::test]
async fn a_peer_that_opens_a_thousand_streams_is_bounded_answered_and_disconnected() {
    let mut there = config(Role::Node);
    there.limits.streams_per_peer = 8;
    let (mut hostile, honest, mut there) = (node(), node(), start(there));
    let at = there.addresses().await;
    soon(hostile.handle.dial(there.id(), at.clone())).await.unwrap();
    hostile.connected(there.id()).await;

    let (mut kept, mut answered, mut broken) = (Vec::new(), 0, 0);
    for n in 0..1000 {
        let Ok(stream) = soon(hostile.handle.open(there.id(), Vec::new())).await else {
            broken += 1;
            continue;
        };
        let (mut reader, mut writer) = stream.split();
        if writer.send("start").await.is_err() {
            broken += 1;
        } else if n < 8 {
            // Held open by its taker, so that it keeps its place.
            kept.push((there.inbound().await, reader, writer));
        } else {
            match soon(reader.next()).await {
                Ok(Some(refusal)) => {
                    assert_eq!(refusal, "full");
                    answered += 1;
                }
                _ => broken += 1,
            }
        }
        if broken > 0 {
            break;
        }
    }
    assert_eq!(kept.len(), 8);
    assert!(
        answered >= 256,
        "an honest peer would have had {answered} answers to think about"
    );
    assert_eq!(broken, 1, "it was disconnected");
    hostile.disconnected(there.id()).await;
    let counters = there.handle.counters().await.unwrap();
    assert_eq!((counters.streams_accepted, counters.hostile_peers), (8, 1));

    let (mut reader, mut writer) = soon(honest.handle.open(there.id(), at)).await.unwrap().split();
    writer.send("hello").await.unwrap();
    let (peer, mut theirs, mut their_writer) = there
        .event(|event| match event {
            Event::Inbound(stream) if stream.peer == honest.id() => {
                let peer = stream.peer;
                let (reader, writer) = stream.split();
                Some((peer, reader, writer))
            }
            _ => None,
        })
        .await;
    assert_eq!(peer, honest.id());
    assert_eq!(soon(theirs.next()).await.unwrap().unwrap(), "hello");
    their_writer.send("welcome").await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().unwrap(), "welcome");
}

#[tokio::test]
async fn a_place_is_given_back_when_both_halves_are_gone() {
    let mut there = config(Role::Node);
    there.limits.streams_per_peer = 1;
    let (one, mut there) = (node(), start(there));
    let at = there.addresses().await;
    for n in 0..20 {
        let (mut reader, mut writer) = soon(one.handle.open(there.id(), at.clone())).await.unwrap().split();
        writer.send(format!("{n}")).await.unwrap();
        let (_, mut theirs, mut their_writer) = there.inbound().await;
        assert_eq!(soon(theirs.next()).await.unwrap().unwrap(), format!("{n}"));
        their_writer.send("done").await.unwrap();
        drop((theirs, their_writer));
        assert_eq!(soon(reader.next()).await.unwrap().unwrap(), "done");
        assert!(!matches!(soon(reader.next()).await, Ok(Some(_))));
    }
    assert_eq!(there.handle.counters().await.unwrap().streams_refused, 0);
}

#[tokio::test]
async fn a_stream_survives_what_happens_around_it() {
    let (one, there) = (node(), node());
    let at = there.addresses().await;
    let (mut reader, mut writer) = soon(one.handle.open(there.id(), at.clone())).await.unwrap().split();
    let (peer, _echo) = (there.id(), there.echo());
    for n in 0..5 {
        let mut passing = node();
        soon(passing.handle.dial(peer, at.clone())).await.unwrap();
        soon(passing.handle.dial(one.id(), one.addresses().await))
            .await
            .unwrap();
        let (mut r, mut w) = soon(passing.handle.open(peer, Vec::new())).await.unwrap().split();
        w.send("passing").await.unwrap();
        assert_eq!(soon(r.next()).await.unwrap().unwrap(), "passing");
        passing.cancel.cancel();
        soon(passing.task.join_next()).await;
        writer.send(format!("{n}")).await.unwrap();
        assert_eq!(soon(reader.next()).await.unwrap().unwrap(), format!("{n}"));
    }
}

#[tokio::test]
async fn sixty_opens_at_once_share_one_dial_and_all_succeed() {
    let (one, there) = (node(), node());
    let (peer, at) = (there.id(), there.addresses().await);
    let _echo = there.echo();
    let requests = (0..60).map(|n| {
        let (handle, at) = (one.handle.clone(), at.clone());
        async move {
            let (mut reader, mut writer) = handle.open(peer, at).await.unwrap().split();
            writer.send(format!("{n}")).await.unwrap();
            assert_eq!(reader.next().await.unwrap().unwrap(), format!("{n}"));
        }
    });
    soon(futures::future::join_all(requests)).await;
    let connections = one.handle.peers().await.unwrap().remove(0).connections.len();
    assert_eq!(connections, 1, "one dial serves them all");
}

#[tokio::test]
async fn a_peer_without_the_protocol_shows_at_the_first_read_and_a_missing_one_at_once() {
    let (one, bootstrap) = (node(), start(config(Role::Bootstrap)));
    let at = bootstrap.addresses().await;
    let (mut reader, mut writer) = soon(one.handle.open(bootstrap.id(), at)).await.unwrap().split();
    writer.send("hello").await.unwrap();
    assert!(matches!(soon(reader.next()).await, Err(FrameError::Unsupported)));
    assert!(
        writer.send("again").await.is_err(),
        "a failed stream is an error, not a panic"
    );
    assert!(matches!(
        bootstrap.handle.open(one.id(), Vec::new()).await,
        Err(OpenError::NotInThisRole)
    ));

    let nobody = infernet_swarm::PeerId::random();
    let nowhere = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    assert!(matches!(
        soon(one.handle.open(nobody, nowhere)).await,
        Err(OpenError::Unreachable { .. })
    ));
    assert!(matches!(
        soon(one.handle.open(nobody, Vec::new())).await,
        Err(OpenError::Unreachable { .. })
    ));
}
