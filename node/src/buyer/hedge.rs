//! Asking a second provider where the first is later than it usually is. Whoever says its first word sooner is heard;
//! the other is cancelled, and paid for what it delivered: nothing, as a rule.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, select};

use super::consumer::{Consumer, Leg};
use super::told::Told;
use super::{Failure, Purchase, Summary};
use crate::happenings::Happening;
use crate::leases::Using;
use crate::node::Node;

/// One attempt and how it ended.
pub(super) struct Ran {
    pub(super) using: Using,
    pub(super) told: Told,
    pub(super) outcome: Result<Summary, Failure>,
    /// The consumer heard it.
    heard: bool,
}

/// How a request went with one provider or two.
pub(super) struct Raced {
    /// The one that counts.
    pub(super) ran: Ran,
    /// Another that ended before it.
    pub(super) also: Option<Ran>,
    /// Another that is still on its way to its receipt.
    pub(super) left: Option<BoxFuture<'static, Ran>>,
}

impl Raced {
    fn alone(ran: Ran) -> Self {
        Self {
            ran,
            also: None,
            left: None,
        }
    }
}

/// Asks one provider, and where that is late a second one.
pub(super) async fn race(
    node: &Arc<Node>,
    purchase: &Arc<Purchase>,
    first: Using,
    consumer: &Consumer,
    told: Told,
    avoid: &[infernet_protocol::NodeId],
) -> Raced {
    let provider = first.lease.worker;
    let afresh = told.afresh();
    let may_hedge = purchase.may_hedge && !consumer.has_begun();
    let one = run(node, purchase, first, consumer.leg(), told);
    let late = may_hedge.then(|| node.market.late_after(provider, purchase)).flatten();
    let Some(late) = late else {
        return Raced::alone(one.await);
    };
    let mut one = one.boxed();
    tokio::select! {
        biased;
        ran = &mut one => return Raced::alone(ran),
        () = tokio::time::sleep(late) => {}
    }
    if consumer.has_begun() {
        return Raced::alone(one.await);
    }
    let avoid: Vec<_> = avoid.iter().copied().chain([provider]).collect();
    let second = match node.market.take_hedge() {
        true => node.leases.another(node, purchase, &avoid),
        false => None,
    };
    let Some(second) = second else {
        return Raced::alone(one.await);
    };
    let also = second.lease.worker;
    node.happenings.tell(|| Happening::Hedged { provider, also });
    let two = run(node, purchase, second, consumer.leg(), afresh).boxed();
    let (ran, other) = match select(one, two).await {
        Either::Left((ran, other)) | Either::Right((ran, other)) => (ran, other),
    };
    // Who ended without having been heard leaves the request to the other.
    if ran.outcome.is_err() && !ran.heard && !consumer.is_gone() {
        return Raced {
            ran: other.await,
            also: Some(ran),
            left: None,
        };
    }
    Raced {
        ran,
        also: None,
        left: Some(other),
    }
}

/// One attempt that owns what it needs, so that it can go on beside another.
fn run(
    node: &Arc<Node>,
    purchase: &Arc<Purchase>,
    mut using: Using,
    mut leg: Leg,
    mut told: Told,
) -> impl Future<Output = Ran> + Send + use<> {
    let (node, purchase) = (node.clone(), purchase.clone());
    async move {
        let outcome = super::attempt(&node, &mut using, &purchase, &mut leg, &mut told).await;
        Ran {
            using,
            told,
            outcome,
            heard: leg.tells(),
        }
    }
}
