//! Talking to the node that runs: one JSON request per line on the socket in its home, one JSON reply per line.
//!
//! `{"method":"peers","params":{}}` is answered by `{"ok":...}` or `{"error":"..."}`. Who may connect is decided by the
//! modes of the home and of the socket: only its owner. What the methods do is the business of a `Control`.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::home::Home;
use crate::runtime::Tasks;

/// Longest request in bytes: ids and filters, never content.
const REQUEST_BYTES: u64 = 64 * 1024;
/// Longest reply in bytes: a long ledger as hex.
const REPLY_BYTES: u64 = 256 * 1024 * 1024;
/// Longest path of a socket that every supported kernel takes.
const SOCKET_PATH_BYTES: usize = 103;
/// Connections at once: a few commands and a dashboard.
const CONNECTIONS: usize = 16;
/// A connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// How long a command waits for its reply.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a method answers.
pub type Answer = Result<Value, Refusal>;

/// Why a method did not do what it was asked to; shown to a person as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    /// From whatever went wrong.
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// A running node as its commands see it.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Who the node is and how it fares.
    async fn status(&self) -> Answer;
    /// Who is connected, and how.
    async fn peers(&self) -> Answer;
    /// How one peer behaves, and what that adds up to.
    async fn why(&self, params: Value) -> Answer;
    /// What is well with the node and what is not, as `doctor::to_json` gives it.
    async fn doctor(&self) -> Answer;
    /// The bounds that are kept against peers, and how often each was met.
    async fn limits(&self) -> Answer;
    /// What the network serves.
    async fn models(&self) -> Answer;
    /// Rows of the ledger, as `store::answer_receipts` gives them.
    async fn receipts(&self, params: Value) -> Answer;
    /// Providers by their ads, with where they say that they are.
    async fn ads(&self) -> Answer;
    /// What was spent, in all and by key of the gateway.
    async fn spent(&self) -> Answer;
    /// Exported leases, as `store::answer_export` gives them.
    async fn export(&self, params: Value) -> Answer;
    /// Asks the node to end.
    async fn stop(&self) -> Answer;
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel's limit on socket paths is far below that on files.
    #[error("`{0}` is too long a path for a socket: use a shorter `--home`")]
    TooLong(PathBuf),
    /// The socket could not be made.
    #[error("cannot listen on `{path}`: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// Serves the socket of a home that this process holds, until `tasks` is cancelled.
pub fn serve(home: &Home, control: Arc<dyn Control>, tasks: &Tasks) -> Result<(), ServeError> {
    let path = home.socket();
    if path.as_os_str().len() > SOCKET_PATH_BYTES {
        return Err(ServeError::TooLong(path));
    }
    let listener = bind(&path).map_err(|error| ServeError::Io {
        path: path.clone(),
        error,
    })?;
    let owner = tasks.clone();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    tasks.spawn("ipc", async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = owner.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                break;
            };
            match accepted {
                Ok((stream, _)) => {
                    let control = Arc::clone(&control);
                    owner.spawn_until_cancelled("ipc-connection", async move {
                        if let Err(error) = answer_all(stream, control.as_ref()).await {
                            tracing::debug!("ipc connection ended: {error}");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("ipc cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    // The home is ours alone, so a socket that lies here is left over from a process that was killed.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer_all(stream: UnixStream, control: &dyn Control) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(REQUEST_BYTES);
        match tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await {
            Ok(read) => read?,
            Err(_) => return Ok(()),
        };
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let answer = if whole {
            answer(&line, control).await
        } else {
            Err(Refusal::new("request is longer than this socket takes"))
        };
        let reply = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(Refusal(why)) => json!({ "error": why }),
        };
        write.write_all(format!("{reply}\n").as_bytes()).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn answer(line: &[u8], control: &dyn Control) -> Answer {
    let mut request: Value =
        serde_json::from_slice(line).map_err(|error| Refusal(format!("request is no JSON: {error}")))?;
    let params = request["params"].take();
    match request["method"].as_str() {
        Some("status") => control.status().await,
        Some("peers") => control.peers().await,
        Some("why") => control.why(params).await,
        Some("doctor") => control.doctor().await,
        Some("limits") => control.limits().await,
        Some("models") => control.models().await,
        Some("ads") => control.ads().await,
        Some("spent") => control.spent().await,
        Some("receipts") => control.receipts(params).await,
        Some("export") => control.export(params).await,
        Some("stop") => control.stop().await,
        Some(other) => Err(Refusal(format!(
            "method `{other}` is unknown to this version: restart the node with `infernet restart`"
        ))),
        None => Err(Refusal::new("request names no method")),
    }
}

/// Why a command got no answer from the node.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("no node runs on `{}`: start one with `infernet start`", .0.display())]
    NotRunning(PathBuf),
    /// The node listens and does not answer.
    #[error("the node does not answer ({0}): look at `infernet logs`, or stop it with `infernet stop`")]
    Silent(io::Error),
    /// The node refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the node that runs on `home`, and waits for the answer.
pub fn call(home: &Home, method: &str, params: Value) -> Result<Value, CallError> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let stream = std::os::unix::net::UnixStream::connect(home.socket()).map_err(|error| match error.kind() {
        NotFound | ConnectionRefused => CallError::NotRunning(home.path().to_owned()),
        _ => CallError::Silent(error),
    })?;
    let mut reply = ask(stream, &json!({ "method": method, "params": params })).map_err(CallError::Silent)?;
    match reply.get_mut("ok") {
        Some(value) => Ok(value.take()),
        None => Err(CallError::Refused(
            reply["error"]
                .as_str()
                .unwrap_or("the node answered something unknown: restart it")
                .to_owned(),
        )),
    }
}

fn ask(mut stream: std::os::unix::net::UnixStream, request: &Value) -> io::Result<Value> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = Vec::new();
    io::BufReader::new(stream)
        .take(REPLY_BYTES)
        .read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its reply broke off"));
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    #[async_trait]
    impl Control for Fake {
        async fn status(&self) -> Answer {
            Ok(json!({ "peers": 3 }))
        }
        async fn peers(&self) -> Answer {
            Err(Refusal::new("the swarm is busy: try again"))
        }
        async fn why(&self, params: Value) -> Answer {
            Ok(params)
        }
        async fn limits(&self) -> Answer {
            Ok(json!([]))
        }
        async fn doctor(&self) -> Answer {
            Ok(json!({}))
        }
        async fn models(&self) -> Answer {
            Ok(json!([]))
        }
        async fn ads(&self) -> Answer {
            Ok(json!([]))
        }
        async fn spent(&self) -> Answer {
            Ok(json!({}))
        }
        async fn receipts(&self, params: Value) -> Answer {
            Ok(params)
        }
        async fn export(&self, _: Value) -> Answer {
            Ok(json!("x".repeat(1 << 20)))
        }
        async fn stop(&self) -> Answer {
            Ok(Value::Null)
        }
    }

    async fn ask_node(home: &Home, method: &'static str, params: Value) -> Result<Value, CallError> {
        let home = home.clone();
        tokio::task::spawn_blocking(move || call(&home, method, params))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn commands_reach_the_node_that_runs() {
        let home = Home::temporary().unwrap();
        assert!(matches!(
            ask_node(&home, "status", Value::Null).await,
            Err(CallError::NotRunning(_))
        ));
        let tasks = Tasks::new();
        // Left over from a node that was killed.
        drop(std::os::unix::net::UnixListener::bind(home.socket()).unwrap());
        assert!(matches!(
            ask_node(&home, "status", Value::Null).await,
            Err(CallError::NotRunning(_))
        ));
        serve(&home, Arc::new(Fake), &tasks).unwrap();
        let mode = std::fs::metadata(home.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ask_node(&home, "status", Value::Null).await.unwrap()["peers"], 3);
        assert_eq!(
            ask_node(&home, "receipts", json!({ "limit": 2 })).await.unwrap()["limit"],
            2
        );
        assert_eq!(
            ask_node(&home, "export", Value::Null)
                .await
                .unwrap()
                .as_str()
                .unwrap()
                .len(),
            1 << 20
        );
        let refused = ask_node(&home, "peers", Value::Null).await.unwrap_err();
        assert_eq!(refused.to_string(), "the swarm is busy: try again");
        let unknown = ask_node(&home, "dance", Value::Null).await.unwrap_err();
        assert!(unknown.to_string().contains("`dance` is unknown"), "{unknown}");
        let long = ask_node(&home, "status", json!("x".repeat(1 << 17))).await;
        assert!(long.is_err(), "a request above the limit is refused");
        assert!(tasks.drain(Duration::from_secs(30)).await);
        assert!(!home.socket().exists());
    }

    #[tokio::test]
    async fn a_home_with_a_long_path_is_told_so() {
        let home = Home::temporary().unwrap();
        let deep = Home::at(home.path().join("d".repeat(120)));
        deep.ensure().unwrap();
        let error = serve(&deep, Arc::new(Fake), &Tasks::new()).unwrap_err();
        assert!(error.to_string().contains("shorter `--home`"), "{error}");
    }
}
