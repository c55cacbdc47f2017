//! `--status`: the public counts as JSON and as one plain page. No peer, address, job or buyer is on it.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use infernet_bootstrap::Status;
use infernet_protocol::Network;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What both routes tell.
#[derive(Clone, Debug)]
struct Told {
    network: Network,
    status: watch::Receiver<Status>,
}

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    network: Network,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/", get(page))
        .route("/status.json", get(json))
        .with_state(Told { network, status });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(%error, "the status page is no longer served");
    }
}

async fn json(State(told): State<Told>) -> Response {
    let status = told.status.borrow().clone();
    // Anybody's page may show it: there is nothing in it that is not public.
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(status)).into_response()
}

async fn page(State(told): State<Told>) -> Html<String> {
    let status = told.status.borrow().clone();
    Html(render(told.network.as_str(), &status))
}

const STYLE: &str = ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
body{max-width:46rem;margin:3rem auto;padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1rem;margin-top:2rem}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:1rem;margin:0}\
div{border:1px solid #8886;border-radius:.5rem;padding:.75rem 1rem}dt{opacity:.7}dd{margin:0;font-size:1.8rem}\
td{padding:.15rem 1.5rem .15rem 0}td:last-child{text-align:right}footer{margin-top:2rem;opacity:.7;font-size:.85rem}";

fn render(network: &str, status: &Status) -> String {
    let latency = status
        .average_latency_ms
        .map_or_else(|| "no data".to_owned(), |latency| format!("{latency} ms"));
    let numbers = [
        ("workers online", status.workers_online.to_string()),
        ("models served", status.models.to_string()),
        ("jobs in flight", status.jobs_in_flight.to_string()),
        ("jobs completed in 24 h", status.jobs_completed_24h.to_string()),
        ("average time to first token", latency),
    ];
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta http-equiv=refresh content=30><title>Infernet {network}</title><style>{STYLE}</style>\
         <h1>Infernet, network {network}</h1><dl>"
    );
    for (name, value) in numbers {
        // Writing to a string does not fail.
        let _never = write!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    page.push_str("</dl>");
    if !status.workers_by_tag.is_empty() {
        page.push_str("<h2>Workers by tag</h2><table>");
        for (tag, count) in &status.workers_by_tag {
            let _never = write!(page, "<tr><td>{}</td><td>{count}</td></tr>", escaped(tag));
        }
        page.push_str("</table>");
    }
    let counted = match status.counted_s / 3600 {
        0 => format!("{} min", status.counted_s / 60),
        hours => format!("{hours} h"),
    };
    let _never = write!(
        page,
        "<footer>As one bootstrap node sees the public part of the market; it has counted for {counted}. \
         <a href=/status.json>JSON</a></footer></html>"
    );
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_the_counts_and_nothing_that_a_provider_could_write_into_it() {
        let status = Status {
            workers_online: 7,
            workers_by_tag: [("c0mpute:<script>".to_owned(), 2)].into(),
            jobs_completed_24h: 1234,
            counted_s: 7_300,
            ..Status::default()
        };
        let page = render("test", &status);
        for told in [
            "<dd>7</dd>",
            "<dd>1234</dd>",
            "no data",
            "counted for 2 h",
            "c0mpute:&lt;script&gt;",
        ] {
            assert!(page.contains(told), "{told}");
        }
        assert!(!page.contains("<script"));
    }
}
