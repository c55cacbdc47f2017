//! Who is in the synthetic network, and what the providers among them advertise.

use infernet_protocol::capability::{CapabilityAd, Features, GpuGroup, GpuVendor, ModelAd, VramTier};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::{Digest, Identity, MicroUsd, Millis, ModelId, NodeId, Price, UnixMillis, Verified};

use super::{Chance, Shape, network};
use crate::place::Transport;
use crate::record::Peer;

/// Models: id, quantisation, context, output price in micro-USD per million tokens, tokens a second.
const MODELS: [(&str, &str, u32, u64, u64); 6] = [
    ("llama3.2:3b", "Q4_K_M", 8_192, 40_000, 120),
    ("qwen2.5:7b", "Q4_K_M", 32_768, 120_000, 70),
    ("qwen2.5-coder:14b", "Q5_K_M", 32_768, 260_000, 44),
    ("mistral-small:24b", "Q4_K_M", 32_768, 340_000, 36),
    ("llama3.3:70b", "Q4_K_M", 131_072, 720_000, 22),
    ("gpt-oss:120b", "MXFP4", 131_072, 900_000, 60),
];

/// GPUs: vendor, name, tier, and how many of the models above fit.
const GPUS: [(GpuVendor, &str, VramTier, usize); 6] = [
    (GpuVendor::Nvidia, "NVIDIA GeForce RTX 3060", VramTier::Medium, 2),
    (GpuVendor::Nvidia, "NVIDIA GeForce RTX 4090", VramTier::Large, 4),
    (GpuVendor::Apple, "Apple M3 Max", VramTier::Xl, 5),
    (GpuVendor::Amd, "AMD Radeon RX 7900 XTX", VramTier::Large, 4),
    (GpuVendor::Nvidia, "NVIDIA A100", VramTier::Xxl, 6),
    (GpuVendor::Nvidia, "NVIDIA GeForce GTX 1660", VramTier::Small, 1),
];

/// A node of the synthetic network.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its key, which anybody can make.
    pub identity: Identity,
    /// What it says its program is.
    pub agent: String,
    /// How it is connected with the recorder.
    pub transport: Transport,
    /// Whether it is reached through a relay.
    pub is_relayed: bool,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Where it takes money.
    pub wallet: String,
    /// What it serves; nothing where it buys.
    pub models: Vec<ModelAd>,
    /// What it runs that on.
    pub gpus: Vec<GpuGroup>,
}

/// A key of which everybody can see that it is none.
fn test_identity(index: usize) -> Option<Identity> {
    // One in 2^128 of such digests is no key, and the next would do.
    (0..u8::MAX).find_map(|try_again| {
        let text = format!("infernet synthetic test key {index}.{try_again}: not a secret");
        Identity::from_secret(&Digest::of(&[text.as_bytes()]).0).ok()
    })
}

pub(super) fn members(shape: &Shape, chance: &mut Chance) -> Vec<Member> {
    (0..shape.providers + shape.buyers)
        .filter_map(|index| Some(member(index, index < shape.providers, test_identity(index)?, chance)))
        .collect()
}

fn member(index: usize, sells: bool, identity: Identity, chance: &mut Chance) -> Member {
    let is_relayed = chance.percent(25);
    let host = format!("203.0.113.{}", index % 254 + 1);
    let addresses = if is_relayed {
        let relay = NodeId([7; 32]).peer_id();
        vec![format!("/ip4/198.51.100.1/tcp/46337/p2p/{relay}/p2p-circuit")]
    } else {
        vec![
            format!("/ip4/{host}/tcp/46337"),
            format!("/ip4/{host}/udp/46337/quic-v1"),
        ]
    };
    let (vendor, gpu, tier, fits) = *chance.pick(&GPUS);
    let mut models: Vec<ModelAd> = Vec::new();
    while sells && models.is_empty() {
        let first = usize::try_from(chance.below(fits as u64)).unwrap_or_default();
        models.extend(
            MODELS[..fits]
                .iter()
                .skip(first)
                .take(3)
                .filter_map(|model| model_ad(model, chance)),
        );
    }
    Member {
        agent: ["infernet/0.1.0", "infernet/0.1.0", "infernet/0.1.1", "infernet/0.2.0"][index % 4].to_owned(),
        transport: if chance.percent(60) {
            Transport::Quic
        } else {
            Transport::Tcp
        },
        is_relayed,
        addresses,
        wallet: format!("0x7e57{:036x}", index),
        gpus: if sells {
            vec![GpuGroup {
                vendor,
                tier,
                model: Text::lossy(gpu),
                count: 1 + u16::from(chance.percent(20)),
            }]
        } else {
            Vec::new()
        },
        models,
        identity,
    }
}

fn model_ad(model: &(&str, &str, u32, u64, u64), chance: &mut Chance) -> Option<ModelAd> {
    let (id, quantisation, context, price, speed) = *model;
    let output = price * (60 + chance.skewed(0, 120)) / 100;
    let is_free = chance.percent(10);
    let amount = |of: u64| MicroUsd(if is_free { 0 } else { of });
    Some(ModelAd {
        id: ModelId::new(id).ok()?,
        digest: Some(Digest::of(&[b"synthetic weights of ", id.as_bytes()])),
        context,
        quantisation: Text::lossy(quantisation),
        features: Features::CHAT.with(Features::COMPLETIONS),
        price: Price {
            input: amount(output / 4),
            output: amount(output),
            request: MicroUsd(0),
        },
        max_output: 4_096,
        ttft: Millis(u32::try_from(chance.skewed(90, 900)).ok()?),
        speed: u32::try_from(speed * (700 + chance.below(600))).ok()?,
    })
}

impl Member {
    /// Its peer.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::of_node(&self.identity.node())
    }

    /// Its ad of that time.
    #[must_use]
    pub fn ad(&self, at: UnixMillis, entropy: [u8; 32]) -> Verified<CapabilityAd> {
        let vendor = self.gpus.first().map_or(GpuVendor::Other, |gpu| gpu.vendor);
        let tags = [
            "c0mpute:role:infernet".to_owned(),
            format!("c0mpute:gpu:{vendor}"),
            "c0mpute:class:A".to_owned(),
        ];
        let ad = CapabilityAd {
            sequence: at.0,
            issued_at: at,
            interval: Millis(30_000),
            agent: Text::lossy(&self.agent),
            tags: List::first_of(tags.iter().map(|tag| Text::lossy(tag))),
            addresses: List::first_of(self.addresses.iter().map(|address| Text::lossy(address))),
            gpus: List::first_of(self.gpus.iter().cloned()),
            models_total: u16::try_from(self.models.len()).unwrap_or(u16::MAX),
            models: List::first_of(self.models.iter().cloned()),
            slots: 4,
            rails: List::first_of([Text::lossy("evm:base:usdc")]),
        };
        Verified::sign(ad, &self.identity, &network(), &entropy)
    }
}
