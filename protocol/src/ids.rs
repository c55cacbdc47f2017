//! Identifiers. Each is its own type, so that one cannot stand where another belongs.

use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization;

use crate::codec::{Malformed, Reader, Reason, Wire, Writer};

macro_rules! bytes_id {
    ($(#[$meta:meta])* $name:ident, $length:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl Wire for $name {
            fn encode(&self, writer: &mut Writer) {
                writer.bytes(&self.0);
            }

            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.fixed().map(Self)
            }
        }
    };
}

bytes_id!(
    /// One auctioned job, drawn at random by its buyer.
    JobId, 16
);
bytes_id!(
    /// One request under a lease, drawn at random by its buyer.
    RequestId, 16
);
bytes_id!(
    /// A SHA-256 digest.
    Digest, 32
);
bytes_id!(
    /// A trading node: the x-only public key of its identity, whose point has even Y.
    NodeId, 32
);

impl Digest {
    /// SHA-256 of the parts, one after another.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl NodeId {
    /// The first eight hex digits: enough to tell nodes apart on a screen.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

wire_struct! {
    /// A lease: one job, and the attempt that was accepted for it.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    pub struct LeaseId {
        /// The auctioned job.
        pub job: JobId,
        /// 0 for the first accept of the job, one more for each runner-up.
        pub attempt: u16,
    }
}

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.job, self.attempt)
    }
}

/// Longest model id in bytes: engines' names with a registry path stay below it.
pub const MODEL_ID_BYTES: usize = 128;

/// What the network calls a model: NFC, lower case, without the default tag `:latest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(String);

impl ModelId {
    /// Normalises an engine's own name.
    pub fn new(name: &str) -> Result<Self, Reason> {
        let name = name.trim();
        // Nothing that long becomes short enough; to bring it into its normal form would be work for nothing.
        if name.len() > 16 * MODEL_ID_BYTES {
            return Err(Reason::TooLong {
                limit: MODEL_ID_BYTES,
                found: name.len(),
            });
        }
        let normal: String = name.nfc().collect::<String>().to_lowercase().nfc().collect();
        // All of them: an id must be its own normal form, or it could not be read back.
        let normal = normal.trim_end_matches(":latest");
        if normal.is_empty() {
            return Err(Reason::Value("model id is empty"));
        }
        if normal.len() > MODEL_ID_BYTES {
            return Err(Reason::TooLong {
                limit: MODEL_ID_BYTES,
                found: normal.len(),
            });
        }
        if normal.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Reason::Value("model id has white space or control characters"));
        }
        Ok(Self(normal.to_owned()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// SHA-256 of `infernet:v1:model:<id>`, the digest of the model's key in the DHT.
    #[must_use]
    pub fn record_key(&self) -> Digest {
        Digest::of(&[b"infernet:v1:model:", self.0.as_bytes()])
    }

    /// The same for one of the sixteen shards of a popular model, chosen by the provider's own key.
    #[must_use]
    pub fn shard_key(&self, shard: u8) -> Digest {
        Digest::of(&[
            b"infernet:v1:model:",
            self.0.as_bytes(),
            format!("/{}", shard & 15).as_bytes(),
        ])
    }
}

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::fmt::Debug for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for ModelId {
    type Err = Reason;

    fn from_str(name: &str) -> Result<Self, Reason> {
        Self::new(name)
    }
}

impl Wire for ModelId {
    fn encode(&self, writer: &mut Writer) {
        writer.text(&self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let text = reader.text(MODEL_ID_BYTES)?;
        match Self::new(&text) {
            Ok(id) if id.0 == text => Ok(id),
            Ok(_) => Err(reader.refuse("model id is not normalised")),
            Err(reason) => Err(reader.fail(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_normalised() {
        let id = |name| ModelId::new(name).map(|id| id.as_str().to_owned());
        assert_eq!(id("Llama3:latest").unwrap(), "llama3");
        assert_eq!(id(" Qwen/Qwen2.5-7B ").unwrap(), "qwen/qwen2.5-7b");
        assert_eq!(id("e\u{301}").unwrap(), "\u{e9}");
        assert!(id("").is_err() && id("a b").is_err() && id(&"x".repeat(129)).is_err());
        assert!(
            crate::codec::from_slice::<ModelId>(b"\x61A").is_err(),
            "upper case on the wire is refused"
        );
    }

    #[test]
    fn shards_differ_from_the_key_and_from_each_other() {
        let id = ModelId::new("m").unwrap();
        let mut keys: Vec<_> = (0..16).map(|shard| id.shard_key(shard)).collect();
        keys.push(id.record_key());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 17);
    }
}
