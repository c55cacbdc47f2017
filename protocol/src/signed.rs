//! Envelopes: who signed what. `Signed<T>` gives nothing away until `verify()` turns it into `Verified<T>`, and the
//! state machines take only that. Implements `specs/signing.md`.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::auction::{JobAccept, JobBid, JobOffer};
use crate::capability::CapabilityAd;
use crate::codec::{self, Blob, Malformed, Wire};
use crate::identity::Identity;
use crate::ids::{Digest, NodeId};
use crate::names::{Network, PAYLOAD_BYTES};
use crate::receipt::{Countersign, JobReceipt};

/// Version of the envelope itself.
const ENVELOPE_VERSION: u8 = 1;

/// A kind of message: number on the wire (type and version together) and name in the signing tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Number in the envelope.
    pub number: u16,
    /// Name in the tag.
    pub name: &'static str,
}

/// A message that travels in an envelope.
pub trait Message: Wire + Clone + std::fmt::Debug {
    /// Its kind.
    const KIND: Kind;

    /// Rules that hold between fields whatever the receiver's state.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

wire_struct! {
    /// A signed payload as it travels.
    pub struct Envelope {
        /// Always 1.
        pub version: u8,
        /// Type and version of the payload.
        pub kind: u16,
        /// Who signed.
        pub signer: NodeId,
        /// The message's encoding.
        pub payload: Blob<PAYLOAD_BYTES>,
        /// BIP-340 signature of the payload under the kind's tag.
        pub signature: [u8; 64],
    }
}

/// Why an envelope does not count. All but `Kind` mean that whoever made it broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes are not an envelope, or the payload not a message.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The envelope's version is unknown.
    #[error("envelope version {0} is unknown")]
    Version(u8),
    /// A kind of message that is unknown, or not the one expected here.
    #[error("message kind {0} does not belong here")]
    Kind(u16),
    /// The signature is not the signer's.
    #[error("signature does not verify")]
    Signature,
    /// The message contradicts itself.
    #[error("{0}")]
    Content(&'static str),
}

/// A message whose signature was not looked at yet.
#[derive(Clone, Debug)]
pub struct Signed<T> {
    envelope: Envelope,
    message: PhantomData<T>,
}

impl<T: Message> Signed<T> {
    /// Reads an envelope of this kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        Self::from_envelope(open(bytes)?)
    }

    fn from_envelope(envelope: Envelope) -> Result<Self, Refused> {
        if envelope.kind != T::KIND.number {
            return Err(Refused::Kind(envelope.kind));
        }
        Ok(Self {
            envelope,
            message: PhantomData,
        })
    }

    /// Checks the signature, decodes the payload and checks its own rules.
    pub fn verify(self, network: &Network) -> Result<Verified<T>, Refused> {
        let Envelope {
            signer,
            payload,
            signature,
            ..
        } = &self.envelope;
        let message: T = codec::from_slice(&payload.0)?;
        message.check().map_err(Refused::Content)?;
        if !signer.signed(&network.signing_tag(T::KIND.name), &payload.0, signature) {
            return Err(Refused::Signature);
        }
        Ok(Verified::assemble(message, &self.envelope))
    }
}

/// A message whose signer is known.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    message: T,
    signer: NodeId,
    hash: Digest,
    bytes: Vec<u8>,
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner.message
    }
}

impl<T> PartialEq for Verified<T> {
    fn eq(&self, other: &Self) -> bool {
        self.inner.hash == other.inner.hash
    }
}

impl<T> Eq for Verified<T> {}

impl<T> Verified<T> {
    fn assemble(message: T, envelope: &Envelope) -> Self {
        let bytes = codec::to_vec(envelope);
        let hash = Digest::of(&[&bytes]);
        Self {
            inner: Arc::new(Inner {
                message,
                signer: envelope.signer,
                hash,
                bytes,
            }),
        }
    }

    /// Who signed it.
    #[must_use]
    pub fn signer(&self) -> NodeId {
        self.inner.signer
    }

    /// SHA-256 of the envelope: how other messages name this one.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.inner.hash
    }

    /// The envelope as it travels.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.inner.bytes
    }
}

impl<T: Message> Verified<T> {
    /// Reads and verifies in one go.
    pub fn from_bytes(bytes: &[u8], network: &Network) -> Result<Self, Refused> {
        Signed::from_bytes(bytes)?.verify(network)
    }

    /// Signs a message of our own.
    #[must_use]
    pub fn sign(message: T, identity: &Identity, network: &Network, entropy: &[u8; 32]) -> Self {
        let payload = codec::to_vec(&message);
        let signature = identity.sign(&network.signing_tag(T::KIND.name), &payload, entropy);
        let envelope = Envelope {
            version: ENVELOPE_VERSION,
            kind: T::KIND.number,
            signer: identity.node(),
            payload: Blob(payload),
            signature,
        };
        Self::assemble(message, &envelope)
    }
}

/// Reads an envelope without looking into it.
pub fn open(bytes: &[u8]) -> Result<Envelope, Refused> {
    let envelope: Envelope = codec::from_slice(bytes)?;
    if envelope.version != ENVELOPE_VERSION {
        return Err(Refused::Version(envelope.version));
    }
    Ok(envelope)
}

/// A verified message of any kind.
#[derive(Clone, Debug)]
pub enum Any {
    /// A provider's ad.
    Ad(Verified<CapabilityAd>),
    /// A buyer's offer.
    Offer(Verified<JobOffer>),
    /// A worker's bid.
    Bid(Verified<JobBid>),
    /// A buyer's accept.
    Accept(Verified<JobAccept>),
    /// A worker's receipt.
    Receipt(Verified<JobReceipt>),
    /// A buyer's countersignature.
    Countersign(Verified<Countersign>),
}

impl Any {
    /// Reads and verifies a message of whatever kind it says it is.
    pub fn from_bytes(bytes: &[u8], network: &Network) -> Result<Self, Refused> {
        let envelope = open(bytes)?;
        macro_rules! by_kind {
            ($($ty:ty => $variant:ident),+ $(,)?) => {
                match envelope.kind {
                    $(kind if kind == <$ty>::KIND.number => {
                        Ok(Self::$variant(Signed::<$ty>::from_envelope(envelope)?.verify(network)?))
                    })+
                    unknown => Err(Refused::Kind(unknown)),
                }
            };
        }
        by_kind! {
            CapabilityAd => Ad,
            JobOffer => Offer,
            JobBid => Bid,
            JobAccept => Accept,
            JobReceipt => Receipt,
            Countersign => Countersign,
        }
    }

    /// The number of its kind.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Ad(_) => CapabilityAd::KIND.number,
            Self::Offer(_) => JobOffer::KIND.number,
            Self::Bid(_) => JobBid::KIND.number,
            Self::Accept(_) => JobAccept::KIND.number,
            Self::Receipt(_) => JobReceipt::KIND.number,
            Self::Countersign(_) => Countersign::KIND.number,
        }
    }

    /// Who signed it.
    #[must_use]
    pub fn signer(&self) -> NodeId {
        match self {
            Self::Ad(message) => message.signer(),
            Self::Offer(message) => message.signer(),
            Self::Bid(message) => message.signer(),
            Self::Accept(message) => message.signer(),
            Self::Receipt(message) => message.signer(),
            Self::Countersign(message) => message.signer(),
        }
    }
}
