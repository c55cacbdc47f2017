//! Mutations that know JSON: members dropped, doubled, renamed and retyped, values nested, swapped and blown up; and some
//! that know nothing but bytes.

use infernet_inference::json;

use super::NEXT_PART;

/// One change: what, where, and with what, each taken modulo what there is.
pub(super) type Change = (u8, u16, u16);

/// Values that stand where others should.
const ODD: [&str; 34] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "1e999",
    "-1e308",
    "1.5",
    "18446744073709551615",
    "18446744073709551616",
    "4294967296",
    "99999999999999999999999999999999999999",
    "\"\"",
    "\"x\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udfff\\ud800\"",
    "\"\\u2028 \\u202e\"",
    "\"[DONE]\"",
    "\"data: [DONE]\\n\\n\"",
    "\"stop\"",
    "\"text\"",
    "\"function\"",
    "[]",
    "[null]",
    "[[]]",
    "[{}]",
    "{}",
    "{\"type\":\"text\",\"text\":\"x\"}",
    "{\"error\":{}}",
    "[\"a\",1]",
    "{\"\":{}}",
];
/// Names that readers look for.
const NAMES: [&str; 24] = [
    "model",
    "messages",
    "content",
    "role",
    "type",
    "text",
    "stream",
    "max_tokens",
    "n",
    "stop",
    "tools",
    "tool_calls",
    "function",
    "arguments",
    "input",
    "prompt",
    "provider",
    "policy",
    "usage",
    "choices",
    "delta",
    "error",
    "index",
    "id",
];

/// Where a value stands in a text.
type Span = std::ops::Range<usize>;

/// `text` with the changes made.
pub(super) fn mutated(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut text = text.to_vec();
    for change in changes {
        text = changed(&text, *change);
    }
    text
}

fn changed(text: &[u8], (what, place, with): Change) -> Vec<u8> {
    let (values, members) = spans(text);
    let pick = |spans: &[Span]| spans.get(usize::from(place) % spans.len().max(1)).cloned();
    let odd = ODD[usize::from(with) % ODD.len()];
    let any = usize::from(place) * 7919 % (text.len() + 1);
    match (what % 16, pick(&values), pick(&members)) {
        (0..=3, Some(value), _) => replaced(text, value, odd.as_bytes()),
        (4, _, Some(member)) => replaced(text, member, b""),
        (5 | 6, _, Some(member)) => {
            let twice = [&text[member.clone()], b",", &text[member.clone()]].concat();
            replaced(text, member, &twice)
        }
        (7, _, Some(member)) => {
            let name = NAMES[usize::from(with) % NAMES.len()];
            replaced(
                text,
                member.start..member.start,
                format!("\"{name}\":{odd},").as_bytes(),
            )
        }
        (8, Some(value), _) => {
            let levels = [1, 2, 40, 63, 64, 65, 127, 128, 129, 5000][usize::from(with) % 10];
            let nested = [
                "[".repeat(levels).as_bytes(),
                &text[value.clone()],
                "]".repeat(levels).as_bytes(),
            ]
            .concat();
            replaced(text, value, &nested)
        }
        (9, Some(value), _) => {
            let other = values[usize::from(with) % values.len()].clone();
            let other = text[other].to_vec();
            replaced(text, value, &other)
        }
        (10, Some(value), _) => {
            let long = format!(
                "\"{}\"",
                ["a", "\\n", "é", "\\u00e9", "\u{1f98a}"][usize::from(with) % 5].repeat(3000)
            );
            replaced(text, value, long.as_bytes())
        }
        (11, ..) => text[..any].to_vec(),
        (12, ..) => replaced(text, any..any, &[with.to_le_bytes()[0]]),
        (13, ..) => replaced(text, any..any, &[NEXT_PART]),
        (14, ..) => replaced(
            text,
            any..any,
            [
                &b"\xff\xfe"[..],
                b"\xed\xa0\x80",
                b"\0",
                b"\n\n",
                b"\r\n\r\n",
                b"data: ",
            ][usize::from(with) % 6],
        ),
        _ => {
            let end = (any + usize::from(with) % 64).min(text.len());
            replaced(text, any..end, b"")
        }
    }
}

fn replaced(text: &[u8], span: Span, with: &[u8]) -> Vec<u8> {
    [&text[..span.start], with, &text[span.end..]].concat()
}

/// Values of all documents in a text, and members of their objects.
fn spans(text: &[u8]) -> (Vec<Span>, Vec<Span>) {
    let (mut values, mut members) = (Vec::new(), Vec::new());
    let mut at = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if let Some(open) = line.iter().position(|&byte| byte == b'{') {
            look(text, at + open..at + line.len(), &mut values, &mut members);
        }
        at += line.len();
    }
    (values, members)
}

fn look(text: &[u8], span: Span, values: &mut Vec<Span>, members: &mut Vec<Span>) {
    // Beyond this a mutation finds enough to do, and need not look deeper.
    if values.len() > 500 {
        return;
    }
    let inner = &text[span.clone()];
    values.push(span.start..span.start + inner.trim_ascii_end().len());
    for member in json::members(inner).map_while(Result::ok) {
        let value = span.start + member.range.start..span.start + member.range.end;
        let name = member.name().len() + 3;
        members.push(value.start.saturating_sub(name).max(span.start)..value.end);
        look(text, value, values, members);
    }
    for element in json::elements(inner) {
        let start = element.as_ptr() as usize - text.as_ptr() as usize;
        look(text, start..start + element.len(), values, members);
    }
}
