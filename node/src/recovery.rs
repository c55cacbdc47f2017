//! From the journal back into the machines: leases that were open when the process ended, on either side.

use infernet_protocol::codec;
use infernet_protocol::market::lease::{Bounds, BuyerLease, Papers};
use infernet_protocol::market::worker::Worker;
use infernet_protocol::reputation::Book;
use infernet_protocol::{MicroUsd, Millis, UnixMillis};
use tracing::warn;

use crate::clock;
use crate::spending::{Limits, Spending, Spent};
use crate::store::{OpenLease, Recovered, Side};

/// Gives the worker its leases back, and returns the buyer's.
pub(crate) fn restore(recovered: &Recovered, worker: &mut Worker) -> Vec<BuyerLease> {
    for repair in &recovered.repairs {
        warn!(%repair, "the store was repaired");
    }
    let mut bought = Vec::new();
    for lease in &recovered.leases {
        match lease.deal.side {
            Side::Buyer => bought.push(buyer(lease)),
            Side::Provider => provider(lease, worker),
        }
    }
    bought
}

/// The reputation table, if one was kept and can be read.
pub(crate) fn reputation(recovered: &Recovered) -> Option<Book> {
    let bytes = recovered.reputation.as_ref()?;
    match codec::from_slice(bytes) {
        Ok(book) => Some(book),
        Err(error) => {
            warn!(%error, "the reputation table cannot be read, so it begins anew");
            None
        }
    }
}

/// What was spent lately, and what open requests may still cost.
pub(crate) fn spending(recovered: &Recovered, limits: Limits) -> Spending {
    let bought = recovered.leases.iter().filter(|lease| lease.deal.side == Side::Buyer);
    let open = bought.flat_map(|lease| {
        let (price, ledger) = (lease.deal.bid.price, &lease.deal.ledger);
        let open = lease
            .made
            .values()
            .filter(|made| ledger.of_request(&made.request).is_none());
        open.map(move |made| {
            let worst = Spent {
                at: made.made_at,
                amount: price.cost(made.input_tokens_max, made.output_tokens_max),
                caller: lease.callers.get(&made.request).copied(),
            };
            (made.request, worst)
        })
    });
    let open = open.filter(|(_, worst)| worst.amount > MicroUsd(0));
    Spending::new(limits, recovered.spent.iter().copied(), open)
}

fn provider(lease: &OpenLease, worker: &mut Worker) {
    let now = clock::now();
    // After damage some use of the lease may be forgotten, so nothing more runs under it.
    let left = if lease.suspended {
        Millis(0)
    } else {
        left(lease, now.wall)
    };
    let (papers, ledger) = (papers(lease), lease.deal.ledger.clone());
    let id = papers.accept.lease;
    if let Err(refusal) = worker.restore(&papers, ledger, lease.used.iter().copied(), left, now) {
        warn!(lease = %id, %refusal, "a lease of an earlier run cannot be opened again");
        return;
    }
    for request in &lease.free {
        worker.fail(&id, request);
    }
}

fn buyer(lease: &OpenLease) -> BuyerLease {
    let now = clock::now();
    let made = lease.made.values().map(|made| {
        let bounds = Bounds {
            input_tokens: made.input_tokens_max,
            output_tokens: made.output_tokens_max,
        };
        (made.request, bounds)
    });
    let mut state = BuyerLease::restore(
        papers(lease),
        lease.deal.ledger.clone(),
        made,
        left(lease, now.wall),
        now,
    );
    for (request, lost) in &lease.unreceipted {
        state.delivered(request, lost.seen(), lost.next_frame);
    }
    state
}

fn papers(lease: &OpenLease) -> Papers {
    let deal = &lease.deal;
    Papers {
        offer: deal.offer.clone(),
        bid: deal.bid.clone(),
        accept: deal.accept.clone(),
    }
}

fn left(lease: &OpenLease, now: UnixMillis) -> Millis {
    Millis(u32::try_from(lease.expires_at.since(now)).unwrap_or(u32::MAX))
}
