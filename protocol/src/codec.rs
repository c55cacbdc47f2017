//! Deterministic CBOR: positional arrays, unsigned integers, byte and text strings, booleans and null.
//!
//! Maps, tags, floats, negative integers and indefinite lengths do not exist here. Every length is checked against
//! the field's own limit and against the bytes that are left before anything is allocated, so the depth and size of
//! what a stranger sends are bounded by the types that read it. Implements `specs/signing.md`, "Encoding".

use std::convert::Infallible;

use ciborium_io::{Read as _, Write};
use ciborium_ll::{Decoder, Encoder, Header, simple};

/// Why bytes are not a message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}{}", .field.map(|name| format!(" in `{name}`")).unwrap_or_default())]
pub struct Malformed {
    /// Offset into the input where reading stopped.
    pub offset: usize,
    /// The innermost field that was being read.
    pub field: Option<&'static str>,
    /// What is wrong there.
    pub reason: Reason,
}

impl Malformed {
    /// Names the field, unless a deeper one was named already.
    #[must_use]
    pub fn within(mut self, field: &'static str) -> Self {
        self.field.get_or_insert(field);
        self
    }
}

/// What is wrong with an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The input ends inside an item.
    #[error("input ends early")]
    Truncated,
    /// Bytes follow the message.
    #[error("bytes follow the message")]
    Trailing,
    /// Another CBOR type than the one the field has.
    #[error("expected {0}")]
    Type(&'static str),
    /// An integer or a length that is not written in its shortest form.
    #[error("integer is not in its shortest form")]
    NotShortest,
    /// An array with more or fewer members than the message has.
    #[error("array of {found} members where {expected} belong")]
    Members {
        /// Members the message has.
        expected: usize,
        /// Members found.
        found: usize,
    },
    /// A byte string of another length than the one it always has.
    #[error("byte string of {found} bytes where {expected} belong")]
    Length {
        /// Bytes that belong there.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A string or list above its limit.
    #[error("length {found} is above the limit of {limit}")]
    TooLong {
        /// The field's limit.
        limit: usize,
        /// Length found.
        found: usize,
    },
    /// A value outside what the field allows.
    #[error("{0}")]
    Value(&'static str),
    /// The decoded message encodes to other bytes.
    #[error("encoding is not the deterministic one")]
    NotCanonical,
}

/// A value with one encoding.
pub trait Wire: Sized {
    /// Appends the value.
    fn encode(&self, writer: &mut Writer);
    /// Reads one value.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// Appends CBOR items to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

struct Sink<'a>(&'a mut Vec<u8>);

impl Write for Sink<'_> {
    type Error = Infallible;

    fn write_all(&mut self, data: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Writer {
    /// An empty writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(capacity),
        }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }

    fn header(&mut self, header: Header) {
        let Ok(()) = Encoder::from(Sink(&mut self.buffer)).push(header);
    }

    /// Starts an array of `members` items.
    pub fn array(&mut self, members: usize) {
        self.header(Header::Array(Some(members)));
    }

    /// Writes an unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.header(Header::Positive(value));
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.header(Header::Bytes(Some(value.len())));
        self.buffer.extend_from_slice(value);
    }

    /// Writes a text string.
    pub fn text(&mut self, value: &str) {
        self.header(Header::Text(Some(value.len())));
        self.buffer.extend_from_slice(value.as_bytes());
    }

    /// Writes true or false.
    pub fn boolean(&mut self, value: bool) {
        self.header(Header::Simple(if value { simple::TRUE } else { simple::FALSE }));
    }

    /// Writes null.
    pub fn null(&mut self) {
        self.header(Header::Simple(simple::NULL));
    }
}

/// Reads CBOR items from a slice and refuses every encoding but the shortest.
pub struct Reader<'a> {
    decoder: Decoder<&'a [u8]>,
    length: usize,
    peeked: Option<Header>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Bytes of the shortest header that carries `argument`.
fn shortest(argument: u64) -> usize {
    match argument {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

impl<'a> Reader<'a> {
    /// Reads from the start of `input`.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            decoder: Decoder::from(input),
            length: input.len(),
            peeked: None,
        }
    }

    /// An error at the current position.
    pub fn fail(&mut self, reason: Reason) -> Malformed {
        Malformed {
            offset: self.decoder.offset(),
            field: None,
            reason,
        }
    }

    /// A value error at the current position.
    pub fn refuse(&mut self, why: &'static str) -> Malformed {
        self.fail(Reason::Value(why))
    }

    fn header(&mut self) -> Result<Header, Malformed> {
        if let Some(header) = self.peeked.take() {
            return Ok(header);
        }
        let before = self.decoder.offset();
        let header = match self.decoder.pull() {
            Ok(header) => header,
            Err(ciborium_ll::Error::Io(_)) => return Err(self.fail(Reason::Truncated)),
            Err(ciborium_ll::Error::Syntax(_)) => return Err(self.fail(Reason::Type("a CBOR item"))),
        };
        let argument = match header {
            Header::Positive(value) => value,
            Header::Bytes(Some(length)) | Header::Text(Some(length)) | Header::Array(Some(length)) => length as u64,
            Header::Simple(simple::TRUE | simple::FALSE | simple::NULL) => 0,
            _ => return Err(self.fail(Reason::Type("an array, unsigned integer, string, boolean or null"))),
        };
        if self.decoder.offset() - before != shortest(argument) {
            return Err(self.fail(Reason::NotShortest));
        }
        Ok(header)
    }

    fn checked(&mut self, found: usize, limit: usize) -> Result<usize, Malformed> {
        if found > limit {
            return Err(self.fail(Reason::TooLong { limit, found }));
        }
        // Every item takes a byte at least, so a longer claim is a lie whatever it counts.
        if found > self.length - self.decoder.offset() {
            return Err(self.fail(Reason::Truncated));
        }
        Ok(found)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Malformed> {
        let mut value = vec![0; length];
        self.decoder
            .read_exact(&mut value)
            .map_err(|_| self.fail(Reason::Truncated))?;
        Ok(value)
    }

    /// Reads an array header and its number of members, at most `limit`.
    pub fn list(&mut self, limit: usize) -> Result<usize, Malformed> {
        match self.header()? {
            Header::Array(Some(members)) => self.checked(members, limit),
            _ => Err(self.fail(Reason::Type("an array"))),
        }
    }

    /// Reads the header of an array that must have exactly `expected` members.
    pub fn array(&mut self, expected: usize) -> Result<(), Malformed> {
        match self.header()? {
            Header::Array(Some(found)) if found == expected => Ok(()),
            Header::Array(Some(found)) => Err(self.fail(Reason::Members { expected, found })),
            _ => Err(self.fail(Reason::Type("an array"))),
        }
    }

    /// Reads an unsigned integer, at most `limit`.
    pub fn uint(&mut self, limit: u64) -> Result<u64, Malformed> {
        match self.header()? {
            Header::Positive(value) if value <= limit => Ok(value),
            Header::Positive(_) => Err(self.refuse("integer above its limit")),
            _ => Err(self.fail(Reason::Type("an unsigned integer"))),
        }
    }

    /// Reads a byte string of at most `limit` bytes.
    pub fn bytes(&mut self, limit: usize) -> Result<Vec<u8>, Malformed> {
        match self.header()? {
            Header::Bytes(Some(length)) => {
                let length = self.checked(length, limit)?;
                self.take(length)
            }
            _ => Err(self.fail(Reason::Type("a byte string"))),
        }
    }

    /// Reads a byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let value = self.bytes(N)?;
        let found = value.len();
        value
            .try_into()
            .map_err(|_| self.fail(Reason::Length { expected: N, found }))
    }

    /// Reads a text string of at most `limit` bytes.
    pub fn text(&mut self, limit: usize) -> Result<String, Malformed> {
        match self.header()? {
            Header::Text(Some(length)) => {
                let length = self.checked(length, limit)?;
                let value = self.take(length)?;
                String::from_utf8(value).map_err(|_| self.refuse("text is not UTF-8"))
            }
            _ => Err(self.fail(Reason::Type("a text string"))),
        }
    }

    /// Reads true or false.
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.header()? {
            Header::Simple(simple::TRUE) => Ok(true),
            Header::Simple(simple::FALSE) => Ok(false),
            _ => Err(self.fail(Reason::Type("a boolean"))),
        }
    }

    /// Consumes a null if one comes next.
    pub fn null(&mut self) -> Result<bool, Malformed> {
        match self.header()? {
            Header::Simple(simple::NULL) => Ok(true),
            other => {
                self.peeked = Some(other);
                Ok(false)
            }
        }
    }

    /// Succeeds when nothing is left.
    pub fn finish(mut self) -> Result<(), Malformed> {
        if self.decoder.offset() < self.length {
            Err(self.fail(Reason::Trailing))
        } else {
            Ok(())
        }
    }
}

/// The one encoding of `value`.
pub fn to_vec<T: Wire>(value: &T) -> Vec<u8> {
    let mut writer = Writer::with_capacity(256);
    value.encode(&mut writer);
    writer.into_bytes()
}

/// Decodes a whole message: nothing may follow it, and it must encode to the very same bytes again.
pub fn from_slice<T: Wire>(input: &[u8]) -> Result<T, Malformed> {
    let value = prefix_free(input)?;
    if to_vec(&value) == input {
        Ok(value)
    } else {
        Err(Malformed {
            offset: 0,
            field: None,
            reason: Reason::NotCanonical,
        })
    }
}

/// Decodes a whole message without encoding it again; for frames, whose every header is checked as it is read.
pub(crate) fn prefix_free<T: Wire>(input: &[u8]) -> Result<T, Malformed> {
    let mut reader = Reader::new(input);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.encode(writer),
            None => writer.null(),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.null()? {
            Ok(None)
        } else {
            T::decode(reader).map(Some)
        }
    }
}

impl Wire for bool {
    fn encode(&self, writer: &mut Writer) {
        writer.boolean(*self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.boolean()
    }
}

macro_rules! wire_uint {
    ($($ty:ty),+) => {$(
        impl Wire for $ty {
            fn encode(&self, writer: &mut Writer) {
                writer.uint(u64::from(*self));
            }

            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                let value = reader.uint(u64::from(<$ty>::MAX))?;
                <$ty>::try_from(value).map_err(|_| reader.refuse("integer above its limit"))
            }
        }
    )+};
}
wire_uint!(u8, u16, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.fixed()
    }
}

/// A list of at most `N` values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> List<T, N> {
    /// Keeps the first `N` of `values`.
    pub fn first_of(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().take(N).collect())
    }
}

impl<T, const N: usize> std::ops::Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a List<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Wire, const N: usize> Wire for List<T, N> {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.0.len());
        for value in &self.0 {
            value.encode(writer);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let members = reader.list(N)?;
        (0..members)
            .map(|_| T::decode(reader))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Text of at most `N` bytes, without control characters.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize>(String);

impl<const N: usize> Text<N> {
    /// Cuts `value` to the limit at a character boundary and drops control characters.
    #[must_use]
    pub fn lossy(value: &str) -> Self {
        let mut text = String::new();
        for c in value.chars().filter(|c| !c.is_control()) {
            if text.len() + c.len_utf8() > N {
                break;
            }
            text.push(c);
        }
        Self(text)
    }

    /// Takes `value` as it is, or says why not.
    pub fn new(value: impl Into<String>) -> Result<Self, Reason> {
        let value = value.into();
        if value.len() > N {
            return Err(Reason::TooLong {
                limit: N,
                found: value.len(),
            });
        }
        if value.chars().any(char::is_control) {
            return Err(Reason::Value("text has control characters"));
        }
        Ok(Self(value))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> std::fmt::Display for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> Wire for Text<N> {
    fn encode(&self, writer: &mut Writer) {
        writer.text(&self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let value = reader.text(N)?;
        Self::new(value).map_err(|reason| reader.fail(reason))
    }
}

/// A byte string of at most `N` bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob<const N: usize>(pub Vec<u8>);

impl<const N: usize> std::fmt::Debug for Blob<N> {
    /// Shows the length only: blobs may hold prompts, and those never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl<const N: usize> Wire for Blob<N> {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(&self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.bytes(N).map(Self)
    }
}

/// Declares a message or a part of one: a struct whose encoding is the array of its fields in order.
#[macro_export]
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty),+
        }

        impl $crate::codec::Wire for $name {
            fn encode(&self, writer: &mut $crate::codec::Writer) {
                writer.array([$(stringify!($field)),+].len());
                $($crate::codec::Wire::encode(&self.$field, writer);)+
            }

            fn decode(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Malformed> {
                reader
                    .array([$(stringify!($field)),+].len())
                    .map_err(|error| error.within(stringify!($name)))?;
                Ok(Self {
                    $($field: $crate::codec::Wire::decode(reader)
                        .map_err(|error| error.within(concat!(stringify!($name), ".", stringify!($field))))?),+
                })
            }
        }
    };
}

/// Declares an enumeration that is written as its number.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal => $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number),+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in documents, JSON and on the command line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word).ok_or_else(|| {
                    format!("`{word}` is none of {}", [$($word),+].join(", "))
                })
            }
        }

        impl $crate::codec::Wire for $name {
            fn encode(&self, writer: &mut $crate::codec::Writer) {
                writer.uint(*self as u64);
            }

            fn decode(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Malformed> {
                match reader.uint(u64::MAX)? {
                    $($number => Ok(Self::$variant),)+
                    _ => Err(reader.refuse(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_encodings_of_the_same_value_are_refused() {
        assert_eq!(from_slice::<u64>(&[0x05]).unwrap(), 5);
        assert_eq!(
            from_slice::<u64>(&[0x18, 0x05]).unwrap_err().reason,
            Reason::NotShortest
        );
        assert_eq!(from_slice::<u64>(&[0x05, 0x00]).unwrap_err().reason, Reason::Trailing);
        assert_eq!(from_slice::<u64>(&[]).unwrap_err().reason, Reason::Truncated);
        assert!(matches!(
            from_slice::<u64>(&[0xf9, 0x3c, 0x00]).unwrap_err().reason,
            Reason::Type(_)
        ));
        assert!(matches!(
            from_slice::<Blob<8>>(&[0x5f, 0x41, 0x00, 0xff]).unwrap_err().reason,
            Reason::Type(_)
        ));
        assert!(matches!(
            from_slice::<Blob<8>>(&[0xc0, 0x41, 0x00]).unwrap_err().reason,
            Reason::Type(_)
        ));
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        let huge = [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            from_slice::<Blob<{ usize::MAX }>>(&huge).unwrap_err().reason,
            Reason::Truncated
        ));
        assert!(matches!(
            from_slice::<Blob<4>>(&[0x45, 1, 2, 3, 4, 5]).unwrap_err().reason,
            Reason::TooLong { .. }
        ));
        let list = [0x9a, 0x00, 0xff, 0xff, 0xff];
        assert_eq!(
            from_slice::<List<u8, 0xffff_ffff>>(&list).unwrap_err().reason,
            Reason::Truncated
        );
    }

    #[test]
    fn text_is_clean_utf8() {
        assert!(from_slice::<Text<8>>(&[0x61, 0xff]).is_err());
        assert!(from_slice::<Text<8>>(&[0x61, 0x0a]).is_err());
        assert_eq!(Text::<4>::lossy("añ\nÿz").as_str(), "añ");
    }
}
