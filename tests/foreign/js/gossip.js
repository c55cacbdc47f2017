// The two topics: each message is judged before it is forwarded, and kept for whoever waits for it.
// specs/auction.md, "Gossip" and "Forwarding".

import { AD } from "./ad.js";
import { ACCEPT, BID, OFFER } from "./auction.js";
import { Refused } from "./cbor.js";
import { openSettled } from "./receipt.js";
import { WORKLOAD, named, open } from "./wire.js";

/** First byte of an array of two members: a settled receipt; an envelope has five. */
const PAIR = 0x82;

export class Gossip {
  heard = [];
  refused = [];
  #waiting = new Set();
  #meshes = new Set();
  #service;

  constructor(node, network) {
    this.topics = { ads: named("c0mpute/cap/v1", network), jobs: named(`c0mpute/jobs/${WORKLOAD}`, network) };
    this.#service = node.services.gossip;
    this.#service.addEventListener("gossipsub:graft", ({ detail }) => {
      this.#meshes.add(`${detail.topic} ${detail.peerId}`);
      this.#look();
    });
    const read = {
      [this.topics.ads]: (data) => open(data, network, [AD]),
      [this.topics.jobs]: (data) =>
        data[0] === PAIR ? { settled: openSettled(data, network) } : open(data, network, [OFFER, BID, ACCEPT]),
    };
    for (const [topic, reading] of Object.entries(read)) {
      this.#service.topicValidators.set(topic, (_, { data }) => this.#judge(topic, data, reading));
      this.#service.subscribe(topic);
    }
  }

  #judge(topic, data, reading) {
    try {
      this.heard.push({ topic, ...reading(data) });
      this.#look();
      return "accept";
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.refused.push(`${topic}: ${error.message}`);
      return error.verdict;
    }
  }

  #look() {
    for (const waiting of this.#waiting) waiting();
  }

  /** Waits until `find` finds something. */
  until(find, signal) {
    return new Promise((resolve, fail) => {
      const look = () => {
        const found = find();
        if (!found) return;
        this.#waiting.delete(look);
        resolve(found);
      };
      signal.addEventListener("abort", () => {
        this.#waiting.delete(look);
        fail(signal.reason);
      });
      this.#waiting.add(look);
      look();
    });
  }

  /** Waits until this peer is in the mesh of a topic. */
  inMesh(topic, peer, signal) {
    return this.until(() => this.#meshes.has(`${topic} ${peer}`), signal);
  }

  /** Waits for a message that was heard on a topic, also earlier. */
  hears(topic, isIt, signal) {
    return this.until(() => this.heard.find((message) => message.topic === topic && isIt(message)), signal);
  }
}
