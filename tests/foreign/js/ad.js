// specs/capability.md: what a provider says of itself, how it is asked, and under which keys it is found.

import { list, optional, struct, text, u16, u32, u64, uint } from "./cbor.js";
import { SKEW, address, hash, enclosed, modelId, price, rail, sha256 } from "./wire.js";

const gpuGroup = struct("GpuGroup", { vendor: uint(4, 1), tier: uint(5), model: text(64), count: u16 });

const modelAd = struct("ModelAd", {
  id: modelId,
  digest: optional(hash),
  context: u32,
  quantisation: text(16),
  features: u32,
  price,
  max_output: u32,
  ttft: u32,
  speed: u32,
});

const capabilityAd = struct("CapabilityAd", {
  sequence: u64,
  issued_at: u64,
  interval: uint(1_200_000, 1),
  agent: text(64),
  tags: list(text(64), 16),
  addresses: list(address, 8),
  gpus: list(gpuGroup, 4),
  models: list(modelAd, 32),
  models_total: u16,
  slots: u16,
  rails: list(rail, 8),
});

function broken(ad) {
  const ids = new Set(ad.models.map((model) => model.id));
  if (ids.size < ad.models.length) return "a model stands in the ad twice";
  if (ad.models_total < ad.models.length) return "the ad has more models than it says";
  if (ad.models.length > 0 && ad.slots === 0) return "the ad has models and no slots";
  if (ad.sequence > ad.issued_at + SKEW) return "the ad's sequence is beyond its time";
  return null;
}

export const AD = { kind: 0x0101, name: "ad", rule: "capability-ad", shape: capabilityAd, broken };

export function isFresh(ad, now) {
  return ad.issued_at <= now + SKEW && now < ad.issued_at + 3n * BigInt(ad.interval);
}

export const adQuery = struct("AdQuery", { scope: uint(1), model: optional(modelId) });
export const adList = struct("AdList", { ads: list(enclosed, 32) });

/** The key of a model in the DHT, or that of one of its sixteen places. */
export function recordKey(model, shard) {
  const place = shard === undefined ? "" : `/${shard}`;
  return Uint8Array.of(0x12, 0x20, ...sha256(`infernet:v1:model:${model}${place}`));
}

/** In which of the sixteen places a node is found. */
export const shardOf = (signer) => signer[31] % 16;
