//! The page: what it says of a recording, that it names nobody, and that strangers' words stay words.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use infernet_protocol::codec::{Blob, Text};
use infernet_protocol::{Millis, UnixMillis};
use infernet_study::crawl::Row;
use infernet_study::publish::Pseudonyms;
use infernet_study::record::{Body, Header, Heard, RECORDING, Record, VERSION, Verdict};
use infernet_study::report::{Collector, Input, Names, page};
use infernet_study::synthetic::{self, Shape};

fn header(records: &[Record]) -> Record {
    let session = synthetic::session();
    Record {
        at: records.first().unwrap().at,
        body: Body::Header(Header {
            format: Text::lossy(RECORDING),
            version: VERSION,
            network: Text::lossy(session.network.as_str()),
            recorder: session.recorder,
            recording: session.recording,
            began_at: records.first().unwrap().at,
            file: 1,
            agent: Text::lossy(&session.agent),
            sample_every: session.sample_every,
            sync_every: Millis(5_000),
        }),
    }
}

fn collected(records: &[Record]) -> Collector {
    let mut collector = Collector::default();
    collector.take(&header(records));
    records.iter().for_each(|record| collector.take(record));
    collector
}

fn draw(recording: Option<&Collector>, crawl: Option<&[Row]>, names: Names) -> String {
    page(&Input {
        recording,
        crawl,
        names,
        warnings: vec!["`a.cborseq.gz` ends in the middle".to_owned()],
        drawn_at: synthetic::BEGAN,
    })
}

fn hidden() -> Names {
    Names::Hidden(Pseudonyms::with_key([5; 32]))
}

/// The text of the page, a line for each block, without style and pictures.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let skip = [
            ("<style", "</style>"),
            ("<svg", "</svg>"),
            ("<nav", "</nav>"),
            ("<title", "</title>"),
        ];
        let end = match skip.iter().find(|(open, _)| rest.starts_with(open)) {
            Some((_, close)) => rest.find(close).unwrap() + close.len(),
            None => rest.find('>').unwrap() + 1,
        };
        let tag = &rest[..end];
        if tag.starts_with("<svg") {
            text.push_str("[picture]");
        } else if tag.starts_with("</t") || tag.starts_with("</span") || tag.starts_with("</strong") || tag == "</dt>" {
            text.push_str(" | ");
        }
        rest = &rest[end..];
    }
    let lines = text
        .lines()
        .map(|line| line.trim_end_matches([' ', '|']))
        .filter(|line| !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_page_of_a_recording_and_a_crawl_says_what_is_in_them() {
    let records = synthetic::records(&Shape {
        time: Millis(420_000),
        ..Shape::default()
    });
    let rows = synthetic::crawl(30, 1);
    let html = draw(Some(&collected(&records)), Some(&rows), hidden());
    insta::assert_snapshot!(text(&html));
}

#[test]
fn a_page_loads_and_runs_nothing_and_is_well_formed() {
    let records = synthetic::records(&Shape::default());
    let html = draw(Some(&collected(&records)), None, hidden());
    for foreign in [
        "http:",
        "https:",
        "src=",
        "url(",
        "@import",
        "<script",
        "javascript",
        " onload",
        "<link",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.contains("default-src 'none'") && html.contains("prefers-color-scheme: dark"));
    // Every tag that is opened is closed, in order.
    let mut open = Vec::new();
    let mut rest = html.split_once("<body>").unwrap().1;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let expected = open.pop().unwrap_or("body");
            assert_eq!(name, expected, "{rest:.80}");
        } else if !tag.ends_with('/') {
            open.push(tag.split([' ', '\n']).next().unwrap());
            if open.last() == Some(&"body") {
                break;
            }
        }
        if tag == "/body" {
            break;
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_page_names_nobody_unless_it_is_told_to() {
    let shape = Shape {
        time: Millis(300_000),
        ..Shape::default()
    };
    let collected = collected(&synthetic::records(&shape));
    let rows = synthetic::crawl(20, 1);
    let pages = [
        draw(Some(&collected), None, hidden()),
        draw(None, Some(&rows), hidden()),
    ];
    let (open, crawl) = (
        draw(Some(&collected), None, Names::Real),
        draw(None, Some(&rows), Names::Real),
    );
    let mut named = 0;
    let members = synthetic::members(&shape);
    for name in members
        .iter()
        .map(|member| member.peer().to_string())
        .chain(rows.iter().map(|row| row.peer.to_string()))
    {
        let end = &name[name.len() - 8..];
        assert!(pages.iter().all(|page| !page.contains(end)), "{end}");
        named += usize::from(open.contains(end)) + usize::from(crawl.contains(end));
    }
    assert!(named > 20);
    for page in &pages {
        assert!(!page.contains("203.0.113.") && !page.contains("0x7e57") && !page.contains(&hex::encode([5; 32])));
        assert!(page.contains("called by pseudonyms"));
    }
    assert!(open.contains("not for publication"));
}

#[test]
fn a_publication_makes_the_page_that_its_recording_makes() {
    let records = synthetic::records(&Shape {
        time: Millis(300_000),
        ..Shape::default()
    });
    let pseudonyms = Pseudonyms::with_key([8; 32]);
    let mut published = Collector::default();
    let Record { at, body } = header(&records);
    let Body::Header(header) = body else { unreachable!() };
    let format = Text::lossy(infernet_study::record::PUBLICATION);
    published.take(&Record {
        at,
        body: Body::Header(Header { format, ..header }),
    });
    records
        .iter()
        .filter_map(|record| pseudonyms.record(record.clone()))
        .for_each(|record| published.take(&record));

    let lines = |html: &str| -> Vec<String> { text(html).lines().map(str::to_owned).collect() };
    let one = lines(&draw(Some(&collected(&records)), None, hidden()));
    let other = lines(&draw(Some(&published), None, hidden()));
    // Verdicts of what was not accepted are told by number only, and peers have other pseudonyms.
    let differ: Vec<_> = one.iter().filter(|line| !other.contains(line)).collect();
    let allowed = |line: &&String| {
        let of_verdicts = line.starts_with("ads | ") || line.starts_with("other | ") || line.contains(" UTC | ");
        let of_topology = line.contains("connected") || line.contains("the recorder") || line.ends_with(" lines.");
        of_verdicts || of_topology
    };
    assert!(differ.iter().all(allowed), "{differ:#?}");
    assert!(one.len() > 150 && differ.len() < 90, "{}", differ.len());
}

#[test]
fn words_of_strangers_stay_words() {
    let mut rows = synthetic::crawl(4, 1);
    rows[0].agent = Some("<script>alert(1)</script>".to_owned());
    rows[1].agent = Some("\u{202e}\"'><img src=x onerror=alert(1)>".to_owned());
    rows[2].reason = Some("</td><b>".to_owned());
    rows[3].protocols = vec!["</svg><style>*{display:none}".to_owned()];
    let html = draw(None, Some(&rows), Names::Real);
    for markup in ["<script", "<img", "<b>", "<style>*", "\u{202e}"] {
        assert!(!html.contains(markup), "{markup}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn nothing_and_nonsense_make_a_page_too() {
    let html = draw(None, None, hidden());
    assert!(html.matches("No data: ").count() > 10);
    // Times at both ends of what there is, messages that are none.
    let mut collector = Collector::default();
    for at in [0, u64::MAX, 1, u64::MAX - 1] {
        for verdict in Verdict::ALL {
            collector.take(&Record {
                at: UnixMillis(at),
                body: Body::Heard(Heard {
                    topic: Text::lossy("t"),
                    source: infernet_study::record::Peer::new(&[1]).unwrap(),
                    verdict: *verdict,
                    data: Blob(vec![0x82, 0x00]),
                }),
            });
        }
    }
    let html = draw(Some(&collector), None, hidden());
    assert!(html.contains("Gossip over time") && !html.contains("NaN") && !html.contains("inf\""));
}
