//! Bodies that are no requests: too deep, too many, too long, in no alphabet, in no end of pieces.

use infernet_inference::scripted::Script;
use infernet_protocol::names::BODY_BYTES;

use crate::fake::Running;
use crate::raw::{CHAT, all_is_well, post, send};

/// Where requests are read, one route for each reader; but for `/api/show`, which reads a name and no more.
const READERS: [&str; 9] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
];
/// One for each way to read a body, for what takes time.
const WAYS: [&str; 4] = ["/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/api/show"];

async fn refused(gateway: &Running, path: &str, name: &str, body: &[u8]) {
    let answer = send(gateway, &post(path, body)).await;
    let status = answer.status.unwrap_or(0);
    assert!((400..500).contains(&status), "{path}, {name}: {answer:?}");
    assert!(answer.is_told(), "{path}, {name}: {answer:?}");
}

#[tokio::test]
async fn no_body_is_read_as_what_it_is_not() {
    let gateway = Running::with(Script::default()).await;
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat().into_bytes();
    let field =
        |name: &[u8], value: &[u8]| [b"{\"model\":\"scripted\",\"".as_slice(), name, b"\":", value, b"}"].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("white space", b" \r\n\t".to_vec()),
        ("a NUL", vec![0]),
        ("a number", b"7".to_vec()),
        ("null", b"null".to_vec()),
        ("half an object", b"{\"model\":".to_vec()),
        ("an object and more", [CHAT.as_bytes(), b"{}"].concat()),
        ("a byte order mark", ["\u{feff}".as_bytes(), CHAT.as_bytes()].concat()),
        ("UTF-16", CHAT.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("no UTF-8 in a value", field(b"messages", b"\"\xff\xfe\"")),
        ("no UTF-8 in a name", field(b"\xc3\x28", b"1")),
        (
            "half a character",
            field(b"messages", b"[{\"role\":\"user\",\"content\":\"\\udfff\"}]"),
        ),
        ("arrays in arrays", deep("[", "]")),
        ("objects in objects", deep("{\"a\":", "}")),
        ("depth in a field", field(b"messages", &deep("[", "]"))),
        ("depth in a text", field(b"no_such_field", &deep("\\\"[", "")[..99_999])),
        (
            "a number without end",
            field(b"max_tokens", "9".repeat(100_000).as_bytes()),
        ),
        ("an exponent without end", field(b"temperature", b"1e999999999")),
        ("not a number", field(b"temperature", b"NaN")),
        ("a field of its own", field(b"__proto__", b"{}")),
        ("a name far too long", field("n".repeat(1 << 20).as_bytes(), b"1")),
    ];
    for path in READERS {
        for (name, body) in &cases {
            refused(&gateway, path, name, body).await;
        }
        all_is_well(&gateway, path).await;
    }
    // On the OpenAI routes, where bodies are handed on as they came, nobody may read them otherwise.
    let twice = CHAT.replace('}', "") + r#"}],"mod\u0065l":"other"}"#;
    refused(
        &gateway,
        "/v1/chat/completions",
        "a model given twice",
        twice.as_bytes(),
    )
    .await;
    let counts = gateway.fake.engine.counts();
    assert_eq!(counts.started, counts.completed);
}

#[tokio::test]
async fn a_body_that_is_as_long_as_may_be_is_refused_at_once() {
    let gateway = Running::with(Script::default()).await;
    let full = |piece: &str, open: &str, close: &str| {
        let count = (BODY_BYTES as usize - open.len() - close.len()) / piece.len();
        [open, &piece.repeat(count), close].concat().into_bytes()
    };
    let name = "m".repeat(BODY_BYTES as usize - 100);
    for (what, body) in [
        ("brackets", full("[", "", "")),
        ("one member, millions of times", full("\"\":0,", "{", "\"\":0}")),
        (
            "as many objects",
            full("{\"\":0},", "{\"model\":\"scripted\",\"messages\":[", "{}]}"),
        ),
        (
            "a model's name",
            format!("{{\"model\":\"{name}\",\"input\":\"x\",\"max_tokens\":1,\"messages\":[]}}").into_bytes(),
        ),
        ("a quote without end", full("a", "\"", "")),
        ("escapes", full("\\\\", "\"", "")),
    ] {
        for path in WAYS {
            refused(&gateway, path, what, &body).await;
        }
        all_is_well(&gateway, what).await;
    }
    assert_eq!(
        send(&gateway, &post("/api/chat", &vec![b' '; BODY_BYTES as usize + 1]))
            .await
            .status,
        Some(413)
    );
}

#[tokio::test]
async fn chunks_are_counted_and_well_formed() {
    let gateway = Running::with(Script::default()).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let megabyte = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    let length = CHAT.len();
    let trailers = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("whole", format!("{length:x}\r\n{CHAT}\r\n0\r\n\r\n"), &[200]),
        (
            "byte by byte",
            CHAT.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect::<String>() + "0\r\n\r\n",
            &[200],
        ),
        ("beyond all bounds", megabyte.repeat(40), &[413]),
        ("a size that is none", format!("zz\r\n{CHAT}\r\n0\r\n\r\n"), &[400]),
        ("a negative size", format!("-1\r\n{CHAT}\r\n0\r\n\r\n"), &[400]),
        (
            "a size beyond numbers",
            format!("fffffffffffffffff\r\n{CHAT}\r\n"),
            &[400],
        ),
        ("no size", format!("\r\n{CHAT}\r\n0\r\n\r\n"), &[400]),
        ("a size that is too small", format!("3\r\n{CHAT}\r\n0\r\n\r\n"), &[400]),
        ("an extension without end", format!("1;{}", "a".repeat(1 << 20)), &[400]),
        (
            "trailers without end",
            format!("0\r\n{}", "a: b\r\n".repeat(100_000)),
            &[400],
        ),
        (
            "too many trailers",
            format!("{length:x}\r\n{CHAT}\r\n0\r\n{trailers}\r\n"),
            &[200, 400],
        ),
    ];
    for (name, body, statuses) in cases {
        let answer = send(&gateway, &[head.as_bytes(), body.as_bytes()].concat()).await;
        assert!(statuses.contains(&answer.status.unwrap_or(0)), "{name}: {answer:?}");
        all_is_well(&gateway, name).await;
    }
}
