#!/usr/bin/env python3
"""Reads specs/vectors as another implementation would, with nothing of this project's code.

CBOR comes from the package cbor2; hashes from the standard library; the curve, bech32 and base58 are written out below.
Each vector is one case. The last line counts them, and any difference ends the run with exit code 1.

    pip install -r tests/foreign/requirements.txt
    python tests/foreign/cbor_vectors.py specs/vectors
"""

import hashlib
import json
import pathlib
import sys
import unicodedata

import cbor2

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def number(data):
    return int.from_bytes(data, "big")


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and a[1] != b[1]:
        return None
    if a == b:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(scalar, point):
    result = None
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def lift(x):
    """The point with this x and even y, or nothing."""
    if x >= P:
        return None
    square = (pow(x, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return x, y if y % 2 == 0 else P - y


def tagged(tag, *parts):
    tag = sha256(tag.encode())
    return sha256(tag, tag, *parts)


def verifies(node, message, signature):
    point, r, s = lift(number(node)), number(signature[:32]), number(signature[32:])
    if point is None or r >= P or s >= N:
        return False
    challenge = number(tagged("BIP0340/challenge", signature[:32], node, message)) % N
    found = add(times(s, G), times(N - challenge, point))
    return found is not None and found[1] % 2 == 0 and found[0] == r


def bech32(prefix, data):
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]

    def checksum(symbols):
        sum_ = 1
        for symbol in symbols:
            top, sum_ = sum_ >> 25, (sum_ & 0x1FFFFFF) << 5 ^ symbol
            for place, part in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
                sum_ ^= part if top >> place & 1 else 0
        return sum_ ^ 1

    spread = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    sum_ = checksum(spread + values + [0] * 6)
    values += [sum_ >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(letters[value] for value in values)


def base58(data):
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    value, text = number(data), ""
    while value:
        value, rest = divmod(value, 58)
        text = letters[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def plain(fields):
    """Fields of a vector as CBOR sees them: an object is an array, {"hex"} a byte string."""
    if isinstance(fields, dict):
        if list(fields) == ["hex"]:
            return bytes.fromhex(fields["hex"])
        return [plain(value) for value in fields.values()]
    if isinstance(fields, list):
        return [plain(value) for value in fields]
    return fields


def encode(value):
    return cbor2.dumps(value, canonical=True)


class Cases:
    """Counts what agrees, and says what does not."""

    def __init__(self):
        self.passed = self.failed = 0

    def same(self, name, found, expected):
        if found == expected:
            self.passed += 1
            return
        self.failed += 1
        show = [value.hex() if isinstance(value, bytes) else value for value in (found, expected)]
        print(f"{name}: found {show[0]}, the vector says {show[1]}")


def identity(cases, file):
    for key in file["keys"]:
        secret = number(bytes.fromhex(key["secret"]))
        point = times(secret, G)
        if point[1] % 2:
            secret = N - secret
        node = point[0].to_bytes(32, "big")
        normal = secret.to_bytes(32, "big")
        name = f"key {key['npub']}"
        cases.same(name, normal.hex(), key["normalised"])
        cases.same(name, node.hex(), key["node"])
        cases.same(name, bech32("nsec", normal), key["nsec"])
        cases.same(name, bech32("npub", node), key["npub"])
        peer = bytes.fromhex("00250802122102") + node
        cases.same(name, peer.hex(), key["peer_id_bytes"])
        cases.same(name, base58(peer), key["peer_id"])


def signing(cases, file):
    for message in file["messages"]:
        name, payload = message["name"], bytes.fromhex(message["payload"])
        cases.same(name, encode(plain(message["fields"])), payload)
        cases.same(name, encode(cbor2.loads(payload)), payload)
        tag = f"c0mpute/{message['network']}/{message['kind_name']}/v1"
        signed = tagged(tag, payload)
        cases.same(name, signed.hex(), message["signed_hash"])
        envelope = bytes.fromhex(message["envelope"])
        version, kind, signer, inner, signature = cbor2.loads(envelope)
        cases.same(name, [version, kind, inner], [1, message["kind"], payload])
        cases.same(name, encode([1, kind, signer, payload, signature]), envelope)
        cases.same(f"signature of {name}", verifies(signer, signed, signature), True)
        cases.same(name, sha256(envelope).hex(), message["hash"])
    settled = file["settled"]
    cases.same(settled["name"], encode(plain(settled["fields"])).hex(), settled["bytes"])


def frames(cases, file):
    for frame in file["frames"]:
        content = encode([frame["number"], plain(frame["fields"])])
        cases.same(frame["name"], content.hex(), frame["bytes"])
        cases.same(frame["name"], (len(content).to_bytes(4, "big") + content).hex(), frame["wire"])
    for message in file["exchanges"]:
        content = encode(plain(message["fields"]))
        cases.same(message["name"], content.hex(), message["bytes"])
        cases.same(message["name"], (len(content).to_bytes(4, "big") + content).hex(), message["wire"])


def commitment(cases, file):
    for chain in file["chains"]:
        salt, request, body = (bytes.fromhex(chain[name]) for name in ("salt", "request", "body"))
        end = sha256(b"infernet/commitment/v1", salt, request, sha256(body))
        cases.same(chain["name"], end.hex(), chain["start"])
        for frame in chain["frames"]:
            end = sha256(end, frame["frame"].to_bytes(8, "big"), bytes.fromhex(frame["bytes"]))
            cases.same(chain["name"], end.hex(), frame["commitment"])
        cases.same(chain["name"], end.hex(), chain["end"])


def cost(cases, file):
    for case in file["costs"]:
        names = ("input", "output", "request", "input_tokens", "output_tokens", "cost")
        input_, output, request, input_tokens, output_tokens, expected = (int(case[name]) for name in names)
        found = -(-(input_ * input_tokens + output * output_tokens) // 1_000_000) + request
        cases.same(f"cost {case}", min(found, 2**64 - 1), expected)


def sortition(cases, file):
    for case in file["draws"]:
        digest = sha256(bytes.fromhex(case["job"]), bytes.fromhex(case["signer"]))
        cases.same(f"draw of {case['job']}", number(digest[:2]), case["draw"])
    for case in file["thresholds"]:
        found = min(case["open"], 4 * 8 * 65_536 // max(case["ads_held"], 1))
        cases.same(f"threshold {case}", found, case["threshold"])


def models(cases, file):
    for case in file["ids"]:
        nfc = lambda text: unicodedata.normalize("NFC", text)
        name = nfc(nfc(case["name"].strip()).lower())
        while name.endswith(":latest"):
            name = name.removesuffix(":latest")
        cases.same(f"id of {case['name']!r}", name, case["id"])
        for field, suffix in (("record_key", ""), ("shard_key_0", "/0"), ("shard_key_15", "/15")):
            key = b"\x12\x20" + sha256(b"infernet:v1:model:", (name + suffix).encode())
            cases.same(f"{field} of {name}", key.hex(), case[field])


def export(cases, file):
    data = bytes.fromhex(file["file"])
    cases.same("export", encode(plain(file["fields"])), data)
    cases.same("checksum of the export", sha256(data[:-32], bytes(32)), data[-32:])


def bip340(cases, table):
    for line in table.splitlines():
        cells = line.split(",", 7)
        if cells[0].isdecimal():
            node, message, signature = (bytes.fromhex(cells[column]) for column in (2, 4, 5))
            cases.same(f"BIP-340 row {cells[0]}", verifies(node, message, signature), cells[6] == "TRUE")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "specs/vectors")
    cases = Cases()
    for check in (identity, signing, frames, commitment, cost, sortition, models, export):
        check(cases, json.loads((folder / f"{check.__name__}.json").read_text(encoding="utf-8")))
    bip340(cases, (folder / "bip340.csv").read_text())
    print(f"{cases.passed} passed, {cases.failed} failed, 0 skipped")
    sys.exit(1 if cases.failed else 0)


if __name__ == "__main__":
    main()
