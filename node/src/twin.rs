//! Another process with this node's key: noticed by ads that bear this node's name and that it did not sign.
//!
//! Two of them would sign two receipts for one place of a lease, which is proof of fraud, and answer for each other's
//! deals. The one that came last gives way; the one that was there says so and goes on. A node that sells nothing signs no
//! ads, and is not noticed by others; it notices those that do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infernet_protocol::capability::CapabilityAd;
use infernet_protocol::{UnixMillis, Verified};
use infernet_swarm::Multiaddr;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::node::Node;
use crate::runtime::unpoisoned;

/// A node is a newcomer for two of its ads' intervals, in which it hears whoever was there before, and for this long on
/// top of it.
const SETTLING: Duration = Duration::from_secs(60);
/// Ads of its own that it knows again: all of three intervals, in which they live, though its engines come and go.
const SIGNED: usize = 64;
/// It is told again after this, as long as it is true.
const TOLD_EVERY: Duration = Duration::from_secs(600);
/// This node's ad is published again at another's no sooner than this after the last time.
const SAID_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// What is known of ads with this node's name.
#[derive(Debug)]
pub(crate) struct Twin {
    known: Mutex<Known>,
    signs: watch::Sender<Option<Sign>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The highest sequence that this node has signed in earlier lives.
    earlier: u64,
    /// What it has signed in this one, the last of it.
    signed: VecDeque<u64>,
    /// The highest that it has heard and not signed.
    foreign: u64,
    /// When this process began: what was signed before may be a last word.
    began: UnixMillis,
    /// Where another process is, until when that holds, and when it was told last.
    found: Option<Found>,
}

#[derive(Debug)]
struct Found {
    at: Vec<String>,
    until: Instant,
    told: Instant,
}

/// An ad that this node did not sign.
#[derive(Clone, Debug)]
struct Sign {
    ad: Arc<Verified<CapabilityAd>>,
    /// It is not the first, and was signed since this process began: whoever signs them is at work now. The first may be a
    /// last word from before this node's journal was lost, or its key was carried over from elsewhere.
    goes_on: bool,
}

impl Twin {
    /// Of a node that begins now, and has signed ads up to this one in earlier lives.
    pub(crate) fn new(earlier: u64, began: UnixMillis) -> Self {
        let known = Known {
            earlier,
            began,
            ..Known::default()
        };
        Self {
            known: Mutex::new(known),
            signs: watch::Sender::new(None),
        }
    }

    /// This node signs an ad with this sequence.
    pub(crate) fn signs(&self, sequence: u64) {
        let mut known = unpoisoned(&self.known);
        if known.signed.len() >= SIGNED {
            known.signed.pop_front();
        }
        known.signed.push_back(sequence);
    }

    /// The sequence that the next ad must exceed, so that it counts.
    pub(crate) fn highest(&self) -> u64 {
        let known = unpoisoned(&self.known);
        let own = known.signed.back().copied().unwrap_or_default();
        own.max(known.earlier).max(known.foreign)
    }

    /// An ad with this node's name was heard.
    pub(crate) fn hears(&self, ad: &Verified<CapabilityAd>, now: UnixMillis) {
        // Anybody may hand over what was said long ago.
        if !ad.is_fresh(now) {
            return;
        }
        let goes_on = {
            let mut known = unpoisoned(&self.known);
            if ad.sequence <= known.earlier.max(known.foreign) || known.signed.contains(&ad.sequence) {
                return;
            }
            std::mem::replace(&mut known.foreign, ad.sequence) > 0 && ad.issued_at >= known.began
        };
        // Who withdraws is leaving.
        if !ad.models.is_empty() {
            let ad = Arc::new(ad.clone());
            self.signs.send_replace(Some(Sign { ad, goes_on }));
        }
    }

    /// Where another process with this node's key was found lately.
    pub(crate) fn found(&self) -> Option<Vec<String>> {
        let known = unpoisoned(&self.known);
        let found = known.found.as_ref().filter(|found| Instant::now() < found.until)?;
        Some(found.at.clone())
    }

    /// Notes where it is, which holds for so long; whether that is to be told now.
    fn note(&self, at: Vec<String>, holds: Duration) -> bool {
        let (now, mut known) = (Instant::now(), unpoisoned(&self.known));
        let told = known.found.as_ref().map(|found| found.told);
        let is_news = told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        known.found = Some(Found {
            at,
            until: now + holds,
            told: told.filter(|_| !is_news).unwrap_or(now),
        });
        is_news
    }
}

/// Follows such signs: gives way, or says so.
pub(crate) async fn watch(node: Arc<Node>) {
    let began = Instant::now();
    let mut said_again: Option<Instant> = None;
    let mut signs = node.market.twin().signs.subscribe();
    while signs.changed().await.is_ok() {
        let Some(Sign { ad, goes_on }) = signs.borrow_and_update().clone() else {
            continue;
        };
        let at: Vec<String> = ad.addresses.iter().map(ToString::to_string).collect();
        if !goes_on && !answers(&node, &at).await {
            debug!(sequence = ad.sequence, "an ad of an earlier life of this node");
            continue;
        }
        let interval = Duration::from_millis(node.market.ad_interval().0.into());
        let is_newcomer = began.elapsed() < 2 * interval + SETTLING;
        // Its ads come at its own interval; the second that is missing says that it has gone.
        let holds = 2 * Duration::from_millis(ad.interval.0.into());
        let is_news = node.market.twin().note(at.clone(), holds);
        let place = match at.is_empty() {
            true => "it names no address".to_owned(),
            false => format!("at {}", at.join(", ")),
        };
        if node.is_look() {
            continue;
        }
        if is_newcomer {
            node.tasks.fail(format!(
                "another node runs with this node's key ({place}): stop it first, or give this one a key of its own \
                 with `infernet --home DIR init`"
            ));
            return;
        }
        if is_news {
            warn!(
                "another node runs with this node's key ({place}): stop it, or its deals and this node's get mixed up"
            );
        }
        // Others take its word for this node's until they hear this one again.
        if said_again.is_none_or(|at| at.elapsed() >= SAID_AGAIN_EVERY) {
            said_again = Some(Instant::now());
            node.say_again();
        }
    }
}

/// Whether somebody with this node's key is at one of these addresses.
async fn answers(node: &Node, at: &[String]) -> bool {
    let asked = at.iter().filter_map(|address| address.parse::<Multiaddr>().ok());
    let asked = asked.map(|address| node.swarm.is_twin_at(address));
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().any(|answer| answer.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use infernet_protocol::capability::{Features, ModelAd};
    use infernet_protocol::codec::{List, Text};
    use infernet_protocol::{Identity, Millis, ModelId, Network, Price};

    use super::*;

    fn ad(sequence: u64, sells: bool) -> Verified<CapabilityAd> {
        let model = ModelAd {
            id: ModelId::new("m").unwrap(),
            digest: None,
            context: 1024,
            quantisation: Text::default(),
            features: Features::default(),
            price: Price::FREE,
            max_output: 16,
            ttft: Millis(1),
            speed: 1,
        };
        let ad = CapabilityAd {
            sequence,
            issued_at: UnixMillis(sequence),
            interval: Millis(30_000),
            agent: Text::lossy("test"),
            tags: List::default(),
            addresses: List::default(),
            gpus: List::default(),
            models: List::first_of(sells.then_some(model)),
            models_total: u16::from(sells),
            slots: u16::from(sells),
            rails: List::default(),
        };
        let identity = Identity::from_secret(&[3; 32]).unwrap();
        Verified::sign(ad, &identity, &Network::default(), &[7; 32])
    }

    fn sign_after(twin: &Twin, heard: &Verified<CapabilityAd>) -> Option<bool> {
        twin.signs.send_replace(None);
        twin.hears(heard, UnixMillis(heard.issued_at.0 + 5));
        twin.signs.borrow().as_ref().map(|sign| sign.goes_on)
    }

    #[test]
    fn its_own_words_are_no_sign_and_those_of_an_earlier_life_neither() {
        let twin = Twin::new(100, UnixMillis(0));
        for sequence in [1, 99, 100] {
            assert_eq!(sign_after(&twin, &ad(sequence, true)), None);
        }
        twin.signs(200);
        assert_eq!(sign_after(&twin, &ad(200, true)), None);
        assert_eq!(twin.highest(), 200);
    }

    #[test]
    fn one_that_goes_on_is_told_from_a_last_word() {
        let twin = Twin::new(0, UnixMillis(0));
        assert_eq!(sign_after(&twin, &ad(50, true)), Some(false), "it may be over");
        assert_eq!(sign_after(&twin, &ad(50, true)), None, "heard twice is not said twice");
        assert_eq!(twin.highest(), 50, "what this node says next must count");
        twin.signs(60);
        assert_eq!(sign_after(&twin, &ad(60, true)), None, "it is this node's own");
        assert_eq!(
            sign_after(&twin, &ad(55, true)),
            Some(true),
            "it was said a moment before this node's"
        );
        assert_eq!(sign_after(&twin, &ad(70, true)), Some(true));
        assert_eq!(sign_after(&twin, &ad(80, false)), None, "it withdraws");
    }

    #[test]
    fn it_is_told_once_in_a_while() {
        let twin = Twin::new(0, UnixMillis(0));
        assert_eq!(twin.found(), None);
        let minute = Duration::from_secs(60);
        assert!(twin.note(vec!["/ip4/192.0.2.1/tcp/1".to_owned()], minute));
        assert!(!twin.note(vec!["/ip4/192.0.2.2/tcp/1".to_owned()], minute));
        assert_eq!(twin.found().unwrap(), ["/ip4/192.0.2.2/tcp/1"], "where it was last");
        assert!(!twin.note(Vec::new(), Duration::ZERO));
        assert_eq!(twin.found(), None, "it has said nothing for long");
    }

    #[test]
    fn what_was_said_before_this_process_began_is_no_sign_of_life() {
        let twin = Twin::new(0, UnixMillis(60_000));
        assert_eq!(sign_after(&twin, &ad(50_000, true)), Some(false));
        assert_eq!(sign_after(&twin, &ad(55_000, true)), Some(false), "its last two words");
        assert_eq!(sign_after(&twin, &ad(61_000, true)), Some(true));
        twin.signs.send_replace(None);
        twin.hears(&ad(62_000, true), UnixMillis(10_000_000));
        assert!(twin.signs.borrow().is_none(), "a recording");
    }
}
