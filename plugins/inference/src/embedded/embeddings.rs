//! Embeddings on the engine that embeds. An input that the model cannot see as a whole is refused and never cut short,
//! and token ids are taken as they are, special tokens and all.

use std::vec::IntoIter;

use bytes::Bytes;
use futures::{Stream, stream};
use infernet_engine::{Embedder, Embedding, EmbeddingModel, INPUTS_MAX, Refusal};

use super::parse::{bad, invalid, refused, unsupported};
use super::{BYTES_PER_CONTEXT_TOKEN, INLINE_BYTES, too_long};
use crate::backend::{Answer, BackendError, ContentType, Counted, Job, Piece, Usage};
use crate::json::{self, Object};
use crate::wire::embeddings::{Document, Encoding};
use crate::wire::error_json;

/// Where an error in the inputs is.
const INPUT: &str = "input";
/// Bytes of the answer that go out at once: few enough to be written where others wait, many for a frame.
const PIECE_BYTES: usize = 64 * 1024;

/// What a request asks of the engine.
struct Parsed {
    inputs: Vec<Input>,
    encoding: Encoding,
}

/// One thing to embed.
enum Input {
    Text(String),
    Tokens(Vec<u32>),
}

/// Runs one job.
pub(super) async fn run(embedder: &Embedder, job: &Job) -> Result<Answer, BackendError> {
    let model = embedder.model();
    let Parsed { inputs, encoding } = parse(job, model.info().dimensions)?;
    let ids = tokens(inputs, model).await?;
    let counted = ids.iter().map(Vec::len).sum::<usize>();
    let usage = Usage {
        input_tokens: u32::try_from(counted).unwrap_or(u32::MAX),
        output_tokens: 0,
        counted: Counted::Engine,
    };
    let embedding = embedder.embed(ids).map_err(|refusal| match &refusal {
        Refusal::Busy { .. } => BackendError::Busy { retry_after: None },
        Refusal::InputTooLong { .. } => too_long(&refusal.to_string(), Some(INPUT)),
        Refusal::Stopped => BackendError::Broken("it has stopped"),
        _ => bad(&refusal.to_string(), Some(INPUT)),
    })?;
    let document = Document::new(job.id.as_str(), encoding, usage);
    Ok(Answer::new(
        ContentType::Json,
        Telling::Computing(embedding, document).pieces(),
    ))
}

/// Reads the body, which is known to be a request for embeddings; refuses what would have to be ignored.
fn parse(job: &Job, dimensions: usize) -> Result<Parsed, BackendError> {
    let object = Object::read(&job.body).map_err(|error| refused(&error.into()))?;
    let mut parsed = Parsed {
        inputs: Vec::new(),
        encoding: Encoding::Float,
    };
    for member in object.members() {
        if json::is_null(member.value) {
            continue;
        }
        let name = member.name();
        match &*String::from_utf8_lossy(&name) {
            "model" | "user" => {}
            "stream" if member.value == b"false" => {}
            INPUT => parsed.inputs = inputs(member.value)?,
            "encoding_format" => {
                parsed.encoding = match json::string(member.value).as_deref() {
                    Some("float") => Encoding::Float,
                    Some("base64") => Encoding::Base64,
                    _ => return Err(invalid("encoding_format", "`float` or `base64`")),
                }
            }
            "dimensions" if serde_json::from_slice(member.value).ok() == Some(dimensions) => {}
            "dimensions" => {
                let message = format!(
                    "this model's vectors have {dimensions} dimensions and are not shortened; ask for {dimensions}, or leave `dimensions` out"
                );
                return Err(bad(&message, Some("dimensions")));
            }
            other => return Err(unsupported(other)),
        }
    }
    Ok(parsed)
}

/// A text, an array of texts, an array of token ids, or an array of such arrays.
fn inputs(value: &[u8]) -> Result<Vec<Input>, BackendError> {
    let wrong = || invalid(INPUT, "text, an array of texts, or token ids");
    let ids = |value: &[u8]| serde_json::from_slice(value).map(Input::Tokens).map_err(|_| wrong());
    if let Some(text) = json::string(value) {
        return Ok(vec![Input::Text(text.into_owned())]);
    }
    let first = json::elements(value).next().ok_or_else(wrong)?;
    if !first.starts_with(b"[") && !first.starts_with(b"\"") {
        return Ok(vec![ids(value)?]);
    }
    // One more than may be is enough to know that there are too many.
    let elements = json::elements(value).take(INPUTS_MAX + 1);
    elements
        .map(|element| match json::string(element) {
            Some(text) => Ok(Input::Text(text.into_owned())),
            None => ids(element),
        })
        .collect()
}

/// Token ids of all inputs, cut beside the runtime's threads where that takes long.
async fn tokens(inputs: Vec<Input>, model: &EmbeddingModel) -> Result<Vec<Vec<u32>>, BackendError> {
    let longest = model.info().context_length.saturating_mul(BYTES_PER_CONTEXT_TOKEN);
    let mut bytes = 0;
    for (index, input) in inputs.iter().enumerate() {
        let Input::Text(text) = input else { continue };
        if text.is_empty() {
            return Err(bad(&format!("input `{index}` is empty; send some text"), Some(INPUT)));
        }
        if text.len() > longest {
            let context = model.info().context_length;
            let message =
                format!("input `{index}` is far longer than the `{context}` tokens that the model takes; split it");
            return Err(too_long(&message, Some(INPUT)));
        }
        bytes += text.len();
    }
    let model = model.clone();
    let cut = move || {
        let cut = |input| match input {
            Input::Tokens(ids) => Ok(ids),
            Input::Text(text) => model
                .tokenize(&text)
                .map_err(|error| bad(&error.to_string(), Some(INPUT))),
        };
        inputs.into_iter().map(cut).collect()
    };
    if bytes <= INLINE_BYTES {
        return cut();
    }
    let cut = tokio::task::spawn_blocking(cut).await;
    cut.map_err(|_| BackendError::Broken("its tokenizer failed"))?
}

/// One answer on its way out; dropping it while it is computed ends that before its next layer.
enum Telling {
    Computing(Embedding, Document),
    Writing(IntoIter<Vec<f32>>, Document),
    Counting(Usage),
    Done,
}

impl Telling {
    fn pieces(self) -> impl Stream<Item = Result<Piece, BackendError>> + Send + 'static {
        stream::unfold(self, |telling| async move {
            match telling {
                Self::Computing(mut embedding, document) => Some(match embedding.vectors().await {
                    Some(Ok(vectors)) => Self::write(vectors.into_iter(), document),
                    Some(Err(error)) => {
                        let body = error_json(&error.to_string(), "server_error", None, None).into();
                        (Err(BackendError::Failed { body }), Self::Done)
                    }
                    None => (Err(BackendError::Broken("it has stopped")), Self::Done),
                }),
                Self::Writing(vectors, document) => Some(Self::write(vectors, document)),
                Self::Counting(usage) => Some((Ok(Piece::Usage(usage)), Self::Done)),
                Self::Done => None,
            }
        })
    }

    /// The next bytes, and what follows them.
    fn write(mut vectors: IntoIter<Vec<f32>>, mut document: Document) -> (Result<Piece, BackendError>, Self) {
        let mut out = String::with_capacity(PIECE_BYTES);
        while out.len() < PIECE_BYTES {
            match vectors.next() {
                Some(vector) => document.vector(&mut out, &vector),
                None => {
                    let usage = document.end(&mut out);
                    return (Ok(Piece::data(Bytes::from(out))), Self::Counting(usage));
                }
            }
        }
        (Ok(Piece::data(Bytes::from(out))), Self::Writing(vectors, document))
    }
}
