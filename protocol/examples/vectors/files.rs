//! The vectors, one function for each file.

use infernet_protocol::auction::{OPEN_TO_ALL, draw, open_threshold};
use infernet_protocol::codec::{Blob, Wire, from_slice, to_vec};
use infernet_protocol::identity::tagged_hash;
use infernet_protocol::market::gossip::Settled;
use infernet_protocol::receipt::{Countersign, JobReceipt, chain};
use infernet_protocol::signed::{Any, Envelope, Message};
use infernet_protocol::stream::{BuyerFrame, WorkerFrame};
use infernet_protocol::{Digest, Identity, JobId, MicroUsd, ModelId, Network, NodeId, Price, RequestId, Verified};

use crate::json::{Json, hexed, object};
use crate::show::Show;
use crate::{frames, sample};

/// Name and content of every file.
pub(crate) fn all() -> Vec<(&'static str, Json)> {
    vec![
        ("identity.json", identity()),
        ("signing.json", signing()),
        ("frames.json", stream()),
        ("commitment.json", commitment()),
        ("cost.json", cost()),
        ("sortition.json", sortition()),
        ("models.json", models()),
        ("export.json", export()),
    ]
}

fn secret_of(last: u8) -> [u8; 32] {
    let mut secret = [0; 32];
    secret[31] = last;
    secret
}

/// The curve's order less `less`.
fn order_less(less: u8) -> [u8; 32] {
    let mut order: [u8; 32] = [0xff; 32];
    let low = [
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];
    order[15..].copy_from_slice(&low);
    order[31] -= less;
    order
}

fn identity() -> Json {
    let secrets = [
        secret_of(1),
        secret_of(2),
        secret_of(3),
        secret_of(6),
        order_less(1),
        order_less(3),
        sample::BUYER,
        sample::WORKER,
        sample::STRANGER,
    ];
    let keys = secrets.iter().map(|secret| {
        let identity = sample::key(*secret);
        let node = identity.node();
        object! {
            "secret": hexed(secret),
            "negated": identity.secret() != *secret,
            "normalised": hexed(&identity.secret()),
            "nsec": identity.nsec(),
            "node": hexed(&node.0),
            "npub": node.npub(),
            "peer_id_bytes": hexed(&node.peer_id_bytes()),
            "peer_id": node.peer_id(),
        }
    });
    let node = sample::key(sample::BUYER).node();
    let mut odd = node.peer_id_bytes();
    odd[6] = 3;
    let mut ed25519 = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    ed25519.extend(sample::count::<32>(1));
    let mut off_curve = node.peer_id_bytes();
    off_curve[7..].copy_from_slice(&[0xff; 32]);
    let peer_ids = [
        ("odd Y", odd.to_vec()),
        ("Ed25519", ed25519),
        ("not a point", off_curve.to_vec()),
        ("cut short", node.peer_id_bytes()[..38].to_vec()),
    ];
    let bech32m = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse_unchecked("npub"), &node.0).unwrap_or_default();
    let mut mistyped = node.npub();
    mistyped.replace_range(10..11, if &mistyped[10..11] == "q" { "p" } else { "q" });
    let npubs = [
        ("a secret key", sample::key(sample::BUYER).nsec()),
        ("bech32m", bech32m),
        ("one character mistyped", mistyped),
    ];
    object! {
        "about": "specs/identity.md: secret key to everything that follows from it",
        "keys": keys.collect::<Json>(),
        "refused_secrets": [[0; 32], order_less(0), [0xff; 32]].iter().map(|secret| hexed(secret)).collect::<Json>(),
        "refused_peer_ids": peer_ids.iter().map(|(why, bytes)| object! {
            "why": *why,
            "peer_id_bytes": hexed(bytes),
        }).collect::<Json>(),
        "refused_npubs": npubs.iter().map(|(why, npub)| object! { "why": *why, "npub": npub.as_str() }).collect::<Json>(),
    }
}

fn message<T: Message + Show>(name: &str, rule: &str, message: &Verified<T>, who: [u8; 32], network: &Network) -> Json {
    let tag = network.signing_tag(T::KIND.name);
    let payload = to_vec::<T>(message);
    let signature = &message.bytes()[message.bytes().len() - 64..];
    object! {
        "name": name,
        "rule": rule,
        "network": network.as_str(),
        "kind": T::KIND.number,
        "kind_name": T::KIND.name,
        "secret": hexed(&who),
        "entropy": hexed(&sample::ENTROPY),
        "fields": (**message).show(),
        "payload": hexed(&payload),
        "tag": tag.as_str(),
        "signed_hash": hexed(&tagged_hash(&tag, &payload)),
        "signature": hexed(signature),
        "envelope": hexed(message.bytes()),
        "hash": hexed(&message.hash().0),
    }
}

fn signing() -> Json {
    let (main, test) = (Network::default(), Network::new("test-1").unwrap_or_default());
    let deal = sample::Sample::new(&main);
    let (buyer, worker) = (sample::key(sample::BUYER), sample::key(sample::WORKER));
    let ad = sample::sign(sample::ad(), &worker, &main);
    let withdrawal = sample::sign(sample::withdrawal(), &worker, &main);
    let free = sample::sign(sample::free_offer(), &buyer, &main);
    let elsewhere = sample::sign(sample::offer(), &buyer, &test);
    let mut free_bid = sample::bid(&free);
    free_bid.price = Price::FREE;
    free_bid.payees = Default::default();
    free_bid.digest = None;
    let free_bid = sample::sign(free_bid, &worker, &main);
    let mut runner_up = sample::accept(&free_bid);
    runner_up.payer = None;
    runner_up.lease.attempt = 1;
    let runner_up = sample::sign(runner_up, &buyer, &main);
    let receipts = [deal.receipt(0), deal.receipt(1)];
    let accepted = sample::sign(sample::countersign(&receipts[0]), &buyer, &main);
    let disputed = sample::sign(sample::dispute(&receipts[1]), &buyer, &main);
    let messages = vec![
        message("ad", "capability-ad", &ad, sample::WORKER, &main),
        message(
            "ad that withdraws the node",
            "capability-ad",
            &withdrawal,
            sample::WORKER,
            &main,
        ),
        message("offer", "job-offer", &deal.offer, sample::BUYER, &main),
        message(
            "offer on another network",
            "job-offer",
            &elsewhere,
            sample::BUYER,
            &test,
        ),
        message(
            "offer of nothing but the model",
            "job-offer",
            &free,
            sample::BUYER,
            &main,
        ),
        message("bid", "job-bid", &deal.bid, sample::WORKER, &main),
        message("bid for nothing", "job-bid", &free_bid, sample::WORKER, &main),
        message("accept", "job-accept", &deal.accept, sample::BUYER, &main),
        message(
            "accept of the runner-up",
            "job-accept",
            &runner_up,
            sample::BUYER,
            &main,
        ),
        message("first receipt", "job-receipt", &receipts[0], sample::WORKER, &main),
        message("second receipt", "job-receipt", &receipts[1], sample::WORKER, &main),
        message("countersignature", "countersign", &accepted, sample::BUYER, &main),
        message("dispute", "countersign", &disputed, sample::BUYER, &main),
    ];
    object! {
        "about": "specs/signing.md: fields to payload, signature, envelope and hash; and what must be refused",
        "messages": Json::List(messages),
        "settled": settled(&deal.receipt(0), &accepted),
        "refused": refused(&deal, &elsewhere, &main),
    }
}

fn settled(receipt: &Verified<JobReceipt>, countersign: &Verified<Countersign>) -> Json {
    let settled = Settled::new(receipt, countersign);
    object! {
        "name": "settled receipt, as it is gossiped",
        "rule": "settled",
        "fields": settled.show(),
        "bytes": hexed(&settled.to_bytes()),
    }
}

fn refused(deal: &sample::Sample, elsewhere: &Verified<infernet_protocol::auction::JobOffer>, main: &Network) -> Json {
    let bytes = deal.offer.bytes().to_vec();
    let rewrite = |edit: fn(&mut Envelope)| {
        let Ok(mut envelope) = from_slice::<Envelope>(&bytes) else {
            return Vec::new();
        };
        edit(&mut envelope);
        to_vec(&envelope)
    };
    // Signed anew, so that only the payload is wrong.
    let resign = |edit: &dyn Fn(&mut Vec<u8>)| {
        let buyer = sample::key(sample::BUYER);
        let mut payload = to_vec(&*deal.offer);
        edit(&mut payload);
        to_vec(&seal(&buyer, main, 0x0201, "offer", payload))
    };
    let splice = |at: usize, removed: usize, with: &[u8]| {
        let mut other = bytes.clone();
        other.splice(at..at + removed, with.iter().copied());
        other
    };
    let mut contradiction = sample::offer();
    contradiction.expires_at = contradiction.issued_at;
    let contradiction = sample::sign(contradiction, &sample::key(sample::BUYER), main);
    let cases = [
        ("signed for another network", elsewhere.bytes().to_vec()),
        (
            "another signer",
            rewrite(|envelope| envelope.signer = sample::key(sample::STRANGER).node()),
        ),
        (
            "signer that is no point",
            rewrite(|envelope| envelope.signer = NodeId([0xff; 32])),
        ),
        (
            "signature with another bit",
            rewrite(|envelope| envelope.signature[63] ^= 1),
        ),
        ("kind of another message", rewrite(|envelope| envelope.kind = 0x0301)),
        ("unknown kind", rewrite(|envelope| envelope.kind = 0x0202)),
        ("unknown version", rewrite(|envelope| envelope.version = 2)),
        ("byte after the envelope", [bytes.as_slice(), &[0]].concat()),
        ("last byte missing", bytes[..bytes.len() - 1].to_vec()),
        ("nothing at all", Vec::new()),
        ("version in two bytes", splice(1, 1, &[0x18, 0x01])),
        ("kind in five bytes", splice(2, 3, &[0x1a, 0x00, 0x00, 0x02, 0x01])),
        ("array of indefinite length", [&[0x9f], &bytes[1..], &[0xff]].concat()),
        ("array of six", [&[0x86], &bytes[1..], &[0xf6]].concat()),
        ("signer as text", splice(5, 1, &[0x78])),
        ("tagged envelope", [&[0xc1], bytes.as_slice()].concat()),
        ("payload with a byte after it", resign(&|payload| payload.push(0xf6))),
        (
            "payload with a member more",
            resign(&|payload| {
                payload[0] += 1;
                payload.push(0xf6);
            }),
        ),
        (
            "payload cut short",
            resign(&|payload| payload.truncate(payload.len() - 1)),
        ),
        (
            "payload with a number as float",
            resign(&|payload| {
                let at = payload.len() - 9;
                payload[at] = 0xfb;
            }),
        ),
        (
            "model id in upper case",
            resign(&|payload| {
                if let Some(at) = payload.windows(7).position(|window| window == b"qwen2.5") {
                    payload[at] = b'Q';
                }
            }),
        ),
        (
            "control character in a text",
            resign(&|payload| {
                if let Some(at) = payload.windows(8).position(|window| window == b"infernet") {
                    payload[at] = b'\n';
                }
            }),
        ),
        (
            "text that is not UTF-8",
            resign(&|payload| {
                if let Some(at) = payload.windows(8).position(|window| window == b"infernet") {
                    payload[at] = 0xff;
                }
            }),
        ),
        ("offer that expires when it is issued", contradiction.bytes().to_vec()),
    ];
    cases
        .into_iter()
        .map(|(why, envelope)| {
            // What is not refused shows in the vectors as such, and the test that reads them fails.
            let error = match Any::from_bytes(&envelope, main) {
                Ok(_) => "none".to_owned(),
                Err(error) => error.to_string(),
            };
            object! { "why": why, "network": "main", "envelope": hexed(&envelope), "error": error }
        })
        .collect()
}

fn seal(who: &Identity, network: &Network, kind: u16, name: &str, payload: Vec<u8>) -> Envelope {
    Envelope {
        version: 1,
        kind,
        signer: who.node(),
        signature: who.sign(&network.signing_tag(name), &payload, &sample::ENTROPY),
        payload: Blob(payload),
    }
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// Head of an integer from 24 to 255.
const ONE_BYTE_FOLLOWS: u8 = 0x18;

fn frame(side: &str, name: &str, rule: &str, fields: Json, bytes: &[u8]) -> Json {
    object! {
        "side": side,
        "name": name,
        "rule": rule,
        "number": u32::from(if bytes[1] == ONE_BYTE_FOLLOWS { bytes[2] } else { bytes[1] }),
        "fields": fields,
        "bytes": hexed(bytes),
        "wire": hexed(&prefixed(bytes)),
    }
}

macro_rules! fields {
    ($frame:expr, $side:ident: $($variant:ident),+) => {
        match $frame { $($side::$variant(frame) => frame.show()),+ }
    };
}

fn exchange<T: Wire + Show>(name: &str, rule: &str, protocol: &str, message: &T) -> Json {
    let bytes = to_vec(message);
    object! {
        "name": name,
        "rule": rule,
        "protocol": protocol,
        "fields": message.show(),
        "bytes": hexed(&bytes),
        "wire": hexed(&prefixed(&bytes)),
    }
}

fn stream() -> Json {
    let deal = sample::Sample::new(&Network::default());
    let buyer = frames::buyer(&deal).into_iter().map(|(name, rule, said)| {
        let fields = fields!(&said, BuyerFrame: Start, Request, Body, Resume, Reconcile, Voucher, Countersign, Cancel);
        frame("buyer", name, rule, fields, &said.to_bytes())
    });
    let worker = frames::worker(&deal).into_iter().map(|(name, rule, said)| {
        let fields = fields!(&said, WorkerFrame: Head, Data, End, Usage, Receipt, Beat, Fail, Reconcile);
        frame("worker", name, rule, fields, &said.to_bytes())
    });
    let (ad, offer) = ("/c0mpute/ad/1.0.0", "/c0mpute/offer/1.0.0");
    let exchanges = vec![
        exchange(
            "question for the peer's own ad",
            "ad-query",
            ad,
            &frames::own_ad_query(),
        ),
        exchange(
            "question for the ads of a model",
            "ad-query",
            ad,
            &frames::model_query(),
        ),
        exchange("ads", "ad-list", ad, &frames::ad_list(&deal)),
        exchange(
            "answer with a bid",
            "offer-reply",
            offer,
            &frames::reply_with_bid(&deal),
        ),
        exchange("answer without a bid", "offer-reply", offer, &frames::reply_without()),
    ];
    let refused = [
        ("buyer", "unknown frame", "820981f6"),
        ("buyer", "frame of the worker", "821281f6"),
        ("buyer", "no array", "01"),
        ("buyer", "three members", "83088150c0c1c2c3c4c5c6c7c8c9cacbcccdcecff6"),
        ("buyer", "id of 15 bytes", "8208814fc0c1c2c3c4c5c6c7c8c9cacbcccdce"),
        (
            "buyer",
            "byte after the frame",
            "82088150c0c1c2c3c4c5c6c7c8c9cacbcccdcecf00",
        ),
        (
            "buyer",
            "number in two bytes",
            "8218088150c0c1c2c3c4c5c6c7c8c9cacbcccdcecf",
        ),
        ("worker", "negative number", "82138120"),
        ("worker", "chunked byte string", "821283005f4100fff6"),
        ("worker", "length beyond the frame", "821283005b7ffffffffffffffff6"),
        ("worker", "unknown fail code", "82178500601901f7f5f4"),
    ];
    object! {
        "about": "specs/stream.md: every frame, with and without its length; and the messages of the two exchanges",
        "frames": buyer.chain(worker).collect::<Json>(),
        "exchanges": Json::List(exchanges),
        "refused": refused.iter().map(|(side, why, bytes)| object! {
            "side": *side,
            "why": *why,
            "bytes": *bytes,
        }).collect::<Json>(),
    }
}

fn commitment() -> Json {
    let salt: [u8; 32] = sample::count(0x60);
    type Chain<'a> = (&'a str, RequestId, &'a [u8], &'a [&'a [u8]]);
    let chains: [Chain<'_>; 3] = [
        ("no answer", sample::request(0), b"", &[]),
        (
            "two frames",
            sample::request(0),
            br#"{"messages":[]}"#,
            &[b"data: {\"n\":0}\n\n", b"data: [DONE]\n\n"],
        ),
        ("an empty frame", sample::request(1), b"\x00\xff", &[b"", b"x"]),
    ];
    let cases = chains.iter().map(|(name, request, body, frames)| {
        let mut chain = infernet_protocol::receipt::Commitment::of_request(&salt, request, body);
        let start = chain.digest();
        let steps: Vec<Json> = frames
            .iter()
            .zip(0..)
            .map(|(bytes, frame)| {
                chain.add(frame, bytes);
                object! { "frame": frame, "bytes": hexed(bytes), "commitment": hexed(&chain.digest().0) }
            })
            .collect();
        object! {
            "name": *name,
            "salt": hexed(&salt),
            "request": hexed(&request.0),
            "body": hexed(body),
            "start": hexed(&start.0),
            "frames": Json::List(steps),
            "end": hexed(&chain.digest().0),
        }
    });
    object! { "about": "specs/stream.md, Commitment", "chains": cases.collect::<Json>() }
}

fn cost() -> Json {
    let cases: [(u64, u64, u64, u32, u32); 12] = [
        (0, 0, 0, 1_000, 1_000),
        (1, 0, 0, 0, 0),
        (1, 0, 0, 1, 0),
        (1, 1, 0, 1, 1),
        (1, 0, 0, 1_000_000, 0),
        (1, 0, 0, 1_000_001, 0),
        (500_000, 500_000, 0, 1, 1),
        (500_000, 500_000, 0, 1, 2),
        (150_000, 600_000, 10, 1_000, 500),
        (0, 0, 25, 0, 0),
        (u64::MAX, 0, 0, 1_000_000, 0),
        (u64::MAX, u64::MAX, u64::MAX, u32::MAX, u32::MAX),
    ];
    let cases = cases
        .iter()
        .map(|&(input, output, request, input_tokens, output_tokens)| {
            let price = Price {
                input: MicroUsd(input),
                output: MicroUsd(output),
                request: MicroUsd(request),
            };
            object! {
                "input": input.to_string(),
                "output": output.to_string(),
                "request": request.to_string(),
                "input_tokens": input_tokens,
                "output_tokens": output_tokens,
                "cost": price.cost(input_tokens, output_tokens).0.to_string(),
            }
        });
    object! { "about": "specs/receipts.md, Money: amounts in micro-USD, as decimal text", "costs": cases.collect::<Json>() }
}

fn sortition() -> Json {
    let draws = (0..6).map(|i| {
        let job = JobId(sample::count(i * 16));
        let node = sample::key(if i % 2 == 0 { sample::WORKER } else { sample::STRANGER }).node();
        object! {
            "job": hexed(&job.0),
            "signer": hexed(&node.0),
            "digest": hexed(&Digest::of(&[&job.0, &node.0]).0),
            "draw": draw(&job, &node),
        }
    });
    let thresholds = [
        (OPEN_TO_ALL, 0),
        (OPEN_TO_ALL, 1),
        (OPEN_TO_ALL, 32),
        (OPEN_TO_ALL, 33),
        (OPEN_TO_ALL, 1_000),
        (1_024, 10),
        (1_024, 1_000_000),
        (0, 10),
    ];
    let thresholds = thresholds.iter().map(|&(open, held)| {
        object! { "open": open, "ads_held": held as u64, "threshold": open_threshold(open, held) }
    });
    object! {
        "about": "specs/auction.md, Uninvited bids",
        "draws": draws.collect::<Json>(),
        "thresholds": thresholds.collect::<Json>(),
    }
}

fn models() -> Json {
    let names = [
        "llama3",
        "Llama3:latest",
        "llama3:latest:latest",
        "Qwen/Qwen2.5-7B-Instruct",
        " qwen2.5:7b ",
        "mod\u{e8}le",
        "mode\u{300}le",
        "STRASSE",
        "\u{391}\u{3a3}",
    ];
    let named = names
        .iter()
        .filter_map(|name| ModelId::new(name).ok().map(|id| (name, id)));
    let ids = named.map(|(name, id)| {
        let multihash = |digest: Digest| hexed(&[&[0x12, 0x20], digest.0.as_slice()].concat());
        object! {
            "name": *name,
            "id": id.as_str(),
            "record_key": multihash(id.record_key()),
            "shard_key_0": multihash(id.shard_key(0)),
            "shard_key_15": multihash(id.shard_key(15)),
        }
    });
    let long = "x".repeat(129);
    let refused = ["", " ", ":latest", "a b", "a\tb", "a\u{7f}", &long];
    object! {
        "about": "specs/capability.md, Model ids: an engine's name to the network's, and its keys in the DHT",
        "ids": ids.collect::<Json>(),
        "refused": refused.iter().map(|name| Json::from(*name)).collect::<Json>(),
        "not_normal": ["Llama3", "llama3:latest", "mode\u{300}le"].iter().map(|id| Json::from(*id)).collect::<Json>(),
    }
}

fn export() -> Json {
    let deal = sample::Sample::new(&Network::default());
    let file = deal.export().to_bytes();
    let total = chain::check(&file)
        .map(|checked| checked.settled_total())
        .unwrap_or_default();
    let mut damaged = file.clone();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let mut faults = vec![
        fault("checksum with another bit", &damaged),
        fault("last byte missing", &file[..file.len() - 1]),
    ];
    faults.extend(
        sample::FALSE_DEALS
            .iter()
            .map(|case| fault(case.name, &sample::forge(case.edit))),
    );
    object! {
        "about": "specs/receipts.md, Exported receipts: a true file, and false ones with the fault to be named",
        "rule": "export",
        "fields": deal.export().show(),
        "file": hexed(&file),
        "receipts": deal.ledger.entries().len() as u64,
        "settled": deal.ledger.settled(),
        "settled_total": total.show(),
        "faults": Json::List(faults),
    }
}

fn fault(name: &str, file: &[u8]) -> Json {
    let says = match chain::check(file) {
        Ok(_) => "nothing".to_owned(),
        Err(fault) => fault.to_string(),
    };
    object! { "name": name, "says": says, "file": hexed(file) }
}
