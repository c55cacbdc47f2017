//! One of every frame of the direct stream, and of the messages of the two exchanges.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "fixed values")]

use infernet_protocol::auction::{Decline, OfferReply};
use infernet_protocol::capability::{AdList, AdQuery, AdScope};
use infernet_protocol::codec::{Blob, List};
use infernet_protocol::stream::frames::{
    Beat, Body, BuyerFrame, Cancel, Continuation, Data, Enclosed, End, Endpoint, Fail, FailCode, Head, Open, Reconcile,
    Request, Resume, Start, Usage, Voucher, WorkerFrame,
};

use crate::sample::{Sample, ad, commitment, count, countersign, key, request, sign, text};

fn enclosed(envelope: &[u8]) -> Enclosed {
    Enclosed {
        envelope: Blob(envelope.to_vec()),
    }
}

/// Name, CDDL rule and frame of everything that a buyer can say.
pub(crate) fn buyer(sample: &Sample) -> Vec<(&'static str, &'static str, BuyerFrame)> {
    let lease = sample.accept.lease;
    let receipt = sample.receipt(0);
    let ask = Request {
        request: request(0),
        endpoint: Endpoint::ChatCompletions,
        salt: count(0x60),
        length: 15,
        continuation: None,
    };
    vec![
        (
            "start",
            "start-frame",
            Start {
                accept: Blob(sample.accept.bytes().to_vec()),
                bid: Blob(sample.bid.bytes().to_vec()),
                offer: Blob(sample.offer.bytes().to_vec()),
            }
            .into(),
        ),
        ("request", "request-frame", ask.clone().into()),
        (
            "request that goes on from text",
            "request-frame",
            Request {
                endpoint: Endpoint::Completions,
                continuation: Some(Continuation {
                    text: Blob(b"Once upon a time".to_vec()),
                    tokens: List::default(),
                }),
                ..ask.clone()
            }
            .into(),
        ),
        (
            "request that goes on from token ids",
            "request-frame",
            Request {
                continuation: Some(Continuation {
                    text: Blob::default(),
                    tokens: List::first_of([1, 23, 24, 255, 256, 65_535, 65_536]),
                }),
                ..ask
            }
            .into(),
        ),
        (
            "body",
            "body-frame",
            Body {
                bytes: Blob(br#"{"messages":[]}"#.to_vec()),
            }
            .into(),
        ),
        (
            "resume",
            "resume-frame",
            Resume {
                request: request(0),
                next: 1,
            }
            .into(),
        ),
        (
            "reconcile",
            "buyer-reconcile-frame",
            Reconcile {
                lease,
                held: 2,
                hash: sample.receipt(1).hash(),
                open: List::first_of([Open {
                    request: request(2),
                    next: 2,
                    commitment: commitment(2).digest(),
                }]),
            }
            .into(),
        ),
        (
            "voucher",
            "voucher-frame",
            Voucher {
                lease,
                voucher: Blob(vec![0xca, 0xfe]),
            }
            .into(),
        ),
        (
            "countersign",
            "countersign-frame",
            BuyerFrame::Countersign(enclosed(
                sign(countersign(&receipt), &key(crate::sample::BUYER), &sample.network).bytes(),
            )),
        ),
        ("cancel", "cancel-frame", Cancel { request: request(0) }.into()),
    ]
}

/// Name, CDDL rule and frame of everything that a worker can say.
pub(crate) fn worker(sample: &Sample) -> Vec<(&'static str, &'static str, WorkerFrame)> {
    vec![
        (
            "head",
            "head-frame",
            Head {
                status: 200,
                content_type: text("text/event-stream"),
            }
            .into(),
        ),
        (
            "data",
            "data-frame",
            Data {
                frame: 0,
                bytes: Blob(b"data: {\"n\":0}\n\n".to_vec()),
                tokens: None,
            }
            .into(),
        ),
        (
            "data with token ids",
            "data-frame",
            Data {
                frame: 1,
                bytes: Blob(b"data: [DONE]\n\n".to_vec()),
                tokens: Some(List::first_of([7, 1_000])),
            }
            .into(),
        ),
        ("end", "end-frame", End { frames: 2 }.into()),
        (
            "usage",
            "usage-frame",
            Usage {
                input_tokens: 1_000,
                output_tokens: 500,
            }
            .into(),
        ),
        (
            "receipt",
            "receipt-frame",
            WorkerFrame::Receipt(enclosed(sample.receipt(0).bytes())),
        ),
        ("beat", "beat-frame", Beat { next: 1 }.into()),
        (
            "fail",
            "fail-frame",
            Fail {
                code: FailCode::Busy,
                message: text("all 16 slots are taken; ask again or go elsewhere"),
                status: 503,
                retryable: true,
                delivered: false,
            }
            .into(),
        ),
        (
            "reconcile",
            "worker-reconcile-frame",
            Reconcile {
                lease: sample.accept.lease,
                held: 0,
                hash: sample.accept.hash(),
                open: List::default(),
            }
            .into(),
        ),
    ]
}

/// Questions and answers of `/c0mpute/ad/1.0.0` and `/c0mpute/offer/1.0.0`.
pub(crate) fn own_ad_query() -> AdQuery {
    AdQuery {
        scope: AdScope::Own,
        model: None,
    }
}

pub(crate) fn model_query() -> AdQuery {
    AdQuery {
        scope: AdScope::Known,
        model: Some(infernet_protocol::ModelId::new("qwen2.5:7b").unwrap()),
    }
}

pub(crate) fn ad_list(sample: &Sample) -> AdList {
    let ad = sign(ad(), &key(crate::sample::WORKER), &sample.network);
    AdList {
        ads: List::first_of([Blob(ad.bytes().to_vec())]),
    }
}

pub(crate) fn reply_with_bid(sample: &Sample) -> OfferReply {
    OfferReply {
        bid: Some(Blob(sample.bid.bytes().to_vec())),
        decline: None,
    }
}

pub(crate) fn reply_without() -> OfferReply {
    OfferReply {
        bid: None,
        decline: Some(Decline::Busy),
    }
}
