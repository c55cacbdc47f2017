//! `kill -9` of providers at random moments under a load of greedy streams: none of them may be lost, and each says what
//! one provider would have said. How long consumers had to wait for the next piece is printed.
//!
//! `INFERNET_LOAD_KILLS=50` makes more kills, as the ring `soak` does; `INFERNET_LOAD_STREAMS=4` leaves the machine time to
//! spare, so that the wait at a seam is that of the failover and not that of engines that read 32 prompts anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infernet_tests::processes::{CHAT, Client, NodeHome, Process, soon};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::failover::{Said, greedy, read};
use super::kills::{chance, from_environment};

/// Kills of every run of the tests.
const KILLS: u64 = 3;
/// Streams at once.
const STREAMS: u64 = 32;
/// Of those, streams that ask for something which nobody can go on with: two choices.
const UNCOVERED: u64 = 2;
/// A victim is struck after so many more pieces have come, over all streams, at most.
const STRIKE_WITHIN_PIECES: u64 = 600;
/// Slots of each of three providers: one of them can carry all streams, so that nobody waits for a slot.
const SLOTS: &str = "32";

const QUESTIONS: [&str; 4] = [
    "Tell me a story about a fox.",
    "Tell me a story about a hedgehog.",
    "Tell me a long story about a bear.",
    "Tell me a story about an owl.",
];

/// One answer as its consumer saw it.
struct Seen {
    said: Said,
    /// The longest wait for a next piece.
    pause: Duration,
    /// The wait at a seam, where there was one.
    seam: Option<Duration>,
}

/// Asks once and reads to the end; each piece is counted. `Err` is an answer that was refused, in words.
async fn ask(client: &Client, url: &str, body: &Value, pieces: &watch::Sender<u64>) -> Result<Seen, String> {
    let mut answer = client.post(url, body).await.map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        let told: Value = answer
            .json()
            .await
            .map_err(|error| format!("an error that is no JSON: {error}"))?;
        return Err(told["error"]["message"]
            .as_str()
            .expect("an error states what it is")
            .to_owned());
    }
    let (mut body, mut pause, mut seam) = (Vec::new(), Duration::ZERO, None);
    let mut last = Instant::now();
    while let Some(bytes) = soon("more bytes", answer.chunk())
        .await
        .map_err(|error| error.to_string())?
    {
        let waited = last.elapsed();
        last = Instant::now();
        if !body.is_empty() {
            pause = pause.max(waited);
        }
        if bytes.windows(20).any(|window| window == b": infernet goes on a") {
            seam = Some(waited);
        }
        body.extend_from_slice(&bytes);
        pieces.send_modify(|count| *count += 1);
    }
    let said = read(std::str::from_utf8(&body).expect("UTF-8"));
    Ok(Seen { said, pause, seam })
}

fn two_choices(question: &str) -> Value {
    let mut body = greedy(question);
    body["n"] = json!(2);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_under_load_lose_no_stream() {
    let kills = from_environment("INFERNET_LOAD_KILLS").unwrap_or(KILLS);
    let load = from_environment("INFERNET_LOAD_STREAMS").unwrap_or(STREAMS);
    let mut chance = chance();
    let homes: [NodeHome; 5] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let start = async |which: usize| Process::embedded(&homes[which], hub.address(), None, SLOTS).await;
    let mut providers = [start(1).await, start(2).await, start(3).await];
    let gateway = Process::gateway(&homes[4], hub.address()).await;
    let (client, url) = (Client::default(), gateway.url(CHAT));
    let (pieces, mut came) = watch::channel(0_u64);
    let mut references = Vec::new();
    for question in QUESTIONS {
        let whole = ask(&client, &url, &greedy(question), &pieces).await.unwrap();
        assert!(whole.said.done && whole.said.text.len() > 40, "{:?}", whole.said);
        references.push(whole.said.text);
    }

    let (stop, stopped) = watch::channel(false);
    let (references, pieces) = (Arc::new(references), Arc::new(pieces));
    let mut streams = JoinSet::new();
    for number in 0..load {
        let (client, url, stopped) = (client.clone(), url.clone(), stopped.clone());
        let (references, pieces) = (references.clone(), pieces.clone());
        streams.spawn(async move {
            let mut seen = Vec::new();
            for turn in number.. {
                let which = usize::try_from(turn).unwrap() % QUESTIONS.len();
                let covered = number >= UNCOVERED;
                let body = if covered {
                    greedy(QUESTIONS[which])
                } else {
                    two_choices(QUESTIONS[which])
                };
                let answer = ask(&client, &url, &body, &pieces).await;
                match &answer {
                    Ok(answer) if covered => {
                        assert!(answer.said.done && answer.said.error.is_null(), "{:?}", answer.said);
                        assert_eq!(answer.said.text, references[which], "one provider's words");
                    }
                    // What nobody can go on with ends whole, or in an error that says so.
                    Ok(answer) => {
                        let stated = answer.said.error["message"].is_string();
                        assert!(answer.said.done != stated, "{:?}", answer.said);
                    }
                    Err(why) => assert!(!covered, "lost: {why}"),
                }
                seen.extend(answer.ok().filter(|_| covered));
                if *stopped.borrow() {
                    break;
                }
            }
            seen
        });
    }
    for _ in 0..kills {
        let until = *came.borrow() + chance.random_range(1..STRIKE_WITHIN_PIECES);
        soon("more pieces", came.wait_for(|count| *count >= until))
            .await
            .unwrap();
        let which = chance.random_range(0..providers.len());
        providers[which].kill().await;
        providers[which] = start(1 + which).await;
    }
    stop.send(true).unwrap();
    let mut seen = Vec::new();
    while let Some(stream) = soon("streams end", streams.join_next()).await {
        seen.extend(stream.unwrap());
    }
    report(kills, &seen);
    assert!(seen.len() as u64 >= load.saturating_sub(UNCOVERED));
}

fn report(kills: u64, seen: &[Seen]) {
    let mut seams: Vec<_> = seen.iter().filter_map(|seen| seen.seam).collect();
    seams.sort_unstable();
    let pause = seen.iter().map(|seen| seen.pause).max().unwrap_or_default();
    println!(
        "{kills} kills, {} answers, all whole; {} were continued: the next piece came after {:?} (median), {:?} (longest); \
         the longest wait of any stream was {pause:?}",
        seen.len(),
        seams.len(),
        seams.get(seams.len() / 2).copied().unwrap_or_default(),
        seams.last().copied().unwrap_or_default(),
    );
}
