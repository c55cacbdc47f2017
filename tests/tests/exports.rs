//! A deal that real nodes made, exported by both sides and checked by a stranger: it holds, both files are the same,
//! and no byte of it can be changed.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::sync::Arc;

use infernet_inference::scripted::Script;
use infernet_node::happenings::Happening;
use infernet_node::node::Node;
use infernet_protocol::receipt::chain;
use infernet_protocol::{Digest, LeaseId, Network};
use infernet_tests::network::{PATIENCE, chat, consumer, provider, whole};

async fn export(node: &Arc<Node>, lease: LeaseId) -> Vec<u8> {
    let deals = node.store().deals(lease.job).await.unwrap();
    let deal = deals.iter().find(|deal| deal.lease() == lease).unwrap();
    deal.export(&Network::new("test").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_deal_holds_and_nothing_of_it_can_be_changed() {
    let deal = async {
        let hub = consumer(21, &[]).await;
        let at = hub.listening().await.unwrap();
        let worker = provider(22, &at, Script::default()).await.node;
        let buyer = consumer(23, &at).await;
        let mut happenings = worker.happenings();
        let mut lease = None;
        for _ in 0..2 {
            let summary = whole(buyer.buy(chat("a secret prompt"))).await.1.unwrap();
            lease = Some(summary.chosen.lease);
            // The buyer is done before the worker has filed the countersignature.
            loop {
                if let Happening::Settled { receipt, .. } = happenings.recv().await.unwrap()
                    && receipt.hash() == summary.receipt
                {
                    break;
                }
            }
        }
        let lease = lease.unwrap();
        (
            buyer.id(),
            worker.id(),
            export(&buyer, lease).await,
            export(&worker, lease).await,
        )
    };
    let (buyer, worker, bought, sold) = tokio::time::timeout(PATIENCE, deal).await.expect("in time");
    assert_eq!(bought, sold, "both sides tell the same");

    let checked = chain::check(&bought).unwrap();
    assert_eq!((checked.accept.signer(), checked.accept.winner), (buyer, worker));
    assert_eq!(checked.ledger.settled(), 2);
    assert_eq!(checked.settled_total().output_tokens, 32);
    let canary = b"a secret prompt";
    assert!(
        !bought.windows(canary.len()).any(|window| window == canary),
        "a file holds no prompt"
    );

    for place in 0..bought.len() {
        let mut other = bought.clone();
        other[place] ^= 1 << (place % 8);
        assert!(chain::check(&other).is_err(), "byte {place}");
        if place < bought.len() - 32 {
            // A forger makes the checksum anew, and is caught by the signatures.
            let end = other.len() - 32;
            other[end..].fill(0);
            let sum = Digest::of(&[&other]);
            other[end..].copy_from_slice(&sum.0);
            assert!(chain::check(&other).is_err(), "byte {place} with a new checksum");
        }
    }
}
