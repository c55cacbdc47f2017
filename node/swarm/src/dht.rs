//! The DHT: what this node provides, whom it asks for, and which records of others it keeps.
//!
//! Only provider records exist on this network; values are neither stored nor asked for.

mod records;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::kad::{self, GetProvidersOk, ProviderRecord, QueryId, QueryResult, RecordKey};
use libp2p::swarm::{ConnectionId, NetworkBehaviour as _};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::DhtError;
use crate::event::Provider;
use crate::limits::{Bound, Hits, Subnet, TABLE_PER_SUBNET};
use crate::peers::ADDRESSES_PER_PEER;

pub(crate) use records::Records;

/// Multihash code and length of SHA-256, which stand before the digest in a key.
const SHA2_256: [u8; 2] = [0x12, 0x20];

/// Lookups under way at once.
const LOOKUPS: usize = 64;

/// A lookup ends when this many providers are known.
const PROVIDERS_WANTED: usize = 64;

/// Records of others are swept this often.
const SWEEP: Duration = Duration::from_secs(60);

/// After a peer has entered a small table, what we provide is announced again, but not more often than this.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(500);

/// A table of up to this many peers is small: each newcomer is among the closest to every key.
const SMALL_TABLE: usize = 20;

type Kad = kad::Behaviour<Records>;
type LookupReply = oneshot::Sender<Result<Vec<Provider>, DhtError>>;

/// State beside the library's own.
#[derive(Debug, Default)]
pub(crate) struct Dht {
    provided: HashSet<[u8; 32]>,
    lookups: HashMap<QueryId, Lookup>,
    /// Where the peers in the routing table come from.
    table: HashMap<PeerId, Subnet>,
    pub(crate) hits: Hits,
    announce: Option<Instant>,
    sweep: Option<Instant>,
}

#[derive(Debug)]
struct Lookup {
    reply: LookupReply,
    found: Vec<Provider>,
}

fn key(digest: &[u8; 32]) -> RecordKey {
    RecordKey::new(&[SHA2_256.as_slice(), digest].concat())
}

fn is_key(key: &RecordKey) -> bool {
    let bytes = key.as_ref();
    bytes.len() == SHA2_256.len() + 32 && bytes.starts_with(&SHA2_256)
}

fn table_size(kad: &mut Kad) -> usize {
    kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
}

impl Dht {
    pub(crate) fn provide(&mut self, kad: &mut Kad, digest: [u8; 32]) -> Result<(), DhtError> {
        kad.start_providing(key(&digest)).map_err(|_| DhtError::Busy)?;
        self.provided.insert(digest);
        Ok(())
    }

    pub(crate) fn stop_providing(&mut self, kad: &mut Kad, digest: &[u8; 32]) {
        self.provided.remove(digest);
        kad.stop_providing(&key(digest));
    }

    pub(crate) fn look_up(&mut self, kad: &mut Kad, digest: &[u8; 32], reply: LookupReply) {
        if self.lookups.len() >= LOOKUPS {
            let _gone = reply.send(Err(DhtError::Busy));
        } else if table_size(kad) == 0 && kad.store_mut().len() == 0 {
            let _gone = reply.send(Err(DhtError::NoPeers));
        } else {
            let id = kad.get_providers(key(digest));
            self.lookups.insert(
                id,
                Lookup {
                    reply,
                    found: Vec::new(),
                },
            );
        }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.announce.into_iter().chain(self.sweep).min()
    }

    pub(crate) fn on_timer(&mut self, kad: &mut Kad, now: Instant) {
        if self.announce.is_some_and(|at| at <= now) {
            self.announce = None;
            for digest in &self.provided {
                if let Err(error) = kad.start_providing(key(digest)) {
                    tracing::debug!(?error, "a key could not be announced again");
                }
            }
        }
        if self.sweep.is_some_and(|at| at <= now) {
            kad.store_mut().sweep(now);
            self.sweep = (kad.store_mut().len() > 0).then(|| now + SWEEP);
        }
    }

    /// Whether a peer from that subnet may stand in the routing table. One that is small takes everybody: whoever fills it
    /// then still leaves most of it to others.
    pub(crate) fn may_enter(&mut self, peer: &PeerId, subnet: Subnet) -> bool {
        if self.table.len() < SMALL_TABLE || self.table.contains_key(peer) {
            return true;
        }
        let neighbours = self.table.values().filter(|known| **known == subnet).count();
        let enters = neighbours < TABLE_PER_SUBNET;
        if !enters {
            self.hits.add(Bound::TablePerSubnet);
        }
        enters
    }

    /// Peers in the routing table.
    pub(crate) fn table_len(&self) -> usize {
        self.table.len()
    }

    /// A peer stands in the routing table, in the place of another perhaps.
    pub(crate) fn on_entered(&mut self, peer: PeerId, subnet: Subnet, left: Option<PeerId>) {
        left.and_then(|left| self.table.remove(&left));
        self.table.insert(peer, subnet);
    }

    /// A peer has entered the routing table.
    pub(crate) fn on_new_peer(&mut self, kad: &mut Kad, now: Instant) {
        if self.announce.is_none() && !self.provided.is_empty() && table_size(kad) <= SMALL_TABLE {
            self.announce = Some(now + ANNOUNCE_AGAIN);
        }
    }

    /// Keeps a record that its provider sent from `subnet`, or does not; says which.
    pub(crate) fn on_record(
        &mut self,
        kad: &mut Kad,
        mut record: ProviderRecord,
        subnet: Subnet,
        now: Instant,
    ) -> bool {
        record.addresses.truncate(ADDRESSES_PER_PEER);
        let kept = is_key(&record.key) && kad.store_mut().keep(record, subnet, now);
        if kept {
            self.sweep.get_or_insert(now + SWEEP);
        }
        kept
    }

    /// Takes a step of a query; gives providers that it named, with the addresses that came with them.
    pub(crate) fn on_progress(
        &mut self,
        kad: &mut Kad,
        me: PeerId,
        id: QueryId,
        result: QueryResult,
        last: bool,
    ) -> Vec<Provider> {
        let QueryResult::GetProviders(result) = result else {
            return Vec::new();
        };
        let Some(lookup) = self.lookups.get_mut(&id) else {
            return Vec::new();
        };
        let mut news = Vec::new();
        if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
            for peer in providers.into_iter().filter(|peer| *peer != me) {
                if lookup.found.iter().all(|known| known.peer != peer) && lookup.found.len() < PROVIDERS_WANTED {
                    news.push(Provider {
                        peer,
                        addresses: addresses(kad, peer),
                    });
                    lookup.found.extend(news.last().cloned());
                }
            }
        }
        let enough = lookup.found.len() >= PROVIDERS_WANTED;
        if enough && let Some(mut query) = kad.query_mut(&id) {
            query.finish();
        }
        if (last || enough)
            && let Some(lookup) = self.lookups.remove(&id)
        {
            let _gone = lookup.reply.send(Ok(lookup.found));
        }
        news
    }
}

/// What the DHT would dial to reach `peer`, which includes what the records of the running lookup say of it.
fn addresses(kad: &mut Kad, peer: PeerId) -> Vec<Multiaddr> {
    let nobody = ConnectionId::new_unchecked(0);
    let mut known = kad
        .handle_pending_outbound_connection(nobody, Some(peer), &[], Endpoint::Dialer)
        .unwrap_or_default();
    known.dedup();
    known.truncate(ADDRESSES_PER_PEER);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kad() -> Kad {
        let me = PeerId::random();
        kad::Behaviour::new(me, Records::new(me, 100))
    }

    #[test]
    fn a_key_is_a_sha256_multihash() {
        assert!(is_key(&key(&[7; 32])));
        assert_eq!(key(&[7; 32]).as_ref()[..3], [0x12, 0x20, 7]);
        assert!(!is_key(&RecordKey::new(&[0x12, 0x20, 1])));
        assert!(!is_key(&RecordKey::new(&[0; 34])));
    }

    #[tokio::test]
    async fn records_of_others_need_a_key_and_end() {
        let (mut kad, mut dht, provider, now) = (kad(), Dht::default(), PeerId::random(), Instant::now());
        let mut record = ProviderRecord {
            key: key(&[7; 32]),
            provider,
            expires: None,
            addresses: Vec::new(),
        };
        let subnet = Subnet::Alone(provider);
        assert!(dht.on_record(&mut kad, record.clone(), subnet, now));
        record.key = RecordKey::new(b"x");
        assert!(!dht.on_record(&mut kad, record, subnet, now));
        assert_eq!(kad.store_mut().len(), 1);
        while let Some(due) = dht.next_due() {
            dht.on_timer(&mut kad, due);
        }
        assert_eq!(kad.store_mut().len(), 0);
    }

    #[test]
    fn a_table_that_is_not_small_takes_few_of_one_network() {
        let (mut dht, subnet) = (Dht::default(), Subnet::V4([203, 0, 114]));
        let enter = |dht: &mut Dht, subnet| {
            let peer = PeerId::random();
            let enters = dht.may_enter(&peer, subnet);
            if enters {
                dht.on_entered(peer, subnet, None);
            }
            enters.then_some(peer)
        };
        for n in 0..SMALL_TABLE {
            assert!(enter(&mut dht, Subnet::V4([1, 1, u8::try_from(n).unwrap()])).is_some());
        }
        let entered: Vec<_> = std::iter::from_fn(|| enter(&mut dht, subnet)).collect();
        assert_eq!(entered.len(), TABLE_PER_SUBNET);
        assert!(dht.may_enter(&entered[0], subnet), "it is in it already");
        let other = PeerId::random();
        dht.on_entered(other, Subnet::Alone(other), Some(entered[0]));
        assert!(enter(&mut dht, subnet).is_some(), "one has left");
        assert_eq!(dht.hits.of(Bound::TablePerSubnet), 1);
    }
}
