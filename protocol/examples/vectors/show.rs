//! The fields of each message by name, as the vectors list them: an object for a struct, in the order of its
//! encoding; `{"hex": ...}` for a byte string, so that it cannot be taken for text.

use infernet_protocol::auction::{
    Decline, JobAccept, JobBid, JobOffer, OfferReply, Payee, Payer, Policy, Requirement, Volume,
};
use infernet_protocol::capability::{
    AdList, AdQuery, AdScope, CapabilityAd, Class, Features, GpuGroup, GpuVendor, ModelAd, VramTier,
};
use infernet_protocol::codec::{Blob, List, Text};
use infernet_protocol::market::gossip::Settled;
use infernet_protocol::receipt::chain::{Export, ExportedReceipt};
use infernet_protocol::receipt::{Countersign, Dispute, JobReceipt, Status, Step, Total};
use infernet_protocol::stream::frames::{
    Beat, Body, Cancel, Continuation, Data, Enclosed, End, Endpoint, Fail, FailCode, Head, Open, Reconcile, Request,
    Resume, Start, Usage, Voucher,
};
use infernet_protocol::{Digest, JobId, LeaseId, MicroUsd, Millis, ModelId, NodeId, Price, RequestId, UnixMillis};

use crate::json::{Json, hexed, object};

/// A value that can be listed in a vector.
pub(crate) trait Show {
    fn show(&self) -> Json;
}

macro_rules! show_struct {
    ($($name:ident { $($field:ident),+ $(,)? })+) => {$(
        impl Show for $name {
            fn show(&self) -> Json {
                // No `..`: a new field does not compile until it is listed.
                let Self { $($field),+ } = self;
                Json::Object(vec![$((stringify!($field), $field.show())),+])
            }
        }
    )+};
}

macro_rules! show_number {
    ($($name:ident),+) => {$(
        impl Show for $name {
            fn show(&self) -> Json {
                Json::from(u64::from(*self))
            }
        }
    )+};
}

macro_rules! show_inner {
    ($($name:ident),+) => {$(
        impl Show for $name {
            fn show(&self) -> Json {
                self.0.show()
            }
        }
    )+};
}

macro_rules! show_enum {
    ($($name:ident),+) => {$(
        impl Show for $name {
            fn show(&self) -> Json {
                Json::from(*self as u64)
            }
        }
    )+};
}

show_number!(u8, u16, u32, u64);
show_inner!(Digest, JobId, RequestId, NodeId, MicroUsd, Millis, UnixMillis, Features);
show_enum!(
    AdScope, Policy, Class, VramTier, GpuVendor, Status, Dispute, Endpoint, FailCode, Decline
);

impl Show for bool {
    fn show(&self) -> Json {
        Json::Bool(*self)
    }
}

impl<const N: usize> Show for [u8; N] {
    fn show(&self) -> Json {
        object! { "hex": hexed(self) }
    }
}

impl<const N: usize> Show for Blob<N> {
    fn show(&self) -> Json {
        object! { "hex": hexed(&self.0) }
    }
}

impl<const N: usize> Show for Text<N> {
    fn show(&self) -> Json {
        Json::from(self.as_str())
    }
}

impl Show for ModelId {
    fn show(&self) -> Json {
        Json::from(self.as_str())
    }
}

impl<T: Show, const N: usize> Show for List<T, N> {
    fn show(&self) -> Json {
        self.iter().map(Show::show).collect()
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> Json {
        self.as_ref().map_or(Json::Null, Show::show)
    }
}

show_struct! {
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
