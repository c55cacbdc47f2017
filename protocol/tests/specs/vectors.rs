//! The vectors, read back: by another encoder than the one that wrote them, by plain SHA-256, and by the crate itself.

use infernet_protocol::auction::{draw, open_threshold};
use infernet_protocol::codec::{from_slice, to_vec};
use infernet_protocol::identity::KeyError;
use infernet_protocol::market::gossip::{Gossip, Topic};
use infernet_protocol::receipt::{Commitment, chain};
use infernet_protocol::signed::Any;
use infernet_protocol::stream::{BuyerFrame, WorkerFrame};
use infernet_protocol::{Identity, JobId, MicroUsd, ModelId, Network, NodeId, Price, RequestId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn vectors(name: &str) -> Value {
    serde_json::from_str(&crate::vector_file(name)).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value[name].as_array().unwrap_or_else(|| panic!("no list `{name}`"));
    assert!(!list.is_empty(), "`{name}` is empty");
    list
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no text `{name}` in {value}"))
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(value, name)).unwrap()
}

fn fixed<const N: usize>(value: &Value, name: &str) -> [u8; N] {
    bytes(value, name).try_into().unwrap()
}

fn number<T: TryFrom<u64>>(value: &Value, name: &str) -> T {
    let number = value[name].as_u64().or_else(|| value[name].as_str()?.parse().ok());
    T::try_from(number.unwrap_or_else(|| panic!("no number `{name}` in {value}")))
        .ok()
        .unwrap()
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

#[test]
fn a_secret_gives_every_name_and_every_name_gives_the_key() {
    let file = vectors("identity.json");
    for key in list(&file, "keys") {
        let identity = Identity::from_secret(&fixed(key, "secret")).unwrap();
        let node = identity.node();
        assert_eq!(identity.secret().to_vec(), bytes(key, "normalised"));
        assert_eq!(
            identity.secret() != fixed::<32>(key, "secret"),
            key["negated"].as_bool().unwrap()
        );
        assert_eq!(identity.nsec(), text(key, "nsec"));
        assert_eq!(node.0.to_vec(), bytes(key, "node"));
        assert_eq!(node.npub(), text(key, "npub"));
        assert_eq!(node.peer_id(), text(key, "peer_id"));
        assert_eq!(node.peer_id_bytes().to_vec(), bytes(key, "peer_id_bytes"));
        for name in ["node", "npub", "peer_id"] {
            assert_eq!(NodeId::parse(text(key, name)), Ok(node), "from {name}");
        }
        assert_eq!(NodeId::from_peer_id_bytes(&bytes(key, "peer_id_bytes")), Ok(node));
        for name in ["secret", "normalised", "nsec"] {
            assert_eq!(
                Identity::parse_secret(text(key, name)).unwrap().node(),
                node,
                "from {name}"
            );
        }
    }
    assert!(list(&file, "keys").iter().any(|key| key["negated"] == true));
}

#[test]
fn the_normalised_key_is_the_point_with_even_y() {
    use k256::elliptic_curve::sec1::ToSec1Point as _;
    for key in list(&vectors("identity.json"), "keys") {
        let secret = k256::SecretKey::from_slice(&bytes(key, "normalised")).unwrap();
        let point = secret.public_key().to_sec1_point(true);
        assert_eq!(point.as_bytes(), [&[2], bytes(key, "node").as_slice()].concat());
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let file = vectors("identity.json");
    for secret in list(&file, "refused_secrets") {
        let secret = hex::decode(secret.as_str().unwrap()).unwrap().try_into().unwrap();
        assert_eq!(Identity::from_secret(&secret).err(), Some(KeyError::Secret));
    }
    for case in list(&file, "refused_peer_ids") {
        assert!(
            NodeId::from_peer_id_bytes(&bytes(case, "peer_id_bytes")).is_err(),
            "{}",
            text(case, "why")
        );
    }
    for case in list(&file, "refused_npubs") {
        let npub = text(case, "npub");
        assert!(
            NodeId::from_npub(npub).is_err() && NodeId::parse(npub).is_err(),
            "{}",
            text(case, "why")
        );
    }
}

/// JSON whose members keep their order, which is that of the encoding.
enum Ordered {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Ordered>),
    Object(Vec<(String, Ordered)>),
}

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> serde::de::Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON without fractions or negative numbers")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Text(value.to_owned()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Ordered::List(list))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Ordered::Object(members))
    }
}

impl Ordered {
    fn member(&self, name: &str) -> &Self {
        let Self::Object(members) = self else {
            panic!("no object around `{name}`")
        };
        &members
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("no `{name}`"))
            .1
    }

    fn items(&self) -> &[Self] {
        let Self::List(items) = self else { panic!("no list") };
        items
    }

    /// A second encoder, as plain as the rules: an object is the array of its members, `{"hex"}` is a byte string.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0xf6),
            Self::Bool(value) => out.push(0xf4 + u8::from(*value)),
            Self::Number(value) => head(0, *value, out),
            Self::Text(value) => {
                head(3, value.len() as u64, out);
                out.extend(value.as_bytes());
            }
            Self::List(values) => {
                head(4, values.len() as u64, out);
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Object(members) => match members.as_slice() {
                [(name, Self::Text(digits))] if name == "hex" => {
                    let bytes = hex::decode(digits).unwrap();
                    head(2, bytes.len() as u64, out);
                    out.extend(bytes);
                }
                members => {
                    head(4, members.len() as u64, out);
                    members.iter().for_each(|(_, value)| value.encode(out));
                }
            },
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

fn ordered(name: &str) -> Ordered {
    serde_json::from_str(&crate::vector_file(name)).unwrap()
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend([major | 24, bytes[7]]),
        0x100..=0xffff => out.extend([&[major | 25], &bytes[6..]].concat()),
        0x1_0000..=0xffff_ffff => out.extend([&[major | 26], &bytes[4..]].concat()),
        _ => out.extend([&[major | 27], &bytes[..]].concat()),
    }
}

#[test]
fn every_message_is_encoded_signed_and_hashed_as_the_vectors_say() {
    let (file, same) = (vectors("signing.json"), ordered("signing.json"));
    for (message, same) in list(&file, "messages").iter().zip(same.member("messages").items()) {
        let name = text(message, "name");
        let payload = bytes(message, "payload");
        assert_eq!(
            hex::encode(same.member("fields").encoded()),
            hex::encode(&payload),
            "{name}"
        );

        let tag = format!("c0mpute/{}/{}/v1", text(message, "network"), text(message, "kind_name"));
        assert_eq!(text(message, "tag"), tag);
        let tag_hash = sha256(&[tag.as_bytes()]);
        let signed_hash = sha256(&[&tag_hash, &tag_hash, &payload]);
        assert_eq!(signed_hash, bytes(message, "signed_hash"), "{name}");

        let key = k256::schnorr::SigningKey::from_slice(&bytes(message, "secret")).unwrap();
        let signature = key
            .sign_raw(&signed_hash, &fixed(message, "entropy"))
            .unwrap()
            .to_bytes();
        assert_eq!(signature.to_vec(), bytes(message, "signature"), "{name}");

        let mut envelope = vec![0x85, 0x01];
        head(0, number(message, "kind"), &mut envelope);
        for part in [key.verifying_key().to_bytes().as_slice(), &payload, &signature] {
            head(2, part.len() as u64, &mut envelope);
            envelope.extend(part);
        }
        assert_eq!(hex::encode(&envelope), text(message, "envelope"), "{name}");
        assert_eq!(sha256(&[&envelope]), bytes(message, "hash"), "{name}");

        let network = Network::new(text(message, "network")).unwrap();
        let read = Any::from_bytes(&envelope, &network).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.signer().0.to_vec(), key.verifying_key().to_bytes().to_vec());
    }
}

#[test]
fn a_settled_receipt_is_two_envelopes() {
    let (file, same) = (vectors("signing.json"), ordered("signing.json"));
    let encoded = bytes(&file["settled"], "bytes");
    assert_eq!(
        hex::encode(same.member("settled").member("fields").encoded()),
        hex::encode(&encoded)
    );
    let network = Network::default();
    let gossip = Gossip::from_bytes(Topic::Jobs, &encoded, &network).unwrap();
    assert!(matches!(&gossip, Gossip::Settled(receipt, sign) if sign.receipt == receipt.hash()));
    assert_eq!(gossip.to_bytes(), encoded);
    assert!(Gossip::from_bytes(Topic::Capability, &encoded, &network).is_err());
}

#[test]
fn every_bad_envelope_is_refused_for_its_reason() {
    for case in list(&vectors("signing.json"), "refused") {
        let network = Network::new(text(case, "network")).unwrap();
        let error = Any::from_bytes(&bytes(case, "envelope"), &network)
            .map(drop)
            .expect_err(text(case, "why"));
        assert_eq!(error.to_string(), text(case, "error"), "{}", text(case, "why"));
    }
}

#[test]
fn every_frame_is_encoded_as_the_vectors_say() {
    let (file, same) = (vectors("frames.json"), ordered("frames.json"));
    for (frame, same) in list(&file, "frames").iter().zip(same.member("frames").items()) {
        let (name, encoded) = (text(frame, "name"), bytes(frame, "bytes"));
        let mut expected = vec![0x82];
        head(0, number(frame, "number"), &mut expected);
        expected.extend(same.member("fields").encoded());
        assert_eq!(hex::encode(&expected), hex::encode(&encoded), "{name}");
        let again = match text(frame, "side") {
            "buyer" => BuyerFrame::from_bytes(&encoded).unwrap().to_bytes(),
            _ => WorkerFrame::from_bytes(&encoded).unwrap().to_bytes(),
        };
        assert_eq!(again, encoded, "{name}");
        assert_eq!(bytes(frame, "wire"), length_and(&encoded));
    }
    for (message, same) in list(&file, "exchanges").iter().zip(same.member("exchanges").items()) {
        let encoded = bytes(message, "bytes");
        assert_eq!(hex::encode(same.member("fields").encoded()), hex::encode(&encoded));
        assert_eq!(bytes(message, "wire"), length_and(&encoded));
    }
    for case in list(&file, "refused") {
        let refused = match text(case, "side") {
            "buyer" => BuyerFrame::from_bytes(&bytes(case, "bytes")).is_err(),
            _ => WorkerFrame::from_bytes(&bytes(case, "bytes")).is_err(),
        };
        assert!(refused, "{}", text(case, "why"));
    }
}

fn length_and(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

#[test]
fn the_commitment_chain_is_plain_sha256() {
    for chain in list(&vectors("commitment.json"), "chains") {
        let (salt, request): ([u8; 32], [u8; 16]) = (fixed(chain, "salt"), fixed(chain, "request"));
        let body = bytes(chain, "body");
        let mut plain = sha256(&[b"infernet/commitment/v1", &salt, &request, &sha256(&[&body])]);
        let mut commitment = Commitment::of_request(&salt, &RequestId(request), &body);
        assert_eq!(plain, bytes(chain, "start"));
        for frame in chain["frames"].as_array().unwrap() {
            let (place, data) = (number::<u64>(frame, "frame"), bytes(frame, "bytes"));
            plain = sha256(&[&plain, &place.to_be_bytes(), &data]);
            commitment.add(place, &data);
            assert_eq!(plain, bytes(frame, "commitment"));
        }
        assert_eq!(plain, bytes(chain, "end"));
        assert_eq!(commitment.digest().0.to_vec(), plain);
    }
}

#[test]
fn costs_are_rounded_up_once() {
    for case in list(&vectors("cost.json"), "costs") {
        let price = Price {
            input: MicroUsd(number(case, "input")),
            output: MicroUsd(number(case, "output")),
            request: MicroUsd(number(case, "request")),
        };
        let (input, output): (u32, u32) = (number(case, "input_tokens"), number(case, "output_tokens"));
        assert_eq!(price.cost(input, output), MicroUsd(number(case, "cost")));
        let exact = u128::from(price.input.0) * u128::from(input) + u128::from(price.output.0) * u128::from(output);
        let whole = exact / 1_000_000 + u128::from(exact % 1_000_000 != 0) + u128::from(price.request.0);
        assert_eq!(whole.min(u128::from(u64::MAX)), u128::from(number::<u64>(case, "cost")));
    }
}

#[test]
fn the_draw_is_two_bytes_of_a_hash() {
    let file = vectors("sortition.json");
    for case in list(&file, "draws") {
        let digest = sha256(&[&bytes(case, "job"), &bytes(case, "signer")]);
        assert_eq!(digest, bytes(case, "digest"));
        let drawn: u32 = number(case, "draw");
        assert_eq!(drawn, u32::from(digest[0]) * 256 + u32::from(digest[1]));
        assert_eq!(drawn, draw(&JobId(fixed(case, "job")), &NodeId(fixed(case, "signer"))));
    }
    for case in list(&file, "thresholds") {
        let (open, held): (u32, usize) = (number(case, "open"), number(case, "ads_held"));
        assert_eq!(open_threshold(open, held), number::<u32>(case, "threshold"));
        let expected = (2_097_152 / held.max(1)).min(open as usize);
        assert_eq!(expected, number::<usize>(case, "threshold"));
    }
}

#[test]
fn model_ids_are_normalised_and_hashed() {
    let file = vectors("models.json");
    for case in list(&file, "ids") {
        let id = ModelId::new(text(case, "name")).unwrap();
        assert_eq!(id.as_str(), text(case, "id"));
        let key = |suffix: &str| {
            let digest = sha256(&[b"infernet:v1:model:", id.as_str().as_bytes(), suffix.as_bytes()]);
            [&[0x12, 0x20], digest.as_slice()].concat()
        };
        assert_eq!(key(""), bytes(case, "record_key"));
        assert_eq!(key("/0"), bytes(case, "shard_key_0"));
        assert_eq!(key("/15"), bytes(case, "shard_key_15"));
        assert_eq!(key("")[2..], id.record_key().0);
        assert_eq!(key("/15")[2..], id.shard_key(0xff).0);
    }
    for name in list(&file, "refused") {
        assert!(ModelId::new(name.as_str().unwrap()).is_err(), "{name}");
    }
    for id in list(&file, "not_normal") {
        let encoded = Ordered::Text(id.as_str().unwrap().to_owned()).encoded();
        assert!(from_slice::<ModelId>(&encoded).is_err(), "{id}");
        assert!(from_slice::<String128>(&encoded).is_ok(), "{id} is text");
    }
}

type String128 = infernet_protocol::codec::Text<128>;

#[test]
fn the_exported_file_holds_and_the_false_ones_are_named() {
    let (export, same) = (vectors("export.json"), ordered("export.json"));
    let file = bytes(&export, "file");
    assert_eq!(hex::encode(same.member("fields").encoded()), hex::encode(&file));

    let mut zeroed = file.clone();
    zeroed[file.len() - 32..].fill(0);
    assert_eq!(sha256(&[&zeroed]), file[file.len() - 32..]);

    let checked = chain::check(&file).unwrap();
    assert_eq!(
        checked.ledger.entries().len() as u64,
        number::<u64>(&export, "receipts")
    );
    assert_eq!(checked.ledger.settled(), number::<u32>(&export, "settled"));
    assert_eq!(to_vec(&checked.settled_total()), same.member("settled_total").encoded());

    for case in list(&export, "faults") {
        let fault = chain::check(&bytes(case, "file"))
            .map(drop)
            .expect_err(text(case, "name"));
        assert_eq!(fault.to_string(), text(case, "says"), "{}", text(case, "name"));
    }
}
