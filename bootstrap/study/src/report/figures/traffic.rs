//! Of the recorder and what passed it: peers, ads and gossip over time, how fast ads travel, verdicts, gaps.

use infernet_protocol::UnixMillis;

use super::super::axis::Axis;
use super::super::chart::{self, Line};
use super::super::collect::Collector;
use super::super::timeline::Part;
use super::{Section, Table, bytes, number, percent};
use crate::contents::Sort;
use crate::record::Verdict;
use crate::stamp;

/// Marks on an axis of time.
const TIMES: u64 = 4;
/// Classes of the sorts of gossip, in their order.
const SORTS: [&str; Sort::ALL.len()] = ["s1", "s5", "s4", "s2", "s6", "s0"];

/// The time of a recording as an axis.
fn time_axis<'a>(held: &Collector, show: &'a dyn Fn(f64) -> String) -> Axis<'a> {
    let (first, last) = (held.first.unwrap_or_default().0, held.last.unwrap_or_default().0);
    let span = last.saturating_sub(first).max(1);
    // Whole minutes, hours or days apart, of which five at most fit.
    const STEPS: [u64; 14] = [
        10_000,
        60_000,
        120_000,
        300_000,
        600_000,
        900_000,
        1_800_000,
        3_600_000,
        7_200_000,
        14_400_000,
        21_600_000,
        43_200_000,
        86_400_000,
        604_800_000,
    ];
    let step = STEPS
        .into_iter()
        .find(|step| span / step <= TIMES)
        .unwrap_or(span / TIMES);
    let from = first.div_ceil(step);
    Axis {
        title: if span > DAY { "day and time, UTC" } else { "time, UTC" },
        low: first as f64,
        high: (first + span) as f64,
        is_log: false,
        ticks: (0..=TIMES)
            .map(|tick| ((from + tick) * step) as f64)
            .filter(|at| *at <= last as f64)
            .collect(),
        show,
    }
}

const DAY: u64 = 86_400_000;

fn show_time(held: &Collector) -> impl Fn(f64) -> String + use<> {
    let span = held.last.unwrap_or_default().since(held.first.unwrap_or_default());
    move |at| {
        let at = UnixMillis(at as u64);
        if span > DAY {
            stamp::day_and_clock(at)
        } else {
            stamp::clock(at)
        }
    }
}

fn show_number(value: f64) -> String {
    number(value.round() as u64)
}

fn shaded(held: &Collector) -> Vec<(f64, f64, String)> {
    let says = |from: UnixMillis, to: UnixMillis| format!("nothing recorded for {}", stamp::duration(to.since(from)));
    held.gaps
        .iter()
        .map(|gap| (gap.from.0 as f64, gap.to.0 as f64, says(gap.from, gap.to)))
        .collect()
}

/// A series out of samples: its class, its name, and its number in each part of the time.
type OfSamples = (&'static str, &'static str, fn(&Part) -> Option<u32>);

/// One or two numbers of each sample over time.
fn over_time(held: &Collector, title: &str, unit: &'static str, series: &[OfSamples]) -> Option<(String, Table)> {
    let samples: Vec<(u64, &Part)> = held.timeline.parts().filter(|(_, part)| part.peers.is_some()).collect();
    let values = samples
        .iter()
        .flat_map(|(_, part)| series.iter().filter_map(|(_, _, of)| of(part)));
    let most = values.max()?;
    let show = show_time(held);
    let x = time_axis(held, &show);
    let y = Axis::from_zero(unit, f64::from(most), &show_number);
    let lines: Vec<Line> = series
        .iter()
        .map(|(class, name, of)| Line {
            class,
            name,
            points: samples
                .iter()
                .filter_map(|(at, part)| {
                    let at = (*at).max(held.first.unwrap_or_default().0);
                    let value = of(part)?;
                    let says = format!("{}: {} {name}", stamp::long(UnixMillis(at)), number(u64::from(value)));
                    Some((at as f64, f64::from(value), says))
                })
                .collect(),
        })
        .collect();
    let mut columns = vec![("time", false)];
    columns.extend(lines.iter().map(|line| (line.name, true)));
    let mut table = Table::new(&columns);
    for (at, part) in &samples {
        let counts = series
            .iter()
            .map(|(_, _, of)| of(part).map_or("–".to_owned(), |of| number(u64::from(of))));
        table.row(std::iter::once(stamp::long(UnixMillis(*at))).chain(counts));
    }
    Some((
        chart::lines(title, (&x, &y), &lines, &shaded(held), true),
        table.thinned(),
    ))
}

pub(in super::super) fn peers(held: &Collector) -> Section {
    const ABOUT: &str = "Peers connected to the recorder, in samples that it took of itself.";
    let series: [OfSamples; 2] = [
        ("s1", "connected", |part| part.peers),
        ("s2", "through relays alone", |part| part.relayed),
    ];
    let Some((svg, table)) = over_time(held, "Connected peers over time", "peers", &series) else {
        return Section::empty("peers", "Peers over time", ABOUT, "no sample was recorded");
    };
    Section {
        id: "peers",
        name: "Peers over time",
        about: ABOUT.to_owned(),
        legend: series.iter().map(|(class, name, _)| (*class, *name)).collect(),
        svg: Some(svg),
        table,
        ..Section::default()
    }
}

pub(in super::super) fn ads(held: &Collector) -> Section {
    const ABOUT: &str = "Providers whose ads the recorder held, in the same samples.";
    let series: [OfSamples; 1] = [("s1", "ads held", |part| part.ads)];
    let Some((svg, table)) = over_time(held, "Ads held over time", "ads", &series) else {
        return Section::empty("ads", "Ads held over time", ABOUT, "no sample was recorded");
    };
    Section {
        id: "ads",
        name: "Ads held over time",
        about: ABOUT.to_owned(),
        svg: Some(svg),
        table,
        ..Section::default()
    }
}

pub(in super::super) fn gossip(held: &Collector) -> Section {
    const NAME: &str = "Gossip over time";
    let total: u64 = held.verdicts.values().sum();
    if total == 0 {
        return Section::empty(
            "gossip",
            NAME,
            "Messages heard, by what they are.",
            "no gossip was recorded",
        );
    }
    let width = held.timeline.width();
    let every = stamp::duration(width);
    let sorts: Vec<Sort> = Sort::ALL
        .into_iter()
        .filter(|sort| held.verdicts.keys().any(|(of, _)| of == sort))
        .collect();
    let parts: Vec<(u64, &Part)> = held.timeline.parts().collect();
    let most = parts
        .iter()
        .map(|(_, part)| part.gossip.iter().sum::<u64>())
        .max()
        .unwrap_or_default();
    let columns: Vec<chart::Column> = parts
        .iter()
        .map(|(at, part)| {
            let of = |sort: &Sort| {
                let count = part.gossip[*sort as usize];
                let says = format!("{}: {} {}", stamp::long(UnixMillis(*at)), number(count), sort.as_str());
                (SORTS[*sort as usize], count as f64, says)
            };
            (*at as f64, sorts.iter().map(of).collect())
        })
        .collect();
    let mut names = vec![("time", false)];
    names.extend(sorts.iter().map(|sort| (sort.as_str(), true)));
    let mut table = Table::new(&names);
    for (at, part) in &parts {
        let counts = sorts.iter().map(|sort| number(part.gossip[*sort as usize]));
        table.row(std::iter::once(stamp::long(UnixMillis(*at))).chain(counts));
    }
    let show = show_time(held);
    let (x, y) = (
        time_axis(held, &show),
        Axis::from_zero("messages", most as f64, &show_number),
    );
    Section {
        id: "gossip",
        name: NAME,
        about: format!(
            "Messages heard in {every}, by what they are: {} in all, {}.",
            number(total),
            bytes(held.bytes)
        ),
        legend: sorts
            .iter()
            .map(|sort| (SORTS[*sort as usize], sort.as_str()))
            .collect(),
        svg: Some(chart::columns(
            "Gossip messages over time",
            (&x, &y),
            &columns,
            width as f64,
            &shaded(held),
        )),
        table: table.thinned(),
        ..Section::default()
    }
}

pub(in super::super) fn verdicts(held: &Collector) -> Section {
    const ABOUT: &str = "What the recorder did with the messages: forwarded them, kept them, held them against a peer, or had no time for them.";
    const CLASSES: [&str; 4] = ["s1", "s0", "s3", "s2"];
    if held.verdicts.is_empty() {
        return Section::empty("verdicts", "Verdicts", ABOUT, "no gossip was recorded");
    }
    let count = |sort, verdict| held.verdicts.get(&(sort, verdict)).copied().unwrap_or_default();
    let sum = |sort| Verdict::ALL.iter().map(|verdict| count(sort, *verdict)).sum::<u64>();
    let mut table = Table::new(&[
        ("message", false),
        ("accepted", true),
        ("ignored", true),
        ("rejected", true),
        ("unjudged", true),
        ("accepted, share", true),
    ]);
    let mut bars = Vec::new();
    for sort in Sort::ALL.into_iter().filter(|sort| sum(*sort) > 0) {
        let part = |(verdict, class): (&Verdict, &&'static str)| {
            let count = count(sort, *verdict);
            (
                *class,
                count as f64,
                format!("{} {} {verdict}", number(count), sort.as_str()),
            )
        };
        bars.push(chart::Bar {
            name: sort.as_str().to_owned(),
            parts: Verdict::ALL.iter().zip(&CLASSES).map(part).collect(),
            value: number(sum(sort)),
        });
        let counts = Verdict::ALL.iter().map(|verdict| number(count(sort, *verdict)));
        let share = percent(count(sort, Verdict::Accept), sum(sort));
        table.row(std::iter::once(sort.as_str().to_owned()).chain(counts).chain([share]));
    }
    let mut legend: Vec<_> = CLASSES
        .into_iter()
        .zip(Verdict::ALL.iter().map(|verdict| verdict.as_str()))
        .collect();
    if !held.verdicts.keys().any(|(_, verdict)| *verdict == Verdict::Pass) {
        legend.pop();
    }
    Section {
        id: "verdicts",
        name: "Verdicts",
        about: ABOUT.to_owned(),
        legend,
        svg: Some(chart::bars("Verdicts by kind of message", &bars)),
        table,
        ..Section::default()
    }
}

pub(in super::super) fn gaps(held: &Collector) -> Section {
    const ABOUT: &str =
        "Times of which the recording knows nothing, and records that the recorder was too busy to take.";
    if held.is_empty() {
        return Section::empty("gaps", "Gaps", ABOUT, "there is no recording");
    }
    let mut table = Table::new(&[("from", false), ("to", false), ("time", true), ("why", false)]);
    for gap in &held.gaps {
        let why = if gap.is_restart {
            "the recorder was started anew"
        } else {
            "nothing was recorded"
        };
        let time = stamp::duration(gap.to.since(gap.from));
        table.row([stamp::long(gap.from), stamp::long(gap.to), time, why.to_owned()]);
    }
    let (table, cut) = table.first();
    let mut notes: Vec<String> = cut.into_iter().collect();
    let (gaps, records) = (number(held.gaps_total), number(held.lost));
    notes.insert(
        0,
        match held.gaps_total {
            0 => format!("There is no gap. Records lost: {records}."),
            1 => format!(
                "There is one gap, of {}. Records lost: {records}.",
                stamp::duration(held.missing)
            ),
            _ => format!(
                "There are {gaps} gaps, of {} together. Records lost: {records}.",
                stamp::duration(held.missing)
            ),
        },
    );
    Section {
        id: "gaps",
        name: "Gaps",
        about: ABOUT.to_owned(),
        notes,
        table,
        is_wide: true,
        ..Section::default()
    }
}
