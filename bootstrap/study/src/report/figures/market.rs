//! Of the market: auctions, prices, models, hardware, and work that was paid for.

use std::collections::{BTreeMap, BTreeSet};

use infernet_protocol::ModelId;
use infernet_protocol::capability::{GpuVendor, ModelAd, VramTier};

use super::super::axis::Axis;
use super::super::chart::{self, Bar, Range};
use super::super::collect::Collector;
use super::super::spread::Spread;
use super::curves::{curve, quantiles};
use super::{Section, Table, dollars, latency, number, percent};

/// Rows of a chart; the table has more.
const CHARTED: usize = 14;
/// An axis of prices goes this far at least, in micro-USD: all may be free.
const CENT: f64 = 10_000.0;
/// Classes of the vendors of GPUs, in their order.
const VENDORS: [&str; 4] = ["s1", "s4", "s2", "s0"];

pub(in super::super) fn auctions(held: &Collector) -> Section {
    const NAME: &str = "Auctions";
    let auctions = &held.auctions;
    if auctions.offers == 0 {
        return Section::empty(
            "auctions",
            NAME,
            "From an offer to its bids and its accept.",
            "no offer was recorded",
        );
    }
    let series = [
        ("s1", "to the first bid", &auctions.to_bid),
        ("s2", "to the accept", &auctions.to_accept),
    ];
    let mut table = quantiles(&series.map(|(_, name, spread)| (name, spread)));
    table.rows.retain(|row| row.get(1).is_some_and(|count| count != "0"));
    let share = |part| percent(part, auctions.offers);
    let runners_up = match auctions.runners_up {
        0 => String::new(),
        count => format!("; {} times a runner-up was accepted after that", number(count)),
    };
    Section {
        id: "auctions",
        name: NAME,
        about: "From when an offer was heard to when its first bid and its accept were.".to_owned(),
        legend: series.map(|(class, name, _)| (class, name)).to_vec(),
        svg: curve("From offer to bid and accept", "after the offer", &series),
        notes: vec![format!(
            "Of {} offers {} had a bid and {} were accepted{runners_up}. {} bids were heard.",
            number(auctions.offers),
            share(auctions.answered),
            share(auctions.accepted),
            number(auctions.bids)
        )],
        table,
        ..Section::default()
    }
}

/// What is advertised of each model: the entries for it in the last ads of all who list it.
pub(super) fn listed(held: &Collector) -> BTreeMap<&ModelId, Vec<(&ModelAd, u16)>> {
    let mut listed: BTreeMap<&ModelId, Vec<(&ModelAd, u16)>> = BTreeMap::new();
    for ad in held.providers.values().map(|provider| &provider.ad) {
        for model in &ad.models {
            listed.entry(&model.id).or_default().push((model, ad.slots));
        }
    }
    listed
}

/// Models, those with most providers first.
fn ranked(held: &Collector) -> Vec<(&ModelId, Vec<(&ModelAd, u16)>)> {
    let mut ranked: Vec<_> = listed(held).into_iter().collect();
    ranked.sort_by_key(|(id, providers)| (usize::MAX - providers.len(), *id));
    ranked
}

pub(in super::super) fn prices(held: &Collector) -> Section {
    const ABOUT: &str = "What a million output tokens cost: asked in ads, bid for offers, and accepted.";
    let mut table = Table::new(&[
        ("model", false),
        ("providers", true),
        ("asked, least", true),
        ("asked, median", true),
        ("asked, most", true),
        ("bid, median", true),
        ("accepted, median", true),
        ("input asked, median", true),
        ("free", true),
    ]);
    let mut ranges = Vec::new();
    for (id, providers) in ranked(held) {
        let output: Spread = providers.iter().map(|(model, _)| model.price.output.0).collect();
        let input: Spread = providers.iter().map(|(model, _)| model.price.input.0).collect();
        let trade = held.auctions.models.get(id);
        let median = |spread: Option<&Spread>| spread.and_then(Spread::summary).map(|of| of.median);
        let (bid, accepted) = (median(trade.map(|of| &of.bids)), median(trade.map(|of| &of.accepted)));
        let Some(asked) = output.summary() else { continue };
        let or_none = |value: Option<u64>| value.map_or("–".to_owned(), dollars);
        let free = providers.iter().filter(|(model, _)| model.price.is_free()).count() as u64;
        table.row([
            id.to_string(),
            number(providers.len() as u64),
            dollars(asked.least),
            dollars(asked.median),
            dollars(asked.most),
            or_none(bid),
            or_none(accepted),
            or_none(median(Some(&input))),
            number(free),
        ]);
        let mut marks = vec![(
            "s1",
            asked.median as f64,
            format!("{id}: {} asked, median", dollars(asked.median)),
        )];
        let mark = |class, value: Option<u64>, what| {
            value.map(|value| (class, value as f64, format!("{id}: {} {what}, median", dollars(value))))
        };
        marks.extend(mark("s2", bid, "bid"));
        marks.extend(mark("s4", accepted, "accepted"));
        ranges.push(Range {
            name: id.to_string(),
            low: asked.least as f64,
            high: asked.most as f64,
            marks,
            says: format!("{id}: asked from {} to {}", dollars(asked.least), dollars(asked.most)),
        });
    }
    if ranges.is_empty() {
        return Section::empty("prices", "Price per model", ABOUT, "no ad with a model was recorded");
    }
    let mut notes = cut_note(ranges.len());
    ranges.truncate(CHARTED);
    let most = ranges
        .iter()
        .flat_map(|range| range.marks.iter().map(|mark| mark.1).chain([range.high]));
    let show = |micro: f64| dollars(micro.round() as u64);
    let x = Axis::from_zero("dollars per million output tokens", most.fold(CENT, f64::max), &show);
    let svg = chart::ranges("Prices by model", &x, &ranges);
    let (table, cut) = table.first();
    notes.extend(cut);
    Section {
        id: "prices",
        name: "Price per model",
        about: ABOUT.to_owned(),
        legend: vec![
            ("s1", "asked, median; the line is from least to most"),
            ("s2", "bid, median"),
            ("s4", "accepted, median"),
        ],
        svg: Some(svg),
        notes,
        table,
        ..Section::default()
    }
}

fn cut_note(rows: usize) -> Vec<String> {
    let note = (rows > CHARTED).then(|| format!("Drawn are the first {CHARTED} of {}.", number(rows as u64)));
    note.into_iter().collect()
}

pub(in super::super) fn models(held: &Collector) -> Section {
    const ABOUT: &str = "Providers of each model, by their last ads.";
    let mut table = Table::new(&[
        ("model", false),
        ("providers", true),
        ("requests at once", true),
        ("context, tokens", true),
        ("quantisations", false),
        ("first token, median", true),
        ("tokens/s, median", true),
        ("offers", true),
        ("accepted", true),
    ]);
    let mut bars = Vec::new();
    for (id, providers) in ranked(held) {
        let count = providers.len() as u64;
        bars.push(Bar {
            name: id.to_string(),
            parts: vec![("s1", count as f64, format!("{id}: {} providers", number(count)))],
            value: number(count),
        });
        let measured = |of: &dyn Fn(&ModelAd) -> u32| -> Option<u64> {
            let values: Spread = providers
                .iter()
                .map(|(ad, _)| u64::from(of(ad)))
                .filter(|value| *value > 0)
                .collect();
            values.summary().map(|of| of.median)
        };
        let quantisations: BTreeSet<&str> = providers.iter().map(|(ad, _)| ad.quantisation.as_str()).collect();
        let trade = held.auctions.models.get(id);
        table.row([
            id.to_string(),
            number(count),
            number(providers.iter().map(|(_, slots)| u64::from(*slots)).sum()),
            number(u64::from(
                providers.iter().map(|(ad, _)| ad.context).max().unwrap_or_default(),
            )),
            quantisations
                .into_iter()
                .filter(|of| !of.is_empty())
                .take(4)
                .collect::<Vec<_>>()
                .join(", "),
            measured(&|ad| ad.ttft.0).map_or("–".to_owned(), latency),
            measured(&|ad| ad.speed).map_or("–".to_owned(), |speed| number(speed / 1000)),
            number(trade.map_or(0, |of| of.offers)),
            number(trade.map_or(0, |of| of.accepts)),
        ]);
    }
    if bars.is_empty() {
        return Section::empty(
            "models",
            "Models and providers",
            ABOUT,
            "no ad with a model was recorded",
        );
    }
    let mut notes = cut_note(bars.len());
    bars.truncate(CHARTED);
    let (table, cut) = table.first();
    notes.extend(cut);
    Section {
        id: "models",
        name: "Models and providers",
        about: ABOUT.to_owned(),
        svg: Some(chart::bars("Providers by model", &bars)),
        notes,
        table,
        ..Section::default()
    }
}

/// What a tier stands for.
fn tier(tier: VramTier) -> &'static str {
    match tier {
        VramTier::Nano => "nano, below 4 GB",
        VramTier::Small => "small, 4 to 8 GB",
        VramTier::Medium => "medium, to 16 GB",
        VramTier::Large => "large, to 32 GB",
        VramTier::Xl => "xl, to 80 GB",
        VramTier::Xxl => "xxl, 80 GB on",
    }
}

pub(in super::super) fn gpus(held: &Collector) -> Section {
    const ABOUT: &str = "GPUs that providers advertise, by the size of their memory and who made them.";
    let mut counts: BTreeMap<(VramTier, GpuVendor), u64> = BTreeMap::new();
    let mut kinds: BTreeMap<(VramTier, &str), (u64, u64)> = BTreeMap::new();
    let mut without = 0;
    for ad in held
        .providers
        .values()
        .map(|provider| &provider.ad)
        .filter(|ad| !ad.models.is_empty())
    {
        without += u64::from(ad.gpus.is_empty());
        for group in &ad.gpus {
            *counts.entry((group.tier, group.vendor)).or_default() += u64::from(group.count);
            let (gpus, providers) = kinds.entry((group.tier, group.model.as_str())).or_default();
            (*gpus, *providers) = (*gpus + u64::from(group.count), *providers + 1);
        }
    }
    if counts.is_empty() {
        return Section::empty("gpus", "GPUs by memory", ABOUT, "no ad with a GPU was recorded");
    }
    let vendors: BTreeSet<GpuVendor> = counts.keys().map(|(_, vendor)| *vendor).collect();
    let class = |vendor: GpuVendor| VENDORS[(vendor as usize - 1).min(3)];
    let bar = |of: &VramTier| {
        let count = |vendor: &GpuVendor| counts.get(&(*of, *vendor)).copied().unwrap_or_default();
        let says = |vendor: &GpuVendor| format!("{}: {} of {vendor}", tier(*of), number(count(vendor)));
        Bar {
            name: tier(*of).to_owned(),
            parts: vendors
                .iter()
                .map(|vendor| (class(*vendor), count(vendor) as f64, says(vendor)))
                .collect(),
            value: number(vendors.iter().map(count).sum()),
        }
    };
    let bars: Vec<Bar> = VramTier::ALL.iter().map(bar).collect();
    let mut table = Table::new(&[("tier", false), ("GPU", false), ("GPUs", true), ("providers", true)]);
    for ((of, model), (gpus, providers)) in &kinds {
        table.row([
            tier(*of).to_owned(),
            (*model).to_owned(),
            number(*gpus),
            number(*providers),
        ]);
    }
    let (table, cut) = table.first();
    let mut notes: Vec<String> = cut.into_iter().collect();
    if without > 0 {
        notes.push(format!("Providers without a GPU: {}.", number(without)));
    }
    Section {
        id: "gpus",
        name: "GPUs by memory",
        about: ABOUT.to_owned(),
        legend: vendors.iter().map(|vendor| (class(*vendor), vendor.as_str())).collect(),
        svg: Some(chart::bars("GPUs by memory and vendor", &bars)),
        notes,
        table,
        ..Section::default()
    }
}

pub(in super::super) fn work(held: &Collector) -> Section {
    const ABOUT: &str =
        "Deals whose last receipt was signed by both and gossiped: what workers measured of their answers.";
    let auctions = &held.auctions;
    if auctions.settled == 0 {
        return Section::empty("work", "Settled work", ABOUT, "no settled receipt was recorded");
    }
    let mut table = quantiles(&[("to the first token", &auctions.ttft)]);
    let speed = auctions.speed.summary();
    let show = |speed: u64| format!("{}/s", number(speed / 1000));
    let count = number(speed.map_or(0, |of| of.count));
    table.row(
        ["tokens after it".to_owned(), count]
            .into_iter()
            .chain(super::of_summary(speed, show)),
    );
    let series = [("s1", "to the first token", &auctions.ttft)];
    Section {
        id: "work",
        name: "Settled work",
        about: ABOUT.to_owned(),
        svg: curve("Time to the first token", "to the first token", &series),
        notes: vec![format!(
            "{} deals, {} requests, {} output tokens, {} in all.",
            number(auctions.settled),
            number(auctions.requests),
            number(auctions.output_tokens),
            dollars(auctions.amount)
        )],
        table,
        ..Section::default()
    }
}
