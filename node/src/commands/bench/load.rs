//! The load generator: streams that are read as they come, and what was seen of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use memchr::memmem;

use super::Result;
use super::loopback_failed as failed;
use crate::out::Failure;

/// What one token of a stream looks like, in every server that is measured.
const TOKEN: &[u8] = b"\"content\":\"";

/// Where streams are asked for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    url: String,
    key: Option<String>,
    client: reqwest::Client,
}

/// One stream as its reader saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// From the request to the first token.
    pub(super) first: Duration,
    /// From each token to the next; tokens that came together are one moment.
    pub(super) gaps: Vec<Duration>,
    /// From the first token to the last.
    pub(super) streamed: Duration,
    pub(super) tokens: u32,
}

impl Target {
    pub(super) fn new(name: &str, url: &str, key: Option<&str>) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build();
        Ok(Self {
            name: name.to_owned(),
            url: format!("{url}/v1/chat/completions"),
            key: key.map(str::to_owned),
            client: client.map_err(failed)?,
        })
    }

    /// Asks a model once and reads to the end.
    pub(super) async fn stream(&self, model: &str) -> Result<Seen> {
        let body = format!(
            r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"Say something short, please."}}]}}"#
        );
        let mut request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .body(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let began = Instant::now();
        let answer = request.send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(failed(format_args!(
                "{}: {}",
                self.name,
                answer.text().await.unwrap_or_default()
            )));
        }
        let mut chunks = answer.bytes_stream();
        let (mut first, mut last, mut gaps, mut tokens) = (None, began, Vec::new(), 0);
        while let Some(bytes) = chunks.next().await {
            let bytes = bytes.map_err(failed)?;
            let came = u32::try_from(memmem::find_iter(&bytes, TOKEN).count()).unwrap_or(u32::MAX);
            if came == 0 {
                continue;
            }
            let now = Instant::now();
            match first {
                None => first = Some(now),
                Some(_) => gaps.push(now - last),
            }
            (last, tokens) = (now, tokens + came);
        }
        let first = first.ok_or_else(|| failed(format_args!("{}: an answer without a token", self.name)))?;
        Ok(Seen {
            first: first - began,
            gaps,
            streamed: last - first,
            tokens,
        })
    }

    /// So many streams by some readers, each of which begins a new one when its last has ended; and how long all of it
    /// took. The readers begin over a while, since those that begin together stay in step, which no real ones do.
    pub(super) async fn streams(
        &self,
        model: &str,
        count: u32,
        readers: u32,
        over: Duration,
    ) -> Result<(Vec<Seen>, Duration)> {
        let began = Instant::now();
        let left = AtomicU32::new(count);
        let take = || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        };
        let reading = (0..readers).map(|number| async move {
            tokio::time::sleep(over * number / readers.max(1)).await;
            let mut seen = Vec::new();
            while take() {
                seen.push(self.stream(model).await?);
            }
            Ok::<_, Failure>(seen)
        });
        let all = futures::future::try_join_all(reading).await?;
        Ok((all.into_iter().flatten().collect(), began.elapsed()))
    }

    /// The same, with the first ones spread over a while, so that they do not stay in step.
    pub(super) async fn spread(&self, model: &str, count: u32, over: Duration) -> Result<Vec<Seen>> {
        let streams = (0..count).map(|number| async move {
            tokio::time::sleep(over * number / count.max(1)).await;
            self.stream(model).await
        });
        let mut running: FuturesUnordered<_> = streams.collect();
        let mut seen = Vec::new();
        while let Some(ended) = running.next().await {
            seen.push(ended?);
        }
        Ok(seen)
    }
}
