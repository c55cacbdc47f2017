//! Ring `network`: connections that break in the middle of an answer, which goes on on the next one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use infernet_inference::scripted::{Reply, Script};
use infernet_node::buyer::consumer::Said;
use infernet_node::buyer::{BuyError, Purchase};
use infernet_node::node::Node;
use infernet_node::store::{Query, ReceiptRow, RowStatus};
use infernet_protocol::receipt::Status;
use infernet_protocol::stream::frames::{BuyerFrame, Resume, WorkerFrame};
use infernet_tests::hostile::{Buyer, Raw, start};
use infernet_tests::network::{PATIENCE, Peer, chat, consumer, provider};

/// Words of an answer, and milliseconds between them: it takes a second.
const WORDS: u32 = 500;
const TOKEN_MS: u64 = 2;

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(2 * PATIENCE, future).await.expect("in time")
}

fn steady() -> Script {
    Script {
        reply: Reply::Words(WORDS),
        token_ms: TOKEN_MS,
        ..Script::default()
    }
}

struct Place {
    _hub: Arc<Node>,
    provider: Peer,
    buyer: Arc<Node>,
}

impl Place {
    async fn new(first: u8, script: Script) -> Self {
        let hub = consumer(first, &[]).await;
        let at = hub.listening().await.unwrap();
        let provider = provider(first + 1, &at, script).await;
        let buyer = consumer(first + 2, &at).await;
        Self {
            _hub: hub,
            provider,
            buyer,
        }
    }

    /// Buys, and cuts the connection whenever so many more pieces have come; gives the text, how it ended, and how
    /// often it was cut.
    async fn buy(&self, purchase: Purchase, every: usize, cuts: usize) -> (String, Result<u32, BuyError>, usize) {
        let mut answer = self.buyer.buy(purchase);
        let (mut text, mut pieces, mut cut) = (Vec::new(), 0, 0);
        loop {
            match answer.said.recv().await.expect("an answer has an end") {
                Said::Data(bytes) => text.extend_from_slice(&bytes),
                Said::Over(ended) => {
                    let attempts = ended.map(|summary| summary.attempts);
                    return (String::from_utf8(text).unwrap(), attempts, cut);
                }
            }
            pieces += 1;
            if pieces % every == 0 && cut < cuts {
                cut += 1;
                self.provider.node.hang_up(&self.buyer.id()).await;
            }
        }
    }

    /// Both books, once they say the same.
    async fn rows(&self) -> Vec<ReceiptRow> {
        loop {
            let bought = self.buyer.store().rows(Query::default()).await.unwrap();
            let sold = self.provider.node.store().rows(Query::default()).await.unwrap();
            let hashes = |rows: &[ReceiptRow]| rows.iter().map(|row| row.hash).collect::<Vec<_>>();
            if hashes(&bought) == hashes(&sold) && bought.iter().all(|row| row.countersigned == Some(None)) {
                return bought;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_on_where_it_was_on_the_next_connection() {
    in_time(async {
        let place = Place::new(151, steady()).await;
        let (whole, ended, _) = place.buy(chat("hello"), usize::MAX, 0).await;
        ended.unwrap();
        let (text, ended, cuts) = place.buy(chat("hello"), 20, 5).await;
        assert_eq!((ended.unwrap(), cuts), (1, 5), "one provider, one request");
        assert_eq!(said(&text), said(&whole), "every word once, in order");
        assert!(
            text.ends_with("data: [DONE]\n\n") && !text.contains(": infernet"),
            "nobody else went on"
        );
        let counts = place.provider.engine.as_ref().unwrap().counts();
        assert_eq!(
            (counts.started, counts.completed, counts.cancelled),
            (2, 2, 0),
            "the engine went on"
        );
        let rows = place.rows().await;
        assert_eq!(rows.len(), 2);
        for row in rows {
            assert_eq!(
                (row.status, row.output_tokens),
                (RowStatus::Receipted(Status::Completed), WORDS)
            );
        }
    })
    .await;
}

/// A buyer is gone in the middle of its answer, and the engine goes on to its end: then the slot is free for others, and
/// the answer is there as long as its buyer may come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_done_has_a_slot_free_while_its_buyer_is_away() {
    in_time(async {
        let hub = consumer(161, &[]).await;
        let at = hub.listening().await.unwrap();
        let script = Script {
            reply: Reply::Words(20),
            token_ms: 20,
            ..Script::default()
        };
        let provider = provider(162, &at, script).await;
        let buyer = Raw::start(163, &at, Buyer).await;
        let papers = buyer.papers(&provider.node).await;
        let (request, frames) = buyer.request();

        let mut line = buyer.open(&provider.node).await;
        line.say(&[&[start(&papers)], &frames[..]].concat()).await;
        while !matches!(line.hear().await, Some(WorkerFrame::Data(_))) {}
        assert_eq!(provider.node.load().running, 1);
        drop(line);
        while provider.node.load().running > 0 {
            tokio::task::yield_now().await;
        }
        let counts = provider.engine.as_ref().unwrap().counts();
        assert_eq!((counts.completed, counts.cancelled), (1, 0), "the engine went on");

        let resume = Resume {
            request: request.request,
            next: 0,
        };
        let mut line = buyer.open(&provider.node).await;
        line.say(&[start(&papers), BuyerFrame::from(resume).to_bytes()]).await;
        let frames = line.rest().await;
        let data = |frame: &&WorkerFrame| matches!(frame, WorkerFrame::Data(_));
        assert!(frames.iter().filter(data).count() > 1, "{frames:?}");
        assert!(
            matches!(frames.last(), Some(WorkerFrame::Receipt(_))),
            "whole, and receipted: {frames:?}"
        );
    })
    .await;
}

/// What an answer says, whatever ids its chunks bear.
fn said(text: &str) -> String {
    let content = |event: &str| {
        let chunk: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
        Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
    };
    text.split("\n\n").filter_map(content).collect()
}
