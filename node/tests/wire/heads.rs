//! Heads that are no heads, or two at once.

use infernet_inference::scripted::Script;
use tokio::io::{AsyncWriteExt as _, BufReader};

use crate::fake::Running;
use crate::raw::{CHAT, all_is_well, connect, post, read, send};

/// A GET of the models with these further lines.
fn with(lines: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// Sends each, and expects its status; 0 is a connection that is closed without one.
async fn expect(cases: Vec<(&str, Vec<u8>, u16)>) {
    let gateway = Running::with(Script::default()).await;
    for (name, bytes, status) in cases {
        let answer = send(&gateway, &bytes).await;
        assert_eq!(answer.status.unwrap_or(0), status, "{name}: {answer:?}");
        if status >= 400 && answer.is_of_the_gateway() {
            assert!(answer.is_told(), "{name}: {answer:?}");
        }
        all_is_well(&gateway, name).await;
    }
    let counts = gateway.fake.engine.counts();
    assert_eq!(counts.started, counts.completed);
}

/// The same of texts.
async fn expect_texts(cases: Vec<(&str, String, u16)>) {
    let as_bytes = |(name, text, status): (_, String, _)| (name, text.into_bytes(), status);
    expect(cases.into_iter().map(as_bytes).collect()).await;
}

#[tokio::test]
async fn heads_are_bounded_and_well_formed() {
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let cases: Vec<(&str, String, u16)> = vec![
        ("a hundred headers", with(&many(99)), 200),
        ("a hundred and one headers", with(&many(100)), 431),
        (
            "a header of 256 KiB",
            with(&format!("x: {}\r\n", "a".repeat(256 << 10))),
            431,
        ),
        ("an address of 70 KiB", get(&format!("/{}", "a".repeat(70 << 10))), 414),
        ("an address of 60 KiB", get(&format!("/{}", "a".repeat(60 << 10))), 404),
        ("a header without an end", with(&"a".repeat(256 << 10)), 431),
        ("nothing that is HTTP", "\u{1}\u{2}\r\n\r\n".into(), 400),
        (
            "TLS",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".into(),
            400,
        ),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 0),
        ("HTTP/9.9", "GET / HTTP/9.9\r\nhost: localhost\r\n\r\n".into(), 400),
        ("no version", "GET /\r\n\r\n".into(), 400),
        (
            "a method with a space",
            "GE T / HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            400,
        ),
        (
            "a method of our own",
            "FROB /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            405,
        ),
        (
            "a method in small letters",
            "get /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            405,
        ),
        (
            "TRACE",
            "TRACE /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            405,
        ),
        (
            "CONNECT",
            "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            404,
        ),
        (
            "OPTIONS of everything",
            "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            404,
        ),
        ("NUL in a value", with("x: a\0b\r\n"), 400),
        ("a lone CR in a value", with("x: a\rb\r\n"), 400),
        ("a folded line", with("x: a\r\n b\r\n"), 400),
        ("a space before the colon", with("x : a\r\n"), 400),
        ("a line that is no header", with("nothing\r\n"), 400),
    ];
    expect_texts(cases).await;
}

#[tokio::test]
async fn a_request_says_once_for_whom_and_how_long_it_is() {
    let chat = |lines: &str| format!("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n{CHAT}");
    let length = CHAT.len();
    let cases: Vec<(&str, String, u16)> = vec![
        ("no host", "GET /v1/models HTTP/1.1\r\n\r\n".into(), 400),
        ("no host in HTTP/1.0", "GET /v1/models HTTP/1.0\r\n\r\n".into(), 400),
        (
            "HTTP/1.0",
            "GET /v1/models HTTP/1.0\r\nhost: localhost\r\n\r\n".into(),
            200,
        ),
        ("two hosts", with("host: localhost\r\n"), 400),
        ("two hosts, one foreign", with("host: evil.example\r\n"), 400),
        ("an empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n".into(), 403),
        (
            "a host with two ports",
            "GET / HTTP/1.1\r\nhost: localhost:1:2\r\n\r\n".into(),
            403,
        ),
        (
            "our own name in the address",
            "GET http://localhost/v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            200,
        ),
        (
            "a foreign name in the address",
            "GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
            403,
        ),
        (
            "and with no host",
            "GET http://evil.example/v1/models HTTP/1.1\r\n\r\n".into(),
            403,
        ),
        (
            "a foreign host, ours in the address",
            "GET http://localhost/ HTTP/1.1\r\nhost: evil.example\r\n\r\n".into(),
            403,
        ),
        (
            "two lengths",
            chat(&format!("content-length: {length}\r\ncontent-length: 3\r\n")),
            400,
        ),
        (
            "the same length twice",
            chat(&format!("content-length: {length}\r\ncontent-length: {length}\r\n")),
            200,
        ),
        ("a negative length", chat("content-length: -1\r\n"), 400),
        ("a length with a sign", chat("content-length: +5\r\n"), 400),
        (
            "a length of 30 digits",
            chat(&format!("content-length: {}\r\n", "9".repeat(30))),
            400,
        ),
        ("a length beyond all", chat("content-length: 33554433\r\n"), 413),
        (
            "length and chunks",
            chat("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
            400,
        ),
        (
            "chunks and length",
            chat("transfer-encoding: chunked\r\ncontent-length: 5\r\n"),
            400,
        ),
        ("an encoding that is none", chat("transfer-encoding: identity\r\n"), 400),
        (
            "chunks that are not last",
            chat("transfer-encoding: chunked, gzip\r\n"),
            400,
        ),
        (
            "chunks in HTTP/1.0",
            "POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .into(),
            400,
        ),
    ];
    expect_texts(cases).await;
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let mut cases: Vec<(&str, Vec<u8>, u16)> = vec![(
        "bytes that are no UTF-8",
        b"GET /v1/models/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        400,
    )];
    for (name, path, status) in [
        ("escaped bytes that are no UTF-8", "/v1/models/%ff%fe", 400),
        ("a broken escape", "/v1/models/%zz%", 404),
        ("NUL", "/v1/models/%00", 404),
        ("a line", "/v1/models/a%0d%0ax-evil:%201", 404),
        ("a way up", "/v1/models/../../../etc/passwd", 404),
        ("a way up, escaped", "/v1/models/..%2f..%2f..%2fetc%2fpasswd", 404),
        ("a way up, escaped twice", "/v1/models/%252e%252e%252fetc", 404),
        ("a way up from the root", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("two slashes", "//v1/models", 404),
        (
            "a name far too long",
            &format!("/v1/models/{}", "a".repeat(60 << 10)),
            404,
        ),
        ("the list with a slash", "/v1/models/", 404),
        ("a query", "/v1/models?limit=%ff&x=[", 200),
    ] {
        cases.push((name, get(path).into_bytes(), status));
    }
    expect(cases).await;
}

#[tokio::test]
async fn requests_in_one_go_are_answered_one_after_the_other() {
    let gateway = Running::with(Script::default()).await;
    let mut socket = connect(&gateway).await;
    let one = post("/v1/chat/completions", CHAT.as_bytes());
    let bad = post("/v1/chat/completions", b"[");
    socket
        .write_all(&[one.repeat(20), bad, one.clone()].concat())
        .await
        .unwrap();
    let mut reader = BufReader::new(socket);
    for number in 0..22 {
        let answer = tokio::time::timeout(crate::raw::WITHIN, read(&mut reader))
            .await
            .unwrap();
        let expected = if number == 20 { 400 } else { 200 };
        assert_eq!(answer.status, Some(expected), "{number}: {answer:?}");
    }
    assert_eq!(gateway.fake.engine.counts().completed, 21);
    // A request that hides behind one in doubt is not read.
    let doubt = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut socket = connect(&gateway).await;
    socket.write_all(&[&doubt[..], &one].concat()).await.unwrap();
    let mut reader = BufReader::new(socket);
    assert_eq!(read(&mut reader).await.status, Some(400));
    assert_eq!(read(&mut reader).await.status, None, "the connection is closed");
    assert_eq!(gateway.fake.engine.counts().started, 21);
}
