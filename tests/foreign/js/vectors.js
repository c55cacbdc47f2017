// Reads those of specs/vectors that tell of messages on gossip, of the two exchanges and of exported deals, and makes
// the same bytes of the same fields. Each vector is one check.
//
//     node tests/foreign/js/vectors.js specs/vectors

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { AD, adList, adQuery, recordKey } from "./ad.js";
import { ACCEPT, BID, OFFER, offerReply } from "./auction.js";
import { Refused, decode, encode } from "./cbor.js";
import { COUNTERSIGN, Fault, RECEIPT, checkExport, cost, exported, openSettled, settled } from "./receipt.js";
import { Tally, demand } from "./tally.js";
import { hex, modelId, normal, open, seal, signedHash } from "./wire.js";

const MESSAGES = [AD, OFFER, BID, ACCEPT, RECEIPT, COUNTERSIGN];
const EXCHANGED = { "ad-query": adQuery, "ad-list": adList, "offer-reply": offerReply };
const folder = process.argv[2] ?? "specs/vectors";
const tally = new Tally();

const file = (name) => JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8"));
const octets = (text) => Uint8Array.from(Buffer.from(text, "hex"));

/** A value as the vectors write it: specs/README.md, "Vectors". */
function fields(value) {
  if (typeof value === "bigint") return value > Number.MAX_SAFE_INTEGER ? String(value) : Number(value);
  if (value instanceof Uint8Array) return { hex: hex(value) };
  if (Array.isArray(value)) return value.map(fields);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, fields(member)]));
}

/** These bytes are these fields, in their order, and the fields are these bytes. */
function agrees(shape, vector, bytes) {
  const value = decode(shape, bytes);
  assert.deepEqual(fields(value), vector.fields);
  demand("the members are in order", JSON.stringify(fields(value)) === JSON.stringify(vector.fields));
  assert.equal(hex(encode(shape, value)), hex(bytes));
}

function refuses(act, verdict) {
  assert.throws(act, (error) => error instanceof Refused && error.verdict === verdict);
}

async function signing({ messages, settled: pair, refused }) {
  for (const vector of messages) {
    await tally.check(`message: ${vector.name}`, () => {
      const { network, rule, kind, secret, entropy } = vector;
      const type = MESSAGES.find((message) => message.rule === rule);
      assert.deepEqual([type.kind, type.name], [kind, vector.kind_name]);
      const opened = open(octets(vector.envelope), network, MESSAGES);
      assert.equal(hex(opened.payload), vector.payload);
      assert.equal(hex(opened.hash), vector.hash);
      agrees(type.shape, vector, opened.payload);
      assert.equal(hex(signedHash(network, type.name, opened.payload)), vector.signed_hash);
      const own = seal(opened.message, type, network, octets(secret), octets(entropy));
      assert.equal(hex(own), vector.envelope);
    });
  }
  await tally.check(pair.name, () => {
    agrees(settled, pair, octets(pair.bytes));
    openSettled(octets(pair.bytes), "main");
  });
  for (const { why, network, envelope } of refused) {
    // A newer node may know better; all else breaks the rules.
    const verdict = ["unknown kind", "unknown version"].includes(why) ? "ignore" : "reject";
    await tally.check(`${verdict}: ${why}`, () => refuses(() => open(octets(envelope), network, MESSAGES), verdict));
  }
}

async function exchanges({ exchanges: vectors }) {
  for (const vector of vectors) {
    await tally.check(`exchange: ${vector.name}`, () => agrees(EXCHANGED[vector.rule], vector, octets(vector.bytes)));
  }
}

async function deals(vector) {
  await tally.check("exported deal", () => {
    const deal = octets(vector.file);
    agrees(exported, vector, deal);
    const checked = checkExport(deal);
    assert.equal(checked.receipts.length, vector.receipts);
    assert.equal(checked.settled, vector.settled);
    assert.deepEqual(fields(checked.settledTotal), vector.settled_total);
  });
  for (const { name, says, file: deal } of vector.faults) {
    await tally.check(`faulty deal: ${name}`, () => {
      const isThere = (error) => error instanceof Fault && says.startsWith(error.part);
      assert.throws(() => checkExport(octets(deal)), isThere, `the fault is: ${says}`);
    });
  }
}

async function costs({ costs: vectors }) {
  for (const vector of vectors) {
    const numbers = Object.entries(vector).map(([name, value]) => [name, BigInt(value)]);
    const { input, output, request, input_tokens, output_tokens, cost: due } = Object.fromEntries(numbers);
    const price = { input, output, request };
    await tally.check(`cost: ${due}`, () => assert.equal(cost(price, input_tokens, output_tokens), due));
  }
}

async function models({ ids, refused, not_normal }) {
  for (const { name, id, ...keys } of ids) {
    await tally.check(`model: ${JSON.stringify(name)}`, () => {
      assert.equal(normal(name), id);
      const found = [recordKey(id), recordKey(id, 0), recordKey(id, 15)].map(hex);
      assert.deepEqual(found, [keys.record_key, keys.shard_key_0, keys.shard_key_15]);
    });
  }
  for (const name of refused) {
    await tally.check(`no model: ${JSON.stringify(name).slice(0, 20)}`, () => assert.equal(normal(name), null));
  }
  for (const name of not_normal) {
    const sent = encode(modelId, name);
    await tally.check(`no id: ${JSON.stringify(name)}`, () => refuses(() => decode(modelId, sent), "reject"));
  }
}

await signing(file("signing"));
await exchanges(file("frames"));
await deals(file("export"));
await costs(file("cost"));
await models(file("models"));
process.exitCode = tally.end();
