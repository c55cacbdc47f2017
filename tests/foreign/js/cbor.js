// The deterministic encoding of specs/signing.md, "Encoding": a shape says what a value is, reads it and writes it.
// Whatever the page does not allow is refused, so each value has one encoding.
//
// In JavaScript a u64 is a BigInt, a smaller integer a Number, a byte string a Uint8Array, a struct an object whose
// members stand in the order of messages.cddl, and an absent optional null.

/** Why a message counts for nothing. Gossip's `verdict`: what breaks the rules is rejected, the rest ignored. */
export class Refused extends Error {
  constructor(reason, verdict = "reject") {
    super(reason);
    this.verdict = verdict;
  }
}

const UNSIGNED = 0;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const control = /[\u0000-\u001f\u007f-\u009f]/;

function* headOf(major, value) {
  const number = BigInt(value);
  const lengths = [[24n, 0], [1n << 8n, 1], [1n << 16n, 2], [1n << 32n, 4], [1n << 64n, 8]];
  const length = lengths.find(([above]) => number < above)[1];
  yield (major << 5) | (length === 0 ? Number(number) : 24 + Math.log2(length));
  for (let place = length - 1; place >= 0; place -= 1) yield Number((number >> BigInt(8 * place)) & 0xffn);
}

class Reader {
  constructor(bytes) {
    // Not as a Buffer, whose `slice` makes no copy.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  take(length) {
    if (length > this.bytes.length - this.at) throw new Refused("the input ends early");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  peek() {
    if (this.at === this.bytes.length) throw new Refused("the input ends early");
    return this.bytes[this.at];
  }

  /** The number in a head of this major type, which must lie within `least` and `most`. */
  head(major, most, least = 0) {
    const first = this.take(1)[0];
    const information = first & 31;
    if (first >> 5 !== major || information > 27) throw new Refused("another type than belongs here");
    let value = BigInt(information);
    if (information >= 24) {
      const length = 1 << (information - 24);
      value = this.take(length).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
      const shorter = length === 1 ? 24n : 1n << BigInt(4 * length);
      if (value < shorter) throw new Refused("an integer is not in its shortest form");
    }
    if (value > BigInt(most) || value < BigInt(least)) throw new Refused(`${value} is beyond its limit`);
    return value;
  }
}

export function uint(most, least = 0) {
  const native = typeof most === "bigint" ? (value) => value : Number;
  return {
    read: (reader) => native(reader.head(UNSIGNED, most, least)),
    write: (value, out) => out.push(...headOf(UNSIGNED, value)),
  };
}

export const u8 = uint(0xff);
export const u16 = uint(0xffff);
export const u32 = uint(0xffff_ffff);
export const u64 = uint((1n << 64n) - 1n);

export function bytes(most, least = most) {
  return {
    read: (reader) => reader.take(Number(reader.head(BYTES, most, least))).slice(),
    write: (value, out) => out.push(...headOf(BYTES, value.length), ...value),
  };
}

/** A text of so many bytes, about which `holds` may say more. */
export function text(most, least = 0, holds = () => true) {
  return {
    read(reader) {
      const encoded = reader.take(Number(reader.head(TEXT, most, least)));
      let value;
      try {
        value = utf8.decode(encoded);
      } catch {
        throw new Refused("a text is not UTF-8");
      }
      if (control.test(value)) throw new Refused("a text has control characters");
      if (!holds(value)) throw new Refused(`\`${value}\` is not in its normal form`);
      return value;
    },
    write(value, out) {
      const encoded = new TextEncoder().encode(value);
      out.push(...headOf(TEXT, encoded.length), ...encoded);
    },
  };
}

export const bool = {
  read(reader) {
    const byte = reader.take(1)[0];
    if (byte !== TRUE && byte !== FALSE) throw new Refused("another type than belongs here");
    return byte === TRUE;
  },
  write: (value, out) => out.push(value ? TRUE : FALSE),
};

export function optional(shape) {
  return {
    read(reader) {
      if (reader.peek() !== NULL) return shape.read(reader);
      reader.take(1);
      return null;
    },
    write: (value, out) => (value === null ? out.push(NULL) : shape.write(value, out)),
  };
}

export function list(shape, most) {
  return {
    read: (reader) => Array.from({ length: Number(reader.head(ARRAY, most)) }, () => shape.read(reader)),
    write(values, out) {
      out.push(...headOf(ARRAY, values.length));
      for (const value of values) shape.write(value, out);
    },
  };
}

export function struct(name, members) {
  const entries = Object.entries(members);
  return {
    read(reader) {
      reader.head(ARRAY, entries.length, entries.length);
      const value = {};
      for (const [member, shape] of entries) {
        try {
          value[member] = shape.read(reader);
        } catch (error) {
          if (error instanceof Refused) error.message = `${name}.${member}: ${error.message}`;
          throw error;
        }
      }
      return value;
    },
    write(value, out) {
      out.push(...headOf(ARRAY, entries.length));
      for (const [member, shape] of entries) shape.write(value[member], out);
    },
  };
}

/** The one value that these bytes are, all of them. */
export function decode(shape, encoded) {
  const reader = new Reader(encoded);
  const value = shape.read(reader);
  if (reader.at !== encoded.length) throw new Refused("bytes follow the message");
  return value;
}

export function encode(shape, value) {
  const out = [];
  shape.write(value, out);
  return Uint8Array.from(out);
}
