//! Frames written out byte by byte, so that a change of the wire shows as what it is.

use infernet_protocol::codec::{Blob, List};
use infernet_protocol::stream::frames::{
    Beat, Body, BuyerFrame, Cancel, Data, End, Endpoint, Fail, FailCode, Head, Reconcile, Request, Resume, Usage,
    WorkerFrame, data,
};
use infernet_protocol::{Digest, JobId, LeaseId, RequestId};

use crate::sample::text;

const REQUEST: RequestId = RequestId([0xab; 16]);

#[test]
fn what_a_buyer_says() {
    let id = "50abababababababababababababababab";
    let salt = format!("5820{}", "cd".repeat(32));
    let ask = Request {
        request: REQUEST,
        endpoint: Endpoint::Embeddings,
        salt: [0xcd; 32],
        length: 33_554_432,
        continuation: None,
    };
    let lease = LeaseId {
        job: JobId([0xab; 16]),
        attempt: 3,
    };
    let reconcile = Reconcile {
        lease,
        held: 5,
        hash: Digest([0xcd; 32]),
        open: List::default(),
    };
    let said: [(BuyerFrame, String); 5] = [
        //                 [2, [id, 2, salt, 33554432, null]]
        (ask.into(), format!("820285{id}02{salt}1a02000000f6")),
        //                 [3, ['hi']]
        (
            Body {
                bytes: Blob(b"hi".to_vec()),
            }
            .into(),
            "8203 81 42 6869".replace(' ', ""),
        ),
        //                 [4, [id, 24]]
        (
            Resume {
                request: REQUEST,
                next: 24,
            }
            .into(),
            format!("820482{id}1818"),
        ),
        //                 [5, [[job, 3], 5, hash, []]]
        (reconcile.into(), format!("82058482{id}0305{salt}80")),
        //                 [8, [id]]
        (Cancel { request: REQUEST }.into(), format!("820881{id}")),
    ];
    for (frame, hex) in said {
        assert_eq!(hex::encode(frame.to_bytes()), hex, "{frame:?}");
        assert_eq!(BuyerFrame::from_bytes(&hex::decode(&hex).unwrap()).unwrap(), frame);
    }
}

#[test]
fn what_a_worker_says() {
    let fail = Fail {
        code: FailCode::Engine,
        message: text("no"),
        status: 502,
        retryable: true,
        delivered: false,
    };
    let said: [(WorkerFrame, &str); 7] = [
        //  [17, [200, 'a/b']]
        (
            Head {
                status: 200,
                content_type: text("a/b"),
            }
            .into(),
            "821182 18c8 63612f62",
        ),
        //  [18, [0, h'', null]]
        (
            Data {
                frame: 0,
                bytes: Blob::default(),
                tokens: None,
            }
            .into(),
            "821283 00 40 f6",
        ),
        //  [18, [256, h'00', [1, 65536]]]
        (
            Data {
                frame: 256,
                bytes: Blob(vec![0]),
                tokens: Some(List::first_of([1, 65_536])),
            }
            .into(),
            "821283 190100 4100 82 01 1a00010000",
        ),
        //  [19, [2]]
        (End { frames: 2 }.into(), "821381 02"),
        //  [20, [23, 4294967295]]
        (
            Usage {
                input_tokens: 23,
                output_tokens: u32::MAX,
            }
            .into(),
            "821482 17 1affffffff",
        ),
        //  [22, [18446744073709551615]]
        (Beat { next: u64::MAX }.into(), "821681 1bffffffffffffffff"),
        //  [23, [4, 'no', 502, true, false]]
        (fail.into(), "821785 04 626e6f 1901f6 f5 f4"),
    ];
    for (frame, hex) in said {
        let hex = hex.replace(' ', "");
        assert_eq!(hex::encode(frame.to_bytes()), hex, "{frame:?}");
        assert_eq!(WorkerFrame::from_bytes(&hex::decode(&hex).unwrap()).unwrap(), frame);
    }
}

#[test]
fn the_short_way_to_write_data_gives_the_same_bytes() {
    for bytes in [&b""[..], b"x", &[7; 70_000]] {
        for (frame, tokens) in [
            (0, None),
            (23, Some(&[][..])),
            (24, Some(&[7, 70_000])),
            (u64::MAX, None),
        ] {
            let long = WorkerFrame::from(Data {
                frame,
                bytes: Blob(bytes.to_vec()),
                tokens: tokens.map(|tokens: &[u32]| List::first_of(tokens.iter().copied())),
            });
            assert_eq!(data(frame, bytes, tokens), long.to_bytes());
        }
    }
}
