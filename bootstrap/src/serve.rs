//! From the arguments to a running node, and to its end.

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use infernet_bootstrap::{Observer, Status, Watch};
use infernet_protocol::Identity;
use infernet_study::recording::Limits;
use infernet_swarm::{Config, Handle, Multiaddr};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arguments::Serve;
use crate::home::Home;
use crate::lists::{Join, Lists};
use crate::{metrics, status_page};

/// Runs the node until it is told to stop.
pub(crate) async fn serve(arguments: Serve) -> Result<()> {
    let (told_to_stop, mut told_to_read) = (told_to_stop()?, signal(SignalKind::hangup())?);
    let home = Home::claim(arguments.home.clone())?;
    let identity = home.identity()?;
    let observer = match &arguments.record {
        Some(directory) => {
            let limits = Limits::keeping(arguments.record_keep, arguments.record_max_bytes);
            let cannot = || format!("cannot record into `{}`", directory.display());
            Some(Observer::start(directory, &identity, &arguments.network, limits).with_context(cannot)?)
        }
        None => None,
    };
    let (swarm, events, event_loop) = infernet_swarm::new(configure(&arguments, &identity))?;

    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(event_loop.run(stop.clone()));
    let mut lists = Lists::new(&arguments.bootstrap, arguments.blocked.as_deref());
    if let Some(error) = lists.apply(&swarm).await?.into_iter().next() {
        return Err(error.into());
    }
    let mut told = Told::default();
    let (mut watch, network) = (Watch::of(observer), arguments.network.clone());
    let new_file = watch.new_file.clone();
    if let Some(address) = arguments.status {
        let (listener, url) = bind(address, "--status").await?;
        let (sender, status) = tokio::sync::watch::channel(Status::default());
        watch.status = Some(sender);
        tasks.spawn(status_page::serve(listener, network.clone(), status, stop.clone()));
        told.status = Some(url);
    }
    tasks.spawn(infernet_bootstrap::forward_observed(
        network,
        events,
        swarm.clone(),
        watch,
    ));
    if let Some(address) = arguments.metrics {
        let (listener, url) = bind(address, "--metrics").await?;
        tasks.spawn(metrics::serve(listener, swarm.clone(), stop.clone()));
        told.metrics = Some(format!("{url}/metrics"));
    }
    say_ready(&swarm, &identity, told, arguments.json).await?;

    tokio::pin!(told_to_stop);
    loop {
        tokio::select! {
            () = &mut told_to_stop => break tracing::info!("stopping"),
            Some(()) = told_to_read.recv() => {
                new_file.notify_one();
                for error in lists.apply(&swarm).await? {
                    tracing::warn!("{error}; what it said before still holds");
                }
            }
            Some(_) = tasks.join_next() => anyhow::bail!("a part of the node stopped; see above, and start it again"),
        }
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Where else it is asked.
#[derive(Debug, Default)]
struct Told {
    metrics: Option<String>,
    status: Option<String>,
}

async fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, String)> {
    let cannot = || format!("cannot listen on `{address}`; choose another with `{flag}`");
    let listener = TcpListener::bind(address).await.with_context(cannot)?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

fn configure(arguments: &Serve, identity: &Identity) -> Config {
    let mut config = infernet_bootstrap::config(identity, &arguments.network);
    config.listen.clone_from(&arguments.listen);
    let named = arguments.bootstrap.iter().filter_map(|join| match join {
        Join::Address(address) => Some(address.clone()),
        Join::List(_) => None,
    });
    config.bootstrap = named.collect();
    config.external.clone_from(&arguments.external);
    config
}

/// The ready line: one shape for every program of this project.
#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    peer_id: String,
    npub: String,
    listen: Vec<Multiaddr>,
    gateway: Option<String>,
    metrics: Option<String>,
    status: Option<String>,
}

/// Says that the sockets are bound, and at which addresses.
async fn say_ready(swarm: &Handle, identity: &Identity, told: Told, as_json: bool) -> Result<()> {
    let listen = swarm.dialable_addrs().await?;
    let mut out = std::io::stdout().lock();
    if as_json {
        let ready = Ready {
            event: "ready",
            peer_id: swarm.local_peer_id().to_string(),
            npub: identity.node().npub(),
            listen,
            gateway: None,
            metrics: told.metrics,
            status: told.status,
        };
        writeln!(out, "{}", serde_json::to_string(&ready)?)?;
    } else {
        writeln!(out, "peer id  {}", swarm.local_peer_id())?;
        for address in &listen {
            writeln!(out, "listen   {address}")?;
        }
        for (name, url) in [("metrics", told.metrics), ("status ", told.status)] {
            if let Some(url) = url {
                writeln!(out, "{name}  {url}")?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Ready when the user or the system wants the process to end.
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
