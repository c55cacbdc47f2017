//! The simulator against itself: the same seed, the same row; the stand-in, the same verdicts; and what each scenario
//! is there to show, in small.

use infernet_scale::{Setup, simulate};

fn short(setup: Setup) -> Setup {
    Setup {
        lasts: setup.lasts.min(60_000),
        jobs: setup.jobs.min(16),
        ..setup
    }
}

#[test]
fn the_same_seed_makes_the_same_row() {
    let setup = short(Setup::steady(60));
    assert_eq!(simulate(&setup), simulate(&setup));
    assert_ne!(simulate(&setup), simulate(&Setup { seed: 2, ..setup }));
}

#[test]
fn the_stand_in_judges_as_the_real_one() {
    for setup in [Setup::steady(80), Setup::hostile(80), Setup::crowd(80)] {
        let lean = Setup {
            real_up_to: 0,
            ..short(setup.clone())
        };
        assert_eq!(simulate(&short(setup)), simulate(&lean), "{}", lean.name);
    }
}

#[test]
fn offers_draw_a_bounded_number_of_bids_from_hostile_nodes_too() {
    let row = simulate(&short(Setup::hostile(100)));
    assert!(row.get("bids_max") <= 48, "{} bids", row.get("bids_max"));
    assert_eq!(row.get("blamed"), 0);
    assert!(row.get("delivered") >= 990, "{} per mille", row.get("delivered"));
}

#[test]
fn a_network_that_was_parted_is_whole_again_soon() {
    let row = simulate(&Setup {
        lasts: 240_000,
        stress: infernet_scale::Stress::Parted(60_000),
        jobs: 12,
        ..Setup::parted(60)
    });
    assert!(row.get("heal_s") <= 60, "{} s", row.get("heal_s"));
}

#[test]
fn newcomers_of_a_large_network_do_not_take_it_for_a_small_one() {
    // Three hundred nodes whose churn is ten minutes' worth in two.
    let churn = |setup: Setup| {
        simulate(&Setup {
            lasts: 120_000,
            jobs: 8,
            ..setup
        })
        .get("ads_per_s")
    };
    let (told, counted) = (churn(Setup::churn(600)), churn(Setup::naive_churn(600)));
    assert!(told < counted, "{told} against {counted} hundredths a second");
}
