//! Disks that are small, slow or broken.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::deal::Party;
use super::{network, open};
use crate::home::Home;
use crate::store::disk::{Disk, Real};
use crate::store::{Query, Record, Side, Store, StoreError};

/// A disk with little room.
#[derive(Debug, Default)]
struct Small {
    room: AtomicU64,
    reserved: AtomicU64,
    fails_to_sync: AtomicBool,
}

impl Small {
    fn with(room: u64) -> Arc<Self> {
        let disk = Self::default();
        disk.room.store(room, Ordering::Relaxed);
        Arc::new(disk)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let took = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes));
        took.map(|_| ()).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl Disk for Small {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(full) = self.take(bytes.len() as u64) {
            // A full disk takes a part of what it is given.
            Real.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(full);
        }
        Real.write(file, bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.fails_to_sync.load(Ordering::Relaxed) {
            return Err(io::Error::other("input/output error"));
        }
        Real.sync(file)
    }

    fn reserve(&self, _: &Path, length: usize) -> io::Result<()> {
        if self.reserved.load(Ordering::Relaxed) == 0 {
            self.take(length as u64)?;
            self.reserved.store(length as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn release(&self, _: &Path) -> bool {
        let reserved = self.reserved.swap(0, Ordering::Relaxed);
        self.room.fetch_add(reserved, Ordering::Relaxed);
        reserved > 0
    }
}

const RESERVE: u64 = 4 * 1024 * 1024;

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_still_takes_receipts() {
    let home = Home::temporary().unwrap();
    let disk = Small::with(RESERVE + 4000);
    let (store, _) = Store::open_on(&home.lock().unwrap(), &network(), disk.clone()).unwrap();
    let mut party = Party::new(Side::Provider, 1);
    store.append(party.opened()).unwrap();
    let mut refused = None;
    let mut kept = 0;
    for n in 0..50 {
        let mut records = party.request(n, Some(None)).into_iter();
        let begun = store.append(records.next().unwrap());
        if let Err(error) = begun {
            refused = Some(error);
            break;
        }
        for record in records {
            store
                .append(record)
                .expect("what began is receipted whatever the disk says");
        }
        kept += 1;
    }
    assert!(kept > 2, "{kept}");
    assert!(matches!(refused, Some(StoreError::DiskFull(_))), "{refused:?}");
    assert!(matches!(store.append(party.opened()), Err(StoreError::DiskFull(_))));
    store.sync().await.unwrap();
    assert_eq!(store.rows(Query::default()).await.unwrap().len(), kept);
    drop(store);
    // Nothing of the refused record was left in the journal.
    let (store, found) = open(&home);
    assert_eq!(found.repairs, []);
    assert_eq!(found.leases[0].used.len(), kept);
    store.append(Party::new(Side::Provider, 2).opened()).unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_to_sync_is_not_trusted_again() {
    let home = Home::temporary().unwrap();
    let disk = Small::with(u64::MAX);
    let (store, _) = Store::open_on(&home.lock().unwrap(), &network(), disk.clone()).unwrap();
    store.keep(Record::AdSequence(1)).await.unwrap();
    disk.fails_to_sync.store(true, Ordering::Relaxed);
    store.append(Record::AdSequence(2)).unwrap();
    assert!(matches!(store.sync().await, Err(StoreError::Broken(_))));
    disk.fails_to_sync.store(false, Ordering::Relaxed);
    assert!(matches!(
        store.append(Record::AdSequence(3)),
        Err(StoreError::Broken(_))
    ));
    assert!(matches!(store.sync().await, Err(StoreError::Broken(_))));
}

/// A disk whose syncs wait to be let through, one by one.
#[derive(Debug)]
struct Gated {
    started: mpsc::SyncSender<()>,
    gate: Mutex<mpsc::Receiver<()>>,
    syncs: AtomicU64,
}

impl Disk for Gated {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        Real.write(file, bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let _ = self.started.send(());
        // Once the test has let go of the gate, everything passes.
        let _ = self.gate.lock().unwrap().recv();
        Real.sync(file)
    }

    fn reserve(&self, _: &Path, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn release(&self, _: &Path) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_share_one_sync() {
    let (started, syncing) = mpsc::sync_channel(64);
    let (open_gate, gate) = mpsc::sync_channel(64);
    let disk = Arc::new(Gated {
        started,
        gate: Mutex::new(gate),
        syncs: AtomicU64::new(0),
    });
    let home = Home::temporary().unwrap();
    let (store, _) = Store::open_on(&home.lock().unwrap(), &network(), disk.clone()).unwrap();
    let tasks = crate::runtime::Tasks::new();
    let wait = |n| {
        store.append(Record::AdSequence(n)).unwrap();
        let store = store.clone();
        tasks.spawn("waiter", async move { store.sync().await.unwrap() })
    };
    let first = wait(0);
    let syncing = tokio::task::spawn_blocking(move || {
        syncing.recv().unwrap();
        syncing
    })
    .await
    .unwrap();
    // While the first sync is under way a hundred more come.
    let others: Vec<_> = (1..=100).map(wait).collect();
    assert!(!first.is_finished());
    open_gate.send(()).unwrap();
    first.await.unwrap();
    drop(open_gate);
    for other in others {
        other.await.unwrap();
    }
    drop(syncing);
    assert!(disk.syncs.load(Ordering::SeqCst) <= 3, "{:?}", disk.syncs);
}
