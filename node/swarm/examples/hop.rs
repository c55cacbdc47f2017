//! What a hop to a peer costs on loopback: the round trip of one small frame, on a substream that is there already and on
//! a new one; and how many frames a second many streams carry at once, each frame written by itself or paced.
//!
//! `cargo run --release -p infernet-swarm --example hop [ROUNDS]`

use std::error::Error;
use std::time::{Duration, Instant};

use infernet_swarm::{Config, DirectStream, Event, FrameError, Handle, Multiaddr, PeerId, Role};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

const ROUNDS: usize = 500;
const ROUNDS_TO_WARM_UP: usize = 50;
const REQUEST: &[u8] = &[1; 600];

/// Streams at once, and frames on each, of the throughput table. A frame is the size of a token in its chunk.
const STREAMS: usize = 32;
const FRAMES: usize = 5_000;
const TOKEN: &[u8] = &[2; 200];

/// A first frame that asks for [`FRAMES`] frames in one of two ways; any other is sent back.
const PLAIN: &[u8] = b"plain";
const PACED: &[u8] = b"paced";

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
async fn main() -> Outcome<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let mut tasks = JoinSet::new();
    println!(
        "{:<10} {:<18} {:>9} {:>9} {:>9}",
        "transport", "substream", "p50 us", "p90 us", "p99 us"
    );
    for (name, listen) in [
        ("tcp", "/ip4/127.0.0.1/tcp/0"),
        ("quic", "/ip4/127.0.0.1/udp/0/quic-v1"),
    ] {
        let buyer = start(&mut tasks, secret(name, 1), None)?;
        let worker = start(&mut tasks, secret(name, 2), Some(listen.parse()?))?;
        let (peer, at) = (worker.local_peer_id(), worker.listen_addrs().await?);
        let reused = reused(&buyer, peer, &at, rounds).await?;
        let fresh = fresh(&buyer, peer, &at, rounds).await?;
        for (substream, mut times) in [("reused", reused), ("new, lazy", fresh)] {
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
            println!("{name:<10} {substream:<18} {:>9} {:>9} {:>9}", at(50), at(90), at(99));
        }
        for how in [PLAIN, PACED] {
            let rate = throughput(&buyer, peer, &at, how).await?;
            println!(
                "{name:<10} {STREAMS} streams, {:<7} {rate:>9} frames/s",
                String::from_utf8_lossy(how)
            );
        }
    }
    Ok(())
}

fn secret(name: &str, n: u8) -> [u8; 32] {
    let mut secret = [n; 32];
    secret[..name.len()].copy_from_slice(name.as_bytes());
    secret
}

/// A node whose inbound streams are answered frame by frame.
fn start(tasks: &mut JoinSet<()>, secret: [u8; 32], listen: Option<Multiaddr>) -> Outcome<Handle> {
    let mut config = Config::new(secret, "hop", Role::Node);
    config.listen.extend(listen);
    let (handle, mut events, event_loop) = infernet_swarm::new(config)?;
    tasks.spawn(event_loop.run(CancellationToken::new()));
    tasks.spawn(async move {
        let mut streams = JoinSet::new();
        while let Some(event) = events.recv().await {
            if let Event::Inbound(stream) = event {
                streams.spawn(answer(stream));
                while streams.try_join_next().is_some() {}
            }
        }
    });
    Ok(handle)
}

/// Frames back and forth, or many of them when asked for. An error is the buyer's going away.
async fn answer(stream: DirectStream) -> Result<(), FrameError> {
    let (mut reader, mut writer) = stream.split();
    while let Some(frame) = reader.next().await? {
        match &*frame {
            PLAIN => {
                for _ in 0..FRAMES {
                    writer.send(TOKEN).await?;
                }
            }
            PACED => {
                for _ in 0..FRAMES {
                    writer.send_paced(TOKEN).await?;
                    // An engine makes one token at a time, and other streams have theirs in between.
                    tokio::task::yield_now().await;
                }
                writer.flush().await?;
            }
            _ => writer.send(frame).await?,
        }
    }
    Ok(())
}

/// Frames a second over all streams together.
async fn throughput(buyer: &Handle, peer: PeerId, at: &[Multiaddr], how: &[u8]) -> Outcome<usize> {
    let mut lines = Vec::new();
    for _ in 0..STREAMS {
        lines.push(buyer.open(peer, at.to_vec()).await?.split());
    }
    let start = Instant::now();
    let mut takers = JoinSet::new();
    for (mut reader, mut writer) in lines {
        writer.send(how).await?;
        takers.spawn(async move {
            let mut frames = 0;
            while frames < FRAMES && matches!(reader.next().await, Ok(Some(_))) {
                frames += 1;
            }
            drop(writer);
            frames
        });
    }
    let frames: usize = takers.join_all().await.iter().sum();
    let micros = usize::try_from(start.elapsed().as_micros())?;
    Ok(frames * 1_000_000 / micros.max(1))
}

async fn reused(buyer: &Handle, peer: PeerId, at: &[Multiaddr], rounds: usize) -> Outcome<Vec<Duration>> {
    let (mut reader, mut writer) = buyer.open(peer, at.to_vec()).await?.split();
    let mut times = Vec::new();
    for _ in 0..ROUNDS_TO_WARM_UP + rounds {
        let start = Instant::now();
        writer.send(REQUEST).await?;
        reader.next().await?.ok_or("the stream ended")?;
        times.push(start.elapsed());
    }
    Ok(times.split_off(ROUNDS_TO_WARM_UP))
}

async fn fresh(buyer: &Handle, peer: PeerId, at: &[Multiaddr], rounds: usize) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS_TO_WARM_UP + rounds {
        let start = Instant::now();
        let (mut reader, mut writer) = buyer.open(peer, at.to_vec()).await?.split();
        writer.send(REQUEST).await?;
        reader.next().await?.ok_or("the stream ended")?;
        times.push(start.elapsed());
    }
    Ok(times.split_off(ROUNDS_TO_WARM_UP))
}
