//! The store's contract, on disk and in memory, and what happens to it when processes, disks and files fail.

mod damage;
mod deal;
mod disks;

use infernet_protocol::UnixMillis;
use infernet_protocol::receipt::Status;

use super::*;
use crate::home::Home;
use deal::Party;

fn network() -> Network {
    Network::default()
}

fn open(home: &Home) -> (Store, Recovered) {
    Store::open(&home.lock().unwrap(), &network()).unwrap()
}

/// Appends, reads and syncs as a node does; the same on every kind of store.
async fn contract(store: &Store, side: Side) {
    let mut party = Party::new(side, 3);
    for record in party.whole_story() {
        store.append(record).unwrap();
    }
    store.sync().await.unwrap();
    let rows = store.rows(Query::default()).await.unwrap();
    let requests: Vec<_> = rows.iter().map(|row| row.request).collect();
    let mut expected = party.receipted.clone();
    expected.extend(party.lost);
    expected.reverse();
    assert_eq!(requests, expected, "the latest first");
    let row = rows.iter().find(|row| row.request == party.receipted[0]).unwrap();
    assert_eq!(
        (row.side, row.model.as_str(), row.status.as_str()),
        (side, "demo", "completed")
    );
    assert_eq!((row.input_tokens, row.output_tokens, row.amount.0), (10, 20, 7));
    assert_eq!(row.countersigned, Some(None));
    assert_eq!(
        row.peer,
        if side == Side::Buyer {
            party.worker.node()
        } else {
            party.buyer.node()
        }
    );
    assert!(row.hash.is_some() && row.to_json()["countersigned"] == true);

    let one = Query {
        limit: 1,
        ..Query::default()
    };
    assert_eq!(store.rows(one).await.unwrap().len(), 1);
    let mine = Query {
        side: Some(side),
        ..Query::of_job(&party.lease().job)
    };
    assert_eq!(store.rows(mine).await.unwrap().len(), rows.len());
    let other = Query {
        side: Some(if side == Side::Buyer {
            Side::Provider
        } else {
            Side::Buyer
        }),
        ..Query::default()
    };
    assert_eq!(store.rows(other).await.unwrap(), []);
    let by_request = Query {
        id: Some(party.receipted[1].to_string()[..10].to_owned()),
        ..Query::default()
    };
    assert_eq!(store.rows(by_request).await.unwrap().len(), 1);
    assert_eq!(
        store
            .rows(Query {
                id: Some("zz".to_owned()),
                ..Query::default()
            })
            .await
            .unwrap(),
        []
    );

    let deals = store.deals(party.lease().job).await.unwrap();
    assert_eq!(deals.len(), 1);
    assert_eq!(deals[0].ledger.entries(), party.ledger.entries());
    let checked = infernet_protocol::receipt::chain::check(&deals[0].export(&network())).unwrap();
    assert_eq!(checked.ledger.entries(), party.ledger.entries());
    assert!(store.deals(infernet_protocol::JobId([9; 16])).await.unwrap().is_empty());

    let leases = store.open_leases().await.unwrap();
    assert_eq!(leases.len(), 1);
    party.check(&leases[0]);
    store.append(Record::Reputation(vec![1, 2, 3])).unwrap();
    store.keep(Record::AdSequence(7)).await.unwrap();
    let large = Record::Reputation(vec![0; record::SNAPSHOT_BYTES + 1]);
    assert!(matches!(store.append(large), Err(StoreError::TooLarge)));
}

#[tokio::test]
async fn every_store_keeps_the_contract() {
    for side in [Side::Buyer, Side::Provider] {
        contract(&Store::in_memory(&network()), side).await;
        let home = Home::temporary().unwrap();
        contract(&open(&home).0, side).await;
    }
}

#[tokio::test]
async fn a_start_finds_what_was_open() {
    let home = Home::temporary().unwrap();
    let mut party = Party::new(Side::Buyer, 3);
    {
        let (store, fresh) = open(&home);
        assert!(fresh.leases.is_empty() && fresh.repairs.is_empty());
        assert_eq!((fresh.ad_sequence, fresh.reputation, fresh.peers.len()), (0, None, 0));
        for record in party.whole_story() {
            store.append(record).unwrap();
        }
        store.append(Record::AdSequence(41)).unwrap();
        store.append(Record::Reputation(b"good".to_vec())).unwrap();
        let many = (0..2 * PEERS_KEPT).map(|n| format!("/ip4/127.0.0.1/tcp/{n}")).collect();
        store.keep(Record::Peers(many)).await.unwrap();
    }
    for _ in 0..2 {
        let (_, found) = open(&home);
        assert_eq!(found.repairs, []);
        assert_eq!((found.ad_sequence, found.reputation), (41, Some(b"good".to_vec())));
        assert_eq!(found.peers.len(), PEERS_KEPT);
        assert_eq!(found.peers[0], "/ip4/127.0.0.1/tcp/0");
        assert_eq!(found.leases.len(), 1);
        party.check(&found.leases[0]);
    }
    // The same from the journal alone.
    std::fs::remove_dir_all(home.path().join("data/index")).unwrap();
    let (store, found) = open(&home);
    assert!(
        matches!(&found.repairs[..], [Repair::IndexRebuilt { kept: None, .. }]),
        "{:?}",
        found.repairs
    );
    party.check(&found.leases[0]);
    assert_eq!(store.rows(Query::default()).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_over_and_settled_is_found_no_more_and_stays_in_the_ledger() {
    let home = Home::temporary().unwrap();
    let old = UnixMillis(clock::wall().0 - 24 * 3600 * 1000);
    let mut settled = Party::new(Side::Provider, 1).at(old);
    let mut waiting = Party::new(Side::Provider, 2).at(old);
    {
        let (store, _) = open(&home);
        store.append(settled.opened()).unwrap();
        for record in settled.request(0, Some(None)) {
            store.append(record).unwrap();
        }
        store.append(waiting.opened()).unwrap();
        for record in waiting.request(0, None) {
            store.append(record).unwrap();
        }
        store.sync().await.unwrap();
    }
    let (store, found) = open(&home);
    let leases: Vec<_> = found.leases.iter().map(|lease| lease.deal.lease()).collect();
    assert_eq!(
        leases,
        [waiting.lease()],
        "a receipt without a countersignature keeps its lease open"
    );
    assert_eq!(store.rows(Query::default()).await.unwrap().len(), 2);
    assert_eq!(store.deals(settled.lease().job).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_late_receipt_takes_the_place_of_what_was_unreceipted() {
    let mut party = Party::new(Side::Buyer, 1);
    let store = Store::in_memory(&network());
    store.append(party.opened()).unwrap();
    for record in party.lose(0) {
        store.append(record).unwrap();
    }
    let rows = store.rows(Query::default()).await.unwrap();
    assert_eq!(
        (rows.len(), rows[0].status.as_str(), rows[0].countersigned),
        (1, "unreceipted", None)
    );
    assert_eq!(store.open_leases().await.unwrap()[0].unreceipted.len(), 1);
    for record in party.request(0, Some(None)) {
        store.append(record).unwrap();
    }
    let rows = store.rows(Query::default()).await.unwrap();
    assert_eq!(
        (rows.len(), rows[0].status),
        (1, RowStatus::Receipted(Status::Completed))
    );
    assert!(store.open_leases().await.unwrap()[0].unreceipted.is_empty());
}

#[tokio::test]
async fn disputes_are_shown_as_such() {
    use infernet_protocol::receipt::Dispute;
    let mut party = Party::new(Side::Provider, 1);
    let store = Store::in_memory(&network());
    store.append(party.opened()).unwrap();
    for record in party.request(0, Some(Some(Dispute::Tokens))) {
        store.append(record).unwrap();
    }
    let rows = store.rows(Query::default()).await.unwrap();
    assert_eq!(rows[0].countersigned, Some(Some(Dispute::Tokens)));
    let json = rows[0].to_json();
    assert_eq!(
        (&json["countersigned"], &json["dispute"]),
        (&false.into(), &"tokens".into())
    );
}

#[test]
fn a_second_process_is_refused() {
    let home = Home::temporary().unwrap();
    let (store, _) = open(&home);
    let refused = home.lock().unwrap_err().to_string();
    assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
    drop(store);
    open(&home);
}

#[test]
fn networks_do_not_see_each_other() {
    let home = Home::temporary().unwrap();
    let mut party = Party::new(Side::Provider, 1);
    let (store, _) = open(&home);
    for record in party.whole_story() {
        store.append(record).unwrap();
    }
    drop(store);
    let (_, found) = Store::open(&home.lock().unwrap(), &Network::new("lab").unwrap()).unwrap();
    assert!(found.leases.is_empty() && found.repairs.is_empty());
}

#[test]
fn queries_travel_as_json() {
    let query = Query {
        limit: 5,
        side: Some(Side::Provider),
        id: Some("0a".to_owned()),
    };
    assert_eq!(Query::from_json(&query.to_json()).unwrap(), query);
    assert_eq!(Query::from_json(&serde_json::json!({})).unwrap(), Query::default());
    assert!(Query::from_json(&serde_json::json!({ "role": "boss" })).is_err());
}
