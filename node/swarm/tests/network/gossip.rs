//! Gossip between three nodes in a row: what the middle one has not accepted does not reach the far end.

use infernet_swarm::{Event, Exchange, MAX_GOSSIP, PublishError, Role, Ticket, Verdict};

use super::harness::{Node, PATIENCE, TOPIC, config, joining, node, soon, start};

/// Near end, middle, far end; the ends are not connected.
async fn row() -> [Node; 3] {
    let mut middle = start(config(Role::Bootstrap));
    let at = middle.addresses().await;
    let (mut near, mut far) = (joining(at.clone()), joining(at));
    near.subscribed(middle.id()).await;
    far.subscribed(middle.id()).await;
    // The middle hears of both in either order.
    for _ in 0..2 {
        middle
            .event(|event| matches!(event, Event::Subscribed { .. }).then_some(()))
            .await;
    }
    [near, middle, far]
}

async fn heard(node: &mut Node) -> (String, Ticket) {
    node.event(|event| match event {
        Event::Gossip {
            topic, data, ticket, ..
        } => {
            assert_eq!(topic, TOPIC);
            Some((String::from_utf8(data.to_vec()).unwrap(), ticket))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_message_goes_on_after_it_is_accepted_and_not_before() {
    let [near, mut middle, mut far] = row().await;
    near.handle.publish(TOPIC, "first".into()).await.unwrap();
    let (first, held) = heard(&mut middle).await;
    assert_eq!(first, "first");
    near.handle.publish(TOPIC, "second".into()).await.unwrap();
    let (second, ticket) = heard(&mut middle).await;
    assert_eq!(second, "second");

    middle.handle.judge(ticket, Verdict::Accept).await.unwrap();
    assert_eq!(heard(&mut far).await.0, "second", "the first is held in the middle");
    middle.handle.judge(held, Verdict::Accept).await.unwrap();
    assert_eq!(heard(&mut far).await.0, "first");
    let counters = middle.handle.counters().await.unwrap();
    assert_eq!((counters.gossip_received, counters.gossip_accepted), (2, 2));
}

#[tokio::test]
async fn what_is_rejected_or_ignored_goes_nowhere() {
    let [near, mut middle, mut far] = row().await;
    for (message, verdict) in [
        ("bad", Verdict::Reject),
        ("stale", Verdict::Ignore),
        ("good", Verdict::Accept),
    ] {
        near.handle.publish(TOPIC, message.into()).await.unwrap();
        let (heard, ticket) = heard(&mut middle).await;
        assert_eq!(heard, message);
        middle.handle.judge(ticket, verdict).await.unwrap();
    }
    assert_eq!(heard(&mut far).await.0, "good");
    let counters = middle.handle.counters().await.unwrap();
    assert_eq!(
        (
            counters.gossip_accepted,
            counters.gossip_rejected,
            counters.gossip_ignored
        ),
        (1, 1, 1)
    );
}

/// Rejects all that `to` hears before a question of `from`, which went the same way and later than all else it said.
async fn reject_until_asked(from: &Node, to: &mut Node) -> usize {
    let ask = from.handle.ask(Exchange::Ad, to.id(), Vec::new(), "?".into(), PATIENCE);
    let handle = to.handle.clone();
    let reject = async {
        let mut rejected = 0;
        loop {
            let event = to.events.recv().await.expect("the event loop runs");
            match event {
                Event::Gossip { ticket, .. } => {
                    rejected += 1;
                    handle.judge(ticket, Verdict::Reject).await.unwrap();
                }
                Event::Asked { reply, .. } => {
                    reply.send("!".into()).await.unwrap();
                    return rejected;
                }
                _ => {}
            }
        }
    };
    let (answer, rejected) = soon(async { tokio::join!(ask, reject) }).await;
    assert_eq!(answer.unwrap(), "!");
    rejected
}

#[tokio::test]
async fn a_flood_of_rejected_messages_silences_its_source_but_nobody_else() {
    let [near, mut middle, far] = row().await;
    let mut rejected = 0;
    for n in 0..20 {
        near.handle.publish(TOPIC, format!("bad {n}").into()).await.unwrap();
        rejected += reject_until_asked(&near, &mut middle).await;
    }
    assert!(
        (9..=10).contains(&rejected),
        "{rejected} were rejected, and the others not even read"
    );
    far.handle.publish(TOPIC, "heard".into()).await.unwrap();
    assert_eq!(heard(&mut middle).await.0, "heard");
}

#[tokio::test]
async fn messages_are_bounded_and_topics_known() {
    let [near, mut middle, _far] = row().await;
    let largest = "x".repeat(MAX_GOSSIP);
    near.handle.publish(TOPIC, largest.clone().into()).await.unwrap();
    assert_eq!(heard(&mut middle).await.0, largest);
    assert_eq!(
        near.handle.publish(TOPIC, largest.into()).await,
        Err(PublishError::Duplicate)
    );
    let over = near.handle.publish(TOPIC, vec![0; MAX_GOSSIP + 1].into()).await;
    assert_eq!(
        over,
        Err(PublishError::TooLarge {
            len: MAX_GOSSIP + 1,
            max: MAX_GOSSIP
        })
    );
    let unknown = near.handle.publish("other", "x".into()).await;
    assert_eq!(
        unknown,
        Err(PublishError::UnknownTopic {
            topic: "other".to_owned()
        })
    );
}

#[tokio::test]
async fn nobody_to_hear_is_an_error_of_its_own() {
    let alone = node();
    let error = soon(alone.handle.publish(TOPIC, "x".into())).await.unwrap_err();
    assert_eq!(
        error,
        PublishError::NoPeers {
            topic: TOPIC.to_owned()
        }
    );
}
