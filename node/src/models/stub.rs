//! Stands in for Hugging Face and for Ollama in tests, in the shapes of their public documentation:
//! <https://huggingface.co/docs/hub/api>, <https://huggingface.co/docs/hub/storage-backends> (`lfs`), RFC 9110 for ranges,
//! RFC 8288 for links, <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::runtime::{Tasks, unpoisoned};

/// Entries on one page of a list.
const PAGE: usize = 2;

/// A file that is offered.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) bytes: Vec<u8>,
    /// What the list says of it, where that is not the truth.
    pub(crate) claimed: Option<Vec<u8>>,
    /// Large files have a digest.
    pub(crate) large: bool,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) range: Option<String>,
}

/// What the stub does.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) files: BTreeMap<String, Offered>,
    /// The token without which nothing is given.
    pub(crate) gate: Option<String>,
    /// Where content is sent from instead.
    pub(crate) elsewhere: Option<String>,
    /// After how many bytes the next answers with content are cut off.
    pub(crate) cuts: Vec<usize>,
    pub(crate) seen: Vec<Seen>,
    /// Status and body of each of Ollama's routes.
    pub(crate) ollama: BTreeMap<&'static str, (u16, String)>,
}

/// A running stub.
#[derive(Clone, Debug)]
pub(crate) struct Stub {
    pub(crate) address: String,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Stub {
    /// Starts one on any port; it ends with the runtime.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behaviour = Arc::<Mutex<Behaviour>>::default();
        let stub = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            behaviour: Arc::clone(&behaviour),
        };
        let router = Router::new().fallback(answer).with_state(behaviour);
        Tasks::new().spawn("stub", async move {
            axum::serve(listener, router).await.unwrap();
        });
        stub
    }

    pub(crate) fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        unpoisoned(&self.behaviour)
    }

    /// Offers a file with a digest.
    pub(crate) fn offer(&self, path: &str, bytes: &[u8]) {
        let offered = Offered {
            bytes: bytes.to_vec(),
            claimed: None,
            large: true,
        };
        self.behaviour().files.insert(path.to_owned(), offered);
    }

    /// The ranges that were asked for with content, one for each request.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        let seen = self.behaviour().seen.clone();
        let content = seen.into_iter().filter(|seen| seen.path.contains("/resolve/"));
        content.map(|seen| seen.range).collect()
    }
}

type Answer = Response<Body>;

fn plain(status: u16, body: impl Into<Body>) -> Answer {
    Response::builder().status(status).body(body.into()).unwrap()
}

async fn answer(State(behaviour): State<Arc<Mutex<Behaviour>>>, request: Request) -> Answer {
    let text = |name| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let path = request.uri().path().to_owned();
    let mut behaviour = unpoisoned(&behaviour);
    let seen = Seen {
        path: path.clone(),
        token: text(header::AUTHORIZATION),
        range: text(header::RANGE),
    };
    behaviour.seen.push(seen.clone());
    if let Some((status, body)) = behaviour.ollama.get(&*path) {
        return plain(*status, body.clone());
    }
    let allowed = |gate: &String| seen.token == Some(format!("Bearer {gate}"));
    if !behaviour.gate.as_ref().is_none_or(allowed) {
        return plain(401, r#"{"error":"Access to model is restricted"}"#);
    }
    if path == "/api/models/owner/name/tree/main" {
        return list(&behaviour, request.uri().query().unwrap_or_default());
    }
    match path.strip_prefix("/owner/name/resolve/main/") {
        Some(file) => content(&mut behaviour, file, &path, seen.range.as_deref()),
        None => plain(404, r#"{"error":"Repository not found"}"#),
    }
}

fn list(behaviour: &Behaviour, query: &str) -> Answer {
    let cursor = query.split('&').find_map(|part| part.strip_prefix("cursor="));
    let first: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
    let entry = |(path, offered): (&String, &Offered)| -> Value {
        let digest = hex::encode(Sha256::digest(offered.claimed.as_ref().unwrap_or(&offered.bytes)));
        let mut entry = json!({
            "type": "file", "oid": &digest[..40], "size": offered.bytes.len(), "path": path,
        });
        if offered.large {
            entry["lfs"] = json!({ "oid": digest, "size": offered.bytes.len(), "pointerSize": 135 });
        }
        entry
    };
    let mut page: Vec<Value> = behaviour.files.iter().skip(first).take(PAGE).map(entry).collect();
    page.push(json!({ "type": "directory", "oid": "0", "size": 0, "path": "folder" }));
    let mut answer = plain(200, Value::Array(page).to_string());
    if first + PAGE < behaviour.files.len() {
        let path = "/api/models/owner/name/tree/main?recursive=1";
        let link = format!("<{path}&cursor={}>; rel=\"next\"", first + PAGE);
        answer.headers_mut().insert(header::LINK, link.parse().unwrap());
    }
    answer
}

fn content(behaviour: &mut Behaviour, file: &str, path: &str, range: Option<&str>) -> Answer {
    if let Some(elsewhere) = &behaviour.elsewhere {
        let location = format!("{elsewhere}{path}");
        let redirection = Response::builder()
            .status(StatusCode::FOUND)
            .header(header::LOCATION, location);
        return redirection.body(Body::empty()).unwrap();
    }
    let Some(offered) = behaviour.files.get(file) else {
        return plain(404, "Entry not found");
    };
    let whole = offered.bytes.clone();
    let length = whole.len();
    let from = range.map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap());
    let from: usize = from.map_or(0, |from| from.parse().unwrap());
    if from > 0 && from >= length {
        return plain(416, "");
    }
    let mut builder = Response::builder().header(header::CONTENT_LENGTH, length - from);
    if from > 0 {
        let range = format!("bytes {from}-{}/{length}", length - 1);
        builder = builder
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, range);
    }
    let rest = Bytes::from(whole).slice(from..);
    let cut = (!behaviour.cuts.is_empty()).then(|| behaviour.cuts.remove(0));
    builder
        .body(match cut {
            None => Body::from(rest),
            Some(after) => {
                let sent = rest.slice(..after.min(rest.len()));
                let cut = async {
                    // What comes before is sent while this waits.
                    tokio::task::yield_now().await;
                    Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut"))
                };
                let before = stream::iter((!sent.is_empty()).then_some(Ok(sent)));
                Body::from_stream(before.chain(stream::once(cut)))
            }
        })
        .unwrap()
}
