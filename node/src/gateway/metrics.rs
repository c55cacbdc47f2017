//! A few counters in Prometheus' text form. No label names a model, a peer or a client.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use infernet_inference::Usage;

use super::Shared;
use super::inference::Source;
use crate::runtime::unpoisoned;

/// Upper bounds of the buckets for the time to the first token, in milliseconds.
const TTFT_BUCKETS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// What is counted since the process began.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// By route and status; routes are those of the router and statuses few, so it stays small.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// By who answers, as `x-infernet-source` names it.
    sources: Mutex<BTreeMap<String, u64>>,
    running: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    answer_bytes: AtomicU64,
    ttft: [AtomicU64; TTFT_BUCKETS.len()],
    ttft_ms_sum: AtomicU64,
    ttft_count: AtomicU64,
}

impl Metrics {
    /// Counts a response.
    pub(super) fn responded(&self, route: &'static str, status: StatusCode) {
        let mut requests = unpoisoned(&self.requests);
        *requests.entry((route, status.as_u16())).or_default() += 1;
    }

    /// Everything, as Prometheus reads it.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        head(
            &mut out,
            "infernet_gateway_requests_total",
            "counter",
            "Responses by route and status.",
        );
        for ((route, status), count) in &*unpoisoned(&self.requests) {
            line(
                &mut out,
                &format!("infernet_gateway_requests_total{{route=\"{route}\",status=\"{status}\"}}"),
                *count,
            );
        }
        head(
            &mut out,
            "infernet_gateway_answers_running",
            "gauge",
            "Answers on their way now.",
        );
        line(&mut out, "infernet_gateway_answers_running", read(&self.running));
        head(
            &mut out,
            "infernet_gateway_answers_total",
            "counter",
            "Answers by how they ended.",
        );
        for (end, counter) in [
            ("completed", &self.completed),
            ("failed", &self.failed),
            ("cancelled", &self.cancelled),
        ] {
            line(
                &mut out,
                &format!("infernet_gateway_answers_total{{end=\"{end}\"}}"),
                read(counter),
            );
        }
        let name = "infernet_gateway_answers_begun_total";
        head(&mut out, name, "counter", "Answers that began, by who gives them.");
        for (source, count) in &*unpoisoned(&self.sources) {
            line(&mut out, &format!("{name}{{source=\"{source}\"}}"), *count);
        }
        head(
            &mut out,
            "infernet_gateway_tokens_total",
            "counter",
            "Tokens of completed answers.",
        );
        for (kind, counter) in [("input", &self.input_tokens), ("output", &self.output_tokens)] {
            line(
                &mut out,
                &format!("infernet_gateway_tokens_total{{kind=\"{kind}\"}}"),
                read(counter),
            );
        }
        head(
            &mut out,
            "infernet_gateway_answer_bytes_total",
            "counter",
            "Bytes of answers.",
        );
        line(
            &mut out,
            "infernet_gateway_answer_bytes_total",
            read(&self.answer_bytes),
        );
        let name = "infernet_gateway_first_token_ms";
        head(
            &mut out,
            name,
            "histogram",
            "Milliseconds from request to first byte of an answer.",
        );
        for (bound, bucket) in TTFT_BUCKETS.iter().zip(&self.ttft) {
            line(&mut out, &format!("{name}_bucket{{le=\"{bound}\"}}"), read(bucket));
        }
        line(
            &mut out,
            &format!("{name}_bucket{{le=\"+Inf\"}}"),
            read(&self.ttft_count),
        );
        line(&mut out, &format!("{name}_sum"), read(&self.ttft_ms_sum));
        line(&mut out, &format!("{name}_count"), read(&self.ttft_count));
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "{name} {value}");
}

/// Watches one request from its arrival to its end; one that is dropped before was cancelled by its client.
pub(super) struct Watching {
    shared: Arc<Shared>,
    began: Instant,
    first: bool,
    ended: bool,
    /// Held as long as the answer runs.
    _share: Option<super::limits::Share>,
}

impl Watching {
    pub(super) fn begin(shared: &Arc<Shared>, began: Instant, share: Option<super::limits::Share>) -> Self {
        shared.metrics.running.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            began,
            first: true,
            ended: false,
            _share: share,
        }
    }

    /// Somebody answers.
    pub(super) fn begun(&self, source: &Source) {
        *unpoisoned(&self.shared.metrics.sources)
            .entry(source.to_string())
            .or_default() += 1;
    }

    /// Bytes went to the client.
    pub(super) fn data(&mut self, bytes: &Bytes) {
        let metrics = &self.shared.metrics;
        metrics.answer_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if std::mem::replace(&mut self.first, false) {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            metrics.ttft_ms_sum.fetch_add(ms, Ordering::Relaxed);
            metrics.ttft_count.fetch_add(1, Ordering::Relaxed);
            for (bound, bucket) in TTFT_BUCKETS.iter().zip(&metrics.ttft) {
                if ms <= *bound {
                    bucket.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The answer came to its end.
    pub(super) fn completed(&mut self, usage: &Usage) {
        let metrics = &self.shared.metrics;
        metrics
            .input_tokens
            .fetch_add(usage.input_tokens.into(), Ordering::Relaxed);
        metrics
            .output_tokens
            .fetch_add(usage.output_tokens.into(), Ordering::Relaxed);
        metrics.completed.fetch_add(1, Ordering::Relaxed);
        self.ended = true;
    }

    /// The answer failed.
    pub(super) fn failed(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.shared.metrics.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.metrics.running.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.shared.metrics.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}
