//! An answer without the network: from an engine of this node, or from a service outside that the user has a key for.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use infernet_inference::backend::{Answer, Backend, BackendError, Job, Piece, Usage};
use infernet_protocol::{ModelId, Price, RequestId};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::gateway::{InferError, InferenceRequest, Part, Reply, Source, Summary};

/// Who answers, and what it calls the model.
pub(super) struct Asked {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) model: String,
    /// What its answer is to call it.
    pub(super) id: ModelId,
    pub(super) max_output: Option<u32>,
    pub(super) source: Source,
    /// What runs is to end, and to say so.
    pub(super) closing: CancellationToken,
}

/// Runs a request; `held` is kept until the answer has ended.
pub(super) async fn infer<T: Send + Sync + 'static>(
    asked: Asked,
    request: InferenceRequest,
    held: T,
) -> Result<Reply, InferError> {
    let job = Job {
        endpoint: request.request.endpoint,
        model: asked.model,
        id: asked.id.clone(),
        body: request.body.clone(),
        max_output: asked.max_output,
        resume: None,
    };
    let running = tokio::time::timeout_at(request.deadline.into(), asked.backend.run(job));
    let running = tokio::select! {
        running = running => running,
        () = asked.closing.cancelled() => return Err(InferError::nobody_free()),
    };
    let answer = running.map_err(|_| InferError::Deadline { delivered: false })?;
    let answer = answer.map_err(|error| refused(error, &request, false))?;
    Ok(Reply {
        job: None,
        request: RequestId(clock::entropy()),
        provider: None,
        model: asked.id,
        source: asked.source,
        price: Price::FREE,
        status: answer.status,
        content_type: answer.content_type,
        body: parts(answer, (request, asked.closing, held)),
    })
}

/// The answer's pieces, and at the end what it used.
fn parts<T: Send + Sync + 'static>(
    answer: Answer,
    about: (InferenceRequest, CancellationToken, T),
) -> stream::BoxStream<'static, Result<Part, InferError>> {
    let course = (Some(answer), Usage::default(), about);
    stream::unfold(course, |(answer, mut usage, about)| async move {
        let mut answer = answer?;
        let (request, closing, _) = &about;
        loop {
            let said = tokio::select! {
                said = until(request.deadline, answer.next()) => said,
                () = closing.cancelled() => {
                    return Some((Err(InferError::stopping()), (None, usage, about)));
                }
            };
            let said = match said {
                Some(Some(Ok(Piece::Data { bytes, .. }))) => {
                    return Some((Ok(Part::Data(bytes)), (Some(answer), usage, about)));
                }
                Some(Some(Ok(Piece::Usage(told)))) => {
                    usage = told;
                    continue;
                }
                Some(Some(Err(error))) => Err(refused(error, request, true)),
                Some(None) => Ok(Part::End(Summary {
                    usage,
                    attempts: 1,
                    ..Summary::default()
                })),
                None => Err(InferError::Deadline { delivered: true }),
            };
            return Some((said, (None, usage, about)));
        }
    })
    .boxed()
}

async fn until<T>(deadline: Instant, next: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), next).await.ok()
}

fn refused(error: BackendError, request: &InferenceRequest, delivered: bool) -> InferError {
    match error {
        BackendError::Refused { status, body } if (400..500).contains(&status) && !delivered => {
            InferError::Refused { status, body }
        }
        BackendError::Busy { .. } if !delivered => InferError::nobody_free(),
        BackendError::Unsupported(what) if !delivered => InferError::Unfit {
            model: request.model.to_string(),
            needs: what.to_owned(),
        },
        BackendError::Timeout(_) => InferError::Deadline { delivered },
        error => InferError::Failed {
            reason: error.to_string(),
            delivered,
        },
    }
}
