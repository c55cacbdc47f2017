// A js-libp2p node as specs/network.md asks for: TCP with Noise and Yamux, identify, ping, Kademlia, gossipsub
// without signatures of its own, and the circuit relay. And the exchanges' framing of specs/README.md, "Names".

import { circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { kadDHT, passthroughMapper } from "@libp2p/kad-dht";
import { noise } from "@libp2p/noise";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { byteStream } from "@libp2p/utils";
import { yamux } from "@libp2p/yamux";
import { createLibp2p } from "libp2p";
import { MESSAGE, named, sha256 } from "./wire.js";

/** The first 20 bytes of SHA-256 of a message's data: auction.md, "Gossip". */
const messageId = (message) => sha256(message.data).subarray(0, 20);

/** A key that may trade, whose point has even y: identity.md, "Key". Every second one has. */
export async function tradingKey() {
  for (;;) {
    const key = await generateKeyPair("secp256k1");
    if (key.publicKey.raw[0] === 2) return key;
  }
}

/** Starts a node with this key that listens at these addresses. */
export async function startNode(network, key, listen) {
  const node = await createLibp2p({
    start: false,
    privateKey: key,
    addresses: { listen },
    transports: [tcp(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      // One by itself as a connection opens, and one that a check asks for.
      identify: identify({ maxOutboundStreams: 2 }),
      ping: ping(),
      dht: kadDHT({
        protocol: named("/c0mpute/kad/1.0.0", network),
        clientMode: true,
        // By itself it leaves out every peer at a private address, and loopback is one.
        peerInfoMapper: passthroughMapper,
      }),
      gossip: gossipsub({
        globalSignaturePolicy: "StrictNoSign",
        msgIdFn: messageId,
        maxInboundDataLength: MESSAGE,
        fallbackToFloodsub: false,
      }),
    },
  });
  // Identify keeps its own id, and tells the network here; the library has no option for the one without the other.
  node.services.identify.host.protocolVersion = named("/c0mpute/id/1.0.0", network);
  await node.start();
  return node;
}

/** The node id behind a PeerId, or null where its key is none that may trade: identity.md, "Key". */
export function nodeIdOf(peer) {
  const bytes = peer.toMultihash().bytes;
  const isEven = bytes.length === 39 && Buffer.from(bytes).toString("hex").startsWith("00250802122102");
  return isEven ? bytes.subarray(7) : null;
}

/** One question and one answer on a substream of its own, each behind its length as u32, big endian. */
export async function ask(connection, protocol, question, most, signal) {
  const stream = await connection.newStream(protocol, { signal });
  const bytes = byteStream(stream);
  const framed = new Uint8Array(4 + question.length);
  new DataView(framed.buffer).setUint32(0, question.length);
  framed.set(question, 4);
  await bytes.write(framed, { signal });
  const head = (await bytes.read({ bytes: 4, signal })).subarray();
  const length = new DataView(head.buffer, head.byteOffset).getUint32(0);
  if (length > most) throw new Error(`an answer of ${length} bytes, where ${most} are the limit`);
  const answer = (await bytes.read({ bytes: length, signal })).subarray();
  await stream.close({ signal });
  return answer;
}
