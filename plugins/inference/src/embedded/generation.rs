//! Chat and completions on the engine that generates.

use bytes::Bytes;
use futures::{Stream, stream};
use infernet_engine::{Engine, Event, Params, Reason, Refusal, Sequence};

use super::parse::{self, Parsed, Prompt};
use super::{BYTES_PER_CONTEXT_TOKEN, INLINE_BYTES, too_long};
use crate::backend::{Answer, BackendError, ContentType, Continuation, Counted, Job, Piece, Usage};
use crate::request::Request;
use crate::watch::Finish;
use crate::wire::{Writer, error_json};

/// Most events that are merged into one piece.
const MERGE_EVENTS: usize = 32;

/// Runs one job, whose body `request` is.
pub(super) async fn run(engine: &Engine, request: &Request, job: &Job) -> Result<Answer, BackendError> {
    let Parsed { prompt, mut params } = parse::parse(request, job)?;
    let mut ids = tokens(engine, prompt).await?;
    let resumed = match &job.resume {
        None => Vec::new(),
        Some(Continuation::Tokens(tokens)) => tokens.clone(),
        Some(Continuation::Text(text)) => engine
            .model()
            .tokenize(text, false)
            .map_err(|error| parse::bad(&error.to_string(), None))?,
    };
    params.already_generated = u32::try_from(resumed.len()).unwrap_or(u32::MAX);
    ids.extend(resumed);
    let sequence = generate(engine, ids, params)?;
    let content_type = if request.stream {
        ContentType::EventStream
    } else {
        ContentType::Json
    };
    let writer = Writer::new(request, job.id.as_str());
    Ok(Answer::new(
        content_type,
        Telling {
            sequence,
            writer: Some(writer),
            ids: Vec::new(),
            usage: None,
        }
        .pieces(),
    ))
}

/// Token ids of the prompt, cut beside the runtime's threads where that takes long.
async fn tokens(engine: &Engine, prompt: Prompt) -> Result<Vec<u32>, BackendError> {
    let bytes = prompt.bytes();
    let context = engine.model().info().context_length;
    if bytes > context.saturating_mul(BYTES_PER_CONTEXT_TOKEN) {
        return Err(too_long("the prompt is far longer than the model's context", None));
    }
    let model = engine.model().clone();
    if bytes <= INLINE_BYTES {
        return prompt.tokens(&model);
    }
    let cut = tokio::task::spawn_blocking(move || prompt.tokens(&model)).await;
    cut.map_err(|_| BackendError::Broken("its tokenizer failed"))?
}

fn generate(engine: &Engine, ids: Vec<u32>, params: Params) -> Result<Sequence, BackendError> {
    engine.generate(ids, params).map_err(|refusal| match &refusal {
        Refusal::Busy { .. } => BackendError::Busy { retry_after: None },
        Refusal::PromptTooLong { .. } => too_long(&refusal.to_string(), None),
        Refusal::Parameter { name, .. } => parse::bad(&refusal.to_string(), Some(name)),
        Refusal::EmptyPrompt | Refusal::UnknownToken { .. } => parse::bad(&refusal.to_string(), None),
        _ => BackendError::Broken("it has stopped"),
    })
}

/// One answer on its way out; dropping it drops the sequence, which ends before its next token.
struct Telling {
    sequence: Sequence,
    /// Gone after the end.
    writer: Option<Writer>,
    /// Ids behind text that has not gone out: all of them, where the answer is one document.
    ids: Vec<u32>,
    usage: Option<Usage>,
}

impl Telling {
    fn pieces(self) -> impl Stream<Item = Result<Piece, BackendError>> + Send + 'static {
        stream::unfold(self, |mut telling| async move {
            let piece = telling.next().await?;
            Some((piece, telling))
        })
    }

    async fn next(&mut self) -> Option<Result<Piece, BackendError>> {
        if let Some(usage) = self.usage.take() {
            return Some(Ok(Piece::Usage(usage)));
        }
        loop {
            self.writer.as_ref()?;
            let Some(event) = self.sequence.recv().await else {
                self.writer = None;
                return Some(Err(BackendError::Broken("it has stopped")));
            };
            if let Some(piece) = self.tell(event) {
                return Some(piece);
            }
        }
    }

    fn tell(&mut self, event: Event) -> Option<Result<Piece, BackendError>> {
        let mut text = String::new();
        let mut event = Some(event);
        let mut merged = 0;
        let last = loop {
            match event {
                Some(Event::Token { text: more, ids }) => {
                    text.push_str(&more);
                    self.ids.extend(ids);
                }
                other => break other,
            }
            merged += 1;
            event = if merged < MERGE_EVENTS {
                self.sequence.try_recv()
            } else {
                None
            };
        };
        let mut writer = self.writer.take()?;
        let mut out = Vec::new();
        if !text.is_empty() {
            out.extend(writer.text(&text));
        }
        match last {
            None => {
                self.writer = Some(writer);
                let bytes = out.pop()?;
                Some(Ok(self.data(bytes)))
            }
            Some(Event::Done { reason, usage }) => {
                let usage = Usage {
                    input_tokens: usage.prompt_tokens,
                    output_tokens: usage.completion_tokens,
                    counted: Counted::Engine,
                };
                let finish = if reason == Reason::Length {
                    Finish::Length
                } else {
                    Finish::Stop
                };
                self.usage = Some(usage);
                out.push(writer.end(finish, &usage));
                Some(Ok(self.data(out.concat().into())))
            }
            Some(Event::Failed(error)) => {
                let body = error_json(&error.to_string(), "server_error", None, None);
                Some(Err(BackendError::Failed { body: body.into() }))
            }
            Some(Event::Token { .. }) => None,
        }
    }

    fn data(&mut self, bytes: Bytes) -> Piece {
        Piece::Data {
            bytes,
            tokens: Some(std::mem::take(&mut self.ids)),
        }
    }
}
