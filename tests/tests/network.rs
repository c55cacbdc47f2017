//! Ring `network`: real nodes in one process.

use infernet_inference::scripted::{Fault, Script};
use infernet_tests::network::{PATIENCE, chat, consumer, provider, whole};

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_bought_and_receipted() {
    in_time(async {
        let hub = consumer(1, &[]).await;
        let at = hub.listening().await.unwrap();
        let one = provider(2, &at, Script::default()).await;
        let two = provider(3, &at, Script::default()).await;
        let buyer = consumer(4, &at).await;
        for _ in 0..3 {
            let (bytes, ended) = whole(buyer.buy(chat("hello"))).await;
            let summary = ended.unwrap();
            assert!(String::from_utf8_lossy(&bytes).contains("[DONE]"));
            assert_eq!(summary.usage.output_tokens, 16);
            assert_eq!(summary.attempts, 1);
        }
        let ran = |peer: &infernet_tests::network::Peer| peer.engine.as_ref().unwrap().counts().completed;
        assert_eq!(ran(&one) + ran(&two), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_before_its_first_token_is_replaced() {
    in_time(async {
        let hub = consumer(11, &[]).await;
        let at = hub.listening().await.unwrap();
        let bad = Script {
            fault: Some(Fault::Break(0)),
            ..Script::default()
        };
        let _bad = provider(12, &at, bad).await;
        let good = provider(13, &at, Script::default()).await;
        let buyer = consumer(14, &at).await;
        for _ in 0..4 {
            let (_, ended) = whole(buyer.buy(chat("hello"))).await;
            ended.unwrap();
        }
        assert_eq!(good.engine.unwrap().counts().completed, 4);
    })
    .await;
}
