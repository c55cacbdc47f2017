// specs/auction.md: offer, bid and accept, and the messages of the offer exchange.

import { bool, bytes, list, optional, struct, text, u16, u32, u64, uint } from "./cbor.js";
import { address, enclosed, hash, leaseId, modelId, nodeId, price, rail } from "./wire.js";

const LIFE = 60_000n;

const requirement = struct("Requirement", {
  model: modelId,
  digest: optional(hash),
  tags: list(text(64), 16),
  vram: optional(uint(5)),
  context: u32,
  features: u32,
  class: uint(3),
});

const volume = struct("Volume", {
  input_tokens: u32,
  output_tokens: u32,
  requests: uint(0xffff_ffff, 1),
  at_once: uint(1_024, 1),
  lease: uint(3_600_000, 1),
});

const jobOffer = struct("JobOffer", {
  job: bytes(16),
  workload: text(64),
  requirement,
  volume,
  policy: uint(3),
  price_cap: price,
  rails: list(rail, 8),
  window: uint(2_000, 1),
  invited: list(nodeId, 8),
  open: uint(65_536),
  public: bool,
  issued_at: u64,
  expires_at: u64,
});

function brokenOffer(offer) {
  const life = offer.expires_at - offer.issued_at;
  if (life < 1n || life > LIFE) return "the offer lives too long or not at all";
  const invited = new Set(offer.invited.map((signer) => signer.toString()));
  return invited.size < offer.invited.length ? "somebody is invited twice" : null;
}

const jobBid = struct("JobBid", {
  job: bytes(16),
  offer: hash,
  price,
  ttft: u32,
  speed: u32,
  queue: u16,
  addresses: list(address, 8),
  payees: list(struct("Payee", { rail, address: text(128) }), 4),
  digest: optional(hash),
  at_once: uint(0xffff, 1),
  public: bool,
});

const jobAccept = struct("JobAccept", {
  lease: leaseId,
  bid: hash,
  winner: nodeId,
  payer: optional(struct("Payer", { rail, wallet: text(128) })),
  issued_at: u64,
});

export const OFFER = { kind: 0x0201, name: "offer", rule: "job-offer", shape: jobOffer, broken: brokenOffer };
export const BID = { kind: 0x0301, name: "bid", rule: "job-bid", shape: jobBid };
export const ACCEPT = { kind: 0x0401, name: "accept", rule: "job-accept", shape: jobAccept };

export const offerReply = struct("OfferReply", { bid: optional(enclosed), decline: optional(uint(7, 1)) });

/** Whether each part of a price is at most the same part of the cap: receipts.md, "Money". */
export function isWithin(price, cap) {
  return price.input <= cap.input && price.output <= cap.output && price.request <= cap.request;
}
