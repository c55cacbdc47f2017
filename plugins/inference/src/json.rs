//! JSON text read and edited in place: byte ranges of members, so that what is not edited stays byte for byte.
//!
//! [`validate`] proves a text well-formed once, where it enters; [`members`], [`elements`] and [`Object`] then find
//! their way in it without building a tree. They also run, unvalidated, over what an engine says: garbage in gives
//! garbage or [`Malformed`] out, never a panic.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};
use serde_json::value::RawValue;

/// Deepest nesting that is read: tool schemas of real programs stay below 20.
pub const DEPTH_MAX: usize = 64;
/// Most members of an object that is looked into: requests have a few dozen, and each member costs far more memory than
/// the five bytes that it may be.
pub const MEMBERS_MAX: usize = 4096;
/// What serde's tree takes for one value of a list, with the room that a growing list keeps.
const ELEMENT_BYTES: u64 = 64;
/// What it takes for one member of an object, and for an object however small.
const MEMBER_BYTES: u64 = 112;
const OBJECT_BYTES: u64 = 640;

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON.
    #[error("the body is not valid JSON (at byte {0})")]
    Syntax(usize),
    /// A text with half of a character, which some readers refuse and others fail at.
    #[error("the body has half of a surrogate pair (at byte {0})")]
    Surrogate(usize),
    /// Nested too deep.
    #[error("the body is nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// Not an object.
    #[error("the body is not a JSON object")]
    NotObject,
    /// An object has more members than are looked into.
    #[error("an object has more than {MEMBERS_MAX} members")]
    Members,
    /// A member stands twice, and readers differ about which one counts.
    #[error("`{0}` is given twice")]
    Duplicate(String),
}

/// Proves that `text` is one JSON document, in UTF-8, within [`DEPTH_MAX`].
pub fn validate(text: &[u8]) -> Result<(), Malformed> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => match skip_string(text, at) {
                Some(end) => {
                    if let Some(half) = half_character(&text[at..end]) {
                        return Err(Malformed::Surrogate(at + half));
                    }
                    at = end;
                    continue;
                }
                None => return Err(Malformed::Syntax(at)),
            },
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Malformed::Depth);
        }
        at += 1;
    }
    serde_json::from_slice::<&RawValue>(text)
        .map(|_| ())
        .map_err(|error| Malformed::Syntax(byte_of(text, &error)))
}

/// Where a string has an escaped surrogate without its other half.
fn half_character(string: &[u8]) -> Option<usize> {
    let unit = |at: usize| {
        let digits = string.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(escape) = memchr(b'\\', string.get(at..)?) {
        at += escape;
        at += match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => return Some(at),
            _ => 2,
        };
    }
    None
}

/// About how many bytes a tree of `text` takes, at most: twenty times its length for lists of numbers, a hundred times
/// for lists of objects. What was not validated is counted all the same.
#[must_use]
pub fn tree_bytes(text: &[u8]) -> u64 {
    let mut bytes = text.len() as u64;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        bytes += match byte {
            b'"' => match skip_string(text, at) {
                Some(end) => {
                    at = end;
                    continue;
                }
                None => return bytes,
            },
            b'[' | b',' => ELEMENT_BYTES,
            b':' => MEMBER_BYTES,
            b'{' => OBJECT_BYTES,
            _ => 0,
        };
        at += 1;
    }
    bytes
}

/// Where serde found the error, as an offset: its line and column, read back.
fn byte_of(text: &[u8], error: &serde_json::Error) -> usize {
    let lines = text
        .split_inclusive(|&byte| byte == b'\n')
        .take(error.line().saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name as written, between its quotes.
    raw_name: &'a [u8],
    /// Where the name's opening quote stands.
    start: usize,
    /// The bytes of the value.
    pub range: Range<usize>,
    /// The value as written.
    pub value: &'a [u8],
}

impl<'a> Member<'a> {
    /// The name, escapes resolved.
    #[must_use]
    pub fn name(&self) -> Cow<'a, [u8]> {
        if memchr(b'\\', self.raw_name).is_none() {
            return Cow::Borrowed(self.raw_name);
        }
        let mut quoted = Vec::with_capacity(self.raw_name.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.raw_name);
        quoted.push(b'"');
        match serde_json::from_slice::<String>(&quoted) {
            Ok(name) => Cow::Owned(name.into_bytes()),
            Err(_) => Cow::Borrowed(self.raw_name),
        }
    }
}

/// The members of the object that `text` is, in order.
#[must_use]
pub fn members(text: &[u8]) -> Members<'_> {
    Members {
        text,
        at: 0,
        state: State::Before,
    }
}

/// The elements of the array that `text` is, in order; nothing where it is none.
pub fn elements(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = skip_space(text, 0);
    let mut open = text.get(at) == Some(&b'[');
    at += 1;
    std::iter::from_fn(move || {
        if !open {
            return None;
        }
        at = skip_space(text, at);
        if text.get(at) == Some(&b',') {
            at = skip_space(text, at + 1);
        }
        let end = match text.get(at) {
            None | Some(b']') => None,
            Some(_) => skip_value(text, at),
        };
        let Some(end) = end else {
            open = false;
            return None;
        };
        let element = text.get(at..end);
        at = end;
        element
    })
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    Ended,
}

impl<'a> Members<'a> {
    fn step(&mut self) -> Result<Option<Member<'a>>, Malformed> {
        let text = self.text;
        let mut at = skip_space(text, self.at);
        if self.state == State::Before {
            if text.get(at) != Some(&b'{') {
                return Err(Malformed::NotObject);
            }
            at = skip_space(text, at + 1);
        } else if text.get(at) == Some(&b',') {
            at = skip_space(text, at + 1);
        }
        self.state = State::Inside;
        let bad = |at| Malformed::Syntax(at);
        match text.get(at) {
            Some(b'}') => return Ok(None),
            Some(b'"') => {}
            _ => return Err(bad(at)),
        }
        let name_end = skip_string(text, at).ok_or(bad(at))?;
        let colon = skip_space(text, name_end);
        if text.get(colon) != Some(&b':') {
            return Err(bad(colon));
        }
        let value = skip_space(text, colon + 1);
        let end = skip_value(text, value).ok_or(bad(value))?;
        self.at = end;
        Ok(Some(Member {
            raw_name: &text[at + 1..name_end - 1],
            start: at,
            range: value..end,
            value: &text[value..end],
        }))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.state = State::Ended;
        }
        step.transpose()
    }
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// The index after the string that opens at `open`.
fn skip_string(text: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// The index after the value that starts at `start`.
fn skip_value(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => skip_string(text, start),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            let mut at = start;
            loop {
                match text.get(at)? {
                    b'"' => {
                        at = skip_string(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = &text[start..];
            let length = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            let length = length.unwrap_or(rest.len());
            (length > 0).then_some(start + length)
        }
    }
}

/// Whether a value is `null`.
#[must_use]
pub fn is_null(value: &[u8]) -> bool {
    value == b"null"
}

/// The string that a value is, escapes resolved.
#[must_use]
pub fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(value).ok().map(Cow::Owned)
}

/// How many bytes the string that a value is has once its escapes are resolved; 0 where it is none.
#[must_use]
pub fn string_bytes(value: &[u8]) -> u64 {
    let Some(mut inner) = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) else {
        return 0;
    };
    let mut bytes = 0_u64;
    while let Some(escape) = memchr(b'\\', inner) {
        bytes += escape as u64;
        let taken = if inner.get(escape + 1) == Some(&b'u') {
            let digits = inner
                .get(escape + 2..escape + 6)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            bytes += match digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
                Some(0..=0x7f) => 1,
                // Each half of a surrogate pair brings two of the pair's four bytes.
                Some(0x80..=0x7ff | 0xd800..=0xdfff) => 2,
                Some(_) => 3,
                None => 0,
            };
            6
        } else {
            bytes += 1;
            2
        };
        inner = inner.get(escape + taken..).unwrap_or_default();
    }
    bytes + inner.len() as u64
}

/// `text` as a JSON string, with its quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Appends `text` as a JSON string, with its quotes.
pub fn push_quoted(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            // Writing to a string cannot fail.
            _ => drop(write!(out, "\\u{byte:04x}")),
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// A change to one member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    /// The member.
    pub name: &'a str,
    /// Its new value as JSON text, or nothing to take it out. A member that is not there is appended.
    pub value: Option<Cow<'a, str>>,
}

impl<'a> Edit<'a> {
    /// Gives `name` the JSON text `value`.
    pub fn set(name: &'a str, value: impl Into<Cow<'a, str>>) -> Self {
        Self {
            name,
            value: Some(value.into()),
        }
    }

    /// Takes `name` out.
    #[must_use]
    pub fn remove(name: &'a str) -> Self {
        Self { name, value: None }
    }
}

/// The members of one object, each once.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    text: &'a [u8],
    members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// Finds the members of the object that `text` is, and refuses one that stands twice, and too many.
    pub fn read(text: &'a [u8]) -> Result<Self, Malformed> {
        let members = members(text).take(MEMBERS_MAX + 1).collect::<Result<Vec<_>, _>>()?;
        if members.len() > MEMBERS_MAX {
            return Err(Malformed::Members);
        }
        let mut names: Vec<_> = members.iter().map(Member::name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Malformed::Duplicate(String::from_utf8_lossy(&pair[0]).into_owned())),
            None => Ok(Self { text, members }),
        }
    }

    /// The members in order.
    #[must_use]
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// The value of a member as written; `null` counts as absent, as OpenAI's clients mean it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.members
            .iter()
            .find(|member| *member.name() == *name.as_bytes())
            .map(|member| member.value)
            .filter(|value| !is_null(value))
    }

    /// The object with `edits` made; every other byte stays as it was.
    #[must_use]
    pub fn edited(&self, edits: &[Edit<'_>]) -> Vec<u8> {
        let text = self.text;
        let edit_of = |member: &Member<'_>| edits.iter().find(|edit| *member.name() == *edit.name.as_bytes());
        let mut out = Vec::with_capacity(text.len() + 64);
        let first = self
            .members
            .first()
            .map_or_else(|| skip_space(text, 0) + 1, |member| member.start);
        out.extend_from_slice(&text[..first]);
        let mut previous_end = first;
        let mut empty = true;
        for member in &self.members {
            let edit = edit_of(member);
            if edit.is_none_or(|edit| edit.value.is_some()) {
                if !empty {
                    out.extend_from_slice(&text[previous_end..member.start]);
                }
                out.extend_from_slice(&text[member.start..member.range.start]);
                match edit.and_then(|edit| edit.value.as_deref()) {
                    Some(value) => out.extend_from_slice(value.as_bytes()),
                    None => out.extend_from_slice(member.value),
                }
                empty = false;
            }
            previous_end = member.range.end;
        }
        for edit in edits {
            let Some(value) = edit.value.as_deref() else { continue };
            if self
                .members
                .iter()
                .any(|member| *member.name() == *edit.name.as_bytes())
            {
                continue;
            }
            if !empty {
                out.push(b',');
            }
            out.extend_from_slice(quoted(edit.name).as_bytes());
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
            empty = false;
        }
        out.extend_from_slice(&text[previous_end..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn edited(text: &str, edits: &[Edit<'_>]) -> String {
        String::from_utf8(Object::read(text.as_bytes()).unwrap().edited(edits)).unwrap()
    }

    #[test]
    fn only_what_is_edited_changes() {
        let text = "\n{ \"model\" : \"a\\\"}\" ,\t\"x\":[1, {\"model\":2}],\"y\":1.50e1 }\n";
        assert_eq!(edited(text, &[]), text);
        assert_eq!(
            edited(text, &[Edit::set("model", "\"b\"")]),
            text.replacen("\"a\\\"}\"", "\"b\"", 1)
        );
        assert_eq!(
            edited(text, &[Edit::set("z", "7")]),
            text.replace("1.50e1", "1.50e1,\"z\":7")
        );
        for empty in ["{}", " { } "] {
            assert_eq!(
                edited(empty, &[Edit::set("z", "7")]),
                empty.replacen('{', "{\"z\":7", 1)
            );
        }
    }

    #[test]
    fn members_are_taken_out_with_one_comma() {
        let text = r#"{"a":1, "b":2 ,"c":3}"#;
        for (gone, left) in [
            (vec!["a"], r#"{"b":2 ,"c":3}"#),
            (vec!["b"], r#"{"a":1 ,"c":3}"#),
            (vec!["c"], r#"{"a":1, "b":2}"#),
            (vec!["b", "c"], r#"{"a":1}"#),
            (vec!["a", "b", "c"], "{}"),
        ] {
            let edits: Vec<_> = gone.iter().copied().map(Edit::remove).collect();
            assert_eq!(edited(text, &edits), left, "{gone:?}");
        }
    }

    #[test]
    fn a_name_given_twice_is_refused_however_it_is_written() {
        let text = br#"{"model":"a","mod\u0065l":"b"}"#;
        assert_eq!(Object::read(text).unwrap_err(), Malformed::Duplicate("model".into()));
        assert!(validate(text).is_ok());
        assert_eq!(Object::read(b"[1]").unwrap_err(), Malformed::NotObject);
    }

    #[test]
    fn characters_are_whole() {
        for good in [r#""\ud83e\udd8a""#, r#""\\ud800""#, r#""\u0041\n\\""#, "\"\u{1f98a}\""] {
            assert_eq!(validate(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            r#""\ud800""#,
            r#""\udd8a\ud83e""#,
            r#""\uD83Ex\udd8a""#,
            r#"{"\udfff":1}"#,
        ] {
            assert!(
                matches!(validate(bad.as_bytes()), Err(Malformed::Surrogate(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn members_are_bounded() {
        let object = |count: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(
            Object::read(object(MEMBERS_MAX).as_bytes()).unwrap().members().len(),
            MEMBERS_MAX
        );
        assert_eq!(
            Object::read(object(MEMBERS_MAX + 1).as_bytes()).unwrap_err(),
            Malformed::Members
        );
        let bomb = format!("{{{}\"\":0}}", "\"\":0,".repeat(1_000_000));
        assert_eq!(Object::read(bomb.as_bytes()).unwrap_err(), Malformed::Members);
    }

    #[test]
    fn trees_weigh_what_is_in_them() {
        assert_eq!(tree_bytes(b"\"[{,:\""), 6);
        assert_eq!(tree_bytes(b"[1,2]"), 5 + 2 * ELEMENT_BYTES);
        assert_eq!(tree_bytes(b"{\"a\":{}}"), 8 + 2 * OBJECT_BYTES + MEMBER_BYTES);
        assert!(tree_bytes("[{}],".repeat(1000).as_bytes()) > 600_000);
        assert_eq!(tree_bytes(b"{\"a"), 3 + OBJECT_BYTES, "no end is no trouble");
    }

    #[test]
    fn depth_and_syntax_are_bounded() {
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(validate(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(validate(deep(DEPTH_MAX + 1).as_bytes()), Err(Malformed::Depth));
        assert_eq!(validate(deep(1_000_000).as_bytes()), Err(Malformed::Depth));
        assert!(validate("\"[[[[".repeat(100).as_bytes()).is_err());
        for bad in [
            "",
            "{",
            "{\"a\":}",
            "{\"a\":1}x",
            "{'a':1}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\u{1}\"}",
            "nul",
        ] {
            assert!(matches!(validate(bad.as_bytes()), Err(Malformed::Syntax(_))), "{bad}");
        }
        assert_eq!(validate(b"{\"a\":\xff}"), Err(Malformed::Syntax(5)));
        assert!(validate(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
    }

    #[test]
    fn string_lengths_are_those_of_the_text() {
        for text in ["", "plain", "a\"b\\c\n\t\u{8}\u{1}", "日本語 ü \u{1f98a}"] {
            assert_eq!(string_bytes(quoted(text).as_bytes()), text.len() as u64, "{text}");
            assert_eq!(string(quoted(text).as_bytes()).unwrap(), text);
        }
        assert_eq!(
            string_bytes(br#""\u0041\u00e9\ud83e\udd8a\u2028\/""#),
            1 + 2 + 4 + 3 + 1
        );
        assert_eq!(string_bytes(b"17"), 0);
        assert_eq!(string_bytes(br#""\u00""#), 0, "a broken escape is no text");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_reads(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            prop_assert!(validate(&text).is_ok());
            match &value {
                Value::Object(map) => {
                    let object = Object::read(&text).unwrap();
                    prop_assert_eq!(object.members().len(), map.len());
                    for member in object.members() {
                        let name = String::from_utf8(member.name().into_owned()).unwrap();
                        prop_assert_eq!(&serde_json::from_slice::<Value>(member.value).unwrap(), &map[&name]);
                    }
                    prop_assert_eq!(object.edited(&[]), text);
                }
                Value::Array(list) => {
                    let found: Vec<Value> =
                        elements(&text).map(|element| serde_json::from_slice(element).unwrap()).collect();
                    prop_assert_eq!(&found, list);
                }
                _ => prop_assert_eq!(elements(&text).count(), 0),
            }
        }

        #[test]
        fn edits_mean_what_they_say(value in value(), name in "[a-c]", remove: bool) {
            let Value::Object(mut map) = value else { return Ok(()) };
            map.insert("b".into(), Value::from(1));
            let text = serde_json::to_vec(&map).unwrap();
            let edit = if remove { Edit::remove(&name) } else { Edit::set(&name, "[7]") };
            let out: Map<String, Value> = serde_json::from_slice(&Object::read(&text).unwrap().edited(&[edit])).unwrap();
            if remove { map.remove(&name); } else { map.insert(name, Value::from(vec![7])); }
            prop_assert_eq!(out, map);
        }

        #[test]
        fn garbage_never_panics(text in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0a1 n"[..]), 0..40)) {
            let _ = validate(&text);
            let _ = Object::read(&text).map(|object| object.edited(&[Edit::set("a", "1")]));
            let _ = elements(&text).map(string_bytes).sum::<u64>();
        }
    }
}
