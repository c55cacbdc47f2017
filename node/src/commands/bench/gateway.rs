//! `infernet bench gateway`: what the gateway costs beside the engine asked directly, and beside another gateway.
//!
//! Engine, provider, gateway and the other gateway are processes of their own on loopback. Each figure is taken of engine
//! and gateway in turn, so that whatever disturbs the machine disturbs both alike, and then of the other gateway in the
//! same run: one that is slow, or still works on what it has answered, would leave the next turn another machine.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::{Seen, Target};
use super::processes::{self, Program};
use super::table::{Series, ms, ms_of};
use super::{Context, Result, engine};
use crate::cli::BenchGatewayArgs;
use crate::out::{Exit, Failure, Style};
use crate::runtime;

/// Requests that nobody counts: connections, leases and caches come to rest.
const WARM_UP: u32 = 30;
/// The provider is known by then.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Streams at once where a gateway is loaded lightly.
const SOME: u32 = 16;
/// Requests of one turn: then the other is measured.
const TURN: u32 = 32;
/// Engine and gateway are measured in turn; the other gateway, where there is one, after them.
const IN_TURN: usize = 2;
/// Readers begin over the time of an answer and one token more, so that the tokens of each fall between those of the
/// others: over whole tokens they would all come at once.
const APART: Duration = engine::SHORT_TIME.saturating_add(engine::TOKEN_TIME);
/// Streams of the paced comparison begin over this time.
const SPREAD: Duration = Duration::from_secs(1);

pub(super) fn run(args: &BenchGatewayArgs, context: &Context) -> Result {
    runtime::executor()?.block_on(async {
        tokio::select! {
            measured = measure(args, context) => measured,
            signal = runtime::signal() => signal.map(|_| Exit::Interrupted).map_err(Failure::from),
        }
    })
}

/// Who is measured.
struct Stage {
    direct: Target,
    gateway: Target,
    other: Option<Target>,
    /// Of the gateway's way, whose processor time is told.
    ours: [Program; 2],
    others: Option<Program>,
    _engine: Program,
}

impl Stage {
    async fn set(args: &BenchGatewayArgs) -> Result<Self> {
        let (engine, engine_url) = processes::engine().await?;
        let (gateway, gateway_url, at) = processes::gateway().await?;
        let provider = processes::provider(&engine_url, &at).await?;
        let (mut other, mut others) = (None, None);
        if let Some((name, script)) = &args.against {
            let (program, url, key) = processes::other(name, script, &engine_url).await?;
            other = Some(Target::new(name, &url, key.as_deref())?);
            others = Some(program);
        }
        let stage = Self {
            direct: Target::new("engine, asked directly", &engine_url, None)?,
            gateway: Target::new("infernet gateway", &gateway_url, None)?,
            other,
            ours: [gateway, provider],
            others,
            _engine: engine,
        };
        // The provider's ad comes first.
        let began = Instant::now();
        while let Err(failure) = stage.gateway.stream(engine::FAST).await {
            if began.elapsed() > READY_WITHIN {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for target in stage.targets() {
            target.streams(engine::FAST, WARM_UP, SOME, Duration::ZERO).await?;
        }
        Ok(stage)
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        [&self.direct, &self.gateway].into_iter().chain(&self.other)
    }

    /// Processor seconds that a gateway has used: it alone, and with the provider behind it.
    fn cpu_of(&self, target: &Target) -> Option<[f64; 2]> {
        if let Some(other) = self.others.as_ref().filter(|other| other.name == target.name) {
            return other.cpu_seconds().map(|cpu| [cpu; 2]);
        }
        let [gateway, provider] = self.ours.each_ref().map(Program::cpu_seconds);
        (target.name == self.gateway.name)
            .then(|| Some([gateway?, gateway? + provider?]))
            .flatten()
    }
}

/// Processor milliseconds per thousand tokens.
fn per_thousand(before: Option<[f64; 2]>, after: Option<[f64; 2]>, tokens: f64) -> Option<[f64; 2]> {
    let (before, after) = (before?, after?);
    Some([0, 1].map(|which| (after[which] - before[which]) * 1_000_000.0 / tokens))
}

async fn measure(args: &BenchGatewayArgs, context: &Context) -> Result {
    let bar = context.out.spinner();
    bar.set_message("starting engine, provider and gateways");
    let stage = Stage::set(args).await?;
    bar.set_message("time to first token, one stream");
    let one = first_tokens(&stage, engine::FAST, args.requests, 1, TURN).await?;
    bar.set_message("time to first token, 16 paced streams");
    let some = first_tokens(&stage, engine::SHORT, args.requests, SOME, SOME * TURN).await?;
    bar.set_message("256 paced streams");
    let paced = paced(&stage, args.paced).await?;
    bar.set_message("32 streams, as fast as they go");
    let fast = unpaced(&stage, args.unpaced, args.requests.saturating_mul(4)).await?;
    bar.finish_and_clear();
    if context.out.is_json() {
        context.out.json(&json!({
            "first_token": { "1": first_json(&one), "16": first_json(&some) },
            "paced": paced.iter().map(Paced::to_json).collect::<Vec<_>>(),
            "unpaced": fast.iter().map(Unpaced::to_json).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    show(context, args, [&one, &some], &paced, &fast);
    Ok(Exit::Done)
}

type Named = (String, Series);

/// Times to the first token, of each in turn.
async fn first_tokens(stage: &Stage, model: &str, requests: u32, readers: u32, turn: u32) -> Result<Vec<Named>> {
    let mut all: Vec<Named> = stage
        .targets()
        .map(|target| (target.name.clone(), Series::default()))
        .collect();
    let targets: Vec<_> = stage.targets().collect();
    for (targets, all) in targets.chunks(IN_TURN).zip(all.chunks_mut(IN_TURN)) {
        let mut left = requests;
        while left > 0 {
            let turn = left.min(turn);
            for (target, (_, series)) in targets.iter().zip(&mut *all) {
                // Nobody counts the first of each reader: the other's turn was a rest, after which connections to
                // engines are made again.
                target.streams(model, readers, readers, APART).await?;
                let (seen, _) = target.streams(model, turn, readers, APART).await?;
                seen.iter().for_each(|seen| series.add(seen.first));
            }
            left -= turn;
        }
    }
    Ok(all)
}

fn first_json(all: &[Named]) -> Value {
    let direct = &all[0].1;
    let rows = all.iter().map(|(name, series)| {
        json!({
            "name": name, "p50_us": series.percentile(50), "p99_us": series.percentile(99),
            "added_p50_us": series.percentile(50) - direct.percentile(50),
            "added_p99_us": series.percentile(99) - direct.percentile(99),
        })
    });
    rows.collect::<Vec<_>>().into()
}

/// Many streams at the pace of a good GPU.
struct Paced {
    name: String,
    streams: u32,
    tokens_per_second: f64,
    /// Of the direct rate.
    share: f64,
    gaps: Series,
    /// Processor milliseconds per thousand tokens, of the gateway alone and with the provider.
    cpu_ms: Option<[f64; 2]>,
}

impl Paced {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name, "streams": self.streams, "tokens_per_second": self.tokens_per_second.round(),
            "share_of_direct": self.share, "between_tokens_p50_us": self.gaps.percentile(50),
            "between_tokens_p99_us": self.gaps.percentile(99),
            "gateway_cpu_ms_per_1000_tokens": self.cpu_ms.map(|cpu| cpu[0]),
            "cpu_ms_per_1000_tokens": self.cpu_ms.map(|cpu| cpu[1]),
        })
    }
}

async fn paced(stage: &Stage, streams: u32) -> Result<Vec<Paced>> {
    let mut all: Vec<Paced> = Vec::new();
    // The other gateway is not asked: what it cannot carry would take for ever.
    for target in [&stage.direct, &stage.gateway] {
        let before = stage.cpu_of(target);
        let seen = target.spread(engine::PACED, streams, SPREAD).await?;
        let tokens: f64 = seen.iter().map(|seen| f64::from(seen.tokens)).sum();
        let cpu_ms = per_thousand(before, stage.cpu_of(target), tokens);
        let mut gaps = Series::default();
        seen.iter().flat_map(|seen| &seen.gaps).for_each(|gap| gaps.add(*gap));
        let rate: f64 = seen.iter().map(rate).sum();
        let direct = all.first().map_or(rate, |direct| direct.tokens_per_second);
        all.push(Paced {
            name: target.name.clone(),
            streams,
            tokens_per_second: rate,
            share: rate / direct,
            gaps,
            cpu_ms,
        });
    }
    Ok(all)
}

/// Tokens per second of one stream.
fn rate(seen: &Seen) -> f64 {
    f64::from(seen.tokens.saturating_sub(1)) / seen.streamed.as_secs_f64().max(1e-9)
}

/// As fast as it goes.
struct Unpaced {
    name: String,
    tokens_per_second: f64,
    /// Processor milliseconds per thousand tokens, of the gateway alone and of all between client and engine.
    cpu_ms: Option<[f64; 2]>,
}

impl Unpaced {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name, "tokens_per_second": self.tokens_per_second.round(),
            "gateway_cpu_ms_per_1000_tokens": self.cpu_ms.map(|cpu| cpu[0]),
            "cpu_ms_per_1000_tokens": self.cpu_ms.map(|cpu| cpu[1]),
        })
    }
}

async fn unpaced(stage: &Stage, at_once: u16, requests: u32) -> Result<Vec<Unpaced>> {
    let mut all = Vec::new();
    for target in stage.targets() {
        // What is slow is asked less, so that the run ends.
        let is_other = stage.others.as_ref().is_some_and(|other| other.name == target.name);
        let requests = if is_other { (requests / 8).max(TURN) } else { requests };
        let before = stage.cpu_of(target);
        let (seen, took) = target
            .streams(engine::FAST, requests, u32::from(at_once), Duration::ZERO)
            .await?;
        let tokens: f64 = seen.iter().map(|seen| f64::from(seen.tokens)).sum();
        let cpu_ms = per_thousand(before, stage.cpu_of(target), tokens);
        all.push(Unpaced {
            name: target.name.clone(),
            tokens_per_second: tokens / took.as_secs_f64(),
            cpu_ms,
        });
    }
    Ok(all)
}

fn show(context: &Context, args: &BenchGatewayArgs, first: [&[Named]; 2], paced: &[Paced], fast: &[Unpaced]) {
    let out = &context.out;
    for (title, all) in [("one stream", first[0]), ("16 streams at 50 tokens/s", first[1])] {
        out.line(out.paint(
            Style::Bold,
            &format!("time to first token, {title}, {} each", args.requests),
        ));
        let direct = &all[0].1;
        let rows: Vec<Vec<String>> = all
            .iter()
            .map(|(name, series)| {
                let [p50, p99] = [50, 99].map(|percent| series.percentile(percent));
                let added = |percent| ms(series.percentile(percent) - direct.percentile(percent));
                vec![name.clone(), ms(p50), added(50), ms(p99), added(99)]
            })
            .collect();
        out.table(&["", "median", "added", "p99", "added"], &rows);
        out.line("");
    }
    out.line(out.paint(Style::Bold, &format!("{} streams at 50 tokens/s", args.paced)));
    let rows: Vec<Vec<String>> = paced
        .iter()
        .map(|row| {
            let share = format!("{:.1}%", row.share * 100.0);
            let [p50, p99] = [50, 99].map(|percent| ms(row.gaps.percentile(percent)));
            let cpu = |which: usize| row.cpu_ms.map_or_else(|| "-".to_owned(), |cpu| ms_of(cpu[which]));
            let rate = format!("{:.0}", row.tokens_per_second);
            vec![row.name.clone(), rate, share, p50, p99, cpu(0), cpu(1)]
        })
        .collect();
    out.table(
        &[
            "",
            "tokens/s",
            "of direct",
            "between tokens",
            "p99",
            "gateway CPU per 1,000",
            "with provider",
        ],
        &rows,
    );
    out.line("");
    out.line(out.paint(Style::Bold, &format!("{} streams, as fast as they go", args.unpaced)));
    let slowest = fast.last().map_or(1.0, |row| row.tokens_per_second).max(1.0);
    let rows: Vec<Vec<String>> = fast
        .iter()
        .map(|row| {
            let cpu = |which: usize| row.cpu_ms.map_or_else(|| "-".to_owned(), |cpu| ms_of(cpu[which]));
            let times = format!("{:.1}x", row.tokens_per_second / slowest);
            vec![
                row.name.clone(),
                format!("{:.0}", row.tokens_per_second),
                times,
                cpu(0),
                cpu(1),
            ]
        })
        .collect();
    out.table(
        &["", "tokens/s", "of the last", "gateway CPU per 1,000", "with provider"],
        &rows,
    );
    out.note(out.paint(
        Style::Dim,
        "engine, provider, gateways and load share this machine's cores",
    ));
}
