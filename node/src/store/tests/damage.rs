//! Processes killed at any byte, flipped bits, lost and damaged files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::deal::Party;
use super::{network, open};
use crate::home::Home;
use crate::store::disk::{Disk, Real};
use crate::store::journal::{Damage, HEADER_BYTES, Journal, Position, replay, salvage, segment_path};
use crate::store::{Index, Query, Record, Repair, Side, Store, StoreError, Trees};

/// A disk with short segments.
#[derive(Debug)]
struct Short;

impl Disk for Short {
    fn write(&self, file: &fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        Real.write(file, bytes, offset)
    }

    fn sync(&self, _: &fs::File) -> std::io::Result<()> {
        Ok(())
    }

    fn reserve(&self, _: &Path, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn release(&self, _: &Path) -> bool {
        false
    }

    fn segment_bytes(&self) -> u64 {
        3000
    }
}

/// Every byte is flipped and cut at; the slow rest, which writes to disk, is tried at one in so many. A prime, so that
/// all kinds of places are met.
const SALVAGED: usize = 13;

fn journal(directory: &Path) -> Result<(Journal, Vec<Repair>), Damage> {
    let mut repairs = Vec::new();
    let journal = Journal::open(directory, Arc::new(Short), Position::START, &mut repairs).unwrap()?;
    Ok((journal, repairs))
}

fn records(directory: &Path, journal: &Journal) -> Vec<Record> {
    let mut records = Vec::new();
    replay(directory, Position::START, journal.end(), |_, record| {
        records.push(record);
        Ok::<_, ()>(())
    })
    .unwrap();
    records
}

/// A journal of one story, its records, and where each ends.
fn small() -> (Home, PathBuf, Vec<Record>, Vec<u64>) {
    let home = Home::temporary().unwrap();
    let directory = home.path().join("data/journal");
    let (mut journal, _) = journal(&directory).unwrap();
    let story = Party::new(Side::Buyer, 1).whole_story();
    let ends = story
        .iter()
        .map(|record| {
            journal.append(record).unwrap();
            journal.end().offset
        })
        .collect();
    (home, directory, story, ends)
}

#[test]
fn a_journal_cut_at_any_byte_opens_with_what_was_whole() {
    let (_home, directory, story, ends) = small();
    let path = segment_path(&directory, 1);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (mut reopened, repairs) = journal(&directory).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut as u64).count();
        assert_eq!(records(&directory, &reopened), story[..kept], "cut at {cut}");
        let at_an_end = cut == 0 || cut as u64 == HEADER_BYTES || ends.contains(&(cut as u64));
        assert_eq!(repairs.is_empty(), at_an_end, "what is cut off is told, cut at {cut}");
        if let [
            Repair::TornEnd {
                offset, bytes, kept, ..
            },
        ] = &repairs[..]
        {
            assert_eq!(offset + bytes, cut as u64);
            assert_eq!(fs::read(kept).unwrap(), &whole[*offset as usize..cut]);
            fs::remove_file(kept).unwrap();
        }
        if cut % SALVAGED != 0 {
            continue;
        }
        reopened.append(&Record::AdSequence(1)).unwrap();
        let (again, repairs) = journal(&directory).unwrap();
        assert_eq!((records(&directory, &again).len(), repairs.len()), (kept + 1, 0));
    }
}

#[test]
fn every_flipped_bit_is_found_and_costs_one_record() {
    let (_home, directory, story, ends) = small();
    let path = segment_path(&directory, 1);
    let whole = fs::read(&path).unwrap();
    let start_of = |at: u64| {
        ends.iter()
            .rev()
            .find(|end| **end <= at)
            .copied()
            .unwrap_or(HEADER_BYTES)
    };
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        let place = ends.iter().filter(|end| **end <= at as u64).count();
        match journal(&directory) {
            Ok((reopened, repairs)) => {
                assert_eq!(place + 1, story.len(), "only the last record may look torn, byte {at}");
                assert_eq!(records(&directory, &reopened), story[..place]);
                assert!(matches!(&repairs[..], [Repair::TornEnd { .. }]));
            }
            Err(damage) => {
                let in_header = (at as u64) < HEADER_BYTES;
                let expected = if in_header { 0 } else { start_of(at as u64) };
                assert_eq!(damage.at.offset, expected, "byte {at}");
                if at % SALVAGED != 0 {
                    continue;
                }
                let (kept, _) = salvage(&directory, &damage).unwrap();
                assert_eq!(fs::read(&kept).unwrap(), flipped, "the damaged file is kept");
                let mut left = story.clone();
                if !in_header {
                    left.remove(place);
                }
                assert_eq!(records(&directory, &journal(&directory).unwrap().0), left, "byte {at}");
            }
        }
    }
    fs::remove_dir_all(directory.with_file_name("quarantine")).unwrap();
}

#[test]
fn what_was_on_disk_for_certain_is_not_taken_for_torn() {
    let (_home, directory, _, ends) = small();
    let path = segment_path(&directory, 1);
    let whole = fs::read(&path).unwrap();
    let durable = Position {
        segment: 1,
        offset: *ends.last().unwrap(),
    };
    let open = || Journal::open(&directory, Arc::new(Short), durable, &mut Vec::new()).unwrap();
    assert!(open().is_ok());
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(open().unwrap_err().at.offset, ends[ends.len() - 2]);
    fs::write(&path, &whole[..ends[2] as usize]).unwrap();
    assert_eq!(
        open().unwrap_err().at.offset,
        ends[2],
        "a journal that has become shorter"
    );
}

/// A store with one lease, closed again.
async fn stored(home: &Home) -> Party {
    let mut party = Party::new(Side::Provider, 1);
    let (store, _) = open(home);
    for record in party.whole_story() {
        store.append(record).unwrap();
    }
    store.sync().await.unwrap();
    party
}

#[tokio::test]
async fn damage_is_told_once_and_suspends_what_was_open() {
    let home = Home::temporary().unwrap();
    let party = stored(&home).await;
    let path = segment_path(&home.path().join("data/journal"), 1);
    let mut bytes = fs::read(&path).unwrap();
    let lease = 8 + u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    bytes[16 + lease + 9] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = Store::open(&home.lock().unwrap(), &network()).unwrap_err();
    let StoreError::Damaged {
        path: named,
        offset,
        lost,
        kept,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((named, *offset), (&path, 16 + lease as u64));
    assert!(*lost > 0);
    assert_eq!(fs::read(kept).unwrap(), bytes);
    assert!(error.to_string().ends_with("start once more to go on"));
    let fresh = Party::new(Side::Provider, 2);
    {
        let (store, found) = open(&home);
        assert_eq!(found.leases.len(), 1);
        assert!(found.leases[0].suspended, "nothing more runs under it");
        assert_eq!(found.leases[0].deal.ledger.entries(), party.ledger.entries());
        store.keep(fresh.opened()).await.unwrap();
    }
    let (_, found) = open(&home);
    let suspended = |lease| {
        found
            .leases
            .iter()
            .find(|open| open.deal.lease() == lease)
            .unwrap()
            .suspended
    };
    assert!(suspended(party.lease()) && !suspended(fresh.lease()));
}

#[tokio::test]
async fn a_damaged_index_is_made_again() {
    let home = Home::temporary().unwrap();
    let party = stored(&home).await;
    let index = home.path().join("data/index");
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("deleted", |index| fs::remove_dir_all(index).unwrap()),
        ("garbage", |index| {
            fs::write(index.join("db"), b"garbage".repeat(1000)).unwrap()
        }),
        ("no configuration", |index| fs::write(index.join("conf"), b"x").unwrap()),
        ("cut short", |index| {
            let bytes = fs::read(index.join("db")).unwrap();
            fs::write(index.join("db"), &bytes[..bytes.len() / 3]).unwrap();
        }),
        ("a file", |index| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, b"x").unwrap();
        }),
    ];
    for (name, harm) in harms {
        harm(&index);
        let (store, found) = open(&home);
        assert_eq!(found.leases.len(), 1, "{name}");
        party.check(&found.leases[0]);
        assert_eq!(store.rows(Query::default()).await.unwrap().len(), 2, "{name}");
        drop(store);
        let (_, found) = open(&home);
        assert_eq!(found.repairs, [], "{name}: it stays repaired");
    }
}

#[tokio::test]
async fn an_index_with_any_flipped_byte_never_lies() {
    let home = Home::temporary().unwrap();
    let party = stored(&home).await;
    let index = home.path().join("data/index");
    let bytes = fs::read(index.join("db")).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    for at in used.iter().step_by(used.len() / 24) {
        let mut flipped = bytes.clone();
        flipped[*at] ^= 0x10;
        fs::write(index.join("db"), &flipped).unwrap();
        let (store, found) = open(&home);
        assert_eq!(found.leases.len(), 1, "byte {at}");
        party.check(&found.leases[0]);
        assert_eq!(store.rows(Query::default()).await.unwrap().len(), 2, "byte {at}");
    }
}

#[test]
fn damage_in_a_closed_segment_is_found_when_the_index_is_made_again() {
    let home = Home::temporary().unwrap();
    let mut party = Party::new(Side::Provider, 1);
    {
        let (store, _) = Store::open_on(&home.lock().unwrap(), &network(), Arc::new(Short)).unwrap();
        let executor = crate::runtime::executor().unwrap();
        store.append(party.opened()).unwrap();
        for n in 0..40 {
            for record in party.request(n, Some(None)) {
                store.append(record).unwrap();
            }
            executor.block_on(store.sync()).unwrap();
        }
        assert_eq!(executor.block_on(store.rows(Query::default())).unwrap().len(), 40);
    }
    let directory = home.path().join("data/journal");
    let segments = fs::read_dir(&directory).unwrap().count();
    assert!(segments > 3, "{segments} segments");
    let open_short = || Store::open_on(&home.lock().unwrap(), &network(), Arc::new(Short));
    let (_, found) = open_short().unwrap();
    assert_eq!(found.leases[0].deal.ledger.entries(), party.ledger.entries());
    let second = segment_path(&directory, 2);
    let mut bytes = fs::read(&second).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&second, &bytes).unwrap();
    fs::remove_dir_all(home.path().join("data/index")).unwrap();
    let error = open_short().unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { path, .. } if *path == second),
        "{error}"
    );
    let (_, found) = open_short().unwrap();
    assert!(found.leases.iter().all(|lease| lease.suspended));
    // A segment that is gone as a whole.
    fs::remove_file(&second).unwrap();
    let error = open_short().unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { path, .. } if *path == second),
        "{error}"
    );
    open_short().unwrap();
}

#[test]
fn a_record_of_a_newer_version_is_no_damage() {
    let (home, directory, ..) = small();
    let path = segment_path(&directory, 1);
    let mut bytes = fs::read(&path).unwrap();
    let payload = [0x82, 0x18, 0x63, 0x00];
    let length = 4u32.to_le_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(&payload);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&crc.finalize().to_le_bytes());
    bytes.extend_from_slice(&payload);
    fs::write(&path, &bytes).unwrap();
    let error = Store::open(&home.lock().unwrap(), &network()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was touched");
}

#[derive(Clone, Debug)]
enum Act {
    Request { party: usize, verdict: bool },
    Lose { party: usize },
    Sync,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..3usize, any::<bool>()).prop_map(|(party, verdict)| Act::Request { party, verdict }),
        2 => (0..3usize).prop_map(|party| Act::Lose { party }),
        2 => Just(Act::Sync),
    ];
    prop::collection::vec(act, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was written and wherever a crash cuts behind the last sync: what comes back is a beginning of what was
    /// written that holds everything acknowledged, and an index made from it, at once or in two parts, says the same.
    #[test]
    fn replay_equals_what_was_acknowledged(acts in acts(), cut in 0.0..1.0f64, part in 0.0..1.0f64, torn in 0..8usize) {
        let home = Home::temporary().unwrap();
        let directory = home.path().join("data/journal");
        let (mut open_journal, _) = journal(&directory).unwrap();
        let mut parties: Vec<_> = (0..3u8)
            .map(|n| Party::new(if n == 0 { Side::Buyer } else { Side::Provider }, n + 1))
            .collect();
        let mut written: Vec<Record> = parties.iter().map(Party::opened).collect();
        let mut acknowledged = 0;
        let mut durable = Position::START;
        for record in &written {
            open_journal.append(record).unwrap();
        }
        for (n, act) in acts.into_iter().enumerate() {
            let n = n as u16;
            let records = match act {
                Act::Request { party, verdict } => parties[party].request(n, verdict.then_some(None)),
                Act::Lose { party } => parties[party].lose(n),
                Act::Sync => {
                    acknowledged = written.len();
                    durable = open_journal.end();
                    Vec::new()
                }
            };
            for record in records {
                open_journal.append(&record).unwrap();
                written.push(record);
                if open_journal.is_due() {
                    acknowledged = written.len();
                    open_journal.rotate().unwrap();
                    durable = open_journal.end();
                }
            }
        }
        let end = open_journal.end();
        let floor = if durable.segment == end.segment { durable.offset } else { HEADER_BYTES };
        let left = floor + ((end.offset - floor) as f64 * cut) as u64;
        fs::OpenOptions::new().write(true).open(segment_path(&directory, end.segment)).unwrap().set_len(left).unwrap();
        let (reopened, _) = journal(&directory).unwrap();
        let found = records(&directory, &reopened);
        prop_assert!(found.len() >= acknowledged);
        prop_assert_eq!(&found[..], &written[..found.len()]);

        let end = reopened.end();
        let at_once = indexed(&directory, &[(Position::START, end, Step::Whole)]);
        let mut places = Vec::new();
        replay(&directory, Position::START, end, |at, _| { places.push(at); Ok::<_, ()>(()) }).unwrap();
        let middle = places.get((places.len() as f64 * part) as usize).copied().unwrap_or(Position::START);
        // From the middle a second time, as after a crash between two checkpoints.
        let twice = indexed(&directory, &[(Position::START, end, Step::Each), (middle, end, Step::Each)]);
        prop_assert_eq!(&at_once, &twice);
        // And as after one while the changes since the last were written.
        let torn = indexed(
            &directory,
            &[(Position::START, middle, Step::Whole), (middle, end, Step::Torn(torn)), (middle, end, Step::Whole)],
        );
        prop_assert_eq!(&at_once, &torn);
    }
}

/// How an index takes in a part of the journal.
#[derive(Clone, Copy)]
enum Step {
    /// Record by record.
    Each,
    /// All of it at once.
    Whole,
    /// The same, with a crash after so many trees.
    Torn(usize),
}

/// What an index says after it was given these parts of the journal.
fn indexed(directory: &Path, parts: &[(Position, Position, Step)]) -> (Vec<String>, Vec<String>) {
    let index = Index::new(Trees::in_memory()).unwrap();
    for (from, to, step) in parts {
        let mut applying = index.applying();
        replay(directory, *from, *to, |at, record| match step {
            Step::Each => index.apply(at, &record),
            Step::Whole | Step::Torn(_) => applying.apply(at, &record),
        })
        .unwrap();
        match step {
            Step::Torn(trees) => applying.commit_torn(*trees).unwrap(),
            Step::Each | Step::Whole => applying.commit().unwrap(),
        }
    }
    let rows = index
        .rows(&Query::default())
        .unwrap()
        .iter()
        .map(|row| row.to_json().to_string())
        .collect();
    let leases = index.open_leases(crate::clock::wall()).unwrap();
    let leases = leases.iter().map(|found| format!("{found:?}")).collect();
    (rows, leases)
}
