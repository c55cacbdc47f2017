//! What providers advertise, and what a node remembers of it. Implements `specs/capability.md`.

pub mod registry;

pub use registry::{Limits, Observed, Registry};

use crate::codec::{Blob, List, Malformed, Reader, Text, Wire, Writer};
use crate::ids::{Digest, ModelId};
use crate::names::{AD_INTERVAL, AD_INTERVAL_MAX, AD_LIFE_INTERVALS, CLOCK_SKEW};
use crate::signed::{Kind, Message, Verified};
use crate::units::{Millis, Price, UnixMillis};

/// A multiaddr in its text form, at most 160 bytes: a relayed address with two peer ids fits.
pub type Address = Text<160>;
/// A tag such as `c0mpute:role:infernet`.
pub type Tag = Text<64>;
/// A payment rail such as `evm:base:usdc`.
pub type Rail = Text<64>;

/// Most addresses in an ad or a bid.
pub const ADDRESSES: usize = 8;
/// Most tags in an ad or a requirement.
pub const TAGS: usize = 16;
/// Most groups of GPUs in an ad: a machine rarely mixes more than two kinds.
pub const GPU_GROUPS: usize = 4;
/// Most models listed in one ad; the rest is asked for over `/c0mpute/ad/1.0.0`.
pub const MODELS: usize = 32;
/// Most payment rails named.
pub const RAILS: usize = 8;

/// What a model can do, as a set of bits. Unknown bits are kept and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(pub u32);

impl Features {
    /// Chat completions.
    pub const CHAT: Self = Self(1);
    /// Text completions.
    pub const COMPLETIONS: Self = Self(1 << 1);
    /// Embeddings.
    pub const EMBEDDINGS: Self = Self(1 << 2);
    /// Tool calls.
    pub const TOOLS: Self = Self(1 << 3);
    /// Output bound to a JSON schema.
    pub const JSON_SCHEMA: Self = Self(1 << 4);
    /// Log probabilities.
    pub const LOGPROBS: Self = Self(1 << 5);
    /// Images in the prompt.
    pub const VISION: Self = Self(1 << 6);
    /// Continues an assistant's text exactly where another provider stopped.
    pub const CONTINUE: Self = Self(1 << 7);

    /// Names in the order of the bits.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("chat", Self::CHAT),
        ("completions", Self::COMPLETIONS),
        ("embeddings", Self::EMBEDDINGS),
        ("tools", Self::TOOLS),
        ("json_schema", Self::JSON_SCHEMA),
        ("logprobs", Self::LOGPROBS),
        ("vision", Self::VISION),
        ("continue", Self::CONTINUE),
    ];

    /// Whether every feature of `wanted` is there.
    #[must_use]
    pub fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without what is in another.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The known names in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(_, bit)| self.contains(*bit))
            .map(|(name, _)| name)
    }
}

impl Wire for Features {
    fn encode(&self, writer: &mut Writer) {
        self.0.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        u32::decode(reader).map(Self)
    }
}

wire_enum! {
    /// Who made a GPU.
    pub enum GpuVendor {
        /// NVIDIA.
        Nvidia = 1 => "nvidia",
        /// AMD.
        Amd = 2 => "amd",
        /// Apple.
        Apple = 3 => "apple",
        /// Any other.
        Other = 4 => "other",
    }
}

wire_enum! {
    /// Coarse size of a GPU's memory; the exact figure stays local.
    pub enum VramTier {
        /// Below 4 GB.
        Nano = 0 => "nano",
        /// 4 to 8 GB.
        Small = 1 => "small",
        /// 8 to 16 GB.
        Medium = 2 => "medium",
        /// 16 to 32 GB.
        Large = 3 => "large",
        /// 32 to 80 GB.
        Xl = 4 => "xl",
        /// 80 GB and more.
        Xxl = 5 => "xxl",
    }
}

wire_enum! {
    /// Class of workload that a provider takes.
    pub enum Class {
        /// One GPU, real time.
        A = 0 => "A",
        /// One provider's cluster, real time.
        B = 1 => "B",
        /// A pipeline across providers, batch only.
        B5 = 2 => "B.5",
        /// Asynchronous distributed training.
        C = 3 => "C",
    }
}

wire_struct! {
    /// GPUs of one kind.
    pub struct GpuGroup {
        /// Who made them.
        pub vendor: GpuVendor,
        /// Memory of one of them.
        pub tier: VramTier,
        /// Product name.
        pub model: Text<64>,
        /// How many.
        pub count: u16,
    }
}

wire_struct! {
    /// One model that a provider serves.
    pub struct ModelAd {
        /// What the network calls it.
        pub id: ModelId,
        /// SHA-256 of the weights, where known.
        pub digest: Option<Digest>,
        /// Context length in tokens.
        pub context: u32,
        /// Quantisation such as `Q8_0`; empty where unknown.
        pub quantisation: Text<16>,
        /// What it can do.
        pub features: Features,
        /// What the provider asks at most.
        pub price: Price,
        /// Most output tokens of one request.
        pub max_output: u32,
        /// Measured time to first token in milliseconds; 0 when not measured yet.
        pub ttft: Millis,
        /// Measured speed of one stream in thousandths of a token per second; 0 when not measured yet.
        pub speed: u32,
    }
}

wire_struct! {
    /// A provider's advertisement. One without models withdraws the node.
    pub struct CapabilityAd {
        /// Larger than that of every earlier ad of the signer: max(last + 1, now in Unix milliseconds).
        pub sequence: u64,
        /// When it was signed.
        pub issued_at: UnixMillis,
        /// Time to the next ad; this one lives three of them.
        pub interval: Millis,
        /// Agent name and version.
        pub agent: Text<64>,
        /// Role, GPU and class tags.
        pub tags: List<Tag, TAGS>,
        /// Where the node can be dialled; none in outbound-only mode, or relayed ones.
        pub addresses: List<Address, ADDRESSES>,
        /// Coarse GPU capability.
        pub gpus: List<GpuGroup, GPU_GROUPS>,
        /// Models, the first of them where the list is longer.
        pub models: List<ModelAd, MODELS>,
        /// How many models the node serves in all.
        pub models_total: u16,
        /// Requests it runs at once.
        pub slots: u16,
        /// Payment rails it takes.
        pub rails: List<Rail, RAILS>,
    }
}

impl Message for CapabilityAd {
    const KIND: Kind = Kind {
        number: 0x0101,
        name: "ad",
    };

    fn check(&self) -> Result<(), &'static str> {
        if self.interval.0 == 0 || self.interval > AD_INTERVAL_MAX {
            return Err("ad interval is out of range");
        }
        if self.sequence > self.issued_at.0.saturating_add(u64::from(CLOCK_SKEW.0)) {
            // A sequence far ahead would let one captured key silence the node's real ads for good.
            return Err("ad sequence is ahead of its date");
        }
        if usize::from(self.models_total) < self.models.len() {
            return Err("ad lists more models than it says there are");
        }
        if !self.models.is_empty() && self.slots == 0 {
            return Err("ad has models and no slots");
        }
        let ids = self.models.iter().map(|model| &model.id);
        if ids
            .clone()
            .enumerate()
            .any(|(i, id)| ids.clone().skip(i + 1).any(|other| other == id))
        {
            return Err("ad lists a model twice");
        }
        Ok(())
    }
}

impl CapabilityAd {
    /// When it stops counting.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        self.issued_at
            .after(Millis(self.interval.0.saturating_mul(AD_LIFE_INTERVALS)))
    }

    /// Whether it counts at `now`, give or take the tolerated skew of clocks.
    #[must_use]
    pub fn is_fresh(&self, now: UnixMillis) -> bool {
        now < self.expires_at() && self.issued_at <= now.after(CLOCK_SKEW)
    }

    /// The model of that id.
    #[must_use]
    pub fn model(&self, id: &ModelId) -> Option<&ModelAd> {
        self.models.iter().find(|model| &model.id == id)
    }
}

wire_enum! {
    /// Whose ads are asked for.
    pub enum AdScope {
        /// The asked peer's own.
        Own = 0 => "own",
        /// All that it knows.
        Known = 1 => "known",
    }
}

wire_struct! {
    /// Asks any peer for ads, over `/c0mpute/ad/1.0.0`.
    pub struct AdQuery {
        /// Whose.
        pub scope: AdScope,
        /// Only ads that serve this model; null for any.
        pub model: Option<ModelId>,
    }
}

/// Most ads in one answer, and its most bytes: of the longest that gossip carries, half as many fit.
pub const ADS_PER_ANSWER: usize = 32;
/// See [`ADS_PER_ANSWER`].
pub const ANSWER_BYTES: usize = 256 * 1024;
/// What stands around each ad in an answer, and around all of them, at most.
const AROUND_AD: usize = 3;
const AROUND_ALL: usize = 4;

wire_struct! {
    /// Ads as envelopes. Being signed, they need no trust in who hands them over.
    pub struct AdList {
        /// Envelopes of kind `ad`.
        pub ads: List<Blob<{ crate::names::GOSSIP_BYTES }>, ADS_PER_ANSWER>,
    }
}

impl AdList {
    /// An answer: one ad first, where there is one, and of all others that fit the question as many as there is room for.
    /// Where there are more it begins at `chance`, a random number, so that whoever asks often, or many, learns of all. What
    /// would make it longer than [`ANSWER_BYTES`] is left out.
    pub fn of<'a>(
        first: Option<&'a Verified<CapabilityAd>>,
        fitting: impl IntoIterator<Item = &'a Verified<CapabilityAd>>,
        chance: u64,
    ) -> Self {
        let all: Vec<_> = fitting.into_iter().collect();
        let room = ADS_PER_ANSWER - usize::from(first.is_some());
        let start = match all.len() > room {
            true => usize::try_from(chance % all.len() as u64).unwrap_or_default(),
            false => 0,
        };
        let others = all.iter().copied().cycle().skip(start).take(all.len().min(room));
        let mut left = ANSWER_BYTES - AROUND_ALL;
        let fits = |ad: &&Verified<CapabilityAd>| match left.checked_sub(ad.bytes().len() + AROUND_AD) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        let ads = first.into_iter().chain(others).filter(fits);
        Self {
            ads: List::first_of(ads.map(|ad| Blob(ad.bytes().to_vec()))),
        }
    }
}

/// What each provider in the network adds to everybody's interval: all of them together then publish one ad in this
/// time. The longest interval is reached at the 8,192 ads that a node holds; `specs/scale.md`, "The interval", has the
/// bytes.
pub const AD_SPACING: Millis = Millis(146);

/// Time to a node's next ad in a network of that many providers: the usual one while they are few, and then as much
/// longer as there are more of them, so that what ads cost a node stays the same.
#[must_use]
pub fn interval(providers: usize) -> Millis {
    let providers = u32::try_from(providers).unwrap_or(u32::MAX);
    Millis(AD_SPACING.0.saturating_mul(providers)).clamp(AD_INTERVAL, AD_INTERVAL_MAX)
}

/// How many providers there are, told by the intervals of the ads that are held and by how long the node has listened.
///
/// A node that listened for a shorter time than an ad's interval had that part of a chance to hear it, so an ad that
/// it did hear stands for as many more (the estimate of Horvitz and Thompson). Newcomers would otherwise take a large
/// network for a small one, and all publish as often as in that.
#[must_use]
pub fn providers(intervals: impl IntoIterator<Item = Millis>, listened: Millis) -> usize {
    // Shorter than the shortest interval nothing is missed, and one false claim counts for forty at the most.
    let listened = u64::from(listened.max(AD_INTERVAL).0);
    let stands_for = |interval: Millis| u64::from(interval.min(AD_INTERVAL_MAX).0).max(listened);
    let sum: u64 = intervals.into_iter().map(stands_for).sum();
    usize::try_from(sum / listened).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_the_network_between_its_bounds() {
        for (providers, millis) in [
            (0, AD_INTERVAL.0),
            (205, AD_INTERVAL.0),
            (206, 30_076),
            (1_000, 146_000),
            (8_192, 1_196_032),
            (10_000, AD_INTERVAL_MAX.0),
            (usize::MAX, AD_INTERVAL_MAX.0),
        ] {
            assert_eq!(interval(providers), Millis(millis), "{providers}");
        }
        assert!((0..20_000).all(|n| interval(n) <= interval(n + 1)));
    }

    #[test]
    fn ads_that_could_not_be_heard_yet_are_counted_in() {
        let ads = |count: usize, seconds: u32| std::iter::repeat_n(Millis(seconds * 1_000), count);
        let minutes = |minutes: u32| Millis(minutes * 60_000);
        assert_eq!(providers(ads(0, 30), minutes(1)), 0);
        assert_eq!(
            providers(ads(100, 30), Millis(0)),
            100,
            "a small network is known at once"
        );
        assert_eq!(
            providers(ads(250, 1_200), minutes(1)),
            5_000,
            "a twentieth of the interval has passed"
        );
        assert_eq!(providers(ads(250, 1_200), minutes(20)), 250, "and now all of it");
        assert_eq!(providers(ads(250, 1_200), minutes(600)), 250);
        // One that claims the longest interval cannot make a small network look large.
        assert_eq!(providers(ads(100, 30).chain(ads(1, 1_200)), Millis(0)), 140);
        assert_eq!(providers([Millis(u32::MAX)], Millis(0)), 40);
    }
}
