//! The body of a request, in any API's words, read once and checked: what goes on from here is an [`InferenceRequest`].

use std::time::{Duration, Instant};

use axum::extract::Request;
use bytes::Bytes;
use infernet_inference::json::Object;
use infernet_inference::{Endpoint, RequestError, allow, request};
use infernet_protocol::ModelId;
use infernet_protocol::capability::Features;

use super::dialect::{Dialect, Reader};
use super::errors::ApiError;
use super::extension::{FIELDS, Preferences};
use super::inference::InferenceRequest;
use crate::spending::Caller;

/// In whose words a request is.
pub(super) enum Words {
    OpenAi(Endpoint),
    Other(Reader),
}

/// When a request came, from whom, and how long it may take.
pub(super) struct Arrived {
    pub(super) at: Instant,
    pub(super) within: Duration,
    pub(super) caller: Option<Caller>,
    /// Whether nobody waits for it.
    pub(super) background: bool,
}

impl Arrived {
    /// From a batch.
    pub(super) fn from_batch(caller: Option<Caller>, within: Duration) -> Self {
        Self {
            at: Instant::now(),
            within,
            caller,
            background: true,
        }
    }

    pub(super) fn now(request: &Request, within: Duration) -> Self {
        Self {
            at: Instant::now(),
            within,
            caller: request.extensions().get().copied(),
            background: false,
        }
    }
}

/// What is asked, and how its answer is put back.
pub(super) struct Asked {
    pub(super) request: InferenceRequest,
    pub(super) dialect: Option<Box<dyn Dialect>>,
}

/// Reads a body.
pub(super) fn read(words: &Words, body: &Bytes, arrived: &Arrived) -> Result<Asked, ApiError> {
    match words {
        Words::OpenAi(endpoint) => Ok(Asked {
            request: check(*endpoint, body, arrived)?,
            dialect: None,
        }),
        Words::Other(read) => {
            let translated = read(body)?;
            Ok(Asked {
                request: check(translated.endpoint, &translated.body, arrived)?,
                dialect: Some(translated.dialect),
            })
        }
    }
}

fn check(endpoint: Endpoint, body: &Bytes, arrived: &Arrived) -> Result<InferenceRequest, ApiError> {
    let request = infernet_inference::Request::read(endpoint, body)?;
    let preferences = Preferences::read(&Object::read(body).map_err(RequestError::from)?)?;
    let body = request::without(body, &FIELDS).map_err(RequestError::from)?;
    // What no provider may be sent is refused before one is looked for.
    allow::check(endpoint, &body, Features(u32::MAX))?;
    let Ok(model) = ModelId::new(&request.model) else {
        return Err(ApiError::no_model(&request.model, &[]));
    };
    Ok(InferenceRequest {
        model,
        request,
        body,
        preferences,
        background: arrived.background,
        caller: arrived.caller,
        deadline: arrived.at + arrived.within,
    })
}
