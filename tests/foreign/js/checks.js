// js-libp2p takes part in a network of real processes, with code written from specs/ alone. The environment says
// where: INFERNET_NETWORK and INFERNET_BOOTSTRAP (an address with its peer id) name the network, INFERNET_PROVIDER
// the peer that sells INFERNET_MODEL, and INFERNET_EXPORT an exported deal with it. A line `ask: a deal` asks whoever
// started this for another, of a lease with one request.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { byteStream } from "@libp2p/utils";
import { multiaddr } from "@multiformats/multiaddr";
import { CID } from "multiformats/cid";
import * as Digest from "multiformats/hashes/digest";
import { AD, adList, adQuery, isFresh, recordKey, shardOf } from "./ad.js";
import { ACCEPT, BID, OFFER, isWithin, offerReply } from "./auction.js";
import { Refused, decode, encode } from "./cbor.js";
import { Gossip } from "./gossip.js";
import { ask, nodeIdOf, startNode, tradingKey } from "./node.js";
import { Fault, checkExport } from "./receipt.js";
import { Tally, demand } from "./tally.js";
import { WORKLOAD, hex, named, open, same, seal } from "./wire.js";

const { INFERNET_NETWORK: network, INFERNET_BOOTSTRAP: at, INFERNET_MODEL: model } = process.env;
const hub = multiaddr(at);
const hubId = hub.getComponents().findLast(({ name }) => name === "p2p").value;
const provider = process.env.INFERNET_PROVIDER;
const ECHO = "/infernet-foreign/echo/1.0.0";
const RAW = 0x55;
const AD_ANSWER = 262_144;
const OFFER_ANSWER = 32_768;
const tally = new Tally();

const now = () => BigInt(Date.now());

/** Calls `act` with each copy of these bytes that has one bit changed in one byte; the node goes on in between. */
async function eachDamaged(octets, act) {
  for (let place = 0; place < octets.length; place += 1) {
    const damaged = Uint8Array.from(octets);
    damaged[place] ^= 1;
    act(damaged);
    await setImmediate();
  }
}

/** The bootstrap node says who it is and what it speaks, and answers a ping. */
async function joins(node) {
  const connection = await tally.need("the bootstrap node is dialled", (signal) => node.dial(hub, { signal }));
  await tally.check("it identifies itself: agent, network and protocols", async (signal) => {
    const said = await node.services.identify.identify(connection, { signal });
    assert.equal(said.peerId.toString(), hubId);
    assert.match(said.agentVersion, /^infernet-bootstrap\/\d+\.\d+\.\d+$/);
    assert.equal(said.protocolVersion, named("/c0mpute/id/1.0.0", network));
    const kad = named("/c0mpute/kad/1.0.0", network);
    for (const protocol of [kad, "/libp2p/circuit/relay/0.2.0/hop", "/libp2p/autonat/2/dial-request"]) {
      demand(`it speaks ${protocol}`, said.protocols.includes(protocol));
    }
    demand("it speaks gossipsub", said.protocols.some((protocol) => protocol.startsWith("/meshsub/1.")));
  });
  await tally.check("it answers a ping", (signal) => node.services.ping.ping(connection.remotePeer, { signal }));
}

async function meshes(gossip) {
  for (const topic of Object.values(gossip.topics)) {
    await tally.check(`the bootstrap node is in the mesh of ${topic}`, (signal) =>
      gossip.inMesh(topic, hubId, signal));
  }
}

/** Every field of an ad, as this provider must have it. */
function adHolds(ad) {
  demand("it is fresh", isFresh(ad, now()));
  demand("its sequence is a time, or later", ad.sequence >= ad.issued_at - 60_000n);
  assert.match(ad.agent, /^infernet\/\d+\.\d+\.\d+/);
  demand("it says its role", ad.tags.includes("c0mpute:role:infernet"));
  demand("its addresses are those of loopback", ad.addresses.length > 0);
  for (const address of ad.addresses) assert.match(address, /^\/ip4\/127\.0\.0\.1\/(tcp\/\d+|udp\/\d+\/quic-v1)$/);
  demand("its tiers and counts are numbers", ad.gpus.every((gpu) => gpu.count > 0));
  assert.equal(ad.models_total, ad.models.length);
  const found = ad.models.find(({ id }) => id === model);
  demand(`it lists ${model}`, found);
  demand("the weights have a digest", found.digest?.length === 32);
  demand("the model has a context and answers", found.context > 0 && found.max_output > 0);
  demand("the model chats", (found.features & 1) === 1);
  assert.deepEqual(found.price, { input: 0n, output: 0n, request: 0n });
  assert.equal(typeof found.quantisation, "string");
  demand("what was measured is not negative", found.ttft >= 0 && found.speed >= 0);
  demand("it has slots", ad.slots > 0);
  assert.deepEqual(ad.rails, []);
}

async function ads(gossip) {
  const heard = await tally.need("an ad of the provider is heard", (signal) =>
    gossip.hears(gossip.topics.ads, ({ message }) => message.models.some(({ id }) => id === model), signal));
  await tally.check("its fields are what they must be", () => adHolds(heard.message));
  await tally.check("with any byte changed it is refused", () =>
    eachDamaged(heard.envelope, (damaged) => assert.throws(() => open(damaged, network, [AD]), Refused)));
  await tally.check("on another network it does not verify", () =>
    assert.throws(() => open(heard.envelope, `${network}-2`, [AD]), { message: "the signature does not verify" }));
  return heard;
}

/** An offer of one small chat to this provider, which costs nothing and lives ten seconds. */
function offerTo(signer) {
  const issued_at = now();
  return {
    job: Uint8Array.from(randomBytes(16)),
    workload: WORKLOAD,
    requirement: { model, digest: null, tags: [], vram: null, context: 0, features: 1, class: 0 },
    volume: { input_tokens: 100, output_tokens: 16, requests: 1, at_once: 1, lease: 60_000 },
    policy: 1,
    price_cap: { input: 0n, output: 0n, request: 0n },
    rails: [],
    window: 1_000,
    invited: [signer],
    open: 0,
    public: false,
    issued_at,
    expires_at: issued_at + 10_000n,
  };
}

/** The provider bids for an offer of this node's own, over the offer exchange. */
async function bids(connection, heard, signal) {
  const own = seal(offerTo(heard.signer), OFFER, network, key.raw);
  const offer = open(own, network, [OFFER]);
  assert.equal(hex(offer.signer), hex(nodeIdOf(node.peerId)));
  const protocol = named("/c0mpute/offer/1.0.0", network);
  const { bid, decline } = decode(offerReply, await ask(connection, protocol, own, OFFER_ANSWER, signal));
  assert.equal(decline, null, "it does not decline");
  const opened = open(bid, network, [BID]);
  assert.equal(hex(opened.signer), hex(heard.signer));
  assert.equal(hex(opened.message.offer), hex(offer.hash));
  demand("the bid is within the cap", isWithin(opened.message.price, offer.message.price_cap));
}

/** Asks the DHT again until it names the provider; its records may still be on their way. */
async function findProvider(node, key, signal) {
  const cid = CID.createV1(RAW, Digest.decode(key));
  for (;;) {
    for await (const found of node.contentRouting.findProviders(cid, { signal })) {
      if (found.id.toString() === provider) return found;
    }
    signal.throwIfAborted();
  }
}

async function finds(node, heard) {
  const found = await tally.need("the DHT names the provider of the model", (signal) =>
    findProvider(node, recordKey(model), signal));
  await tally.check("the signer of the ad is that peer", () =>
    assert.equal(hex(nodeIdOf(found.id)), hex(heard.signer)));
  await tally.check("it is found in its place of sixteen as well", (signal) =>
    findProvider(node, recordKey(model, shardOf(heard.signer)), signal));
  const addresses = heard.message.addresses.map((address) => multiaddr(`${address}/p2p/${provider}`));
  const connection = await tally.need("it is dialled where its ad says", (signal) =>
    node.dial(addresses, { signal }));
  await tally.check("it identifies itself, with its protocols", async (signal) => {
    const said = await node.services.identify.identify(connection, { signal });
    assert.equal(said.agentVersion, heard.message.agent);
    for (const name of ["/c0mpute/ad/1.0.0", "/c0mpute/offer/1.0.0", "/infernet/inference/1.0.0"]) {
      demand(`it speaks ${name}`, said.protocols.includes(named(name, network)));
    }
  });
  await tally.check("asked for its own ad it hands over a verified one", async (signal) => {
    const question = encode(adQuery, { scope: 0, model: null });
    const protocol = named("/c0mpute/ad/1.0.0", network);
    const { ads } = decode(adList, await ask(connection, protocol, question, AD_ANSWER, signal));
    assert.equal(ads.length, 1);
    const own = open(ads[0], network, [AD]);
    assert.equal(hex(own.signer), hex(heard.signer));
    demand("it is not older than what was heard", own.message.sequence >= heard.message.sequence);
    adHolds(own.message);
  });
  await tally.check("it bids for an offer that this node signed", (signal) => bids(connection, heard, signal));
}

/** Another node reaches this one through the bootstrap node's relay alone: this one listens nowhere else. */
async function relays(node) {
  const reserved = await tally.need("the bootstrap node's relay has a slot for this node", () => {
    const circuit = node.getMultiaddrs().find((address) => address.toString().includes("/p2p-circuit"));
    demand("it listens at a circuit", circuit);
    demand("that of the bootstrap node", circuit.toString().includes(`/p2p/${hubId}/p2p-circuit`));
    return circuit;
  });
  await node.handle(ECHO, async (stream) => {
    for await (const data of stream) stream.send(data);
    await stream.close();
  }, { runOnLimitedConnection: true });
  const other = await tally.need("another node starts", async () =>
    startNode(network, await tradingKey(), []));
  await tally.check("it is reached through the circuit, which carries bytes there and back", async (signal) => {
    const connection = await other.dial(reserved, { signal });
    demand("the connection is a circuit", connection.remoteAddr.toString().includes("/p2p-circuit"));
    demand("it ends at this node", connection.remotePeer.equals(node.peerId));
    const stream = await connection.newStream(ECHO, { signal, runOnLimitedConnection: true });
    const bytes = byteStream(stream);
    const sent = Uint8Array.from({ length: 100_000 }, (_, place) => place * 7);
    await bytes.write(sent, { signal });
    const echoed = (await bytes.read({ bytes: sent.length, signal })).subarray();
    assert.equal(hex(echoed), hex(sent));
  });
  await other.stop();
}

async function exports(heard) {
  const file = new Uint8Array(readFileSync(process.env.INFERNET_EXPORT));
  const deal = await tally.need("an exported deal holds: parties, price, chain, totals, signatures", () => {
    const checked = checkExport(file);
    assert.equal(checked.network, network);
    assert.equal(checked.offer.message.requirement.model, model);
    assert.equal(hex(checked.accept.message.winner), hex(heard.signer));
    demand("it has receipts", checked.receipts.length > 0);
    assert.equal(checked.settled, checked.receipts.length, "all of them are settled");
    assert.equal(checked.settledTotal.requests, checked.receipts.length);
    demand("tokens were delivered", checked.settledTotal.output_tokens > 0n);
    return checked;
  });
  await tally.check("the buyer is somebody else than the worker", () =>
    demand("two parties", !same(deal.offer.signer, deal.bid.signer)));
  await tally.check("with any byte changed it does not hold", () =>
    eachDamaged(file, (damaged) => assert.throws(() => checkExport(damaged), Fault)));
}

/** A public deal, from its offer to its settled receipt, as everybody hears it. */
async function deals(gossip, heard) {
  const { jobs } = gossip.topics;
  const began = now();
  console.log("ask: a deal");
  const offer = await tally.need("a JobOffer is heard", (signal) =>
    gossip.hears(jobs, ({ type, message }) => type === OFFER && message.issued_at >= began, signal));
  await tally.check("it asks for the model, in public", () => {
    const { message } = offer;
    assert.equal(message.workload, WORKLOAD);
    assert.equal(message.requirement.model, model);
    demand("it is public", message.public);
    demand("it invites the provider", message.invited.some((signer) => same(signer, heard.signer)));
  });
  const bid = await tally.need("a JobBid for it is heard", (signal) =>
    gossip.hears(jobs, ({ type, message }) => type === BID && same(message.offer, offer.hash), signal));
  await tally.check("the provider makes it, within the cap and its ad", () => {
    assert.equal(hex(bid.signer), hex(heard.signer));
    demand("it is for the job", same(bid.message.job, offer.message.job));
    demand("it is within the cap", isWithin(bid.message.price, offer.message.price_cap));
    const { price } = heard.message.models.find(({ id }) => id === model);
    demand("it is within the ad", isWithin(bid.message.price, price));
    demand("it grants at most what was asked", bid.message.at_once <= offer.message.volume.at_once);
    demand("it is public", bid.message.public);
  });
  const accept = await tally.need("a JobAccept of it is heard", (signal) =>
    gossip.hears(jobs, ({ type, message }) => type === ACCEPT && same(message.bid, bid.hash), signal));
  await tally.check("the buyer signed it, and it names the winner", () => {
    assert.equal(hex(accept.signer), hex(offer.signer));
    assert.equal(hex(accept.message.winner), hex(bid.signer));
    demand("it is for the job", same(accept.message.lease.job, offer.message.job));
  });
  const ofJob = ({ settled }) => settled && same(settled.receipt.message.lease.job, offer.message.job);
  const last = await tally.need("its settled receipt is heard", (signal) => gossip.hears(jobs, ofJob, signal));
  await tally.check("worker and buyer signed it, and it follows the accept", () => {
    const { receipt, countersign } = last.settled;
    assert.equal(hex(receipt.signer), hex(bid.signer));
    assert.equal(hex(countersign.signer), hex(offer.signer));
    assert.equal(countersign.message.dispute, null);
    assert.equal(receipt.message.seq, 0);
    assert.equal(hex(receipt.message.prev), hex(accept.hash));
    demand("tokens were delivered", receipt.message.total.output_tokens > 0n);
  });
}

const key = await tradingKey();
const node = await tally.need("a node starts and listens at a circuit of the bootstrap node", () =>
  startNode(network, key, [`${at}/p2p-circuit`]));
const gossip = new Gossip(node, network);
await joins(node);
await meshes(gossip);
const heard = await ads(gossip);
await finds(node, heard);
await relays(node);
await exports(heard);
await deals(gossip, heard);
await tally.check("nothing that was heard had to be refused", () => assert.deepEqual(gossip.refused, []));
await node.stop();
process.exit(tally.end());
