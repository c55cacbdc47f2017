//! How a newcomer learns who serves a model without waiting for an ad to come by: it asks its peers for the ads they
//! know, and the DHT for providers, whom it asks for their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use infernet_protocol::ModelId;
use infernet_protocol::capability::{AdList, AdQuery, AdScope};
use infernet_protocol::codec;
use infernet_swarm::{Exchange, PeerId};
use tracing::debug;

use super::Market;
use crate::node::Node;

/// Peers asked at once.
const PEERS: usize = 8;
/// Time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_000);
/// Time for the DHT and the providers that it names.
const DISCOVER_WITHIN: Duration = Duration::from_millis(2_500);
/// A node this young does not take an answer for the last word, and asks again after a while.
const NEWCOMER: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Once somebody is known, the others get this long to be known too.
const GRACE: Duration = Duration::from_millis(30);

impl Market {
    /// Looks for providers of a model until some are known, or time is up.
    pub(super) async fn discover(&self, node: &Arc<Node>, model: &ModelId) {
        let looking = async {
            loop {
                tokio::join!(self.ask_peers(Some(model)), self.ask_dht(model));
                // Who has just come hears of nobody yet, nor does who came at the same time.
                if self.began.elapsed() > NEWCOMER {
                    break;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::pin!(looking);
        let known = async {
            loop {
                let learned = self.learned.notified();
                if self.serving(model) {
                    break;
                }
                learned.await;
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = &mut looking => {}
            () = known => {}
            () = tokio::time::sleep(DISCOVER_WITHIN) => {}
        }
        debug!(%model, known = self.serving(model), peers = node.market.ads_held(), "looked for providers");
    }

    async fn ask_peers(&self, model: Option<&ModelId>) {
        let Ok(peers) = self.swarm.peers().await else { return };
        let query = AdQuery {
            scope: AdScope::Known,
            model: model.cloned(),
        };
        let asked: FuturesUnordered<_> = peers
            .into_iter()
            .take(PEERS)
            .map(|peer| self.ask_ads(peer.peer, &query))
            .collect();
        asked.collect::<Vec<_>>().await;
    }

    async fn ask_dht(&self, model: &ModelId) {
        let Ok(providers) = self.swarm.providers(model.record_key().0).await else {
            return;
        };
        let query = AdQuery {
            scope: AdScope::Own,
            model: Some(model.clone()),
        };
        let asked: FuturesUnordered<_> = providers
            .into_iter()
            .take(PEERS)
            .map(|provider| self.ask_ads(provider.peer, &query))
            .collect();
        asked.collect::<Vec<_>>().await;
    }

    /// Asks one peer for ads and takes in what it hands over.
    pub(crate) async fn ask_ads(&self, peer: PeerId, query: &AdQuery) {
        let request = Bytes::from(codec::to_vec(query));
        let answer = self
            .swarm
            .ask(Exchange::Ad, peer, Vec::new(), request, ANSWER_WITHIN)
            .await;
        match answer.as_deref().map(codec::from_slice::<AdList>) {
            Ok(Ok(ads)) => {
                let news = self.learn(&ads);
                debug!(%peer, ads = ads.ads.len(), news, "ads handed over");
            }
            Ok(Err(error)) => debug!(%peer, %error, "answer is not a list of ads"),
            Err(error) => debug!(%peer, %error, "no ads"),
        }
    }
}
