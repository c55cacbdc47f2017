//! The market simulated: see `infernet_tests::sim`. A failure prints the command that replays its seed;
//! `INFERNET_SIM_SEED=7` runs that one, and `INFERNET_SIM_SEEDS=200` as many as the ring `soak` does.

#![expect(clippy::print_stdout, reason = "the measured figures are there to be read")]

use infernet_tests::sim::{Seeds, Setup, Summary, run, run_all};

fn simulate(setup: &Setup, few: u64) -> Summary {
    match run_all(setup, Seeds::from_environment(few)) {
        Ok(all) => {
            println!("{}", all.report(setup.name));
            assert_eq!(all.placed, all.jobs, "every job is placed");
            all
        }
        Err(broken) => panic!("{broken}"),
    }
}

/// Loss, repeats, reordering, crashes, wrong clocks, liars and an attacker: no law is broken.
#[test]
fn chaos() {
    let all = simulate(&Setup::chaos(), 12);
    assert!(all.crashes > 0 && all.breaks > 0 && all.attacks > 0 && all.receipts > 0 && all.disputes > 0);
    assert!(all.exposure_refusals > 0, "the debtor was never kept out");
}

/// 500 workers, 50 sybils, 20% loss of gossip links, K = 8.
#[test]
fn market() {
    let all = simulate(&Setup::market(), 2);
    assert!(all.bids_at(50) <= 16, "median of {} bids per offer", all.bids_at(50));
    assert!(all.bids_at(99) <= 32, "p99 of {} bids per offer", all.bids_at(99));
    assert!(all.near_best() >= 950, "near the best in {} per mille", all.near_best());
}

/// A seed is the whole of a simulation's chance, so that a failure can be replayed.
#[test]
fn a_seed_replays() {
    let setup = Setup::chaos();
    let figures = |seed| match run(&setup, seed) {
        Ok(summary) => summary.report("replay"),
        Err(broken) => panic!("{broken}"),
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}
