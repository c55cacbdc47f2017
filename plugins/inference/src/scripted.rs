//! An engine that says what a script tells it to: tokens, pace, delays, faults. It answers in the same wire shapes as a
//! real one and passes the same contract, so that whatever stands in front of it is tested for real.
//!
//! Nothing chooses it but a caller that makes one: no probe finds it and `auto` does not know it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, stream};
use infernet_protocol::capability::Features;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::backend::{
    Answer, Backend, BackendError, ContentType, Continuation, Counted, Endpoint, Job, Model, Piece, Usage,
};
use crate::json::{self, Object};
use crate::request::{Request, RequestError};
use crate::watch::Finish;
use crate::wire::{Writer, error_json};

/// What a scripted engine does.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Names of its models.
    pub models: Vec<String>,
    /// What it says.
    pub reply: Reply,
    /// Milliseconds until the first token.
    pub first_token_ms: u64,
    /// Milliseconds between tokens.
    pub token_ms: u64,
    /// How many requests it runs at once; more are refused as busy. Unbounded when absent.
    pub slots: Option<u16>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// How many requests the fault strikes, counted from the first; all of them when absent.
    pub fault_requests: Option<u64>,
    /// What it claims to have counted, in percent of the truth; 100 is honest.
    pub usage_percent: u32,
    /// Whether it hands token ids over, and can go on from them.
    pub token_ids: bool,
    /// Longest input and output together, in tokens.
    pub context: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            models: vec!["scripted".into()],
            reply: Reply::Words(16),
            first_token_ms: 0,
            token_ms: 0,
            slots: None,
            fault: None,
            fault_requests: None,
            usage_percent: 100,
            token_ids: false,
            context: 1 << 20,
        }
    }
}

impl Script {
    /// Reads a script from JSON.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// What a scripted engine says. Words are its tokens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// So many words, some of them outside ASCII.
    Words(u32),
    /// This.
    Text(String),
    /// What the last message, or the prompt, said.
    Echo,
}

/// What goes wrong in a scripted engine.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It refuses with this status.
    Refuse(u16),
    /// It is busy and says for how many seconds.
    Busy(u64),
    /// It is not there.
    Unreachable,
    /// It breaks off after so many tokens.
    Break(u32),
    /// It reports an error of its own after so many tokens.
    Fail(u32),
    /// It falls silent after so many tokens, for ever.
    Hang(u32),
    /// It answers with no head, for ever.
    Silent,
}

/// What a scripted engine has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that reached it.
    pub started: u64,
    /// Jobs answered to their end.
    pub completed: u64,
    /// Jobs dropped before their end.
    pub cancelled: u64,
    /// Jobs ended by a fault.
    pub failed: u64,
    /// Jobs running now.
    pub running: u64,
    /// Most that ran at once.
    pub most_running: u64,
    /// Tokens made.
    pub tokens: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ScriptedBackend {
    script: Arc<Mutex<Script>>,
    counts: watch::Sender<Counts>,
}

impl ScriptedBackend {
    /// An engine that follows `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self {
            script: Arc::new(Mutex::new(script)),
            counts: watch::Sender::new(Counts::default()),
        }
    }

    /// Follows another script from the next request on.
    pub fn follow(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Tells of every change of [`Self::counts`]: what a test waits on.
    #[must_use]
    pub fn observe(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    fn script(&self) -> Script {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Backend for ScriptedBackend {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn models(&self) -> Result<Vec<Model>, BackendError> {
        let script = self.script();
        if script.fault == Some(Fault::Unreachable) {
            return Err(unreachable());
        }
        let describe = |name: &String| {
            let model = Model::named(name)?;
            let resume = if script.token_ids {
                Features::CONTINUE
            } else {
                Features::default()
            };
            Some(Model {
                context: Some(script.context),
                slots: script.slots,
                features: model.features.with(resume),
                ..model
            })
        };
        Ok(script.models.iter().filter_map(describe).collect())
    }

    async fn run(&self, job: Job) -> Result<Answer, BackendError> {
        let script = self.script();
        let number = self.counts.borrow().started;
        let struck = script.fault_requests.is_none_or(|most| number < most);
        let fault = script.fault.clone().filter(|_| struck);
        let mut run = Run::begin(&self.counts);
        match fault {
            Some(Fault::Refuse(status)) => {
                let body = error_json("the script refuses", "server_error", None, None).into();
                return Err(run.fail(BackendError::Refused { status, body }));
            }
            Some(Fault::Busy(seconds)) => {
                return Err(run.fail(BackendError::Busy {
                    retry_after: Some(Duration::from_secs(seconds)),
                }));
            }
            Some(Fault::Unreachable) => return Err(run.fail(unreachable())),
            Some(Fault::Silent) => std::future::pending().await,
            _ => {}
        }
        if script
            .slots
            .is_some_and(|slots| self.counts.borrow().running > u64::from(slots))
        {
            return Err(run.fail(BackendError::Busy { retry_after: None }));
        }
        match Play::new(&script, fault, &job) {
            Ok((play, content_type)) => Ok(Answer::new(content_type, play.pieces(run))),
            Err(error) => Err(run.fail(error)),
        }
    }
}

fn unreachable() -> BackendError {
    BackendError::Unreachable {
        address: "scripted".into(),
        reason: "the script says so".into(),
    }
}

/// One job running, counted while it lives.
struct Run {
    counts: watch::Sender<Counts>,
    ended: bool,
}

impl Run {
    fn begin(counts: &watch::Sender<Counts>) -> Self {
        counts.send_modify(|counts| {
            counts.started += 1;
            counts.running += 1;
            counts.most_running = counts.most_running.max(counts.running);
        });
        Self {
            counts: counts.clone(),
            ended: false,
        }
    }

    fn token(&self) {
        self.counts.send_modify(|counts| counts.tokens += 1);
    }

    fn fail(&mut self, error: BackendError) -> BackendError {
        self.end(|counts| counts.failed += 1);
        error
    }

    fn complete(&mut self) {
        self.end(|counts| counts.completed += 1);
    }

    fn end(&mut self, count: impl FnOnce(&mut Counts)) {
        if !std::mem::replace(&mut self.ended, true) {
            self.counts.send_modify(|counts| {
                counts.running -= 1;
                count(counts);
            });
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end(|counts| counts.cancelled += 1);
    }
}

/// One answer, as far as it has been told.
struct Play {
    words: std::vec::IntoIter<String>,
    told: u32,
    finish: Finish,
    input_tokens: u32,
    writer: Option<Writer>,
    fault: Option<Fault>,
    script: Script,
    usage: Option<Usage>,
}

impl Play {
    fn new(script: &Script, fault: Option<Fault>, job: &Job) -> Result<(Self, ContentType), BackendError> {
        let request = Request::read(job.endpoint, &job.body).map_err(|error| refused(&error))?;
        if !script.models.contains(&job.model) {
            let body = error_json(
                "no such model",
                "invalid_request_error",
                Some("model"),
                Some("model_not_found"),
            );
            return Err(BackendError::Refused {
                status: 404,
                body: body.into(),
            });
        }
        if job.endpoint == Endpoint::Embeddings {
            return Err(BackendError::Unsupported("embeddings"));
        }
        if request.choices != 1 {
            return Err(refused(&RequestError::NotAllowed { param: "n".into() }));
        }
        let prompt = prompt(job).unwrap_or_default();
        let input_tokens = words(&prompt).count().max(1) as u32;
        if input_tokens > script.context {
            let body = error_json(
                "the prompt is longer than the context",
                "invalid_request_error",
                Some("messages"),
                None,
            );
            return Err(BackendError::Refused {
                status: 400,
                body: body.into(),
            });
        }
        let mut said: Vec<String> = match &script.reply {
            Reply::Words(count) => (0..*count).map(word).collect(),
            Reply::Text(text) => words(text).map(str::to_owned).collect(),
            Reply::Echo => words(&prompt).map(str::to_owned).collect(),
        };
        skip(&mut said, job.resume.as_ref(), script.token_ids)?;
        let limit = request
            .max_output
            .into_iter()
            .chain(job.max_output)
            .min()
            .unwrap_or(u32::MAX) as usize;
        let finish = if said.len() > limit {
            Finish::Length
        } else {
            Finish::Stop
        };
        said.truncate(limit);
        let content_type = if request.stream {
            ContentType::EventStream
        } else {
            ContentType::Json
        };
        let play = Self {
            words: said.into_iter(),
            told: 0,
            finish,
            input_tokens,
            writer: Some(Writer::new(&request, job.id.as_str())),
            fault,
            script: script.clone(),
            usage: None,
        };
        Ok((play, content_type))
    }

    fn pieces(self, run: Run) -> impl Stream<Item = Result<Piece, BackendError>> + Send + 'static {
        stream::unfold((self, run), |(mut play, mut run)| async move {
            let piece = play.next(&mut run).await?;
            Some((piece, (play, run)))
        })
    }

    async fn next(&mut self, run: &mut Run) -> Option<Result<Piece, BackendError>> {
        if let Some(usage) = self.usage.take() {
            run.complete();
            return Some(Ok(Piece::Usage(usage)));
        }
        let error = loop {
            self.writer.as_ref()?;
            match self.fault {
                Some(Fault::Break(after)) if after == self.told => break BackendError::Broken("the script ends here"),
                Some(Fault::Fail(after)) if after == self.told => {
                    break BackendError::Failed {
                        body: error_json("the script fails", "server_error", None, None).into(),
                    };
                }
                Some(Fault::Hang(after)) if after == self.told => std::future::pending().await,
                _ => {}
            }
            let Some(word) = self.words.next() else {
                return Some(Ok(self.end()));
            };
            let wait = if self.told == 0 {
                self.script.first_token_ms
            } else {
                self.script.token_ms
            };
            if wait > 0 {
                sleep(Duration::from_millis(wait)).await;
            }
            self.told += 1;
            run.token();
            if let Some(bytes) = self.writer.as_mut()?.text(&word) {
                let tokens = self.script.token_ids.then(|| vec![self.told - 1]);
                return Some(Ok(Piece::Data { bytes, tokens }));
            }
        };
        self.writer = None;
        Some(Err(run.fail(error)))
    }

    fn end(&mut self) -> Piece {
        let percent = |tokens: u32| u32::try_from(u64::from(tokens) * u64::from(self.script.usage_percent) / 100);
        let usage = Usage {
            input_tokens: percent(self.input_tokens).unwrap_or(u32::MAX),
            output_tokens: percent(self.told).unwrap_or(u32::MAX),
            counted: Counted::Engine,
        };
        self.usage = Some(usage);
        Piece::data(
            self.writer
                .take()
                .map_or_else(Bytes::new, |writer| writer.end(self.finish, &usage)),
        )
    }
}

/// Leaves out what was delivered already.
fn skip(said: &mut Vec<String>, resume: Option<&Continuation>, can: bool) -> Result<(), BackendError> {
    let delivered = match resume {
        None => 0,
        Some(_) if !can => return Err(BackendError::Unsupported("continue")),
        Some(Continuation::Tokens(tokens)) => tokens.len(),
        Some(Continuation::Text(text)) => {
            let mut left = text.as_str();
            said.iter()
                .take_while(|word| left.strip_prefix(word.as_str()).map(|rest| left = rest).is_some())
                .count()
        }
    };
    said.drain(..delivered.min(said.len()));
    Ok(())
}

fn refused(error: &RequestError) -> BackendError {
    let body = error_json(&error.to_string(), "invalid_request_error", error.param(), None);
    BackendError::Refused {
        status: 400,
        body: body.into(),
    }
}

/// What the last message, or the prompt, says.
fn prompt(job: &Job) -> Option<String> {
    let object = Object::read(&job.body).ok()?;
    if job.endpoint == Endpoint::Completions {
        return object
            .get("prompt")
            .and_then(json::string)
            .map(|text| text.into_owned());
    }
    let last = json::elements(object.get("messages")?).last()?;
    Object::read(last)
        .ok()?
        .get("content")
        .and_then(json::string)
        .map(|text| text.into_owned())
}

/// Words with the white space that follows them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

/// The word at one place of a made-up text.
fn word(place: u32) -> String {
    const WORDS: [&str; 7] = ["fox", "naïve", "日本", "\u{1f98a}", "\"quoted\"", "back\\slash", "a\nb"];
    format!("{}{place} ", WORDS[place as usize % WORDS.len()])
}

#[cfg(test)]
mod tests {
    use infernet_protocol::ModelId;

    use super::*;

    fn job(body: &str) -> Job {
        Job {
            endpoint: Endpoint::ChatCompletions,
            model: "scripted".into(),
            id: ModelId::new("scripted").unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            max_output: None,
            resume: None,
        }
    }

    const BODY: &str = r#"{"model":"scripted","stream":true,"messages":[{"role":"user","content":"one two three"}]}"#;

    async fn tell(backend: &ScriptedBackend, job: Job) -> (String, Option<Usage>, Option<BackendError>) {
        let mut answer = backend.run(job).await.unwrap();
        let (mut text, mut usage) = (String::new(), None);
        while let Some(piece) = answer.next().await {
            match piece {
                Ok(Piece::Data { bytes, .. }) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Ok(Piece::Usage(told)) => usage = Some(told),
                Err(error) => return (text, usage, Some(error)),
            }
        }
        (text, usage, None)
    }

    #[tokio::test]
    async fn it_echoes_and_counts() {
        let backend = ScriptedBackend::new(Script {
            reply: Reply::Echo,
            ..Script::default()
        });
        let (text, usage, error) = tell(&backend, job(BODY)).await;
        assert!(text.contains(r#""content":"two ""#) && text.ends_with("data: [DONE]\n\n") && error.is_none());
        assert_eq!(usage.unwrap().output_tokens, 3);
        let counts = backend.counts();
        assert_eq!(
            (counts.started, counts.completed, counts.running, counts.tokens),
            (1, 1, 0, 3)
        );
    }

    #[tokio::test]
    async fn faults_strike_where_the_script_says() {
        let script = Script {
            fault: Some(Fault::Break(2)),
            fault_requests: Some(1),
            ..Script::default()
        };
        let backend = ScriptedBackend::new(script);
        let (text, usage, error) = tell(&backend, job(BODY)).await;
        assert!(matches!(error, Some(BackendError::Broken(_))) && usage.is_none() && !text.contains("[DONE]"));
        assert_eq!(text.matches("\"content\":\"").count(), 3, "the role and two words");
        assert!(
            tell(&backend, job(BODY)).await.2.is_none(),
            "the second request is spared"
        );
        assert_eq!(backend.counts().failed, 1);
    }

    #[tokio::test]
    async fn a_full_engine_is_busy() {
        let backend = ScriptedBackend::new(Script {
            slots: Some(1),
            fault: Some(Fault::Hang(1)),
            ..Script::default()
        });
        let mut first = backend.run(job(BODY)).await.unwrap();
        first.next().await.unwrap().unwrap();
        assert!(matches!(backend.run(job(BODY)).await, Err(BackendError::Busy { .. })));
        drop(first);
        assert_eq!((backend.counts().cancelled, backend.counts().running), (1, 0));
    }

    #[tokio::test]
    async fn it_goes_on_from_token_ids_and_from_text() {
        let backend = ScriptedBackend::new(Script {
            token_ids: true,
            reply: Reply::Echo,
            ..Script::default()
        });
        for resume in [Continuation::Tokens(vec![0, 1]), Continuation::Text("one two ".into())] {
            let (text, usage, _) = tell(
                &backend,
                Job {
                    resume: Some(resume),
                    ..job(BODY)
                },
            )
            .await;
            assert!(text.contains("three") && !text.contains("two"));
            assert_eq!(usage.unwrap().output_tokens, 1);
        }
    }

    #[test]
    fn scripts_are_read_from_json() {
        let script = Script::from_json(r#"{"reply":{"text":"hi"},"fault":{"hang":3},"token_ms":5}"#).unwrap();
        assert_eq!(
            (script.reply, script.fault, script.token_ms),
            (Reply::Text("hi".into()), Some(Fault::Hang(3)), 5)
        );
        assert_eq!(
            Script::from_json(r#"{"reply":"echo","fault":"silent"}"#).unwrap().fault,
            Some(Fault::Silent)
        );
        assert!(Script::from_json(r#"{"tokenms":5}"#).is_err());
    }
}
