//! One deal of the synthetic network: offer, bids, accept, and the receipt that ends it.

use infernet_protocol::auction::{JobAccept, JobBid, JobOffer, Payee, Payer, Policy, Requirement, Volume};
use infernet_protocol::capability::{Class, Features, ModelAd};
use infernet_protocol::codec::{List, Text};
use infernet_protocol::market::Gossip;
use infernet_protocol::names::INFERENCE;
use infernet_protocol::receipt::{Countersign, JobReceipt, Status, Step, Total};
use infernet_protocol::{Digest, JobId, LeaseId, MicroUsd, Millis, Price, RequestId, UnixMillis, Verified};

use super::peers::Member;
use super::{Chance, World, network};

/// The rail of the synthetic network.
const RAIL: &str = "evm:base:usdc";

/// Plays a deal that begins at `at`, as far as it comes.
pub(super) fn play(world: &mut World<'_>, at: UnixMillis) {
    let members = world.members;
    let (sellers, buyers): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| !member.models.is_empty());
    if sellers.is_empty() || buyers.is_empty() {
        return;
    }
    let buyer = *world.chance.pick(&buyers);
    let wanted = *world.chance.pick(&sellers);
    let model = world.chance.pick(&wanted.models).clone();
    let mut serving: Vec<(&Member, &ModelAd)> = sellers
        .iter()
        .filter_map(|seller| Some((*seller, seller.models.iter().find(|ad| ad.id == model.id)?)))
        .collect();
    serving.truncate(8);
    let offer = offer(&mut world.chance, buyer, &model, &serving, at);
    let heard = at.0 + world.chance.skewed(10, 150);
    world.hear(UnixMillis(heard), &Gossip::Offer(offer.clone()));

    let mut bids: Vec<(u64, Verified<JobBid>, &Member)> = Vec::new();
    for (seller, ad) in serving {
        // Busy, or too far away to be heard of in time.
        if world.chance.percent(12) {
            continue;
        }
        let after = heard + world.chance.skewed(25, 420);
        let bid = bid(&mut world.chance, &offer, seller, ad);
        world.hear(UnixMillis(after), &Gossip::Bid(bid.clone()));
        bids.push((after, bid, seller));
    }
    let Some(last) = bids.iter().map(|(after, ..)| *after).max() else {
        return;
    };
    let Some((_, bid, seller)) = bids.iter().min_by_key(|(_, bid, _)| bid.price.output) else {
        return;
    };
    // Some buyers go away without a word.
    if world.chance.percent(6) {
        return;
    }
    let accepted = UnixMillis(last + world.chance.skewed(5, 90));
    let accept = accept(&mut world.chance, bid, buyer, accepted);
    world.hear(accepted, &Gossip::Accept(accept.clone()));
    let (receipt, countersign) = settle(&mut world.chance, &accept, bid, (seller, buyer));
    let heard = receipt.finished_at.0 + world.chance.skewed(30, 300);
    world.hear(UnixMillis(heard), &Gossip::Settled(receipt, countersign));
}

/// The messages of a deal that goes well, the same each time.
pub(super) fn vector(seller: &Member, buyer: &Member, at: UnixMillis) -> Vec<Gossip> {
    let Some(ad) = seller.models.first() else {
        return Vec::new();
    };
    let chance = &mut Chance::new(0);
    let offer = offer(chance, buyer, ad, &[(seller, ad)], at);
    let bid = bid(chance, &offer, seller, ad);
    let accept = accept(chance, &bid, buyer, at.after(Millis(100)));
    let (receipt, countersign) = settle(chance, &accept, &bid, (seller, buyer));
    vec![
        Gossip::Offer(offer),
        Gossip::Bid(bid),
        Gossip::Accept(accept),
        Gossip::Settled(receipt, countersign),
    ]
}

fn accept(chance: &mut Chance, bid: &Verified<JobBid>, buyer: &Member, at: UnixMillis) -> Verified<JobAccept> {
    let accept = JobAccept {
        lease: LeaseId {
            job: bid.job,
            attempt: 0,
        },
        bid: bid.hash(),
        winner: bid.signer(),
        payer: Some(Payer {
            rail: Text::lossy(RAIL),
            wallet: Text::lossy(&buyer.wallet),
        }),
        issued_at: at,
    };
    Verified::sign(accept, &buyer.identity, &network(), &chance.bytes())
}

fn offer(
    chance: &mut Chance,
    buyer: &Member,
    model: &ModelAd,
    serving: &[(&Member, &ModelAd)],
    at: UnixMillis,
) -> Verified<JobOffer> {
    let cap = MicroUsd(2_000_000);
    let offer = JobOffer {
        job: JobId(chance.bytes()),
        workload: Text::lossy(INFERENCE),
        requirement: Requirement {
            model: model.id.clone(),
            digest: None,
            tags: List::default(),
            vram: None,
            context: 4_096,
            features: Features::CHAT,
            class: Class::A,
        },
        volume: Volume {
            input_tokens: 600,
            output_tokens: 300,
            requests: 16,
            at_once: 2,
            lease: Millis(300_000),
        },
        policy: *chance.pick(Policy::ALL),
        price_cap: Price {
            input: cap,
            output: cap,
            request: cap,
        },
        rails: List::first_of([Text::lossy(RAIL)]),
        window: Millis(500),
        invited: List::first_of(serving.iter().map(|(seller, _)| seller.identity.node())),
        open: 0,
        public: true,
        issued_at: at,
        expires_at: at.after(Millis(10_000)),
    };
    Verified::sign(offer, &buyer.identity, &network(), &chance.bytes())
}

fn bid(chance: &mut Chance, offer: &Verified<JobOffer>, seller: &Member, ad: &ModelAd) -> Verified<JobBid> {
    let percent = 80 + chance.below(21);
    let bid = JobBid {
        job: offer.job,
        offer: offer.hash(),
        price: Price {
            input: MicroUsd(ad.price.input.0 * percent / 100),
            output: MicroUsd(ad.price.output.0 * percent / 100),
            request: MicroUsd(0),
        },
        ttft: ad.ttft,
        speed: ad.speed,
        queue: 0,
        addresses: List::first_of(seller.addresses.iter().map(|address| Text::lossy(address))),
        payees: List::first_of([Payee {
            rail: Text::lossy(RAIL),
            address: Text::lossy(&seller.wallet),
        }]),
        digest: ad.digest,
        at_once: 2,
        public: true,
    };
    Verified::sign(bid, &seller.identity, &network(), &chance.bytes())
}

/// One request, paid for.
fn settle(
    chance: &mut Chance,
    accept: &Verified<JobAccept>,
    bid: &Verified<JobBid>,
    (seller, buyer): (&Member, &Member),
) -> (Verified<JobReceipt>, Verified<Countersign>) {
    let tokens = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let (input, output) = (tokens(chance.skewed(40, 4_000)), tokens(chance.skewed(20, 1_500)));
    let duration = u64::from(bid.ttft.0) + u64::from(output) * 1_000_000 / u64::from(bid.speed.max(1));
    let step = Step {
        request: RequestId(chance.bytes()),
        status: Status::Completed,
        input_tokens: input,
        output_tokens: output,
        ttft: bid.ttft,
        duration: Millis(tokens(duration)),
        amount: bid.price.cost(input, output),
        commitment: Digest(chance.bytes()),
    };
    let done = UnixMillis(accept.issued_at.0 + duration + 60);
    let receipt = JobReceipt {
        lease: accept.lease,
        seq: 0,
        prev: accept.hash(),
        step,
        total: Total::default().plus(&step),
        finished_at: done,
    };
    let receipt = Verified::sign(receipt, &seller.identity, &network(), &chance.bytes());
    let countersign = Countersign {
        receipt: receipt.hash(),
        lease: accept.lease,
        seq: 0,
        dispute: None,
        note: Text::lossy("thanks, synthetic seller"),
        signed_at: done.after(Millis(20)),
    };
    let countersign = Verified::sign(countersign, &buyer.identity, &network(), &chance.bytes());
    (receipt, countersign)
}
