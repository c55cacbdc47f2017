//! What the command line says.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};
use infernet_protocol::Network;
use infernet_swarm::Multiaddr;

/// The bootstrap node of the Infernet network.
#[derive(Debug, Parser)]
#[command(name = "infernet-bootstrap", version)]
pub(crate) struct Arguments {
    /// Directory of the identity [default: ~/.config/infernet-bootstrap]
    #[arg(long, value_name = "DIR", env = "INFERNET_HOME")]
    pub(crate) home: Option<PathBuf>,

    /// Address to listen on; may be given several times; port 0 takes any
    #[arg(long, value_name = "MULTIADDR", default_values = [
        "/ip4/0.0.0.0/tcp/46337",
        "/ip4/0.0.0.0/udp/46337/quic-v1",
        "/ip6/::/tcp/46337",
        "/ip6/::/udp/46337/quic-v1",
    ])]
    pub(crate) listen: Vec<Multiaddr>,

    /// Another bootstrap node to join; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) bootstrap: Vec<Multiaddr>,

    /// Address under which this node is reached from outside; may be given several times. Relaying needs one
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) external: Vec<Multiaddr>,

    /// Network to serve
    #[arg(long, value_name = "NAME", default_value = "main", env = "INFERNET_NETWORK")]
    pub(crate) network: Network,

    /// Address to serve metrics on, in Prometheus' text format at /metrics; port 0 takes any
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Print the ready line as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Say more on stderr; twice for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}
