//! Every type of the wire: what is written reads back as what it was, and no bytes make a reader panic.
//!
//! Values are drawn from a tape of random bytes, so that a failing case shrinks with its tape.

use infernet_protocol::auction::{
    Decline, JobAccept, JobBid, JobOffer, OfferReply, Payee, Payer, Policy, Requirement, Volume,
};
use infernet_protocol::capability::{
    AdList, AdQuery, AdScope, CapabilityAd, Class, Features, GpuGroup, GpuVendor, ModelAd, VramTier,
};
use infernet_protocol::codec::{Blob, List, Text, Wire, from_slice, to_vec};
use infernet_protocol::market::gossip::Settled;
use infernet_protocol::receipt::chain::{self, Export, ExportedReceipt};
use infernet_protocol::receipt::{Countersign, Dispute, JobReceipt, Status, Step, Total};
use infernet_protocol::signed::{Any, Envelope};
use infernet_protocol::stream::frames::{
    Beat, Body, BuyerFrame, Cancel, Continuation, Data, Enclosed, End, Endpoint, Fail, FailCode, Head, Open, Reconcile,
    Request, Resume, Start, Usage, Voucher, WorkerFrame,
};
use infernet_protocol::{
    Digest, JobId, LeaseId, MicroUsd, Millis, ModelId, Network, NodeId, Price, RequestId, UnixMillis,
};
use proptest::prelude::*;

use crate::sample::{Sample, WORKER, ad, key, sign};

/// Random bytes to draw values from; zeros when they run out.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number of any size, small ones and those at the edges of an encoding often.
    fn number(&mut self) -> u64 {
        let bits = u32::from(self.byte()) % 65;
        let value = (0..8).fold(0_u64, |value, _| value << 8 | u64::from(self.byte()));
        value.checked_shr(64 - bits).unwrap_or(0)
    }

    fn up_to(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % (limit + 1)
    }
}

trait Draw: Sized {
    fn draw(tape: &mut Tape<'_>) -> Self;
}

macro_rules! draw_struct {
    ($($name:ident { $($field:ident),+ $(,)? })+) => {$(
        impl Draw for $name {
            fn draw(tape: &mut Tape<'_>) -> Self {
                Self { $($field: Draw::draw(tape)),+ }
            }
        }
    )+};
}

macro_rules! draw_inner {
    ($($name:ident),+) => {$(
        impl Draw for $name {
            fn draw(tape: &mut Tape<'_>) -> Self {
                Self(Draw::draw(tape))
            }
        }
    )+};
}

macro_rules! draw_enum {
    ($($name:ident),+) => {$(
        impl Draw for $name {
            fn draw(tape: &mut Tape<'_>) -> Self {
                Self::ALL[tape.up_to(Self::ALL.len() - 1)]
            }
        }
    )+};
}

macro_rules! draw_number {
    ($($name:ident),+) => {$(
        impl Draw for $name {
            fn draw(tape: &mut Tape<'_>) -> Self {
                tape.number() as Self
            }
        }
    )+};
}

draw_number!(u8, u16, u32, u64);
draw_inner!(Digest, JobId, RequestId, NodeId, MicroUsd, Millis, UnixMillis, Features);
draw_enum!(
    AdScope, Policy, Class, VramTier, GpuVendor, Status, Dispute, Endpoint, FailCode, Decline
);

impl Draw for bool {
    fn draw(tape: &mut Tape<'_>) -> Self {
        tape.byte() & 1 == 1
    }
}

impl<const N: usize> Draw for [u8; N] {
    fn draw(tape: &mut Tape<'_>) -> Self {
        std::array::from_fn(|_| tape.byte())
    }
}

impl<const N: usize> Draw for Blob<N> {
    fn draw(tape: &mut Tape<'_>) -> Self {
        let length = tape.up_to(N.min(40));
        Self((0..length).map(|_| tape.byte()).collect())
    }
}

impl<const N: usize> Draw for Text<N> {
    fn draw(tape: &mut Tape<'_>) -> Self {
        let length = tape.up_to(N.min(30));
        let text: String = (0..length)
            .map(|_| char::from_u32(tape.number() as u32 % 0x2000).unwrap_or('x'))
            .collect();
        Self::lossy(&text)
    }
}

impl Draw for ModelId {
    fn draw(tape: &mut Tape<'_>) -> Self {
        let text = Text::<64>::draw(tape);
        Self::new(text.as_str()).unwrap_or_else(|_| Self::new("m").unwrap())
    }
}

impl<T: Draw, const N: usize> Draw for List<T, N> {
    fn draw(tape: &mut Tape<'_>) -> Self {
        let length = tape.up_to(N.min(3));
        Self::first_of((0..length).map(|_| T::draw(tape)).collect::<Vec<_>>())
    }
}

impl<T: Draw> Draw for Option<T> {
    fn draw(tape: &mut Tape<'_>) -> Self {
        bool::draw(tape).then(|| T::draw(tape))
    }
}

draw_struct! {
    Price { input, output, request }
    LeaseId { job, attempt }
    GpuGroup { vendor, tier, model, count }
    ModelAd { id, digest, context, quantisation, features, price, max_output, ttft, speed }
    CapabilityAd { sequence, issued_at, interval, agent, tags, addresses, gpus, models, models_total, slots, rails }
    AdQuery { scope, model }
    AdList { ads }
    Requirement { model, digest, tags, vram, context, features, class }
    Volume { input_tokens, output_tokens, requests, at_once, lease }
    JobOffer {
        job, workload, requirement, volume, policy, price_cap, rails, window, invited, open, public, issued_at,
        expires_at,
    }
    Payee { rail, address }
    JobBid { job, offer, price, ttft, speed, queue, addresses, payees, digest, at_once, public }
    Payer { rail, wallet }
    JobAccept { lease, bid, winner, payer, issued_at }
    OfferReply { bid, decline }
    Step { request, status, input_tokens, output_tokens, ttft, duration, amount, commitment }
    Total { requests, input_tokens, output_tokens, amount }
    JobReceipt { lease, seq, prev, step, total, finished_at }
    Countersign { receipt, lease, seq, dispute, note, signed_at }
    Envelope { version, kind, signer, payload, signature }
    Start { accept, bid, offer }
    Continuation { text, tokens }
    Request { request, endpoint, salt, length, continuation }
    Body { bytes }
    Resume { request, next }
    Open { request, next, commitment }
    Reconcile { lease, held, hash, open }
    Voucher { lease, voucher }
    Enclosed { envelope }
    Cancel { request }
    Head { status, content_type }
    Data { frame, bytes, tokens }
    Usage { input_tokens, output_tokens }
    End { frames }
    Beat { next }
    Fail { code, message, status, retryable, delivered }
    Settled { receipt, countersign }
    ExportedReceipt { receipt, countersign }
    Export { version, network, offer, bid, accept, receipts, checksum }
}

impl Draw for BuyerFrame {
    fn draw(tape: &mut Tape<'_>) -> Self {
        match tape.up_to(7) {
            0 => Start::draw(tape).into(),
            1 => Request::draw(tape).into(),
            2 => Body::draw(tape).into(),
            3 => Resume::draw(tape).into(),
            4 => Reconcile::draw(tape).into(),
            5 => Voucher::draw(tape).into(),
            6 => Enclosed::draw(tape).into(),
            _ => Cancel::draw(tape).into(),
        }
    }
}

impl Draw for WorkerFrame {
    fn draw(tape: &mut Tape<'_>) -> Self {
        match tape.up_to(7) {
            0 => Head::draw(tape).into(),
            1 => Data::draw(tape).into(),
            2 => End::draw(tape).into(),
            3 => Usage::draw(tape).into(),
            4 => Enclosed::draw(tape).into(),
            5 => Beat::draw(tape).into(),
            6 => Fail::draw(tape).into(),
            _ => Reconcile::draw(tape).into(),
        }
    }
}

fn round_trip<T: Wire + Draw + PartialEq + std::fmt::Debug>(tape: &[u8]) {
    let value = T::draw(&mut Tape(tape));
    let bytes = to_vec(&value);
    assert_eq!(from_slice::<T>(&bytes).as_ref(), Ok(&value));
}

/// What reads at all reads as the one value with these bytes.
fn read_anything<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = from_slice::<T>(bytes) {
        assert_eq!(to_vec(&value), bytes);
    }
}

macro_rules! for_every_type {
    ($call:ident, $bytes:expr) => {
        for_every_type!(@ $call, $bytes,
            CapabilityAd, AdQuery, AdList, JobOffer, JobBid, JobAccept, OfferReply, JobReceipt, Countersign, Envelope,
            BuyerFrame, WorkerFrame, Settled, Export)
    };
    (@ $call:ident, $bytes:expr, $($ty:ty),+) => { $($call::<$ty>($bytes);)+ };
}

fn tape() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..800)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(tape in tape()) {
        for_every_type!(round_trip, &tape);
    }

    #[test]
    fn random_bytes_never_panic(bytes in tape()) {
        for_every_type!(read_anything, &bytes);
        let _ = Any::from_bytes(&bytes, &Network::default());
        let _ = chain::check(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(
        which in 0_usize..4,
        at in any::<prop::sample::Index>(),
        removed in 0_usize..6,
        inserted in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let network = Network::default();
        let sample = Sample::new(&network);
        let mut bytes = match which {
            0 => sign(ad(), &key(WORKER), &network).bytes().to_vec(),
            1 => sample.offer.bytes().to_vec(),
            2 => to_vec(&JobBid::clone(&sample.bid)),
            _ => sample.export().to_bytes(),
        };
        let at = at.index(bytes.len());
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, inserted);
        for_every_type!(read_anything, &bytes);
        let _ = Any::from_bytes(&bytes, &network);
        let _ = chain::check(&bytes);
    }

    #[test]
    fn a_model_id_is_its_own_normal_form(name in "\\PC{0,40}(:latest)*") {
        if let Ok(id) = ModelId::new(&name) {
            prop_assert_eq!(ModelId::new(id.as_str()), Ok(id.clone()));
            prop_assert_eq!(from_slice::<ModelId>(&to_vec(&id)), Ok(id));
        }
    }
}

#[test]
fn every_number_is_written_in_its_shortest_form_only() {
    let forms = |value: u64| {
        let bytes = value.to_be_bytes();
        let mut forms = vec![[&[0x1b], &bytes[..]].concat()];
        if value <= u64::from(u32::MAX) {
            forms.push([&[0x1a], &bytes[4..]].concat());
        }
        if value <= u64::from(u16::MAX) {
            forms.push([&[0x19], &bytes[6..]].concat());
        }
        if value <= u64::from(u8::MAX) {
            forms.push(vec![0x18, bytes[7]]);
        }
        if value < 24 {
            forms.push(vec![bytes[7]]);
        }
        forms
    };
    for value in [
        0,
        23,
        24,
        255,
        256,
        65_535,
        65_536,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
    ] {
        let mut forms = forms(value);
        let shortest = forms.pop().unwrap();
        assert_eq!(to_vec(&value), shortest);
        assert_eq!(from_slice::<u64>(&shortest), Ok(value));
        for longer in forms {
            assert!(from_slice::<u64>(&longer).is_err(), "{value} as {longer:02x?}");
        }
    }
}

#[test]
fn a_claim_of_length_reserves_no_memory() {
    // Strings and lists that claim thousands of millions of members: refused by their heads.
    for head in [0x9a_u8, 0x5a, 0x7a, 0x9b, 0x5b, 0x7b] {
        let bytes = [head, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(512);
        for_every_type!(read_anything, &bytes);
        assert!(from_slice::<List<Blob<{ usize::MAX }>, { usize::MAX }>>(&bytes).is_err());
    }
}

#[test]
fn depth_is_that_of_the_type() {
    let nested = vec![0x81; 100_000];
    for_every_type!(read_anything, &nested);
    assert!(from_slice::<Envelope>(&nested).is_err());
}
