//! A small HTTP/1.1 server for tests, which writes exactly the bytes that it is told to, where a real one would choose
//! its own: answers cut in odd places, connections that break off, heads that never come.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use infernet_inference::contract::Idle;
use infernet_inference::{Backend, BackendError, Endpoint, Job, Piece, ScriptedBackend};
use infernet_protocol::ModelId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The side of a connection that answers.
pub struct Reply {
    socket: OwnedWriteHalf,
}

impl Reply {
    pub async fn raw(&mut self, bytes: &[u8]) {
        // A client that has gone is seen by the reading side.
        let _ = self.socket.write_all(bytes).await;
        let _ = self.socket.flush().await;
    }

    /// A whole answer.
    pub async fn whole(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        self.raw(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}").as_bytes())
            .await;
    }

    pub async fn json(&mut self, status: u16, body: &str) {
        self.whole(status, "content-type: application/json\r\n", body).await;
    }

    pub async fn head(&mut self, content_type: &str) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n");
        self.raw(head.as_bytes()).await;
    }

    pub async fn chunk(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            self.raw(&chunk).await;
        }
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    pub async fn end(&mut self) {
        self.raw(b"0\r\n\r\n").await;
    }
}

type Handler = Arc<dyn Fn(Recorded, Reply) -> BoxFuture<'static, Reply> + Send + Sync>;

/// What a server has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: usize,
    pub requests: Vec<Recorded>,
    /// Requests being answered.
    pub running: usize,
    /// Requests whose client went away before the end.
    pub abandoned: usize,
}

/// The server; it ends when dropped.
pub struct Server {
    pub address: String,
    pub seen: watch::Receiver<Seen>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(Recorded, Reply) -> BoxFuture<'static, Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, seen) = watch::channel(Seen::default());
        let handler: Handler = Arc::new(answer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                sender.send_modify(|seen| seen.connections += 1);
                connections.spawn(serve(socket, handler.clone(), sender.clone()));
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    /// Waits until what was seen satisfies `holds`.
    pub async fn until(&self, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let wait = seen.wait_for(holds);
        tokio::time::timeout(std::time::Duration::from_secs(20), wait)
            .await
            .expect("in time")
            .unwrap()
            .clone()
    }
}

#[async_trait::async_trait]
impl Idle for Server {
    async fn idle(&self) {
        self.until(|seen| seen.running == 0).await;
    }
}

async fn serve(socket: TcpStream, handler: Handler, seen: watch::Sender<Seen>) {
    socket.set_nodelay(true).unwrap();
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(request) = read_request(&mut reader).await {
        seen.send_modify(|seen| {
            seen.requests.push(request.clone());
            seen.running += 1;
        });
        let answer = handler(request, Reply { socket: writer });
        // Reading while answering is how a server learns that its client has gone.
        let kept = tokio::select! {
            reply = answer => Some(reply),
            _ = reader.fill_buf() => None,
        };
        seen.send_modify(|seen| {
            seen.running -= 1;
            seen.abandoned += usize::from(kept.is_none());
        });
        match kept {
            Some(reply) => writer = reply.socket,
            None => return,
        }
    }
}

async fn read_request(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Recorded> {
    let mut line = String::new();
    let mut lines = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    Some(Recorded {
        method,
        path,
        headers,
        body: body.into(),
    })
}

/// A server in front of a scripted engine, as vLLM stands in front of its own: the engine's own model names, answers cut
/// every `cut` bytes, usage when asked for.
pub async fn engine(backend: ScriptedBackend, cut: usize) -> Server {
    Server::start(move |request, mut reply| {
        let backend = backend.clone();
        Box::pin(async move {
            if request.path == "/v1/models" {
                let models = backend.models().await.unwrap();
                let list = models.iter().map(|model| {
                    format!(
                        r#"{{"id":"{}","object":"model","owned_by":"tests","max_model_len":{}}}"#,
                        model.name,
                        model.context.unwrap()
                    )
                });
                let list = list.collect::<Vec<_>>().join(",");
                reply
                    .json(200, &format!(r#"{{"object":"list","data":[{list}]}}"#))
                    .await;
                return reply;
            }
            let Some(endpoint) = Endpoint::parse(&request.path) else {
                reply.json(404, r#"{"error":{"message":"no such route"}}"#).await;
                return reply;
            };
            let name = infernet_inference::Request::read(endpoint, &request.body).map(|request| request.model);
            let name = name.unwrap_or_else(|_| "unreadable".into());
            let Ok(id) = ModelId::new(&name) else {
                reply.json(400, "{}").await;
                return reply;
            };
            let job = Job {
                endpoint,
                model: name,
                id,
                body: request.body,
                max_output: None,
                resume: None,
            };
            match backend.run(job).await {
                Ok(mut answer) => {
                    reply.head(answer.content_type.as_str()).await;
                    while let Some(piece) = answer.next().await {
                        match piece {
                            Ok(Piece::Data { bytes, .. }) => {
                                for part in bytes.chunks(cut) {
                                    reply.chunk(part).await;
                                }
                            }
                            Ok(Piece::Usage(_)) => {}
                            // Broken off: the connection closes without the last chunk.
                            Err(_) => {
                                reply.close().await;
                                return reply;
                            }
                        }
                    }
                    reply.end().await;
                }
                Err(BackendError::Refused { status, body }) => {
                    reply.json(status, std::str::from_utf8(&body).unwrap()).await;
                }
                Err(BackendError::Busy { retry_after }) => {
                    let seconds = retry_after.map_or(1, |after| after.as_secs());
                    reply.whole(429, &format!("retry-after: {seconds}\r\n"), "{}").await;
                }
                Err(_) => reply.json(500, "{}").await,
            }
            reply
        })
    })
    .await
}
