//! The two exchanges: one question, one answer.

use std::time::Duration;

use bytes::Bytes;
use infernet_swarm::{AskError, Event, Exchange, PeerId, Reply};

use super::harness::{Node, PATIENCE, node, soon};

async fn asked(node: &mut Node) -> (Exchange, PeerId, Bytes, Reply) {
    node.event(|event| match event {
        Event::Asked {
            exchange,
            peer,
            data,
            reply,
        } => Some((exchange, peer, data, reply)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn both_exchanges_carry_a_question_and_its_answer_and_connect_first() {
    let (one, mut other) = (node(), node());
    let at = other.addresses().await;
    for exchange in [Exchange::Ad, Exchange::Offer] {
        let request = Bytes::from(vec![1; exchange.max_request()]);
        let answer = Bytes::from(vec![2; exchange.max_answer()]);
        let ask = one
            .handle
            .ask(exchange, other.id(), at.clone(), request.clone(), PATIENCE);
        let reply = async {
            let (through, peer, data, reply) = asked(&mut other).await;
            assert_eq!((through, peer), (exchange, one.id()));
            assert_eq!(data, request);
            reply.send(answer.clone()).await.unwrap();
        };
        let (got, ()) = soon(async { tokio::join!(ask, reply) }).await;
        assert_eq!(got.unwrap(), answer);
    }
    assert_eq!(other.handle.counters().await.unwrap().asks_answered, 2);
}

#[tokio::test]
async fn what_is_too_long_is_not_sent() {
    let (one, mut other) = (node(), node());
    let at = other.addresses().await;
    let max = Exchange::Offer.max_request();
    let long = Bytes::from(vec![0; max + 1]);
    let error = one
        .handle
        .ask(Exchange::Offer, other.id(), at.clone(), long, PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error, AskError::TooLarge { len: max + 1, max });

    let ask = one
        .handle
        .ask(Exchange::Offer, other.id(), at, "short".into(), PATIENCE);
    let reply = async {
        let (_, _, data, reply) = asked(&mut other).await;
        assert_eq!(data, "short", "the long one never arrived");
        reply
            .send(vec![0; Exchange::Offer.max_answer() + 1].into())
            .await
            .unwrap();
    };
    let (got, ()) = soon(async { tokio::join!(ask, reply) }).await;
    assert!(matches!(got, Err(AskError::Declined { .. })), "{got:?}");
}

#[tokio::test]
async fn no_answer_is_an_error_at_once_or_at_the_time_limit() {
    let (one, mut other) = (node(), node());
    let at = other.addresses().await;
    let ask = one.handle.ask(Exchange::Ad, other.id(), at, "?".into(), PATIENCE);
    let (got, ()) = soon(async { tokio::join!(ask, async { drop(asked(&mut other).await) }) }).await;
    assert!(matches!(got, Err(AskError::Declined { .. })), "{got:?}");

    let after = Duration::from_millis(50);
    let ask = one.handle.ask(Exchange::Ad, other.id(), Vec::new(), "?".into(), after);
    let (got, held) = soon(async { tokio::join!(ask, asked(&mut other)) }).await;
    assert_eq!(got, Err(AskError::Timeout { after }));
    drop(held);

    let nobody = PeerId::random();
    let got = soon(one.handle.ask(Exchange::Ad, nobody, Vec::new(), "?".into(), PATIENCE)).await;
    assert_eq!(got, Err(AskError::Unreachable));
}
