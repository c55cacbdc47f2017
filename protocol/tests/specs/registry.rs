//! The ads that a node holds: one for each signer, the newest, within bounds, and none for longer than it lives.

use std::collections::BTreeSet;

use infernet_protocol::capability::{
    ADDRESSES, ADS_PER_ANSWER, ANSWER_BYTES, AdList, CapabilityAd, Limits, MODELS, Observed, RAILS, Registry, TAGS,
};
use infernet_protocol::codec::{self, List, Text};
use infernet_protocol::{Millis, ModelId, Network, UnixMillis, Verified};

use crate::sample::{self, NOW, key, sign};

fn ad_of(secret: u8, edit: impl FnOnce(&mut CapabilityAd)) -> Verified<CapabilityAd> {
    let mut ad = sample::ad();
    edit(&mut ad);
    sign(ad, &key([secret; 32]), &Network::default())
}

fn later(millis: u64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

#[test]
fn the_newest_sequence_wins_whatever_the_order() {
    let old = ad_of(1, |ad| ad.slots = 1);
    let new = ad_of(1, |ad| {
        ad.sequence += 1;
        ad.slots = 2;
    });
    let mut registry = Registry::default();
    assert_eq!(registry.observe(old.clone(), NOW), Observed::New);
    assert_eq!(registry.observe(old.clone(), NOW), Observed::Superseded);
    assert_eq!(registry.observe(new.clone(), NOW), Observed::Newer);
    assert_eq!(registry.observe(old, NOW), Observed::Superseded);
    assert_eq!(registry.get(&new.signer(), NOW).map(|ad| ad.slots), Some(2));
    assert_eq!(registry.len(), 1);
}

#[test]
fn an_ad_lives_three_of_its_intervals() {
    let ad = ad_of(1, |_| ());
    let end = 3 * u64::from(ad.interval.0);
    let mut registry = Registry::default();
    registry.observe(ad.clone(), NOW);
    assert!(registry.get(&ad.signer(), later(end - 1)).is_some());
    assert!(registry.get(&ad.signer(), later(end)).is_none());
    assert_eq!(registry.iter(later(end)).count(), 0);
    assert_eq!(registry.observe(ad_of(2, |_| ()), later(end)), Observed::Stale);
    registry.expire(later(end));
    assert!(registry.is_empty());
}

#[test]
fn an_ad_may_be_dated_ahead_by_the_skew_and_no_more() {
    let mut registry = Registry::default();
    let ahead = |millis| ad_of(1, |ad| ad.issued_at = later(millis));
    assert_eq!(registry.observe(ahead(30_001), NOW), Observed::Stale);
    assert_eq!(registry.observe(ahead(30_000), NOW), Observed::New);
}

#[test]
fn a_withdrawal_stays_withdrawn() {
    let there = ad_of(1, |_| ());
    let gone = sign(sample::withdrawal(), &key([1; 32]), &Network::default());
    let mut registry = Registry::default();
    registry.observe(there.clone(), NOW);
    assert_eq!(registry.observe(gone, NOW), Observed::Withdrawn);
    assert!(registry.get(&there.signer(), NOW).is_none());
    assert_eq!(registry.observe(there.clone(), NOW), Observed::Superseded);
    assert_eq!(registry.iter(NOW).count(), 0);
}

#[test]
fn a_model_is_found_where_it_is_served() {
    let mut registry = Registry::default();
    registry.observe(ad_of(1, |_| ()), NOW);
    registry.observe(
        ad_of(2, |ad| {
            ad.models = infernet_protocol::codec::List::first_of([sample::model("other")])
        }),
        NOW,
    );
    let serving = |id: &str| registry.serving(&ModelId::new(id).unwrap(), NOW).count();
    assert_eq!((serving("qwen2.5:7b"), serving("other"), serving("none")), (1, 1, 0));
}

#[test]
fn a_full_registry_keeps_what_lives_longest() {
    let mut registry = Registry::new(Limits { ads: 2 });
    let lives = |secret, interval| ad_of(secret, |ad| ad.interval = Millis(interval));
    registry.observe(lives(1, 10_000), NOW);
    registry.observe(lives(2, 20_000), NOW);
    assert_eq!(registry.observe(lives(3, 10_000), NOW), Observed::Full);
    assert_eq!(registry.observe(lives(3, 15_000), NOW), Observed::New);
    assert_eq!(registry.len(), 2);
    assert!(registry.get(&key([1; 32]).node(), NOW).is_none());
    // A newer ad of a signer that is there needs no room.
    let newer = ad_of(2, |ad| {
        ad.sequence += 1;
        ad.interval = Millis(1);
    });
    assert_eq!(registry.observe(newer, NOW), Observed::Newer);
    // What has expired makes room by itself.
    assert_eq!(
        registry.observe(ad_of(4, |ad| ad.issued_at = later(60_000)), later(60_000)),
        Observed::New
    );
}

#[test]
fn a_signer_is_known_since_its_first_ad() {
    let mut registry = Registry::default();
    registry.observe(ad_of(1, |_| ()), NOW);
    registry.observe(ad_of(1, |ad| ad.sequence += 1), later(5));
    assert_eq!(registry.known_since(&key([1; 32]).node()), Some(NOW));
    assert_eq!(registry.known_since(&key([2; 32]).node()), None);
}

#[test]
fn an_answer_begins_with_the_own_ad_and_then_anywhere_and_is_bounded() {
    let all: Vec<_> = (1..=100).map(|n| ad_of(n, |_| ())).collect();
    let signers = |list: &AdList| {
        let read = |bytes: &[u8]| {
            Verified::<CapabilityAd>::from_bytes(bytes, &Network::default())
                .unwrap()
                .signer()
        };
        list.ads.iter().map(|ad| read(&ad.0)).collect::<Vec<_>>()
    };
    let own = ad_of(200, |_| ());
    let mut heard = BTreeSet::new();
    for chance in [0, 31, 62 + 100, 93 + 1000] {
        let told = signers(&AdList::of(Some(&own), &all, chance));
        assert_eq!((told.len(), told[0]), (ADS_PER_ANSWER, own.signer()));
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len(), "none twice");
        heard.extend(told);
    }
    assert_eq!(heard.len(), all.len() + 1, "who asks four times has heard of all");
    assert_eq!(
        signers(&AdList::of(None, &all[..5], 77)).len(),
        5,
        "few are all told, wherever it begins"
    );

    let long = |n| {
        ad_of(n, |ad| {
            let model = ad.models[0].clone();
            ad.models = List::first_of(std::iter::repeat_n(model, MODELS));
            ad.tags = List::first_of(std::iter::repeat_n(Text::lossy(&"t".repeat(64)), TAGS));
            ad.addresses = List::first_of(std::iter::repeat_n(Text::lossy(&"a".repeat(160)), ADDRESSES));
            ad.rails = List::first_of(std::iter::repeat_n(Text::lossy(&"r".repeat(64)), RAILS));
        })
    };
    let longest: Vec<_> = (1..=100).map(long).collect();
    let list = AdList::of(None, &longest, 0);
    let bytes = codec::to_vec(&list).len();
    let one = longest[0].bytes().len();
    assert!(bytes <= ANSWER_BYTES, "{bytes}");
    assert_eq!(
        list.ads.len(),
        ADS_PER_ANSWER.min(ANSWER_BYTES / (one + 3)),
        "of {one} bytes each"
    );
}
