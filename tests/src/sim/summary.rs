//! What a simulation measured.

/// Figures of one or many seeds together.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds behind it.
    pub seeds: u64,
    /// Events.
    pub steps: u64,
    /// Jobs that buyers had.
    pub jobs: u64,
    /// Jobs that were served to the end.
    pub placed: u64,
    /// Auction rounds.
    pub offers: u64,
    /// Rounds after the first of an auction.
    pub widened: u64,
    /// Bids of each measured round: all that reached its buyer past a forwarder.
    pub bids: Vec<u32>,
    /// Utility of each measured round's winner against the best there was, in millionths.
    pub shares: Vec<u32>,
    /// Measured rounds that were won by a sybil.
    pub sybil_wins: u64,
    /// Measured rounds that explored.
    pub explored: u64,
    /// Time from offer to accept of each measured round in milliseconds.
    pub closing: Vec<u32>,
    /// Leases opened at workers.
    pub leases: u64,
    /// Requests that ran.
    pub requests: u64,
    /// Receipts issued.
    pub receipts: u64,
    /// Receipts disputed.
    pub disputes: u64,
    /// Answers of `busy`.
    pub busy: u64,
    /// Crashes.
    pub crashes: u64,
    /// Connections that broke.
    pub breaks: u64,
    /// Acts of the attacker, all of them refused.
    pub attacks: u64,
    /// Requests that a limit of exposure, or an overdue countersignature, kept out.
    pub exposure_refusals: u64,
}

impl Summary {
    /// Adds another one's figures.
    pub fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.jobs += other.jobs;
        self.placed += other.placed;
        self.offers += other.offers;
        self.widened += other.widened;
        self.bids.extend(other.bids);
        self.shares.extend(other.shares);
        self.sybil_wins += other.sybil_wins;
        self.explored += other.explored;
        self.closing.extend(other.closing);
        self.leases += other.leases;
        self.requests += other.requests;
        self.receipts += other.receipts;
        self.disputes += other.disputes;
        self.busy += other.busy;
        self.crashes += other.crashes;
        self.breaks += other.breaks;
        self.attacks += other.attacks;
        self.exposure_refusals += other.exposure_refusals;
    }

    /// Bids per offer below which `percent` of the rounds stay.
    #[must_use]
    pub fn bids_at(&self, percent: usize) -> u32 {
        quantile(&self.bids, percent)
    }

    /// Share of measured rounds, in per mille, whose winner was within 5% of the best.
    #[must_use]
    pub fn near_best(&self) -> u32 {
        let near = self.shares.iter().filter(|share| **share >= 950_000).count();
        u32::try_from(near * 1_000 / self.shares.len().max(1)).unwrap_or(0)
    }

    /// The figures in a few lines.
    #[must_use]
    pub fn report(&self, name: &str) -> String {
        let choice = if self.shares.is_empty() {
            String::new()
        } else {
            format!(
                "  winner within 5% of the best in {}% of {} rounds (worst twentieth from {}% down), \
                 {} won by sybils, {} explored\n",
                tenths(self.near_best(), 10),
                self.shares.len(),
                tenths(quantile(&self.shares, 5), 10_000),
                self.sybil_wins,
                self.explored,
            )
        };
        format!(
            "{name}: {} seeds, {} steps, {} of {} jobs placed\n  \
             bids per offer median {} p99 {} over {} rounds; {} of all {} rounds were wider ones\n\
             {choice}  offer to accept median {} ms p99 {} ms\n  \
             {} leases, {} requests, {} receipts, {} disputes, {} busy, {} kept out by exposure\n  \
             {} crashes, {} broken connections, {} attacks refused",
            self.seeds,
            self.steps,
            self.placed,
            self.jobs,
            self.bids_at(50),
            self.bids_at(99),
            self.bids.len(),
            self.widened,
            self.offers,
            quantile(&self.closing, 50),
            quantile(&self.closing, 99),
            self.leases,
            self.requests,
            self.receipts,
            self.disputes,
            self.busy,
            self.exposure_refusals,
            self.crashes,
            self.breaks,
            self.attacks,
        )
    }
}

/// `value / unit` with one decimal, cut.
fn tenths(value: u32, unit: u32) -> String {
    format!("{}.{}", value / unit, value * 10 / unit % 10)
}

fn quantile(values: &[u32], percent: usize) -> u32 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((sorted.len() * percent / 100).min(last))
        .copied()
        .unwrap_or(0)
}
