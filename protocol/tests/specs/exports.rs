//! The offline check of an exported deal: yes to a true one, the name of the fault in a false one, and no bit that
//! could be turned unseen.

use infernet_protocol::codec::{List, from_slice, to_vec};
use infernet_protocol::receipt::chain::{Export, Fault, check};
use infernet_protocol::{Digest, Network};

use crate::sample::{self, Sample};

#[test]
fn a_true_deal_holds() {
    let sample = Sample::new(&Network::default());
    let checked = check(&sample.export().to_bytes()).unwrap();
    assert_eq!(checked.offer, sample.offer);
    assert_eq!(checked.bid, sample.bid);
    assert_eq!(checked.accept, sample.accept);
    assert_eq!(checked.ledger.entries(), sample.ledger.entries());
    assert_eq!(checked.ledger.settled(), 2);
    assert_eq!(checked.settled_total(), sample.receipt(1).total);
    assert_eq!(
        checked.settled_total().amount,
        infernet_protocol::MicroUsd(sample::step(0).amount.0 + sample::step(1).amount.0)
    );
}

#[test]
fn a_deal_that_nobody_falsified_holds() {
    // Else every false deal below might be refused for what the forger does beside its falsification.
    let checked = check(&sample::forge(|_| ())).unwrap();
    assert_eq!(checked.ledger.settled(), 2);
}

#[test]
fn a_deal_without_receipts_holds_and_settles_nothing() {
    let file = sample::forge(|part| {
        if let sample::Part::File(file) = part {
            file.receipts = List::default();
        }
    });
    assert_eq!(check(&file).unwrap().settled_total(), Default::default());
}

#[test]
fn a_deal_on_another_network_says_so() {
    let sample = Sample::new(&crate::other_network());
    let checked = check(&sample.export().to_bytes()).unwrap();
    assert_eq!(checked.network, crate::other_network());
}

#[test]
fn every_false_deal_is_named() {
    for case in sample::FALSE_DEALS {
        let fault = check(&sample::forge(case.edit)).expect_err(case.name);
        let says = fault.to_string();
        assert!(
            says.starts_with(case.part),
            "{}: `{says}` does not name `{}`",
            case.name,
            case.part
        );
        assert!(
            says.contains(case.says),
            "{}: `{says}` does not say `{}`",
            case.name,
            case.says
        );
    }
}

#[test]
fn a_disputed_receipt_is_not_settled() {
    let file = sample::forge(|part| {
        if let sample::Part::Countersign(1, sign) = part {
            sign.dispute = Some(infernet_protocol::receipt::Dispute::Tokens);
        }
    });
    let checked = check(&file).unwrap();
    assert!(checked.ledger.is_disputed());
    assert_eq!((checked.ledger.settled(), checked.ledger.unsettled()), (1, 1));
    assert_eq!(checked.settled_total().requests, 1);
}

/// One receipt and its countersignature, so that all bits can be tried.
fn small() -> Vec<u8> {
    sample::forge(|part| {
        if let sample::Part::File(file) = part {
            file.receipts = List::first_of(file.receipts.iter().take(1).cloned().collect::<Vec<_>>());
        }
    })
}

#[test]
fn every_flipped_bit_is_caught() {
    let file = small();
    assert!(check(&file).is_ok());
    for bit in 0..file.len() * 8 {
        let mut other = file.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&other).is_err(), "bit {bit}");
    }
}

#[test]
fn every_cut_is_caught() {
    let file = small();
    for length in 0..file.len() {
        assert!(matches!(check(&file[..length]), Err(Fault::File(_))), "{length} bytes");
    }
}

#[test]
fn damage_outside_of_every_signature_shows_in_the_checksum() {
    let mut export: Export = from_slice(&small()).unwrap();
    export.receipts = List::default();
    assert_eq!(check(&to_vec(&export)).unwrap_err(), Fault::Checksum);
    export.checksum = Digest([0; 32]);
    assert_eq!(check(&to_vec(&export)).unwrap_err(), Fault::Checksum);
}
