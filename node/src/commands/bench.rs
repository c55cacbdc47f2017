//! `infernet bench`: what the network adds to asking an engine directly, measured side by side in one run.
//!
//! One scripted engine answers over HTTP on loopback. It is asked directly, through the gateway under a lease, and
//! through the gateway with no lease, turn by turn, so that whatever disturbs the machine disturbs all alike.

mod engine;
mod gateway;
mod load;
mod processes;
mod stage;
mod table;

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};

use self::stage::Stage;
use self::table::{Row, Series};
use super::loopback::failed;
use super::loopback::failed as loopback_failed;
use super::{Context, Result};
use crate::cli::{BenchArgs, BenchCommand};
use crate::happenings::Happening;
use crate::out::{Exit, Failure};
use crate::runtime::{self, Tasks};

/// Its tasks have this long to end.
const DRAIN: Duration = Duration::from_secs(3);
/// One request in so many is made without a lease: an auction costs more than a request.
const COLD_EVERY: u32 = 3;
/// Requests that nobody counts: connections, leases and caches come to rest.
const WARM_UP: u32 = 20;

pub(super) fn run(args: &BenchArgs, context: &Context) -> Result {
    match &args.what {
        Some(BenchCommand::Gateway(args)) => return gateway::run(args, context),
        Some(BenchCommand::Engine) => return engine::run(context),
        None => {}
    }
    super::foreground::log("error", context)?;
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        let ended = tokio::select! {
            measured = measure(args, context, &tasks) => measured,
            signal = runtime::signal() => signal.map(|_| Exit::Interrupted).map_err(Failure::from),
        };
        tasks.drain(DRAIN).await;
        ended
    })
}

async fn measure(args: &BenchArgs, context: &Context, tasks: &Tasks) -> Result {
    let stage = Stage::set(tasks).await?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .build()
        .map_err(failed)?;
    for _ in 0..WARM_UP {
        first_token(&client, &stage.engine).await?;
        first_token(&client, &stage.gateway).await?;
    }
    let (mut direct, mut leased, mut cold, mut auction) = (
        Series::default(),
        Series::default(),
        Series::default(),
        Series::default(),
    );
    let bar = progress(args.requests, context);
    let mut happenings = stage.consumer.happenings();
    for number in 0..args.requests {
        direct.add(first_token(&client, &stage.engine).await?);
        leased.add(first_token(&client, &stage.gateway).await?);
        if number % COLD_EVERY == 0 {
            stage.consumer.drop_leases();
            cold.add(first_token(&client, &stage.gateway).await?);
        }
        while let Ok(happening) = happenings.try_recv() {
            if let Happening::Accepted { after_us, .. } = happening {
                auction.add(Duration::from_micros(after_us));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let streams = usize::from(args.at_once);
    let alone = throughput(&client, &stage.engine, streams, args.requests).await?;
    let through = throughput(&client, &stage.gateway, streams, args.requests).await?;
    let rows = [
        Row::ttft("engine, asked directly", &direct, None),
        Row::ttft("gateway, under a lease", &leased, Some(&direct)),
        Row::ttft("gateway, no lease yet", &cold, Some(&direct)),
        Row::auction("offer to accept", &auction),
    ];
    table::print(&context.out, &rows, [alone, through], args);
    Ok(Exit::Done)
}

/// Time to the first token of one streamed answer; the rest is read too.
async fn first_token(client: &reqwest::Client, url: &str) -> Result<Duration> {
    let began = Instant::now();
    let answer = client.post(format!("{url}/v1/chat/completions")).body(stage::BODY);
    let answer = answer
        .header("content-type", "application/json")
        .send()
        .await
        .map_err(failed)?;
    if !answer.status().is_success() {
        return Err(failed(answer.text().await.unwrap_or_default()));
    }
    let mut chunks = answer.bytes_stream();
    let mut first = None;
    while let Some(bytes) = chunks.next().await {
        let bytes = bytes.map_err(failed)?;
        if first.is_none() && contains(&bytes, b"\"content\":\"") {
            first = Some(began.elapsed());
        }
    }
    first.ok_or_else(|| failed("an answer without a token"))
}

/// Tokens per second of so many streams at once.
async fn throughput(client: &reqwest::Client, url: &str, streams: usize, requests: u32) -> Result<u64> {
    let began = Instant::now();
    let mut answers = futures::stream::iter((0..requests).map(|_| first_token(client, url))).buffer_unordered(streams);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    let tokens = u64::from(requests) * u64::from(stage::TOKENS);
    Ok(tokens * 1_000_000 / u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1))
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn progress(requests: u32, context: &Context) -> ProgressBar {
    if context.out.is_json() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left");
    ProgressBar::new(u64::from(requests)).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
