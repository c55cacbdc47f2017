#!/usr/bin/env python3
"""py-libp2p connects to a bootstrap node of this project, has it identify itself, and pings it.

INFERNET_NETWORK names the network, INFERNET_BOOTSTRAP an address with its peer id, as specs/network.md has them. Each
check is a line and has a deadline; the last line counts them, and a failure ends the run with exit code 1.

    pip install -r tests/foreign/requirements.txt
"""

import os
import re
import sys

import trio
from libp2p import new_host
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.utils.varint import read_length_prefixed_protobuf
from multiaddr import Multiaddr

PATIENCE = 60
PINGS = 3


class Tally:
    """Runs checks one after another, says how each ended, and counts them."""

    def __init__(self):
        self.passed = self.failed = 0

    async def check(self, name, act):
        """What `act` gives, or nothing where it failed."""
        try:
            with trio.fail_after(PATIENCE):
                value = await act()
        except Exception as error:  # whatever it is, the check has failed, and the next one tells more
            self.failed += 1
            print(f"not so: {name}: {error!r}")
            return None
        self.passed += 1
        print(f"ok: {name}")
        return value


def named(protocol, network):
    """A protocol id as a network calls it: specs/README.md, "Names"."""
    return protocol if network == "main" else re.sub(r"^(/[^/]+)", rf"\1/{network}", protocol)


def holds(what, is_so):
    if not is_so:
        raise AssertionError(what)


async def identify(host, peer):
    stream = await host.new_stream(peer, [IDENTIFY])
    said = Identify.FromString(await read_length_prefixed_protobuf(stream))
    await stream.close()
    return said


def is_bootstrap(said, network):
    agent, protocols = said.agent_version, list(said.protocols)
    holds(f"the agent is {agent}", re.fullmatch(r"infernet-bootstrap/\d+\.\d+\.\d+", agent))
    holds(f"the network is {said.protocol_version}", said.protocol_version == named("/c0mpute/id/1.0.0", network))
    for protocol in (named("/c0mpute/kad/1.0.0", network), "/libp2p/circuit/relay/0.2.0/hop"):
        holds(f"{protocol} is among {protocols}", protocol in protocols)
    holds(f"gossipsub is among {protocols}", any(name.startswith("/meshsub/1.") for name in protocols))


async def take_part(tally, network, hub):
    host = new_host(key_pair=create_new_key_pair(), muxer_preference="YAMUX")
    async with host.run(listen_addrs=[]):
        await tally.check("the bootstrap node is dialled", lambda: host.connect(hub))
        said = await tally.check("it identifies itself", lambda: identify(host, hub.peer_id))

        async def known():
            is_bootstrap(said, network)

        await tally.check("with agent, network and protocols", known)
        times = await tally.check("it is pinged", lambda: PingService(host).ping(hub.peer_id, PINGS))

        async def answered():
            holds(f"{PINGS} answers", len(times) == PINGS and all(time >= 0 for time in times))

        await tally.check("and answers each time", answered)


def main():
    tally = Tally()
    hub = info_from_p2p_addr(Multiaddr(os.environ["INFERNET_BOOTSTRAP"]))
    trio.run(take_part, tally, os.environ["INFERNET_NETWORK"], hub)
    print(f"{tally.passed} passed, {tally.failed} failed, 0 skipped")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
