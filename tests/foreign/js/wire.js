// Names and limits of specs/README.md, and envelopes and signatures of specs/signing.md.

import { createHash, randomBytes } from "node:crypto";
import { schnorr } from "@noble/curves/secp256k1.js";
import { Refused, bytes, decode, encode, struct, text, u16, u64, u8 } from "./cbor.js";

export const SKEW = 30_000n;
export const MESSAGE = 16_384;
export const WORKLOAD = "infernet.inference";

export const hash = bytes(32);
export const nodeId = bytes(32);
export const address = text(160);
export const rail = text(64);
export const price = struct("Price", { input: u64, output: u64, request: u64 });
export const leaseId = struct("LeaseId", { job: bytes(16), attempt: u16 });
export const modelId = text(128, 1, (id) => id === normal(id));
export const networkName = text(32, 1, (name) => /^[a-z0-9-]+$/.test(name));

/** An envelope inside of another message: as bytes, which `open` takes. Its own limit is that of a gossip message. */
export const enclosed = bytes(MESSAGE, 0);

const envelope = struct("Envelope", {
  version: u8,
  kind: u16,
  signer: nodeId,
  payload: bytes(16_256, 0),
  signature: bytes(64),
});

export function sha256(...parts) {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(part);
  return new Uint8Array(sum.digest());
}

export const same = (one, other) => Buffer.compare(one, other) === 0;
export const hex = (octets) => Buffer.from(octets).toString("hex");

/** The name of a model in normal form, or null where it has none: capability.md, "Model ids". */
export function normal(name) {
  let id = name.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "").normalize("NFC").toLowerCase().normalize("NFC");
  while (id.endsWith(":latest")) id = id.slice(0, -":latest".length);
  const length = Buffer.byteLength(id);
  return length < 1 || length > 128 || /[\p{White_Space}\p{Cc}]/u.test(id) ? null : id;
}

/** A topic or protocol id as a network calls it: "c0mpute/cap/v1", "/c0mpute/kad/1.0.0". */
export function named(name, network) {
  return network === "main" ? name : name.replace(/^(\/?[^/]+)/, `$1/${network}`);
}

/** What a signature is over. */
export function signedHash(network, name, payload) {
  const tag = sha256(`c0mpute/${network}/${name}/v1`);
  return sha256(tag, tag, payload);
}

/**
 * Reads an envelope and verifies it, in the order of signing.md, "Verifying". `messages` are those that belong where
 * it came from. What is returned has the message and who signed it.
 */
export function open(octets, network, messages) {
  const { version, kind, signer, payload, signature } = decode(envelope, octets);
  if (version !== 1) throw new Refused(`envelope version ${version} is unknown`, "ignore");
  const type = messages.find((message) => message.kind === kind);
  if (type === undefined) throw new Refused(`kind ${kind} does not belong here`, "ignore");
  const message = decode(type.shape, payload);
  const broken = type.broken?.(message);
  if (broken) throw new Refused(broken);
  if (!schnorr.verify(signature, signedHash(network, type.name, payload), signer)) {
    throw new Refused("the signature does not verify");
  }
  return { type, signer, message, payload, hash: sha256(octets), envelope: octets };
}

/** An envelope of one's own; `entropy` is BIP-340's auxiliary randomness. */
export function seal(message, type, network, secret, entropy = randomBytes(32)) {
  const payload = encode(type.shape, message);
  const signature = schnorr.sign(signedHash(network, type.name, payload), secret, entropy);
  return encode(envelope, { version: 1, kind: type.kind, signer: schnorr.getPublicKey(secret), payload, signature });
}

