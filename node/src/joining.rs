//! Where the network is joined: addresses that the user names, those that a file, a name in the DNS or a list on the web
//! holds, and peers that were met before. Any one that answers is enough.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use infernet_swarm::multiaddr::Protocol;
use infernet_swarm::{Multiaddr, PeerInfo};
use reqwest::Url;
use tracing::{debug, warn};

use crate::node::Node;
use crate::store::PEERS_KEPT;

/// What stands before an address in a name's TXT records, and before the name that has them.
const DNS_ENTRY: &str = "dnsaddr=";
const DNS_PREFIX: &str = "_dnsaddr.";
/// Longest list that is read, and the most addresses that are taken from it.
const LIST_BYTES: usize = 64 * 1024;
const LIST_ADDRESSES: usize = 128;
/// Time for a list to be read.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// First and longest wait before a list that could not be read is tried again; it doubles in between.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// A list that was read is read again after this: bootstrap nodes come and go within days.
const READ_AGAIN: Duration = Duration::from_secs(3600);
/// A network that was told where to be joined is joined within this, or something is wrong.
const ALONE_AFTER: Duration = Duration::from_secs(15);
/// Places to join at that are named in one message.
const SOURCES_TOLD: usize = 3;
/// Addresses kept of one peer that was met: TCP and QUIC.
const ADDRESSES_PER_PEER: usize = 2;

/// What a user may write where bootstrap peers are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One peer.
    Address(Multiaddr),
    /// `/dnsaddr/NAME`: all that the name's records say.
    Name(String),
    /// `https://...`: a list, one address in a line.
    Web(Url),
    /// `file:PATH`: such a list on this machine.
    File(PathBuf),
}

/// Why a source cannot be used, or gives nothing now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is none.
    #[error(
        "use a multiaddr such as `/ip4/203.0.113.7/tcp/46337/p2p/16Uiu2...`, `/dnsaddr/NAME`, `https://...` or `file:PATH`"
    )]
    Unknown,
    /// A list that anybody on the way could change.
    #[error("use `https`: whoever can change the list chooses whom this node joins")]
    Plain,
    /// The file cannot be read.
    #[error("cannot read `{path}` ({error}): repair it, or name another with `file:PATH`", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The name does not resolve.
    #[error("`{name}` cannot be resolved: {why}")]
    Name {
        /// The name that was looked up.
        name: String,
        /// Why not.
        why: String,
    },
    /// The list does not come.
    #[error("`{url}` cannot be read: {why}")]
    Web {
        /// The list.
        url: Url,
        /// Why not.
        why: String,
    },
    /// There is no address in it.
    #[error("`{0}` holds no multiaddr; write one in each line, `#` before remarks")]
    Empty(String),
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::File(PathBuf::from(path.strip_prefix("//").unwrap_or(path))));
        }
        if text.starts_with("http:") || text.starts_with("https:") {
            let url = Url::parse(text).map_err(|_| SourceError::Unknown)?;
            let secure = url.scheme() == "https" || is_loopback(&url);
            return if secure {
                Ok(Self::Web(url))
            } else {
                Err(SourceError::Plain)
            };
        }
        let address: Multiaddr = text.parse().map_err(|_| SourceError::Unknown)?;
        let mut parts = address.iter();
        match (parts.next(), parts.next()) {
            (Some(Protocol::Dnsaddr(name)), None) => Ok(Self::Name(name.into_owned())),
            (Some(_), _) => Ok(Self::Address(address)),
            (None, _) => Err(SourceError::Unknown),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => write!(f, "/dnsaddr/{name}"),
            Self::Web(url) => url.fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// Nobody else stands between a machine and itself.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Source {
    /// The addresses that it holds now.
    async fn read(&self) -> Result<Vec<Multiaddr>, SourceError> {
        match self {
            Self::Address(address) => Ok(vec![address.clone()]),
            Self::File(path) => {
                let file_error = |error| SourceError::File {
                    path: path.clone(),
                    error,
                };
                let path_read = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path_read)).await;
                let text = read
                    .map_err(std::io::Error::other)
                    .and_then(|read| read)
                    .map_err(file_error)?;
                parse(&text, &path.display().to_string())
            }
            Self::Name(name) => {
                let resolver = Resolver::builder_tokio().and_then(|builder| builder.build());
                let resolver = resolver.map_err(|error| unresolved(name, error.to_string()))?;
                resolve(name, &resolver).await
            }
            Self::Web(url) => {
                let broken = |why: String| SourceError::Web { url: url.clone(), why };
                let text = tokio::time::timeout(READ_WITHIN, download(url)).await;
                let text = text
                    .unwrap_or_else(|_| Err("it takes too long".to_owned()))
                    .map_err(broken)?;
                parse(&text, url.as_str())
            }
        }
    }
}

fn read_file(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LIST_BYTES as u64)
        .read_to_string(&mut text)?;
    Ok(text)
}

async fn download(url: &Url) -> Result<String, String> {
    let client = crate::models::client().map_err(|error| error.to_string())?;
    let response = client.get(url.clone()).send().await;
    let mut response = response.map_err(|error| crate::models::innermost(&error))?;
    if !response.status().is_success() {
        return Err(format!("the server answers {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| crate::models::innermost(&error))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LIST_BYTES {
            return Err(format!("it is longer than {LIST_BYTES} bytes"));
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())
}

fn unresolved(name: &str, why: String) -> SourceError {
    SourceError::Name {
        name: format!("{DNS_PREFIX}{name}"),
        why,
    }
}

async fn resolve(name: &str, resolver: &TokioResolver) -> Result<Vec<Multiaddr>, SourceError> {
    let asked = format!("{DNS_PREFIX}{name}");
    let found = tokio::time::timeout(READ_WITHIN, resolver.txt_lookup(asked.as_str())).await;
    let found = found.map_err(|_| unresolved(name, "it takes too long".to_owned()))?;
    let found = found.map_err(|error| unresolved(name, error.to_string()))?;
    let entries = found.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(entry) => Some(entry.txt_data.concat()),
        _ => None,
    });
    let entries = entries.filter_map(|entry| String::from_utf8(entry).ok());
    let lines: Vec<String> = entries
        .filter_map(|entry| entry.strip_prefix(DNS_ENTRY).map(str::to_owned))
        .collect();
    parse(&lines.join("\n"), &asked)
}

/// The addresses of a list. What is none is left out, so that a list may one day hold what this version does not know.
fn parse(text: &str, of: &str) -> Result<Vec<Multiaddr>, SourceError> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut addresses = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        match line.parse() {
            Ok(address) if addresses.len() < LIST_ADDRESSES => addresses.push(address),
            Ok(_) => break,
            Err(error) => debug!(of, line, %error, "not a multiaddr"),
        }
    }
    if addresses.is_empty() {
        return Err(SourceError::Empty(of.to_owned()));
    }
    Ok(addresses)
}

/// The addresses that are known without asking anybody.
pub(crate) fn addresses(sources: &[Source]) -> Vec<Multiaddr> {
    let addresses = sources.iter().filter_map(|source| match source {
        Source::Address(address) => Some(address.clone()),
        _ => None,
    });
    addresses.collect()
}

/// The sources that must be read first.
pub(crate) fn lists(sources: &[Source]) -> Vec<Source> {
    let read = |source: &&Source| !matches!(source, Source::Address(_));
    sources.iter().filter(read).cloned().collect()
}

/// Reads a source now and again, and joins the network by what it holds.
pub(crate) async fn follow(node: Arc<Node>, source: Source) {
    let mut wait = FIRST_WAIT;
    loop {
        let pause = match source.read().await {
            Ok(addresses) => {
                debug!(?source, addresses = addresses.len(), "nodes to join through");
                node.list_read(source.to_string(), None);
                if node.swarm.join(addresses).await.is_err() {
                    return;
                }
                wait = FIRST_WAIT;
                READ_AGAIN
            }
            Err(error) => {
                warn!("{error}; trying again in {} s", wait.as_secs());
                node.list_read(source.to_string(), Some(error.to_string()));
                let pause = wait;
                wait = (wait * 2).min(LONGEST_WAIT);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// That nobody whom this node was told of has answered, for people; `None` where somebody did, or none was named.
pub(crate) async fn alone(node: &Node, sources: &[Source]) -> Option<String> {
    let peers = node.peers().await.unwrap_or_default();
    if sources.is_empty() || peers.iter().any(|peer| peer.same_network == Some(true)) {
        return None;
    }
    let named: Vec<String> = sources
        .iter()
        .take(SOURCES_TOLD)
        .map(|source| format!("`{source}`"))
        .collect();
    let more = if sources.len() > SOURCES_TOLD { ", ..." } else { "" };
    Some(format!(
        "no node of the network `{}` answers at {}{more}: see whether the address is right and the node runs",
        node.network,
        named.join(", ")
    ))
}

/// Says once that this node is alone though it was told whom to join.
pub(crate) async fn watch_alone(node: Arc<Node>, sources: Vec<Source>) {
    tokio::time::sleep(ALONE_AFTER).await;
    if let Some(why) = alone(&node, &sources).await {
        warn!("{why}; this node goes on trying");
    }
}

/// Peers to come back to: those that are connected, whoever serves the DHT first, and behind them those of before.
pub(crate) fn remember(connected: &[PeerInfo], before: &[String]) -> Vec<String> {
    let mut met: Vec<&PeerInfo> = connected
        .iter()
        .filter(|peer| peer.same_network == Some(true) && !peer.relayed())
        .collect();
    met.sort_by_key(|peer| !peer.serves_dht);
    let mut kept: Vec<String> = Vec::new();
    let fresh = met.iter().flat_map(|peer| {
        let addresses = peer.dialled().into_iter().chain(peer.listen.iter());
        let full = addresses.filter_map(|address| address.clone().with_p2p(peer.peer).ok());
        let mut full: Vec<String> = full.map(|address| address.to_string()).collect();
        full.dedup();
        full.truncate(ADDRESSES_PER_PEER);
        full
    });
    for address in fresh.chain(before.iter().cloned()) {
        if kept.len() >= PEERS_KEPT {
            break;
        }
        if !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    use super::*;

    /// What a name server answers to a question for TXT records (RFC 1035, 4.1): each of the entries in one record, cut into
    /// strings of at most 255 bytes.
    fn dns_answer(question: &[u8], entries: &[String]) -> Vec<u8> {
        // The name, as labels to an empty one, then type and class.
        let mut end = 12;
        while question[end] != 0 {
            end += 1 + usize::from(question[end]);
        }
        let asked = &question[12..end + 5];
        let count = u16::try_from(entries.len()).unwrap();
        let mut answer = question[..2].to_vec();
        let refused = if count == 0 { 3 } else { 0 };
        answer.extend([0x84, refused, 0, 1]);
        answer.extend(count.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(asked);
        for entry in entries {
            let strings = entry.as_bytes().chunks(255);
            let text: Vec<u8> = strings
                .flat_map(|part| std::iter::once(u8::try_from(part.len()).unwrap()).chain(part.iter().copied()))
                .collect();
            // The name once more, as a pointer to it; TXT, IN, a minute.
            answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
            answer.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            answer.extend(text);
        }
        answer
    }

    #[tokio::test]
    async fn a_name_in_the_dns_leads_to_the_addresses_of_its_records() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut at = NameServerConfig::udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        at.connections[0].port = server.local_addr().unwrap().port();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![at]);
        let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = resolver.build().unwrap();
        let peer = "/ip4/203.0.113.7/tcp/46337/p2p/16Uiu2HAm9RtzR6gqTS4zKbxbuXwcyXx1cYQVVKhL9VcBgU5g8Nzg";
        let long = format!("{}.example", vec!["a".repeat(60); 4].join("."));
        let entries = vec![
            format!("dnsaddr={peer}"),
            "v=spf1 -all".to_owned(),
            "dnsaddr=/nonsense".to_owned(),
            format!("dnsaddr=/dns4/{long}/tcp/46337"),
        ];
        let answering = async {
            let mut question = [0; 512];
            loop {
                let (length, from) = server.recv_from(&mut question).await.unwrap();
                let question = &question[..length];
                let is_known = question.windows(8).any(|bytes| bytes == b"_dnsaddr")
                    && !question.windows(5).any(|bytes| bytes == b"empty");
                let entries: &[String] = if is_known { &entries } else { &[] };
                server.send_to(&dns_answer(question, entries), from).await.unwrap();
            }
        };
        let asking = async {
            let found = resolve("boot.example", &resolver).await.unwrap();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.contains(&peer.to_owned()) && found.iter().any(|address| address.contains(&long)));
            let nobody = resolve("empty.example", &resolver).await.unwrap_err();
            assert!(nobody.to_string().contains("_dnsaddr.empty.example"), "{nobody}");
        };
        tokio::select! {
            () = answering => {}
            () = asking => {}
        }
    }

    #[test]
    fn a_source_is_told_by_how_it_is_written() {
        let peer = "/ip4/203.0.113.7/tcp/46337/p2p/16Uiu2HAm9RtzR6gqTS4zKbxbuXwcyXx1cYQVVKhL9VcBgU5g8Nzg";
        for text in [
            peer,
            "/dns4/node.example/tcp/46337",
            "/dnsaddr/boot.example/p2p/16Uiu2HAm9RtzR6gqTS4zKbxbuXwcyXx1cYQVVKhL9VcBgU5g8Nzg",
        ] {
            let parsed = text.parse::<Source>();
            match parsed {
                Ok(Source::Address(address)) => assert_eq!(address.to_string(), text),
                // A peer id that is none says so.
                other => assert!(matches!(other, Err(SourceError::Unknown)), "{text}: {other:?}"),
            }
        }
        assert_eq!(
            "/dnsaddr/boot.example".parse::<Source>().unwrap(),
            Source::Name("boot.example".to_owned())
        );
        assert_eq!(
            "file:peers.txt".parse::<Source>().unwrap(),
            Source::File("peers.txt".into())
        );
        assert_eq!(
            "file:///etc/infernet/peers".parse::<Source>().unwrap(),
            Source::File("/etc/infernet/peers".into())
        );
        assert!(matches!(
            "https://a.example/peers".parse::<Source>(),
            Ok(Source::Web(_))
        ));
        assert!(matches!(
            "http://127.0.0.1:8/peers".parse::<Source>(),
            Ok(Source::Web(_))
        ));
        assert!(matches!("http://[::1]:8/peers".parse::<Source>(), Ok(Source::Web(_))));
        assert!(matches!(
            "http://a.example/peers".parse::<Source>(),
            Err(SourceError::Plain)
        ));
        for text in ["", "peers.txt", "a.example:46337", "/nonsense/1", "ftp://a.example"] {
            assert!(matches!(text.parse::<Source>(), Err(SourceError::Unknown)), "{text}");
        }
    }

    #[test]
    fn a_list_holds_an_address_in_each_line_and_is_bounded() {
        let text = "# ours\n/ip4/203.0.113.7/tcp/1 # the first\n\nnot an address\n  /dnsaddr/a.example\r\n";
        let read: Vec<String> = parse(text, "list").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read, ["/ip4/203.0.113.7/tcp/1", "/dnsaddr/a.example"]);
        assert!(matches!(parse("# nothing\n", "list"), Err(SourceError::Empty(of)) if of == "list"));
        let many = "/ip4/203.0.113.7/tcp/1\n".repeat(2 * LIST_ADDRESSES);
        assert_eq!(parse(&many, "list").unwrap().len(), LIST_ADDRESSES);
    }

    #[tokio::test]
    async fn a_file_is_read_and_one_that_is_missing_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        let source = Source::File(path.clone());
        assert!(matches!(source.read().await, Err(SourceError::File { .. })));
        std::fs::write(&path, "/ip4/127.0.0.1/tcp/9\n").unwrap();
        assert_eq!(source.read().await.unwrap().len(), 1);
    }
}
