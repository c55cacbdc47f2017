//! Ring `network`: what a consumer may spend holds, and holds across a restart.

use std::sync::Arc;

use infernet_inference::scripted::{Script, ScriptedBackend};
use infernet_node::buyer::consumer::Summary;
use infernet_node::buyer::{BuyError, Failure, Purchase};
use infernet_node::home::Home;
use infernet_node::node::{Node, Settings};
use infernet_node::runtime::Tasks;
use infernet_node::spending::{Caller, CallerId, Limits, Scope};
use infernet_node::store::Store;
use infernet_protocol::auction::{Payee, Payer};
use infernet_protocol::codec::Text;
use infernet_protocol::{MicroUsd, Price};
use infernet_swarm::Multiaddr;
use infernet_tests::network::{PATIENCE, chat, consumer, selling, settings, start, whole};

/// Ten micro-USD per request, whatever it says.
const PRICE: Price = Price {
    input: MicroUsd(0),
    output: MicroUsd(0),
    request: MicroUsd(10),
};

/// Nothing moves on it here: receipts say what is owed, and paying is another's task.
const RAIL: &str = "test/rail";

async fn seller(number: u8, at: &[Multiaddr]) -> Arc<Node> {
    let mut offered = selling(Arc::new(ScriptedBackend::new(Script::default())));
    offered.price = PRICE;
    offered.payees = vec![Payee {
        rail: Text::lossy(RAIL),
        address: Text::lossy("seller"),
    }];
    start(Settings {
        selling: Some(offered),
        ..settings(number, at)
    })
    .await
}

async fn begin(home: &Home, settings: Settings) -> Arc<Node> {
    let (store, recovered) = Store::open(&home.lock().expect("a home of our own"), &settings.network).expect("a store");
    Node::start(settings, store, recovered, Tasks::new())
        .await
        .expect("a node")
}

fn purchase(caller: Option<Caller>) -> Purchase {
    Purchase {
        price_cap: PRICE,
        caller,
        ..chat("hello")
    }
}

fn scope(ended: Result<Summary, BuyError>) -> Option<Scope> {
    match ended {
        Ok(_) => None,
        Err(BuyError::Failed(Failure::OverBudget(over))) => Some(over.scope),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_and_outlive_the_process() {
    let spending = async {
        let hub = consumer(71, &[]).await;
        let at = hub.listening().await.unwrap();
        let _seller = seller(72, &at).await;
        let home = Home::temporary().unwrap();
        let budget = Limits {
            request: Some(MicroUsd(10)),
            hour: Some(MicroUsd(40)),
            day: None,
        };
        let as_set = || Settings {
            budget,
            wallets: vec![Payer {
                rail: Text::lossy(RAIL),
                wallet: Text::lossy("buyer"),
            }],
            ..settings(73, &at)
        };
        let key = Caller {
            id: CallerId([7; 16]),
            day: Some(MicroUsd(20)),
        };

        let buyer = begin(&home, as_set()).await;
        for _ in 0..2 {
            assert_eq!(scope(whole(buyer.buy(purchase(Some(key)))).await.1), None);
        }
        assert_eq!(scope(whole(buyer.buy(purchase(Some(key)))).await.1), Some(Scope::Key));
        assert_eq!(
            scope(whole(buyer.buy(purchase(None))).await.1),
            None,
            "without the key there is more"
        );
        assert_eq!(buyer.spent(), (MicroUsd(30), MicroUsd(30)));
        buyer.stop().await;
        drop(buyer);

        let buyer = begin(&home, as_set()).await;
        assert_eq!(buyer.spent(), (MicroUsd(30), MicroUsd(30)), "a restart forgets nothing");
        assert_eq!(scope(whole(buyer.buy(purchase(Some(key)))).await.1), Some(Scope::Key));
        assert_eq!(scope(whole(buyer.buy(purchase(None))).await.1), None);
        assert_eq!(scope(whole(buyer.buy(purchase(None))).await.1), Some(Scope::Hour));
        buyer.stop().await;
    };
    tokio::time::timeout(PATIENCE, spending).await.expect("in time");
}
