// specs/receipts.md: receipts, countersignatures, what is settled on gossip, and the check of an exported deal.

import { Refused, bytes, decode, list, optional, struct, text, u32, u64, uint } from "./cbor.js";
import { ACCEPT, BID, OFFER, isWithin } from "./auction.js";
import { enclosed, hash, leaseId, networkName, open, same, sha256 } from "./wire.js";

const MOST = (1n << 64n) - 1n;
const MOST_REQUESTS = 2 ** 32 - 1;
const NOTHING = { requests: 0, input_tokens: 0n, output_tokens: 0n, amount: 0n };

const step = struct("Step", {
  request: bytes(16),
  status: uint(3),
  input_tokens: u32,
  output_tokens: u32,
  ttft: u32,
  duration: u32,
  amount: u64,
  commitment: hash,
});

const total = struct("Total", { requests: u32, input_tokens: u64, output_tokens: u64, amount: u64 });

const jobReceipt = struct("JobReceipt", {
  lease: leaseId,
  seq: u32,
  prev: hash,
  step,
  total,
  finished_at: u64,
});

function broken(receipt) {
  if (receipt.total.requests !== receipt.seq + 1) return "the receipt's totals do not count its steps";
  return receipt.total.amount < receipt.step.amount ? "the receipt's step costs more than all steps" : null;
}

const countersign = struct("Countersign", {
  receipt: hash,
  lease: leaseId,
  seq: u32,
  dispute: optional(uint(5, 1)),
  note: text(128),
  signed_at: u64,
});

export const RECEIPT = { kind: 0x0501, name: "receipt", rule: "job-receipt", shape: jobReceipt, broken };
export const COUNTERSIGN = { kind: 0x0601, name: "countersign", rule: "countersign", shape: countersign };

export const settled = struct("Settled", { receipt: enclosed, countersign: enclosed });

export const exported = struct("Export", {
  version: uint(1, 1),
  network: networkName,
  offer: enclosed,
  bid: enclosed,
  accept: enclosed,
  receipts: list(struct("ExportedReceipt", { receipt: enclosed, countersign: optional(enclosed) }), 72_000),
  checksum: hash,
});

const least = (one, other) => (one < other ? one : other);
const sameLease = (one, other) => same(one.job, other.job) && one.attempt === other.attempt;

/** What so many tokens cost, in micro-USD, rounded up once. */
export function cost(price, inputTokens, outputTokens) {
  const millionfold = price.input * BigInt(inputTokens) + price.output * BigInt(outputTokens);
  return least((millionfold + 999_999n) / 1_000_000n + price.request, MOST);
}

function plus(sum, { input_tokens, output_tokens, amount }) {
  return {
    requests: Math.min(sum.requests + 1, MOST_REQUESTS),
    input_tokens: least(sum.input_tokens + BigInt(input_tokens), MOST),
    output_tokens: least(sum.output_tokens + BigInt(output_tokens), MOST),
    amount: least(sum.amount + amount, MOST),
  };
}

const sameTotal = (one, other) => Object.keys(NOTHING).every((member) => one[member] === other[member]);

/** Receipt and countersignature of one message on gossip, both verified. */
export function openSettled(octets, network) {
  const pair = decode(settled, octets);
  const receipt = open(pair.receipt, network, [RECEIPT]);
  const verdict = open(pair.countersign, network, [COUNTERSIGN]);
  const { message } = verdict;
  const isItsOwn = same(message.receipt, receipt.hash) && message.seq === receipt.message.seq
    && sameLease(message.lease, receipt.message.lease);
  if (!isItsOwn) throw new Refused("the countersignature is that of another receipt");
  if (same(verdict.signer, receipt.signer)) throw new Refused("the receipt is countersigned by its own signer");
  return { receipt, countersign: verdict };
}

/** A fault of an exported file, with the part that it is in. */
export class Fault extends Error {
  constructor(part, reason) {
    super(`${part}: ${reason}`);
    this.part = part;
  }
}

/** Checks a part: `holds` demands that something is so, `verified` opens an envelope. */
function partOf(part, network) {
  return {
    holds(what, isSo) {
      if (!isSo) throw new Fault(part, `not so: ${what}`);
    },
    verified(octets, type) {
      try {
        return open(octets, network, [type]);
      } catch (error) {
        throw error instanceof Refused ? new Fault(part, error.message) : error;
      }
    },
  };
}

function checkDeal(file) {
  const [inOffer, inBid, inAccept] = ["offer", "bid", "accept"].map((part) => partOf(part, file.network));
  const offer = inOffer.verified(file.offer, OFFER);
  const bid = inBid.verified(file.bid, BID);
  const accept = inAccept.verified(file.accept, ACCEPT);
  const wanted = offer.message;
  const { digest } = wanted.requirement;
  inBid.holds("for the offer's job", same(bid.message.job, wanted.job));
  inBid.holds("names the offer's hash", same(bid.message.offer, offer.hash));
  inBid.holds("within the cap", isWithin(bid.message.price, wanted.price_cap));
  inBid.holds("grants at most what was asked at once", bid.message.at_once <= wanted.volume.at_once);
  inBid.holds("has the offer's digest", digest === null || (bid.message.digest && same(bid.message.digest, digest)));
  inAccept.holds("for the offer's job", same(accept.message.lease.job, wanted.job));
  inAccept.holds("signed by the offer's key", same(accept.signer, offer.signer));
  inAccept.holds("names the bid's hash", same(accept.message.bid, bid.hash));
  inAccept.holds("the winner is who bid", same(accept.message.winner, bid.signer));
  return { offer, bid, accept };
}

function checkReceipt(envelope, place, deal, soFar) {
  const { holds, verified } = partOf(`receipt ${place}`, soFar.network);
  const { lease, winner } = deal.accept.message;
  holds("within the offer's requests", place < deal.offer.message.volume.requests);
  const receipt = verified(envelope, RECEIPT);
  const { message } = receipt;
  const request = message.step.request.toString();
  const due = cost(deal.bid.message.price, message.step.input_tokens, message.step.output_tokens);
  holds("for the accept's lease", sameLease(message.lease, lease));
  holds("signed by the winner", same(receipt.signer, winner));
  holds("in its place", message.seq === place);
  holds("follows the one before", same(message.prev, soFar.last));
  holds("its total is the sum", sameTotal(message.total, plus(soFar.total, message.step)));
  holds("at most the bid's price", message.step.amount <= due);
  holds("its request was not billed before", !soFar.requests.has(request));
  soFar.requests.add(request);
  soFar.last = receipt.hash;
  soFar.total = message.total;
  return receipt;
}

function checkCountersign(envelope, place, deal, receipt, network) {
  const { holds, verified } = partOf(`countersignature ${place}`, network);
  const verdict = verified(envelope, COUNTERSIGN);
  holds("names this place", verdict.message.seq === place);
  holds("signed by the buyer", same(verdict.signer, deal.offer.signer));
  holds("names this lease", sameLease(verdict.message.lease, deal.accept.message.lease));
  holds("names the receipt", same(verdict.message.receipt, receipt.hash));
  return verdict;
}

/**
 * An exported deal in the order of receipts.md, "Exported receipts"; the first fault is thrown. What is returned has
 * the envelopes, how many receipts are settled, and the total of the last of them.
 */
export function checkExport(octets) {
  const file = readExport(octets);
  const { network } = file;
  const deal = checkDeal(file);
  const soFar = { network, last: deal.accept.hash, total: NOTHING, requests: new Set() };
  const receipts = file.receipts.map((pair, place) => {
    const receipt = checkReceipt(pair.receipt, place, deal, soFar);
    if (pair.countersign === null) return { receipt, countersign: null };
    return { receipt, countersign: checkCountersign(pair.countersign, place, deal, receipt, network) };
  });
  const inFile = partOf("file", network);
  inFile.holds("its checksum", same(file.checksum, sha256(octets.subarray(0, -32), new Uint8Array(32))));
  const isAccepted = ({ countersign }) => countersign !== null && countersign.message.dispute === null;
  const unsettled = receipts.findIndex((pair) => !isAccepted(pair));
  const settledCount = unsettled < 0 ? receipts.length : unsettled;
  const paid = settledCount === 0 ? NOTHING : receipts[settledCount - 1].receipt.message.total;
  return { network, ...deal, receipts, settled: settledCount, settledTotal: paid };
}

function readExport(octets) {
  try {
    return decode(exported, octets);
  } catch (error) {
    throw error instanceof Refused ? new Fault("file", error.message) : error;
  }
}
