//! `infernet chat`: one question, stdin, or a conversation. It talks to the gateway of the node that runs here; where
//! none runs, it joins the network by itself for as long as it takes.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use infernet_inference::sse::Splitter;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Context, Result};
use crate::cli::ChatArgs;
use crate::config::Role;
use crate::launch::launch;
use crate::out::{Exit, Failure, Style};
use crate::runtime::{self, Tasks};
use crate::{ipc, node::Node};

/// A node that joins for one question knows the network within this, or there is nobody.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// Lines typed ahead.
const LINES: usize = 16;
/// A node that joined for this gets so long to end.
const DRAIN: Duration = Duration::from_secs(3);

pub(super) fn run(args: &ChatArgs, context: &Context) -> Result {
    super::foreground::log("warn", context)?;
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        let ended = converse(args, context, &tasks).await;
        tasks.drain(DRAIN).await;
        ended
    })
}

async fn converse(args: &ChatArgs, context: &Context, tasks: &Tasks) -> Result {
    let mut talk = Talk::begin(args, context, tasks).await?;
    match question(args)? {
        Some(prompt) => {
            let ended = talk.ask(&prompt).await;
            talk.leave().await;
            ended
        }
        None => {
            let ended = talk.session().await;
            talk.leave().await;
            ended
        }
    }
}

/// The one question: from the command line, or all of stdin where that is no terminal.
fn question(args: &ChatArgs) -> Result<Option<String>> {
    if let Some(prompt) = &args.prompt {
        return Ok(Some(prompt.clone()));
    }
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    match text.trim() {
        "" => Err(Failure::new(
            Exit::Usage,
            "there is no question: give one as an argument or on stdin",
        )),
        text => Ok(Some(text.to_owned())),
    }
}

/// A conversation and where it is held.
struct Talk<'a> {
    args: &'a ChatArgs,
    context: &'a Context,
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    model: String,
    messages: Vec<Value>,
    joined: Option<std::sync::Arc<Node>>,
}

impl<'a> Talk<'a> {
    async fn begin(args: &'a ChatArgs, context: &'a Context, tasks: &Tasks) -> Result<Self> {
        let config = context.config(&args.join.overrides())?.config;
        let key = config.gateway.api_key.as_ref().map(|key| key.expose().to_owned());
        let running = ipc::call(&context.home, "status", Value::Null).ok();
        let (url, joined) = match running.as_ref().map(|status| status["gateway"].as_str()) {
            Some(Some(url)) => (url.to_owned(), None),
            Some(None) => {
                let why = "the node that runs here has no gateway: start it without `--no-gateway`";
                return Err(Failure::new(Exit::Unreachable, why));
            }
            None => join(config, context, tasks).await?,
        };
        let client = reqwest::Client::builder().no_proxy().build().map_err(unreachable)?;
        let mut talk = Self {
            args,
            context,
            client,
            url,
            key,
            model: String::new(),
            messages: Vec::new(),
            joined,
        };
        talk.model = match &args.model {
            Some(model) => model.clone(),
            None => talk.first_model().await?,
        };
        if let Some(system) = &args.system {
            talk.messages.push(json!({ "role": "system", "content": system }));
        }
        Ok(talk)
    }

    async fn leave(&self) {
        if let Some(node) = &self.joined {
            node.stop().await;
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn models(&self) -> Result<Vec<String>> {
        let answer = self
            .request(reqwest::Method::GET, "/v1/models")
            .send()
            .await
            .map_err(unreachable)?;
        let list: Value = answer.json().await.map_err(unreachable)?;
        let ids = list["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|model| model["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    async fn first_model(&self) -> Result<String> {
        let looked = async {
            loop {
                if let Some(model) = self.models().await?.into_iter().next() {
                    return Ok(model);
                }
                // A list over HTTP cannot be waited for, only asked for again.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let nobody = "nobody on the network serves a model yet; name a node to join through with `--bootstrap`";
        let looked = tokio::time::timeout(JOIN_WITHIN, looked).await;
        looked.map_err(|_| Failure::new(Exit::Unreachable, nobody))?
    }

    /// Asks, shows the answer as it comes, and remembers both.
    async fn ask(&mut self, prompt: &str) -> Result {
        self.messages.push(json!({ "role": "user", "content": prompt }));
        let mut text = String::new();
        let ended = tokio::select! {
            ended = self.stream(&mut text) => ended,
            signal = runtime::signal() => signal.map(|_| Exit::Interrupted).map_err(Failure::from),
        };
        if !self.context.out.is_json() {
            self.context.out.line("");
        }
        if text.is_empty() {
            self.messages.pop();
        } else {
            self.messages.push(json!({ "role": "assistant", "content": text }));
        }
        ended
    }

    async fn stream(&self, text: &mut String) -> Result {
        let mut body = json!({ "model": self.model, "messages": self.messages, "stream": true,
            "stream_options": { "include_usage": true } });
        if let Some(most) = self.args.max_tokens {
            body["max_tokens"] = json!(most);
        }
        if let Some(temperature) = self.args.temperature {
            body["temperature"] = json!(temperature);
        }
        let answer = self
            .request(reqwest::Method::POST, "/v1/chat/completions")
            .json(&body)
            .send()
            .await;
        let answer = answer.map_err(unreachable)?;
        if !answer.status().is_success() {
            let error: Value = answer.json().await.map_err(unreachable)?;
            return Err(said(&error));
        }
        let mut chunks = answer.bytes_stream();
        let mut events = Splitter::default();
        while let Some(bytes) = chunks.next().await {
            events.push(bytes.map_err(unreachable)?);
            while let Ok(Some(event)) = events.next_event() {
                match event.data().as_deref() {
                    Some(b"[DONE]") => return Ok(Exit::Done),
                    Some(data) => self.chunk(data, text)?,
                    None => {}
                }
            }
        }
        Err(Failure::new(Exit::Failed, "the answer broke off; ask again"))
    }

    fn chunk(&self, data: &[u8], text: &mut String) -> Result<()> {
        let Ok(chunk) = serde_json::from_slice::<Value>(data) else {
            return Ok(());
        };
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Err(said(&chunk));
        }
        let out = &self.context.out;
        if out.is_json() {
            out.json(&chunk);
        }
        if let Some(piece) = chunk["choices"][0]["delta"]["content"].as_str() {
            text.push_str(piece);
            if !out.is_json() {
                out.piece(piece);
            }
        }
        Ok(())
    }

    /// A conversation, line by line.
    async fn session(&mut self) -> Result {
        let out = self.context.out;
        out.note(out.paint(
            Style::Dim,
            &format!("{} — /model NAME, /new, /quit; Ctrl-C stops an answer", self.model),
        ));
        let (lines, mut typed) = mpsc::channel::<Bytes>(LINES);
        // Reading a terminal cannot be cancelled, so this is a thread that ends with the process and not a task.
        std::thread::spawn(move || read_lines(&lines));
        loop {
            out.piece(&out.paint(Style::Bold, "> "));
            let line = tokio::select! {
                line = typed.recv() => line,
                signal = runtime::signal() => return signal.map(|_| Exit::Interrupted).map_err(Failure::from),
            };
            let Some(line) = line else { return Ok(Exit::Done) };
            match String::from_utf8_lossy(&line).trim() {
                "" => {}
                "/quit" | "/exit" => return Ok(Exit::Done),
                "/new" => self.messages.retain(|message| message["role"] == "system"),
                "/model" => out.line(self.models().await?.join("\n")),
                command if command.starts_with("/model ") => self.model = command["/model ".len()..].trim().to_owned(),
                prompt => {
                    let prompt = prompt.to_owned();
                    match self.ask(&prompt).await {
                        Ok(_) => {}
                        Err(failure) => out.error(failure.message),
                    }
                }
            }
        }
    }
}

fn read_lines(lines: &mpsc::Sender<Bytes>) {
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        if lines.blocking_send(line.into()).is_err() {
            return;
        }
    }
}

/// Joins the network for this question alone.
async fn join(
    mut config: crate::config::Config,
    context: &Context,
    tasks: &Tasks,
) -> Result<(String, Option<std::sync::Arc<Node>>)> {
    config.role = Role::Consumer;
    config.p2p.port = 0;
    config.gateway.listen = Some(([127, 0, 0, 1], 0).into());
    let home = context.home.lock()?;
    let launched = launch(&home, &config, tasks).await.map_err(unreachable)?;
    let url = launched
        .gateway
        .ok_or_else(|| unreachable("the gateway did not start"))?;
    Ok((url, Some(launched.node)))
}

fn unreachable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, error)
}

/// The gateway's own words.
fn said(error: &Value) -> Failure {
    let message = error["error"]["message"]
        .as_str()
        .unwrap_or("the gateway refused without a word");
    Failure::new(Exit::Failed, message)
}
