//! How long things take: curves of shares, and the quantiles behind them.

use super::super::axis::Axis;
use super::super::chart::{self, Line};
use super::super::collect::Collector;
use super::super::spread::Spread;
use super::{Section, Table, latency, latency_mark, number, of_summary};

/// Points of a curve: more cannot be told apart.
const POINTS: usize = 80;

/// A curve of how many of the values are at most so large.
pub(super) fn curve(title: &str, unit: &str, series: &[(&'static str, &'static str, &Spread)]) -> Option<String> {
    let summaries: Vec<_> = series.iter().filter_map(|(_, _, spread)| spread.summary()).collect();
    let low = summaries.iter().map(|of| of.least).min()?;
    let high = summaries.iter().map(|of| of.most).max()?;
    let show = |value: f64| latency_mark(value.round() as u64);
    let show_share = |value: f64| format!("{}%", value.round());
    let x = Axis::log(unit, low as f64, high as f64, &show);
    let y = Axis {
        title: "share",
        low: 0.0,
        high: 100.0,
        is_log: false,
        ticks: vec![0.0, 25.0, 50.0, 75.0, 100.0],
        show: &show_share,
    };
    let lines: Vec<Line> = series
        .iter()
        .map(|(class, name, spread)| {
            let values = spread.sorted();
            let points = POINTS.min(values.len());
            let point = |step: usize| {
                let rank = step * values.len() / points;
                let (value, share) = (values[rank - 1], 100.0 * rank as f64 / values.len() as f64);
                (
                    value as f64,
                    share,
                    format!("{share:.0}% within {} ({name})", latency(value)),
                )
            };
            // It rises from nothing at the least of the values.
            let from = values
                .first()
                .map(|least| (*least as f64, 0.0, format!("none within less ({name})")));
            Line {
                class,
                name,
                points: from.into_iter().chain((1..=points).map(point)).collect(),
            }
        })
        .collect();
    Some(chart::lines(title, (&x, &y), &lines, &[], true))
}

/// The table behind curves.
pub(super) fn quantiles(series: &[(&'static str, &Spread)]) -> Table {
    let mut table = Table::new(&[
        ("", false),
        ("count", true),
        ("least", true),
        ("median", true),
        ("90th percentile", true),
        ("99th percentile", true),
        ("most", true),
    ]);
    for (name, spread) in series {
        let summary = spread.summary();
        let count = number(summary.map_or(0, |of| of.count));
        table.row(
            [(*name).to_owned(), count]
                .into_iter()
                .chain(of_summary(summary, latency)),
        );
    }
    table
}

pub(in super::super) fn delay(held: &Collector) -> Section {
    const ABOUT: &str = "From the date of an ad, by its signer's clock, to when it reached the recorder.";
    let Some(svg) = curve(
        "How fast ads travel",
        "from date to arrival",
        &[("s1", "ads", &held.ad_delay)],
    ) else {
        return Section::empty("delay", "How fast ads travel", ABOUT, "no ad was recorded");
    };
    Section {
        id: "delay",
        name: "How fast ads travel",
        about: ABOUT.to_owned(),
        svg: Some(svg),
        notes: vec![
            "It holds the difference of two clocks; an ad that comes before its date counts as 0 ms.".to_owned(),
        ],
        table: quantiles(&[("from date to arrival", &held.ad_delay)]),
        ..Section::default()
    }
}

pub(in super::super) fn interval(held: &Collector) -> Section {
    const ABOUT: &str = "Between two ads of one provider, as they arrived.";
    let Some(svg) = curve("Time between ads", "from ad to ad", &[("s1", "ads", &held.ad_every)]) else {
        return Section::empty("interval", "Time between ads", ABOUT, "no provider sent two ads");
    };
    Section {
        id: "interval",
        name: "Time between ads",
        about: ABOUT.to_owned(),
        svg: Some(svg),
        table: quantiles(&[("from ad to ad", &held.ad_every)]),
        ..Section::default()
    }
}
