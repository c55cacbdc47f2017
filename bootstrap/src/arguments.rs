//! What the command line says.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use infernet_protocol::Network;
use infernet_study::recording::Limits;
use infernet_swarm::Multiaddr;

use crate::commands::{crawl, publish, replay, report};
use crate::lists::Join;

/// The bootstrap node of the Infernet network, and what researchers do with its recordings. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "infernet-bootstrap", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) serve: Serve,

    /// Say more on stderr; twice for everything
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// What else it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Walk the DHT and write down who is in it
    Crawl(crawl::Arguments),
    /// Draw a page of recordings or a crawl
    Report(report::Arguments),
    /// Copy recordings so that nobody is named in them
    Publish(publish::Arguments),
    /// Go through the gossip of recordings again
    Replay(replay::Arguments),
}

/// How it serves.
#[derive(Debug, Args)]
pub(crate) struct Serve {
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

    /// Another bootstrap node to join, or `file:PATH` for a list with one in each line; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) bootstrap: Vec<Join>,

    /// List of peers that are kept out, by peer id or npub, one in each line. SIGHUP has all lists read again
    #[arg(long, value_name = "FILE")]
    pub(crate) blocked: Option<PathBuf>,

    /// Address under which this node is reached from outside; may be given several times. Relaying needs one
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) external: Vec<Multiaddr>,

    /// Network to serve
    #[arg(long, value_name = "NAME", default_value = "main", env = "INFERNET_NETWORK")]
    pub(crate) network: Network,

    /// Address to serve metrics on, in Prometheus' text format at /metrics; port 0 takes any
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Address to serve the public counts of the network on, as a page at / and as JSON at /status.json; port 0 takes any
    #[arg(long, value_name = "ADDR")]
    pub(crate) status: Option<SocketAddr>,

    /// Print the ready line as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Record the gossip that passes and who connects, into files in this directory that only you can read
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,

    /// Most bytes that the recordings of this network may take; the oldest go
    #[arg(long, value_name = "BYTES", default_value_t = Limits::KEEP_BYTES, requires = "record")]
    pub(crate) record_max_bytes: u64,

    /// Most files of recordings; one holds an hour at most, and the oldest go
    #[arg(long, value_name = "FILES", default_value_t = Limits::KEEP_FILES, requires = "record")]
    pub(crate) record_keep: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn without_a_command_it_serves() {
        Arguments::command().debug_assert();
        let serving = Arguments::parse_from(["infernet-bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0", "-v"]);
        assert!(serving.command.is_none() && serving.verbose == 1);
        assert_eq!(serving.serve.listen.len(), 1);
        let drawing = Arguments::parse_from(["infernet-bootstrap", "report", "recording", "-v"]);
        assert!(matches!(drawing.command, Some(Command::Report(_))) && drawing.verbose == 1);
        let mixed = ["infernet-bootstrap", "--json", "report", "recording"];
        assert!(Arguments::try_parse_from(mixed).is_err(), "a report is not served");
        assert!(Arguments::try_parse_from(["infernet-bootstrap", "--record-keep", "3"]).is_err());
    }
}
