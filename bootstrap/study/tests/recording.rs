//! Recordings on the disk: written, rotated, torn, damaged, made up; published, replayed and judged anew.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use infernet_protocol::codec::{self, Blob, List, Text};
use infernet_protocol::{Digest, Millis, NodeId, UnixMillis};
use infernet_study::contents;
use infernet_study::place::{Path as Route, Transport};
use infernet_study::publish::{Pseudonyms, publish};
use infernet_study::record::{
    Body, Change, Header, Heard, Lost, Peer, PeerEvent, Published, RECORDING, Record, Sample, Unsigned, Verdict,
};
use infernet_study::recording::{Limits, ReadError, Reader, WriteError, Writer};
use infernet_study::replay::{Pace, Replay, ReplayError, judge};
use infernet_study::synthetic::{self, Shape};
use proptest::prelude::*;

fn small() -> Shape {
    Shape {
        providers: 6,
        buyers: 3,
        time: Millis(5 * 60_000),
        auction_every: Millis(8_000),
        ..Shape::default()
    }
}

fn write(directory: &Path, records: &[Record], limits: Limits) {
    let mut writer = Writer::create(directory, synthetic::session(), limits).unwrap();
    records.iter().for_each(|record| writer.write(record).unwrap());
    writer.finish().unwrap();
}

fn recorded(shape: &Shape) -> (tempfile::TempDir, Vec<Record>) {
    let directory = tempfile::tempdir().unwrap();
    let records = synthetic::records(shape);
    write(directory.path(), &records, Limits::default());
    (directory, records)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    files.sort();
    files
}

/// Records less headers, and warnings.
fn read(path: &Path) -> (Vec<Record>, usize) {
    let mut reader = Reader::open(&[path]).unwrap();
    let records = reader
        .by_ref()
        .map(Result::unwrap)
        .filter(|record| !matches!(record.body, Body::Header(_)));
    (records.collect(), reader.warnings().len())
}

#[test]
fn what_is_written_is_read_again_in_order_and_kept_from_others() {
    let (directory, records) = recorded(&small());
    assert_eq!(read(directory.path()), (records, 0));
    let files = files(directory.path());
    let name = files[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "infernet-synthetic-20261128T055244Z-000001.cborseq.gz");
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn files_rotate_by_size_and_the_oldest_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("infernet-synthetic-notes.cborseq.gz");
    std::fs::write(&other, "somebody's own").unwrap();
    let records = synthetic::records(&small());
    let limits = Limits {
        file_bytes: 4_000,
        member_bytes: 2_000,
        keep_files: 4,
        keep_bytes: 30_000,
        ..Limits::default()
    };
    write(directory.path(), &records, limits);
    let mut files = files(directory.path());
    files.retain(|path| *path != other);
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(other.exists(), "a file of another name is somebody's own");
    // What is left is the end of it, each file with a header of its own.
    let mut reader = Reader::open(&files).unwrap();
    let left: Vec<Record> = reader.by_ref().map(Result::unwrap).collect();
    let headers: Vec<u32> = left
        .iter()
        .filter_map(|record| match &record.body {
            Body::Header(header) => Some(header.file),
            _ => None,
        })
        .collect();
    assert_eq!(headers.len(), 4);
    assert!(
        headers.windows(2).all(|pair| pair[1] == pair[0] + 1) && headers[0] > 4,
        "{headers:?}"
    );
    let left: Vec<Record> = left
        .into_iter()
        .filter(|record| !matches!(record.body, Body::Header(_)))
        .collect();
    assert!(!left.is_empty() && records.ends_with(&left));

    // A second recording makes room for itself among the files of the first.
    write(
        directory.path(),
        &records,
        Limits {
            keep_files: 2,
            ..limits
        },
    );
    assert_eq!(self::files(directory.path()).len(), 2 + 1);
}

#[test]
fn files_rotate_by_age_and_bytes_are_bounded_too() {
    let directory = tempfile::tempdir().unwrap();
    let records = synthetic::records(&Shape {
        is_gappy: false,
        ..small()
    });
    let limits = Limits {
        file_age: Millis(60_000),
        ..Limits::default()
    };
    write(directory.path(), &records, limits);
    assert!((5..=6).contains(&files(directory.path()).len()));
    assert_eq!(read(directory.path()), (records.clone(), 0));

    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        member_bytes: 2_000,
        ..Limits::keeping(100, 20_000)
    };
    write(directory.path(), &records, limits);
    let bytes: u64 = files(directory.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!((10_000..=20_000).contains(&bytes), "{bytes}");
}

#[test]
fn two_recorders_do_not_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Writer::create(directory.path(), synthetic::session(), Limits::default()).unwrap();
    let second = Writer::create(directory.path(), synthetic::session(), Limits::default());
    assert!(matches!(second, Err(WriteError::Busy { .. })));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = Writer::create(&file, synthetic::session(), Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("name a directory"), "{refused}");
}

#[test]
fn a_file_cut_anywhere_gives_what_was_synced_before_and_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let records = synthetic::records(&Shape {
        time: Millis(40_000),
        providers: 3,
        is_gappy: false,
        ..small()
    });
    write(directory.path(), &records, Limits::default());
    let file = files(directory.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let cut = tempfile::tempdir().unwrap();
    let (mut counts, mut silent) = (BTreeSet::new(), 0);
    for length in (0..whole.len()).step_by(7) {
        let path = cut.path().join("infernet-synthetic-20261128T055244Z-000001.cborseq.gz");
        std::fs::write(&path, &whole[..length]).unwrap();
        let (read, warnings) = read(&path);
        assert!(records.starts_with(&read), "{length}");
        silent += usize::from(warnings == 0);
        counts.insert(read.len());
    }
    assert!(counts.len() > 5 && counts.contains(&0), "{counts:?}");
    // Cut between two members it is whole, as far as anybody can tell; there are nine or so of those.
    assert!(silent <= 10, "{silent}");
}

#[test]
fn what_a_kill_of_the_machine_leaves_behind_a_file_is_left_out_with_a_warning() {
    let (directory, records) = recorded(&small());
    let file = files(directory.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(&[0; 4096]);
    std::fs::write(&file, &bytes).unwrap();
    let next = directory
        .path()
        .join("infernet-synthetic-20261128T065244Z-000002.cborseq.gz");
    std::fs::copy(&file, &next).unwrap();
    let (read, warnings) = read(directory.path());
    assert_eq!(
        (read.len(), warnings),
        (2 * records.len(), 2),
        "what follows is read nevertheless"
    );
}

fn member(records: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(records).unwrap();
    encoder.finish().unwrap()
}

fn header() -> Header {
    Header {
        format: Text::lossy(RECORDING),
        version: 1,
        network: Text::lossy("synthetic"),
        recorder: [1; 16],
        recording: [2; 16],
        began_at: synthetic::BEGAN,
        file: 1,
        agent: Text::lossy("infernet-bootstrap/0.1.0"),
        sample_every: Millis(10_000),
        sync_every: Millis(5_000),
    }
}

fn bytes_of(body: Body) -> Vec<u8> {
    codec::to_vec(&Record {
        at: synthetic::BEGAN,
        body,
    })
}

/// The first error in a file that holds these bytes, compressed.
fn refusal(bytes: &[u8]) -> ReadError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hostile.cborseq.gz");
    std::fs::write(&path, member(bytes)).unwrap();
    Reader::open(&[path]).unwrap().find_map(Result::err).unwrap()
}

#[test]
fn a_file_of_another_kind_is_no_recording_that_was_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    for (bytes, is_foreign) in [
        (&b"hello"[..], true),
        (b"\x1f\x8b", false),
        (b"\x1f", false),
        (b"", false),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let mut reader = Reader::open(&[&path]).unwrap();
        let read: Vec<_> = reader.by_ref().collect();
        let refused = matches!(read.as_slice(), [Err(ReadError::Foreign { .. })]);
        assert_eq!(refused, is_foreign, "{bytes:?}: {read:?}");
        assert_eq!(reader.warnings().len(), usize::from(!is_foreign), "{bytes:?}");
    }
}

#[test]
fn hostile_files_are_errors() {
    let header_bytes = bytes_of(Body::Header(header()));
    let after = |bytes: &[u8]| refusal(&[&header_bytes, bytes].concat());
    assert!(matches!(
        refusal(&bytes_of(Body::Lost(Lost { records: 1 }))),
        ReadError::Foreign { .. }
    ));
    let other = Header {
        format: Text::lossy("something-else"),
        ..header()
    };
    assert!(matches!(
        refusal(&bytes_of(Body::Header(other))),
        ReadError::Foreign { .. }
    ));
    let later = Header { version: 2, ..header() };
    assert!(matches!(
        refusal(&bytes_of(Body::Header(later))),
        ReadError::Version { version: 2, .. }
    ));
    // A kind that is not known, a map, a tag, a string of 2^62 bytes, a nest of arrays.
    assert!(matches!(
        after(&[0x83, 0x18, 0x63, 0x00, 0x80]),
        ReadError::Malformed { records: 1, .. }
    ));
    assert!(matches!(after(&[0xa0]), ReadError::Malformed { .. }));
    assert!(matches!(after(&[0xc0, 0x80]), ReadError::Malformed { .. }));
    assert!(matches!(
        after(&[0x83, 0x01, 0x00, 0x84, 0x7b, 0x40, 0, 0, 0, 0, 0, 0, 0]),
        ReadError::Malformed { .. }
    ));
    assert!(matches!(after(&[0x81; 100_000]), ReadError::Malformed { .. }));
    // A record that claims more than any may have, though each of its members could.
    let large = Published {
        topic: Text::lossy("t"),
        source: Peer::new(&[1; 16]).unwrap(),
        verdict: Verdict::Accept,
        size: 0,
        messages: List::first_of((0..2).map(|_| Unsigned {
            kind: 257,
            signer: NodeId([1; 32]),
            hash: Digest([1; 32]),
            payload: Blob(vec![0; 16_000]),
        })),
    };
    assert!(matches!(
        after(&bytes_of(Body::Published(large))),
        ReadError::Malformed { .. }
    ));
    // A gigabyte of zeros is not unpacked to find out.
    let bomb = refusal(&vec![0; 50_000_000]);
    assert!(matches!(bomb, ReadError::Malformed { records: 0, .. }), "{bomb}");
    assert!(bomb.to_string().ends_with("leave it out"), "{bomb}");

    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(
        Reader::open(&[directory.path()]),
        Err(ReadError::Nothing { .. })
    ));
    let path = directory.path().join("text.cborseq.gz");
    std::fs::write(&path, "not compressed at all").unwrap();
    let error = Reader::open(&[&path]).unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error, ReadError::Foreign { .. }), "{error}");
    let missing = Reader::open(&[directory.path().join("missing")])
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(missing, ReadError::File { .. }));
}

fn records() -> impl Strategy<Value = Record> {
    let peer = prop::collection::vec(any::<u8>(), 1..=72).prop_map(|bytes| Peer::new(&bytes).unwrap());
    let verdict = prop::sample::select(Verdict::ALL);
    let text = "[a-z/.0-9é]{0,40}";
    let heard = (text, peer.clone(), verdict, prop::collection::vec(any::<u8>(), 0..600)).prop_map(
        |(topic, source, verdict, data)| {
            Body::Heard(Heard {
                topic: Text::lossy(&topic),
                source,
                verdict,
                data: Blob(data),
            })
        },
    );
    let event = (
        peer,
        prop::sample::select(Change::ALL),
        prop::sample::select(Transport::ALL),
        prop::sample::select(Route::ALL),
        any::<Option<bool>>(),
        prop::option::of(text),
    )
        .prop_map(|(peer, change, transport, path, outbound, agent)| {
            Body::Peer(PeerEvent {
                peer,
                change,
                transport,
                path,
                outbound,
                agent: agent.map(|agent| Text::lossy(&agent)),
            })
        });
    let sample = (any::<[u32; 3]>(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(|(counts, mesh, trip)| {
        Body::Sample(Sample {
            peers: counts[0],
            relayed: counts[1],
            ads: counts[2],
            mesh,
            round_trip: trip.map(Millis),
        })
    });
    let lost = any::<u64>().prop_map(|records| Body::Lost(Lost { records }));
    (any::<u64>(), prop_oneof![heard, event, sample, lost]).prop_map(|(at, body)| Record {
        at: UnixMillis(at),
        body,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_survive_files_of_any_size(records in prop::collection::vec(records(), 1..60), file_bytes in 1_u64..3_000) {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { file_bytes, member_bytes: 700, ..Limits::default() };
        write(directory.path(), &records, limits);
        let (mut read, warnings) = read(directory.path());
        // Names sort by time, and these times are any.
        let key = |record: &Record| codec::to_vec(record);
        read.sort_by_key(key);
        let mut records = records;
        records.sort_by_key(key);
        prop_assert_eq!(read, records);
        prop_assert_eq!(warnings, 0);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2_000), is_compressed: bool, after_header: bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("any.cborseq.gz");
        let mut all = if after_header { bytes_of(Body::Header(header())) } else { Vec::new() };
        all.extend_from_slice(&bytes);
        std::fs::write(&path, if is_compressed { member(&all) } else { all }).unwrap();
        let mut reader = Reader::open(&[&path]).unwrap();
        // It ends, whatever it says.
        prop_assert!(reader.by_ref().count() <= bytes.len() + 2);
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_harmless(at in 0_usize..20_000, bit in 0_u8..8) {
        let directory = tempfile::tempdir().unwrap();
        let records = synthetic::records(&Shape { providers: 2, buyers: 1, time: Millis(30_000), is_gappy: false, ..small() });
        write(directory.path(), &records, Limits::default());
        let file = files(directory.path()).remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        std::fs::write(&file, &bytes).unwrap();
        let mut reader = Reader::open(&[&file]).unwrap();
        let read: Vec<_> = reader.by_ref().collect();
        if reader.warnings().is_empty() && read.iter().all(Result::is_ok) {
            // Such as the time in a member's header.
            let read: Vec<Record> = read.into_iter().map(Result::unwrap).filter(|it| !matches!(it.body, Body::Header(_))).collect();
            prop_assert_eq!(read, records);
        }
    }
}

/// All that could tell who somebody is.
fn names(shape: &Shape, records: &[Record]) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    for member in synthetic::members(shape) {
        names.insert(member.identity.node().0.to_vec());
        names.insert(member.peer().as_bytes().to_vec());
        names.insert(member.wallet.into_bytes());
        names.extend(member.addresses.into_iter().map(String::into_bytes));
    }
    names.insert(b"203.0.113.".to_vec());
    names.insert(b"198.51.100.".to_vec());
    names.insert(b"thanks, synthetic seller".to_vec());
    names.insert(synthetic::session().recorder.to_vec());
    names.insert(synthetic::session().recording.to_vec());
    for record in records {
        let Body::Heard(heard) = &record.body else { continue };
        for message in &contents::messages(&heard.data.0) {
            names.insert(message.hash.0.to_vec());
            // The end of an envelope is its signature.
            names.insert(heard.data.0[heard.data.0.len() - 64..].to_vec());
            match contents::Content::of(message).unwrap() {
                contents::Content::Offer(offer) => names.insert(offer.job.0.to_vec()),
                contents::Content::Receipt(receipt) => {
                    names.insert(receipt.step.commitment.0.to_vec());
                    names.insert(receipt.step.request.0.to_vec())
                }
                _ => false,
            };
        }
    }
    names
}

#[test]
fn a_publication_names_nobody() {
    let shape = small();
    let (directory, records) = recorded(&shape);
    let published = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(&[directory.path()]).unwrap();
    let outcome = publish(&mut reader, published.path(), Some(&Pseudonyms::with_key([9; 32]))).unwrap();
    assert_eq!(outcome.records, records.len() as u64);
    assert!(outcome.withheld > 0);

    let files = files(published.path());
    assert!(
        files
            .iter()
            .all(|path| path.to_str().unwrap().ends_with(".published.cborseq.gz"))
    );
    let mut bytes = Vec::new();
    let mut accepted = 0;
    for record in Reader::open(&[published.path()]).unwrap() {
        let record = record.unwrap();
        match &record.body {
            Body::Header(header) => assert!(header.is_publication()),
            Body::Heard(_) => panic!("a publication holds what was signed"),
            Body::Published(message) => {
                assert_eq!(message.messages.is_empty(), message.verdict != Verdict::Accept);
                accepted += usize::from(message.verdict == Verdict::Accept);
            }
            _ => {}
        }
        bytes.extend_from_slice(&codec::to_vec(&record));
    }
    assert!(accepted > 50);
    let names = names(&shape, &records);
    assert!(names.len() > 200);
    for name in names {
        assert!(
            !bytes.windows(name.len()).any(|window| window == name),
            "published: {}",
            String::from_utf8_lossy(&name)
        );
    }

    // It can be neither replayed nor judged.
    let open = || Reader::open(&[published.path()]).unwrap();
    assert!(matches!(judge(&mut open()), Err(ReplayError::Publication)));
    let first = Replay::new(open(), Pace::AtOnce).next().unwrap();
    assert!(matches!(first, Err(ReplayError::Publication)));
}

#[test]
fn pseudonyms_keep_who_is_who_within_one_publication_and_in_no_other() {
    let shape = small();
    let member = &synthetic::members(&shape)[0];
    let (one, other) = (Pseudonyms::random(), Pseudonyms::random());
    let (node, peer) = (one.node(&member.identity.node()), one.peer(&member.peer()));
    assert_eq!(
        Peer::of_signer(&node, true),
        peer,
        "signer and peer of one node belong together"
    );
    assert_eq!(one.peer(&member.peer()), peer);
    assert_ne!(other.peer(&member.peer()), peer);

    // Bids still name their offers, and accepts their bids.
    let (mut offers, mut bids, mut linked) = (BTreeSet::new(), BTreeSet::new(), [0, 0]);
    for record in synthetic::records(&shape)
        .into_iter()
        .filter_map(|record| one.record(record))
    {
        let Body::Published(published) = record.body else {
            continue;
        };
        for message in &published.messages {
            match contents::Content::of(message).unwrap() {
                contents::Content::Offer(_) => offers.insert(message.hash),
                contents::Content::Bid(bid) => {
                    linked[0] += usize::from(offers.contains(&bid.offer));
                    bids.insert(message.hash)
                }
                contents::Content::Accept(accept) => {
                    linked[1] += usize::from(bids.contains(&accept.bid));
                    true
                }
                _ => true,
            };
        }
    }
    assert_eq!(linked[0], bids.len());
    assert!(linked[1] > 10);
}

#[test]
fn with_identities_kept_a_copy_is_the_recording() {
    let (directory, records) = recorded(&small());
    let copy = tempfile::tempdir().unwrap();
    publish(&mut Reader::open(&[directory.path()]).unwrap(), copy.path(), None).unwrap();
    assert_eq!(read(copy.path()), (records, 0));
}

#[test]
fn replayed_gossip_keeps_its_order_and_its_pace() {
    let (directory, records) = recorded(&Shape {
        is_gappy: false,
        ..small()
    });
    let open = || Reader::open(&[directory.path()]).unwrap();
    let heard: Vec<&Record> = records
        .iter()
        .filter(|record| matches!(record.body, Body::Heard(_)))
        .collect();
    let total = |pace| -> (usize, Duration) {
        let due: Vec<_> = Replay::new(open(), pace).map(Result::unwrap).collect();
        (due.len(), due.iter().map(|due| due.delay).sum())
    };
    let (first, last) = (heard[0].at, heard[heard.len() - 1].at);
    let time = Duration::from_millis(last.since(first));
    assert_eq!(total(Pace::Thousandths(1_000)), (heard.len(), time));
    assert_eq!(total(Pace::AtOnce), (heard.len(), Duration::ZERO));
    let (_, twice) = total(Pace::Thousandths(2_000));
    assert!(
        twice <= time / 2 && twice + Duration::from_secs(2) > time / 2,
        "{twice:?} of {time:?}"
    );
}

#[test]
fn judged_anew_a_recording_gets_the_verdicts_that_it_has() {
    let (directory, records) = recorded(&Shape {
        is_gappy: false,
        ..small()
    });
    let judged = judge(&mut Reader::open(&[directory.path()]).unwrap()).unwrap();
    let heard = records
        .iter()
        .filter(|record| matches!(record.body, Body::Heard(_)))
        .count();
    assert_eq!(
        (judged.messages(), judged.alike(), judged.starts),
        (heard as u64, heard as u64, 1)
    );
    assert!(
        [Verdict::Accept, Verdict::Ignore, Verdict::Reject]
            .iter()
            .all(|verdict| judged.now(*verdict) > 0),
        "{judged:?}"
    );
    assert!(judged.ignored.contains_key("stale"));

    // A recorder that believed all is found out.
    let credulous = tempfile::tempdir().unwrap();
    let accepting: Vec<Record> = records
        .into_iter()
        .map(|record| match record.body {
            Body::Heard(heard) => Record {
                at: record.at,
                body: Body::Heard(Heard {
                    verdict: Verdict::Accept,
                    ..heard
                }),
            },
            body => Record { at: record.at, body },
        })
        .collect();
    write(credulous.path(), &accepting, Limits::default());
    let again = judge(&mut Reader::open(&[credulous.path()]).unwrap()).unwrap();
    assert_eq!(again.recorded(Verdict::Accept), heard as u64);
    assert_eq!(again.alike(), judged.now(Verdict::Accept));
}
