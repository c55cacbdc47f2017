//! `/metrics`: the swarm's totals in Prometheus' text format.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use infernet_swarm::{Counters, Handle, Held};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, swarm: Handle, stop: CancellationToken) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(swarm);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, "metrics are no longer served");
    }
}

async fn metrics(State(swarm): State<Handle>) -> Response {
    match (
        swarm.counters().await,
        swarm.peers().await,
        swarm.hits().await,
        swarm.held().await,
    ) {
        (Ok(counters), Ok(peers), Ok(hits), Ok(held)) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
            render(&counters, peers.len()) + &render_held(&held) + &hits.to_prometheus(&counters),
        )
            .into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// What is held now: of each kind it stays as it is however long the node runs.
fn render_held(held: &Held) -> String {
    let gauges = [
        ("connections", "connections", held.connections),
        ("addresses", "peers of which addresses are remembered", held.addresses),
        ("table", "peers in the routing table", held.table),
        ("records", "provider records of others", held.records),
        (
            "counted",
            "peers of whose use of rates something is counted",
            held.counted,
        ),
        (
            "conduct",
            "peers of whose conduct something is remembered",
            held.conduct,
        ),
        ("judgments", "gossip messages that wait to be judged", held.judgments),
        ("tasks", "tasks of connections", held.tasks),
    ];
    let mut text = String::new();
    for (name, help, value) in gauges {
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "# HELP infernet_held_{name} {help}\n# TYPE infernet_held_{name} gauge\ninfernet_held_{name} {value}"
        );
    }
    text
}

fn render(counters: &Counters, peers: usize) -> String {
    let totals = [
        (
            "gossip_received",
            "gossip messages that arrived",
            counters.gossip_received,
        ),
        (
            "gossip_accepted",
            "gossip messages judged good and forwarded",
            counters.gossip_accepted,
        ),
        (
            "gossip_rejected",
            "gossip messages judged bad",
            counters.gossip_rejected,
        ),
        (
            "gossip_ignored",
            "gossip messages not worth forwarding",
            counters.gossip_ignored,
        ),
        (
            "gossip_unjudged",
            "gossip messages not judged in time",
            counters.gossip_unjudged,
        ),
        (
            "gossip_dropped",
            "gossip messages that found the node behind",
            counters.gossip_dropped,
        ),
        ("asks_answered", "exchanges answered", counters.asks_answered),
        (
            "asks_dropped",
            "exchanges that found the node behind",
            counters.asks_dropped,
        ),
        (
            "providers_stored",
            "provider records kept for others",
            counters.providers_stored,
        ),
        (
            "providers_refused",
            "provider records refused",
            counters.providers_refused,
        ),
        (
            "events_lost",
            "connection events that found the node far behind",
            counters.events_lost,
        ),
    ];
    let mut text =
        format!("# HELP infernet_peers connected peers\n# TYPE infernet_peers gauge\ninfernet_peers {peers}\n");
    for (name, help, total) in totals {
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "# HELP infernet_{name}_total {help}\n# TYPE infernet_{name}_total counter\ninfernet_{name}_total {total}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_help_its_type_and_one_value() {
        let text = render(
            &Counters {
                gossip_rejected: 7,
                ..Counters::default()
            },
            3,
        );
        assert!(
            text.contains("\ninfernet_peers 3\n") && text.contains("\ninfernet_gossip_rejected_total 7\n"),
            "{text}"
        );
        let count = |prefix| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!((count("# HELP "), count("# TYPE "), count("infernet_")), (12, 12, 12));
    }
}
