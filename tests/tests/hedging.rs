//! Ring `network`: a late first word, a provider that keeps failing, and a conversation that returns.

use infernet_inference::scripted::{Fault, Script};
use infernet_node::Prefixes;
use infernet_node::buyer::Purchase;
use infernet_node::happenings::Happening;
use infernet_node::node::{LeaseTerms, Settings};
use infernet_node::store::Query;
use infernet_tests::network::{PATIENCE, Peer, chat, consumer, provider, settings, start, whole};

/// Requests after which a provider's usual pace is known.
const ENOUGH: usize = 14;

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn started(peer: &Peer) -> u64 {
    peer.engine.as_ref().expect("scripted").counts().started
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_first_word_is_asked_of_another_too_and_the_slower_is_not_paid() {
    in_time(async {
        let hub = consumer(1, &[]).await;
        let at = hub.listening().await.unwrap();
        let two = [
            provider(2, &at, Script::default()).await,
            provider(3, &at, Script::default()).await,
        ];
        let buyer = consumer(4, &at).await;
        buyer.until_served(&chat("x").model, 2).await;
        for _ in 0..ENOUGH {
            whole(buyer.buy(chat("x"))).await.1.unwrap();
        }
        let slow = two.iter().max_by_key(|peer| started(peer)).unwrap();
        let quick = two.iter().min_by_key(|peer| started(peer)).unwrap();
        let before = started(quick);
        let engine = slow.engine.as_ref().unwrap();
        engine.follow(Script {
            first_token_ms: 600_000,
            ..Script::default()
        });
        let mut happenings = buyer.happenings();
        let (bytes, ended) = whole(buyer.buy(chat("x"))).await;
        let summary = ended.unwrap();
        assert!(bytes.ends_with(b"data: [DONE]\n\n"));
        assert_eq!((summary.chosen.provider, summary.attempts), (quick.node.id(), 2));
        assert_eq!(started(quick), before + 1);
        let hedged = std::iter::from_fn(|| happenings.try_recv().ok()).any(|happening| {
            matches!(happening, Happening::Hedged { provider, also }
                if provider == slow.node.id() && also == quick.node.id())
        });
        assert!(hedged);
        engine.observe().wait_for(|counts| counts.running == 0).await.unwrap();

        // The slower one's receipt says that it delivered nothing, and costs nothing.
        let receipt = loop {
            let rows = buyer.store().rows(Query::default()).await.unwrap();
            if rows.len() == ENOUGH + 2 {
                break rows.into_iter().find(|row| row.output_tokens == 0).unwrap();
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((receipt.peer, receipt.amount.0), (slow.node.id(), 0));

        let alone = Purchase {
            may_hedge: false,
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(1),
            only: vec![slow.node.id()],
            ..chat("x")
        };
        whole(buyer.buy(alone)).await.1.unwrap_err();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_failing_is_left_alone_unless_nobody_else_is_there() {
    in_time(async {
        let hub = consumer(11, &[]).await;
        let at = hub.listening().await.unwrap();
        let broken = Script {
            fault: Some(Fault::Break(0)),
            ..Script::default()
        };
        let bad = provider(12, &at, broken).await;
        let good = provider(13, &at, Script::default()).await;
        let buyer = consumer(14, &at).await;
        buyer.until_served(&chat("x").model, 2).await;
        for _ in 0..12 {
            buyer.drop_leases();
            whole(buyer.buy(chat("x"))).await.1.unwrap();
        }
        assert!(started(&bad) <= 3, "it was asked {} times", started(&bad));
        let only = Purchase {
            only: vec![bad.node.id()],
            ..chat("x")
        };
        for _ in 0..4 {
            whole(buyer.buy(only.clone())).await.1.unwrap_err();
        }
        assert!(
            started(&bad) >= 4,
            "where nobody else may answer it is asked all the same"
        );
        assert!(started(&good) >= 12);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_returns_to_the_provider_that_has_read_it() {
    in_time(async {
        let hub = consumer(21, &[]).await;
        let at = hub.listening().await.unwrap();
        let hanging = Script {
            slots: Some(1),
            token_ms: 600_000,
            ..Script::default()
        };
        let two = [provider(22, &at, hanging.clone()).await, provider(23, &at, hanging).await];
        let buyer = consumer(24, &at).await;
        buyer.until_served(&chat("x").model, 2).await;
        // The first conversation holds one provider, so that the second one begins with the other.
        let held = buyer.buy(chat("first"));
        let (_, first) = held.head.await.unwrap().unwrap();
        for peer in &two {
            let script = Script {
                slots: (peer.node.id() == first.provider).then_some(1),
                ..Script::default()
            };
            peer.engine.as_ref().unwrap().follow(script);
        }
        let second = whole(buyer.buy(chat("second"))).await.1.unwrap().chosen.provider;
        assert_ne!(second, first.provider);
        drop(held.said);
        let engine = two.iter().find(|peer| peer.node.id() == first.provider).unwrap();
        let mut counts = engine.engine.as_ref().unwrap().observe();
        counts.wait_for(|counts| counts.running == 0).await.unwrap();
        let turns = |prompt: &str| {
            let body = format!(
                r#"{{"model":"scripted","stream":true,"messages":[{{"role":"user","content":"{prompt}"}},{{"role":"assistant","content":"a"}},{{"role":"user","content":"more"}}]}}"#
            );
            let plain = chat(prompt);
            Purchase {
                prefixes: Prefixes::of("scripted", body.as_bytes()),
                body: body.into(),
                ..plain
            }
        };
        for _ in 0..4 {
            assert_eq!(whole(buyer.buy(turns("second"))).await.1.unwrap().chosen.provider, second);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_in_use_is_renewed_before_it_ends() {
    in_time(async {
        let hub = consumer(31, &[]).await;
        let at = hub.listening().await.unwrap();
        let _one = provider(32, &at, Script::default()).await;
        let terms = LeaseTerms {
            requests: 20,
            ..LeaseTerms::default()
        };
        let buyer = start(Settings {
            lease: terms,
            ..settings(33, &at)
        })
        .await;
        let mut happenings = buyer.happenings();
        let mut leases = std::collections::BTreeSet::new();
        for _ in 0..terms.requests - 1 {
            leases.insert(whole(buyer.buy(chat("x"))).await.1.unwrap().chosen.lease);
        }
        assert_eq!(leases.len(), 1);
        let renewed = loop {
            if let Happening::Accepted { lease, .. } = happenings.recv().await.unwrap()
                && !leases.contains(&lease)
            {
                break lease;
            }
        };
        for _ in 0..3 {
            leases.insert(whole(buyer.buy(chat("x"))).await.1.unwrap().chosen.lease);
        }
        assert!(
            leases.contains(&renewed) && leases.len() == 2,
            "no request had to wait for an auction"
        );
    })
    .await;
}
