//! One secp256k1 key per node: BIP-340 signatures, the libp2p PeerId and the Nostr `npub` all come from it.
//!
//! The secret is normalised so that the public key has even Y; then the 32-byte x-only key and the PeerId determine
//! each other. Where the key is kept is the node's business. Implements `specs/identity.md`.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use k256::schnorr::{Signature, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ids::NodeId;

/// Why a key or a name of one cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Zero, or not below the curve's order.
    #[error("not a secp256k1 secret key")]
    Secret,
    /// No curve point has this x coordinate.
    #[error("not a point of secp256k1")]
    Point,
    /// Not bech32, or another prefix than the one expected.
    #[error("not a bech32 `{0}1...` key")]
    Bech32(&'static str),
    /// A peer id of another key type; such peers may relay and use the DHT, but not trade.
    #[error("peer id does not hold a secp256k1 key, so the peer cannot trade")]
    KeyType,
    /// The key has odd Y, so its x-only form names another peer.
    #[error("peer id holds a key with odd Y, so the peer cannot trade")]
    OddY,
}

/// A node's secret key and what follows from it.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
    node: NodeId,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.node).finish()
    }
}

impl Identity {
    /// From 32 secret bytes, negated where the public key would have odd Y.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_slice(secret).map_err(|_| KeyError::Secret)?;
        let node = NodeId(key.verifying_key().to_bytes().into());
        Ok(Self { key, node })
    }

    /// From `nsec1...` or 64 hex digits.
    pub fn parse_secret(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = match hex::decode(text) {
            Ok(bytes) => bytes,
            Err(_) => from_bech32("nsec", text)?.to_vec(),
        };
        Self::from_secret(&bytes.try_into().map_err(|_| KeyError::Secret)?)
    }

    /// The normalised secret.
    #[must_use]
    pub fn secret(&self) -> [u8; 32] {
        self.key.to_bytes().into()
    }

    /// The secret as `nsec1...`.
    #[must_use]
    pub fn nsec(&self) -> String {
        to_bech32("nsec", &self.secret())
    }

    /// The public half.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Signs `payload` under `tag`; `entropy` is BIP-340's auxiliary randomness.
    #[must_use]
    pub fn sign(&self, tag: &str, payload: &[u8], entropy: &[u8; 32]) -> [u8; 64] {
        let digest = tagged_hash(tag, payload);
        let mut aux = *entropy;
        loop {
            // Fails only where the derived nonce is zero: one chance in 2^256, and other randomness mends it.
            if let Ok(signature) = self.key.sign_raw(&digest, &aux) {
                return signature.to_bytes();
            }
            aux[0] = aux[0].wrapping_add(1);
        }
    }
}

impl NodeId {
    /// Whether `signature` over `payload` under `tag` is this node's.
    #[must_use]
    pub fn signed(&self, tag: &str, payload: &[u8], signature: &[u8; 64]) -> bool {
        let check = || -> Option<()> {
            let key = VerifyingKey::from_slice(&self.0).ok()?;
            let signature = Signature::from_bytes(signature).ok()?;
            key.verify_raw(&tagged_hash(tag, payload), &signature).ok()
        };
        check().is_some()
    }

    /// `npub1...` of the key.
    #[must_use]
    pub fn npub(&self) -> String {
        to_bech32("npub", &self.0)
    }

    /// From `npub1...`.
    pub fn from_npub(text: &str) -> Result<Self, KeyError> {
        Self::on_curve(from_bech32("npub", text)?)
    }

    /// From an x coordinate, if the curve has it.
    pub fn on_curve(x: [u8; 32]) -> Result<Self, KeyError> {
        VerifyingKey::from_slice(&x)
            .map(|_| Self(x))
            .map_err(|_| KeyError::Point)
    }

    /// The libp2p PeerId: identity multihash of the protobuf-framed compressed key.
    #[must_use]
    pub fn peer_id_bytes(&self) -> [u8; PEER_ID_BYTES] {
        let mut bytes = [0; PEER_ID_BYTES];
        bytes[..PEER_ID_PREFIX.len()].copy_from_slice(&PEER_ID_PREFIX);
        bytes[PEER_ID_PREFIX.len() - 1] = EVEN_Y;
        bytes[PEER_ID_PREFIX.len()..].copy_from_slice(&self.0);
        bytes
    }

    /// The PeerId in base58, as libp2p prints it.
    #[must_use]
    pub fn peer_id(&self) -> String {
        bs58::encode(self.peer_id_bytes()).into_string()
    }

    /// From the bytes of a PeerId.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = PEER_ID_PREFIX.len() - 1;
        if bytes.len() != PEER_ID_BYTES || bytes[..key] != PEER_ID_PREFIX[..key] {
            return Err(KeyError::KeyType);
        }
        if bytes[key] != EVEN_Y {
            return Err(KeyError::OddY);
        }
        let mut x = [0; 32];
        x.copy_from_slice(&bytes[key + 1..]);
        Self::on_curve(x)
    }

    /// From a PeerId in base58.
    pub fn from_peer_id(text: &str) -> Result<Self, KeyError> {
        let bytes = bs58::decode(text).into_vec().map_err(|_| KeyError::KeyType)?;
        Self::from_peer_id_bytes(&bytes)
    }

    /// From a PeerId, an `npub` or 64 hex digits: whatever a person copied.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with("npub1") {
            return Self::from_npub(text);
        }
        match text.parse::<Self>() {
            Ok(node) => Self::on_curve(node.0),
            Err(_) => Self::from_peer_id(text),
        }
    }
}

/// Length of a PeerId with a secp256k1 key.
pub const PEER_ID_BYTES: usize = 39;
/// Identity multihash (0x00, 37 bytes) of the protobuf {type: Secp256k1 = 2, data: 33 bytes}, then the sign byte.
const PEER_ID_PREFIX: [u8; 7] = [0x00, 0x25, 0x08, 0x02, 0x12, 0x21, EVEN_Y];
/// SEC 1 prefix of a compressed point with even Y.
const EVEN_Y: u8 = 0x02;

/// BIP-340 tagged hash: SHA-256(SHA-256(tag) || SHA-256(tag) || payload).
#[must_use]
pub fn tagged_hash(tag: &str, payload: &[u8]) -> [u8; 32] {
    let tag = Sha256::digest(tag.as_bytes());
    Sha256::new()
        .chain_update(tag)
        .chain_update(tag)
        .chain_update(payload)
        .finalize()
        .into()
}

fn to_bech32(prefix: &'static str, bytes: &[u8; 32]) -> String {
    bech32::encode::<Bech32>(Hrp::parse_unchecked(prefix), bytes).unwrap_or_default()
}

fn from_bech32(prefix: &'static str, text: &str) -> Result<[u8; 32], KeyError> {
    let wrong = KeyError::Bech32(prefix);
    // NIP-19 knows bech32 alone; with bech32m beside it a key would have two names.
    let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| wrong)?;
    if checked.hrp().as_str() != prefix {
        return Err(wrong);
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map_err(|_| wrong)
}
