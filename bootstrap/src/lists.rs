//! What an operator may change while the node runs: lists in files, read at the start and again on SIGHUP. A list that
//! cannot be read then leaves what it said before.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use infernet_protocol::NodeId;
use infernet_swarm::{Closed, Handle, Multiaddr, PeerId};

/// Longest list that is read.
const LIST_BYTES: u64 = 1024 * 1024;
/// Addresses to join by, and peers that are kept out, of one list: as many as the swarm holds.
const JOINED: usize = 512;
const BLOCKED: usize = 4096;
/// Before the path of a list.
const FILE: &str = "file:";

/// Where a bootstrap node joins others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// By one address.
    Address(Multiaddr),
    /// By those of a list.
    List(PathBuf),
}

impl FromStr for Join {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(FILE) {
            Some(path) => Ok(Self::List(path.strip_prefix("//").unwrap_or(path).into())),
            None => text.parse().map(Self::Address).map_err(|_| {
                "use a multiaddr such as `/ip4/203.0.113.7/tcp/46337/p2p/16Uiu2...`, or `file:PATH`".to_owned()
            }),
        }
    }
}

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// It cannot be read.
    #[error("cannot read `{path}` ({error}); repair it, or leave the flag out", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A line is not what it should be.
    #[error("line {line} of `{path}` is not {what}: `{text}`", path = path.display())]
    Line {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
        /// What it should be.
        what: &'static str,
    },
    /// It has more entries than are held.
    #[error("`{path}` has more than {most} entries", path = path.display())]
    Long {
        /// Which.
        path: PathBuf,
        /// How many may be.
        most: usize,
    },
}

/// The lists of a node, and what they said last.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    join: Vec<PathBuf>,
    blocked: Option<PathBuf>,
    kept_out: BTreeSet<PeerId>,
}

impl Lists {
    /// The lists among `join`, and one of peers that are kept out.
    pub(crate) fn new(join: &[Join], blocked: Option<&Path>) -> Self {
        let lists = join.iter().filter_map(|join| match join {
            Join::List(path) => Some(path.clone()),
            Join::Address(_) => None,
        });
        Self {
            join: lists.collect(),
            blocked: blocked.map(Path::to_owned),
            kept_out: BTreeSet::new(),
        }
    }

    /// Reads all of them and does what they say now. One that cannot be taken changes nothing, and the others count.
    pub(crate) async fn apply(&mut self, swarm: &Handle) -> Result<Vec<ListError>, Closed> {
        let mut refused = Vec::new();
        for path in &self.join {
            match read(path, "a multiaddr", JOINED, |line| line.parse::<Multiaddr>().ok()) {
                Ok(addresses) => {
                    tracing::info!(addresses = addresses.len(), list = %path.display(), "read where to join");
                    swarm.join(addresses).await?;
                }
                Err(error) => refused.push(error),
            }
        }
        let Some(path) = &self.blocked else { return Ok(refused) };
        match read(path, "a peer id or an npub", BLOCKED, peer) {
            Ok(peers) => {
                let kept_out: BTreeSet<PeerId> = peers.into_iter().collect();
                for peer in kept_out.difference(&self.kept_out) {
                    swarm.block(*peer).await?;
                }
                for peer in self.kept_out.difference(&kept_out) {
                    swarm.unblock(*peer).await?;
                }
                tracing::info!(peers = kept_out.len(), list = %path.display(), "read who is kept out");
                self.kept_out = kept_out;
            }
            Err(error) => refused.push(error),
        }
        Ok(refused)
    }
}

fn peer(line: &str) -> Option<PeerId> {
    let of_npub = |node: NodeId| node.peer_id().parse().ok();
    line.parse().ok().or_else(|| of_npub(NodeId::from_npub(line).ok()?))
}

/// The entries of a list: one in a line, `#` begins a comment.
fn read<T>(
    path: &Path,
    what: &'static str,
    most: usize,
    entry: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ListError> {
    let failed = |error| ListError::File {
        path: path.to_owned(),
        error,
    };
    let text = text_of(path).map_err(failed)?;
    let lines = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split('#').next().unwrap_or_default().trim()));
    let entries = lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| {
        entry(line).ok_or_else(|| ListError::Line {
            path: path.to_owned(),
            line: number,
            text: line.to_owned(),
            what,
        })
    });
    let entries: Vec<T> = entries.collect::<Result<_, _>>()?;
    if entries.len() > most {
        return Err(ListError::Long {
            path: path.to_owned(),
            most,
        });
    }
    Ok(entries)
}

fn text_of(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if file.metadata()?.len() > LIST_BYTES {
        return Err(io::Error::other(format!("it is longer than {LIST_BYTES} bytes")));
    }
    let mut text = String::new();
    file.take(LIST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "16Uiu2HAm9RtzR6gqTS4zKbxbuXwcyXx1cYQVVKhL9VcBgU5g8Nzg";

    #[test]
    fn where_to_join_is_an_address_or_a_list() {
        assert_eq!("file:a/b".parse::<Join>().unwrap(), Join::List("a/b".into()));
        assert_eq!("file:///etc/x".parse::<Join>().unwrap(), Join::List("/etc/x".into()));
        let address = "/ip4/203.0.113.7/tcp/46337";
        assert_eq!(
            address.parse::<Join>().unwrap(),
            Join::Address(address.parse().unwrap())
        );
        assert!("https://a.example".parse::<Join>().unwrap_err().contains("file:PATH"));
    }

    #[test]
    fn a_list_names_peers_either_way_and_a_bad_line_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocked");
        let node = NodeId::from_peer_id_bytes(&PEER.parse::<PeerId>().unwrap().to_bytes()).unwrap();
        std::fs::write(&path, format!("# liars\n\n{PEER} # since May\n{}\n", node.npub())).unwrap();
        let peers = read(&path, "a peer", 2, peer).unwrap();
        assert_eq!(peers, vec![PEER.parse::<PeerId>().unwrap(); 2]);
        std::fs::write(&path, format!("{PEER}\nnobody\n")).unwrap();
        let error = read(&path, "a peer id", 2, peer).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("nobody") && error.contains("blocked"),
            "{error}"
        );
        let many = read(&path, "a word", 1, |word| Some(word.to_owned())).unwrap_err();
        assert!(many.to_string().contains("more than 1"), "{many}");
        std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(
            read(&path, "a peer", 2, peer)
                .unwrap_err()
                .to_string()
                .contains("longer")
        );
        let missing = read(&folder.path().join("none"), "a peer", 2, peer).unwrap_err();
        assert!(missing.to_string().contains("leave the flag out"));
    }
}
