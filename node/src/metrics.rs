//! `/metrics` of the node itself, in Prometheus' text form: who is connected, what runs, what is known of the market.
//! The gateway counts its own requests at its own `/metrics`. No label names a model or a peer.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::node::Node;
use crate::runtime::Tasks;

/// Binds the address and serves until the tasks are cancelled; gives the address that was bound.
pub(crate) async fn serve(node: Arc<Node>, address: SocketAddr, tasks: &Tasks) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(node);
    let stop = tasks.token();
    tasks.spawn("metrics", async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "metrics are no longer served");
        }
    });
    Ok(bound)
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let peers = node.peers().await.unwrap_or_default();
    let relayed = peers.iter().filter(|peer| peer.relayed()).count();
    let load = node.load();
    let reached = node.reached().await;
    let (hour, day) = node.spent();
    let gauges = [
        ("infernet_peers", "Peers that are connected.", peers.len()),
        (
            "infernet_peers_relayed",
            "Peers that are connected through a relay only.",
            relayed,
        ),
        (
            "infernet_reached_directly",
            "Whether somebody is known to have reached this node from outside: 1, or 0.",
            reached.as_ref().is_ok_and(|reached| reached.directly).into(),
        ),
        (
            "infernet_relays_reserved",
            "Relays on which this node holds a place.",
            reached.as_ref().map_or(0, |reached| reached.relays),
        ),
        ("infernet_ads_known", "Providers whose ads are known.", node.ads().len()),
        (
            "infernet_slots",
            "Requests that may run here at once.",
            load.slots.into(),
        ),
        (
            "infernet_slots_running",
            "Requests of others that run here.",
            load.running.into(),
        ),
        (
            "infernet_leases_sold",
            "Leases of others that can take requests here.",
            load.leases as usize,
        ),
        (
            "infernet_leases_bought",
            "Leases of this node that are live.",
            node.leases().len(),
        ),
        (
            "infernet_requests_bought_running",
            "Requests of this node that are under way.",
            node.buying(),
        ),
        (
            "infernet_providers_left_alone",
            "Providers that kept failing and are not asked for a while.",
            node.left_alone(),
        ),
        (
            "infernet_spent_hour_microusd",
            "Micro-USD spent by this node's consumers in the last hour, with what is set aside.",
            usize::try_from(hour.0).unwrap_or(usize::MAX),
        ),
        (
            "infernet_spent_day_microusd",
            "The same in the last 24 hours.",
            usize::try_from(day.0).unwrap_or(usize::MAX),
        ),
    ];
    let mut text = String::new();
    let (counters, hits) = (node.counters().await, node.limit_hits().await);
    for (name, help, value) in gauges {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    if let (Ok(counters), Ok(hits)) = (counters, hits) {
        text.push_str(&hits.to_prometheus(&counters));
    }
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
