//! Provider records: who says that it provides what. Nobody can crowd the others out: where there is no room, the subnet
//! that has most gives way, and whoever asks is told of the holders in a new order each time.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::iter;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use rand::seq::SliceRandom as _;
use tokio::time::Instant;

use crate::behaviour::PROVIDER_TTL;
use crate::limits::{Bound, Hits, RECORDS_PER_KEY, RECORDS_PER_PEER, RECORDS_PER_SUBNET, Subnet};

/// Keys that this node provides at most: 256 models, each under its own key and a shard.
const PROVIDED: usize = 512;

/// The records that a node keeps.
#[derive(Debug)]
pub(crate) struct Records {
    local: PeerId,
    /// Records of others that are kept at most.
    max: usize,
    provided: HashMap<RecordKey, ProviderRecord>,
    keys: HashMap<RecordKey, Vec<Held>>,
    /// The records of each subnet in the order in which they came, some of them gone already.
    subnets: HashMap<Subnet, Share>,
    /// The same subnets by how many records they have.
    ranks: BTreeSet<(usize, Subnet)>,
    providers: HashMap<PeerId, usize>,
    len: usize,
    pub(crate) hits: Hits,
}

#[derive(Debug, Default)]
struct Share {
    records: usize,
    order: VecDeque<(RecordKey, PeerId)>,
}

#[derive(Debug)]
struct Held {
    record: ProviderRecord,
    subnet: Subnet,
    until: Instant,
}

impl Records {
    pub(crate) fn new(local: PeerId, max: usize) -> Self {
        Self {
            local,
            max,
            provided: HashMap::new(),
            keys: HashMap::new(),
            subnets: HashMap::new(),
            ranks: BTreeSet::new(),
            providers: HashMap::new(),
            len: 0,
            hits: Hits::default(),
        }
    }

    /// Records of others.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps a record of a provider that is connected from `subnet`, or does not; says which.
    pub(crate) fn keep(&mut self, record: ProviderRecord, subnet: Subnet, now: Instant) -> bool {
        let until = now + PROVIDER_TTL;
        let held = self.keys.get_mut(&record.key).into_iter().flatten();
        if let Some(known) = held.into_iter().find(|held| held.record.provider == record.provider) {
            (known.record, known.until) = (record, until);
            return true;
        }
        if self
            .providers
            .get(&record.provider)
            .is_some_and(|count| *count >= RECORDS_PER_PEER)
        {
            self.hits.add(Bound::RecordsPerPeer);
            return false;
        }
        self.make_room_under(&record.key, subnet);
        if self.len >= self.max {
            self.evict_of_largest();
        }
        self.insert(Held { record, subnet, until });
        true
    }

    fn insert(&mut self, held: Held) {
        let (key, provider, subnet) = (held.record.key.clone(), held.record.provider, held.subnet);
        self.len += 1;
        *self.providers.entry(provider).or_default() += 1;
        let share = self.subnets.entry(subnet).or_default();
        self.ranks.remove(&(share.records, subnet));
        share.records += 1;
        self.ranks.insert((share.records, subnet));
        share.order.push_back((key.clone(), provider));
        self.keys.entry(key).or_default().push(held);
    }

    /// Lets one record under a key go where there are too many: of the newcomer's subnet if that has its share, else of
    /// the subnet with most, the oldest of it.
    fn make_room_under(&mut self, key: &RecordKey, subnet: Subnet) {
        let Some(held) = self.keys.get(key) else { return };
        let mut counts: HashMap<Subnet, usize> = HashMap::new();
        for held in held {
            *counts.entry(held.subnet).or_default() += 1;
        }
        let own = counts.get(&subnet).copied().unwrap_or_default();
        let crowded = if own >= RECORDS_PER_SUBNET && !matches!(subnet, Subnet::Alone(_)) {
            self.hits.add(Bound::RecordsPerSubnet);
            Some(subnet)
        } else if held.len() >= RECORDS_PER_KEY {
            self.hits.add(Bound::RecordsPerKey);
            counts
                .into_iter()
                .max_by_key(|(_, count)| *count)
                .map(|(subnet, _)| subnet)
        } else {
            None
        };
        let oldest = crowded.and_then(|crowded| held.iter().find(|held| held.subnet == crowded));
        if let Some(provider) = oldest.map(|held| held.record.provider) {
            self.remove_held(key, &provider);
        }
    }

    /// Lets the oldest record of the subnet with most go.
    fn evict_of_largest(&mut self) {
        let Some((_, subnet)) = self.ranks.last().copied() else {
            return;
        };
        while let Some((key, provider)) = self.subnets.get_mut(&subnet).and_then(|share| share.order.pop_front()) {
            if self.remove_held(&key, &provider) {
                return;
            }
        }
    }

    fn remove_held(&mut self, key: &RecordKey, provider: &PeerId) -> bool {
        let Some(all) = self.keys.get_mut(key) else {
            return false;
        };
        let Some(at) = all.iter().position(|held| held.record.provider == *provider) else {
            return false;
        };
        let held = all.remove(at);
        self.len -= 1;
        if all.is_empty() {
            self.keys.remove(key);
        }
        if let Some(count) = self.providers.get_mut(provider) {
            *count -= 1;
            if *count == 0 {
                self.providers.remove(provider);
            }
        }
        if let Some(share) = self.subnets.get_mut(&held.subnet) {
            self.ranks.remove(&(share.records, held.subnet));
            share.records -= 1;
            if share.records == 0 {
                self.subnets.remove(&held.subnet);
            } else {
                self.ranks.insert((share.records, held.subnet));
                // What is gone from the middle would otherwise pile up.
                if share.order.len() > 2 * share.records + RECORDS_PER_KEY {
                    let (keys, subnet) = (&self.keys, held.subnet);
                    share.order.retain(|(key, provider)| {
                        let mut held = keys.get(key).into_iter().flatten();
                        held.any(|held| held.record.provider == *provider && held.subnet == subnet)
                    });
                }
            }
        }
        true
    }

    /// Lets go of what has lived its time.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let held = self.keys.values().flatten();
        let over: Vec<_> = held
            .filter(|held| held.until <= now)
            .map(|held| (held.record.key.clone(), held.record.provider))
            .collect();
        for (key, provider) in over {
            self.remove_held(&key, &provider);
        }
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Map<
        std::collections::hash_map::Values<'a, RecordKey, ProviderRecord>,
        fn(&'a ProviderRecord) -> Cow<'a, ProviderRecord>,
    >;

    /// The network keeps provider records only.
    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    /// What this node provides; records of others come by [`Records::keep`].
    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        if record.provider != self.local {
            return Err(Error::MaxProvidedKeys);
        }
        if self.provided.len() >= PROVIDED && !self.provided.contains_key(&record.key) {
            return Err(Error::MaxProvidedKeys);
        }
        self.provided.insert(record.key.clone(), record);
        Ok(())
    }

    /// This node first, and the others in a new order each time: an answer holds the first twenty.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let held = self.keys.get(key).into_iter().flatten();
        let mut others: Vec<_> = held.map(|held| held.record.clone()).collect();
        others.shuffle(&mut rand::rng());
        self.provided.get(key).cloned().into_iter().chain(others).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.provided.values().map(Cow::Borrowed)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.local {
            self.provided.remove(key);
        } else {
            self.remove_held(key, provider);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    fn record(provider: PeerId, n: u16) -> ProviderRecord {
        ProviderRecord {
            key: RecordKey::new(&n.to_be_bytes()),
            provider,
            expires: None,
            addresses: Vec::new(),
        }
    }

    fn records(max: usize) -> Records {
        Records::new(PeerId::random(), max)
    }

    fn told(records: &Records, n: u16) -> HashSet<PeerId> {
        let told = records.providers(&RecordKey::new(&n.to_be_bytes()));
        told.into_iter().map(|record| record.provider).collect()
    }

    #[tokio::test]
    async fn one_network_cannot_fill_a_list() {
        let (mut records, now) = (records(4096), Instant::now());
        let (squatted, honest) = (Subnet::V4([203, 0, 114]), PeerId::random());
        for _ in 0..1000 {
            assert!(records.keep(record(PeerId::random(), 1), squatted, now));
        }
        assert_eq!(told(&records, 1).len(), RECORDS_PER_SUBNET);
        records.keep(record(honest, 1), Subnet::V4([203, 0, 115]), now);
        for _ in 0..1000 {
            records.keep(record(PeerId::random(), 1), squatted, now);
        }
        assert!(told(&records, 1).contains(&honest));
        // Not even many networks push out all who are alone in theirs, and a list does not grow without end.
        for n in 0..8 {
            for _ in 0..RECORDS_PER_SUBNET {
                records.keep(record(PeerId::random(), 1), Subnet::V4([204, 0, n]), now);
            }
        }
        assert_eq!(told(&records, 1).len(), RECORDS_PER_KEY);
        assert!(told(&records, 1).contains(&honest));
        assert!(records.hits.of(Bound::RecordsPerSubnet) > 0 && records.hits.of(Bound::RecordsPerKey) > 0);
    }

    #[tokio::test]
    async fn a_laboratory_without_public_addresses_is_not_one_network() {
        let (mut records, now) = (records(4096), Instant::now());
        for _ in 0..RECORDS_PER_KEY {
            let peer = PeerId::random();
            records.keep(record(peer, 1), Subnet::Alone(peer), now);
        }
        assert_eq!(told(&records, 1).len(), RECORDS_PER_KEY);
        let newcomer = PeerId::random();
        records.keep(record(newcomer, 1), Subnet::Alone(newcomer), now);
        assert!(told(&records, 1).contains(&newcomer) && told(&records, 1).len() == RECORDS_PER_KEY);
    }

    #[tokio::test]
    async fn where_all_is_full_the_network_with_most_gives_way() {
        let (mut records, now) = (records(100), Instant::now());
        let (flooding, peers) = (Subnet::V4([203, 0, 114]), [(); 40].map(|()| PeerId::random()));
        let honest = PeerId::random();
        records.keep(record(honest, 7), Subnet::V4([203, 0, 115]), now);
        for (n, peer) in (0..2000).zip(peers.iter().cycle()) {
            records.keep(record(*peer, 1000 + n), flooding, now);
        }
        assert_eq!(records.len(), 100);
        assert!(told(&records, 7).contains(&honest));
        let share = &records.subnets[&flooding];
        assert!(share.records == 99 && share.order.len() <= 2 * 99 + RECORDS_PER_KEY);
    }

    #[tokio::test]
    async fn records_are_counted_renewed_and_forgotten_in_time() {
        let (mut records, peer, now) = (records(100_000), PeerId::random(), Instant::now());
        let subnet = Subnet::Alone(peer);
        let taken = (0..600).filter(|n| records.keep(record(peer, *n), subnet, now)).count();
        assert_eq!((taken, records.hits.of(Bound::RecordsPerPeer)), (RECORDS_PER_PEER, 88));
        let later = now + PROVIDER_TTL - Duration::from_secs(1);
        assert!(
            records.keep(record(peer, 0), subnet, later),
            "what is known may be renewed"
        );
        records.sweep(now + PROVIDER_TTL);
        assert_eq!(records.len(), 1);
        records.sweep(later + PROVIDER_TTL);
        assert!(
            records.len() == 0 && records.keys.is_empty() && records.subnets.is_empty() && records.ranks.is_empty()
        );
    }

    #[tokio::test]
    async fn this_node_is_told_first_and_others_in_a_new_order() {
        let (mut records, now) = (records(100), Instant::now());
        let local = records.local;
        records.add_provider(record(local, 1)).unwrap();
        assert!(records.add_provider(record(PeerId::random(), 1)).is_err());
        for _ in 0..20 {
            let peer = PeerId::random();
            records.keep(record(peer, 1), Subnet::Alone(peer), now);
        }
        let key = RecordKey::new(&1u16.to_be_bytes());
        let order = || {
            records
                .providers(&key)
                .into_iter()
                .map(|record| record.provider)
                .collect::<Vec<_>>()
        };
        let (one, other) = (order(), order());
        assert!(one[0] == local && other[0] == local);
        assert_ne!(one, other, "one chance in 20! of being the same");
        records.remove_provider(&key, &local);
        assert_eq!((records.provided().count(), records.providers(&key).len()), (0, 20));
    }
}
