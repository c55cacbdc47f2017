//! How bytes reach a peer: TCP with Noise and Yamux, QUIC, names resolved, and through a relay.

use std::path::Path;

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, dns, noise, quic, relay, tcp, yamux};

use crate::config::{CONNECT_TIMEOUT, MUXED_STREAMS};
use crate::error::Error;

/// Where Unix systems keep the resolver's configuration; a minimal container has none.
const RESOLVER_CONFIGURATION: &str = "/etc/resolv.conf";

type Transport = Boxed<(PeerId, StreamMuxerBox)>;

/// The transport, and the relay client behaviour that belongs to it.
pub(crate) fn build(keypair: &Keypair) -> Result<(Transport, relay::client::Behaviour), Error> {
    let broken = |error: noise::Error| Error::Encryption(error.to_string());
    let noise = noise::Config::new(keypair).map_err(broken)?;

    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut config = quic::Config::new(keypair);
    config.max_concurrent_stream_limit = MUXED_STREAMS;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let direct = tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed();
    let named = if Path::new(RESOLVER_CONFIGURATION).exists() {
        dns::tokio::Transport::system(direct).map_err(Error::Resolver)?.boxed()
    } else {
        direct
    };

    let (circuits, relay_client) = relay::client::new(keypair.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let all = circuits.or_transport(named).map(|either, _| either.into_inner());
    Ok((TransportTimeout::new(all, CONNECT_TIMEOUT).boxed(), relay_client))
}

fn yamux() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(usize::try_from(MUXED_STREAMS).unwrap_or(usize::MAX));
    config
}
