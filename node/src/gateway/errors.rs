//! Errors in OpenAI's shape, each with the status that it means.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use infernet_inference::json;
use infernet_inference::wire::error_json;
use infernet_inference::{RequestError, json::Object};

use super::inference::{InferError, ServedModel};
use super::keys::NotNow;

/// Tells OpenAI's clients whether to send the request again by themselves.
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Longest message, and longest name of a field, of our own: what a client sent is repeated to it, but not all of it.
const MESSAGE_BYTES: usize = 1024;
const PARAM_BYTES: usize = 256;
/// Longest error object of an engine that is handed on.
const WORDS_BYTES: usize = 64 * 1024;

/// Statuses with which an engine refuses a request for what it is.
const REFUSALS: [u16; 4] = [400, 404, 413, 422];

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const RATE: &str = "rate_limit_error";

/// An error on its way to a client.
#[derive(Clone)]
pub(super) struct ApiError(Box<Told>);

#[derive(Clone)]
struct Told {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<u64>,
    should_retry: Option<bool>,
    /// An engine's own error object, in the place of all that.
    body: Option<Bytes>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            status,
            kind,
            code: None,
            param: None,
            message: shortened(message.into(), MESSAGE_BYTES),
            retry_after: None,
            should_retry: None,
            body: None,
        }))
    }

    fn code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    fn param(mut self, param: &str) -> Self {
        let end = param.floor_char_boundary(PARAM_BYTES);
        self.0.param = Some(param[..end].to_owned());
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        // Zero would mean at once, for ever.
        self.0.retry_after = Some(seconds.max(1));
        self
    }

    /// Another try would end in the same way, or be paid for again.
    fn final_if(mut self, is_final: bool) -> Self {
        self.0.should_retry = is_final.then_some(false);
        self
    }

    fn words(mut self, body: Bytes) -> Self {
        self.0.body = Some(body);
        self
    }

    /// The status that it is told with.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What it says, for people; an engine's own words where there are any.
    pub(super) fn message(&self) -> String {
        let words = self.0.body.as_ref().and_then(|body| {
            let body: serde_json::Value = serde_json::from_slice(body).ok()?;
            let error = &body["error"];
            Some(error["message"].as_str().or(error.as_str())?.to_owned())
        });
        words.unwrap_or_else(|| self.0.message.clone())
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// A field that this network has no counterpart for.
    pub(super) fn unsupported(field: &str) -> Self {
        let message = format!("`{field}` is not supported here; leave it out");
        Self::invalid(message, field).code("unsupported_field")
    }

    pub(super) fn invalid(message: impl Into<String>, param: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message).param(param)
    }

    pub(super) fn no_route(method: &str, path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            INVALID,
            format!("there is no `{method} {path}`; see /v1/models for a start"),
        )
        .code("unknown_url")
    }

    pub(super) fn no_method(method: &str, path: &str) -> Self {
        let message = format!("`{path}` does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message).code("method_not_allowed")
    }

    pub(super) fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, message).code("not_found")
    }

    pub(super) fn conflict(message: String) -> Self {
        Self::new(StatusCode::CONFLICT, INVALID, message).code("conflict")
    }

    /// The key came with another request before.
    pub(super) fn key_of_another() -> Self {
        let message = "this `Idempotency-Key` was used for another request; take a new one";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID, message)
            .code("idempotency_key_reused")
            .final_if(true)
    }

    /// The request with this key is still being answered.
    pub(super) fn key_in_use() -> Self {
        let message = "a request with this `Idempotency-Key` is being answered; try again in a moment";
        Self::new(StatusCode::CONFLICT, INVALID, message)
            .code("idempotency_key_in_use")
            .retry_after(1)
    }

    /// This node's disk cannot do its part.
    pub(super) fn no_room(message: String) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, SERVER, message).code("storage")
    }

    pub(super) fn no_batches() -> Self {
        let message = "this gateway keeps no files, so it has no batches";
        Self::new(StatusCode::NOT_FOUND, INVALID, message).code("no_batches")
    }

    /// The word that programs tell errors apart by.
    pub(super) fn word(&self) -> Option<&'static str> {
        self.0.code
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            INVALID,
            RequestError::BodyTooLarge.to_string(),
        )
        .code("body_too_large")
    }

    pub(super) fn too_many() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            RATE,
            "too many requests at once; try again in a moment",
        )
        .code("rate_limit_exceeded")
        .retry_after(1)
    }

    /// A key has asked as often as it may.
    pub(super) fn too_often(retry_after: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            RATE,
            "this key has made as many requests as it may in a minute",
        )
        .code("rate_limit_exceeded")
        .retry_after(retry_after.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))
    }

    pub(super) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            INVALID,
            "the request's body did not arrive in time",
        )
    }

    pub(super) fn cut_short() -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "the request's body was cut short")
    }

    pub(super) fn unauthorised() -> Self {
        let message =
            "a key is needed: send `Authorization: Bearer` with one of `infernet keys add`, or with `gateway.api_key`";
        Self::new(StatusCode::UNAUTHORIZED, INVALID, message).code("invalid_api_key")
    }

    pub(super) fn host(host: &str) -> Self {
        let message = format!("the host `{host}` is not this gateway's; add it to `gateway.allowed_hosts`");
        Self::new(StatusCode::FORBIDDEN, INVALID, message).code("host_not_allowed")
    }

    pub(super) fn origin(origin: &str) -> Self {
        let message = format!("pages of `{origin}` may not call this gateway; add it to `gateway.cors_origins`");
        Self::new(StatusCode::FORBIDDEN, INVALID, message).code("origin_not_allowed")
    }

    pub(super) fn looped() -> Self {
        let message = "a node of this network sent this request to a gateway as if it were an engine; point its backend at an engine";
        Self::new(StatusCode::LOOP_DETECTED, INVALID, message)
            .code("loop_detected")
            .final_if(true)
    }

    pub(super) fn no_model(model: &str, near: &[String]) -> Self {
        let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
        let hint = if near.is_empty() {
            "/v1/models lists what is served".into()
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        Self::new(
            StatusCode::NOT_FOUND,
            INVALID,
            format!("nobody on the network serves `{model}`; {hint}"),
        )
        .code("model_not_found")
        .param("model")
    }

    /// What an [`InferError`] is to a client; `served` is where similar names are looked for.
    pub(super) fn of(error: InferError, served: &[ServedModel]) -> Self {
        let message = error.to_string();
        match error {
            InferError::NobodyServes { model, near } => {
                let near = if near.is_empty() { similar(&model, served) } else { near };
                Self::no_model(&model, &near)
            }
            InferError::TooDear { .. } => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", message).code("price_cap")
            }
            InferError::NoRail { .. } => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", message).code("no_rail")
            }
            InferError::OverBudget { retry_after, .. } => {
                let error = Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", message).code("budget");
                match retry_after {
                    Some(wait) => error.retry_after(wait.as_secs().saturating_add(1)),
                    None => error,
                }
            }
            InferError::Unfit { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID, message).code("unsupported_feature")
            }
            InferError::LeftOut { .. } => {
                Self::new(StatusCode::NOT_FOUND, INVALID, message).code("no_allowed_provider")
            }
            InferError::NobodyFree { retry_after } => Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
                .code("no_provider_free")
                .retry_after(retry_after.as_secs()),
            InferError::TooManyWait { retry_after } => Self::new(StatusCode::TOO_MANY_REQUESTS, RATE, message)
                .code("rate_limit_exceeded")
                .retry_after(retry_after.as_secs()),
            InferError::Refused { status, body } => Self::refused(status, body, message),
            InferError::Failed { delivered, .. } => Self::new(StatusCode::BAD_GATEWAY, SERVER, message)
                .code("provider_failed")
                .final_if(delivered),
            InferError::Deadline { delivered } => Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, message)
                .code("deadline")
                .final_if(delivered),
            InferError::Internal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message).code("internal"),
        }
    }

    /// An engine's refusal keeps its status and its words, where it is about the request and they are an error object. Any
    /// other status is none that a provider may speak with: its own key, its own quota and its own server are no affair of
    /// the client, who would take them for this gateway's.
    pub(super) fn refused(status: u16, body: Bytes, message: String) -> Self {
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| REFUSALS.contains(&status.as_u16()));
        let kind = if status.is_some() { INVALID } else { SERVER };
        let told = Self::new(status.unwrap_or(StatusCode::BAD_GATEWAY), kind, message);
        if is_error(&body) { told.words(body) } else { told }
    }

    /// A request that two readers could take for two different ones.
    pub(super) fn ambiguous(what: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, what).code("ambiguous_request")
    }

    /// The error object.
    pub(super) fn json(&self) -> Bytes {
        match &self.0.body {
            Some(body) => body.clone(),
            None => error_json(&self.0.message, self.0.kind, self.0.param.as_deref(), self.0.code).into(),
        }
    }

    /// The error as the last event of a stream.
    pub(super) fn event(&self) -> Bytes {
        let json = self.json();
        let mut event = Vec::with_capacity(json.len() + 8);
        event.extend_from_slice(b"data: ");
        // An engine's words may be laid out over lines, which an event is not.
        event.extend(
            json.iter()
                .map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }),
        );
        event.extend_from_slice(b"\n\n");
        event.into()
    }
}

/// Whether a document is an error object as OpenAI's clients read it, of a bearable size.
fn is_error(document: &[u8]) -> bool {
    let read = || {
        let document = Object::read(document).ok()?;
        let error = Object::read(document.get("error")?).ok()?;
        let is_text = |name| error.get(name).is_none_or(|value| json::string(value).is_some());
        let has_message = error.get("message").is_some_and(|value| json::string(value).is_some());
        (has_message && is_text("type") && is_text("param")).then_some(())
    };
    document.len() <= WORDS_BYTES && json::validate(document).is_ok() && read().is_some()
}

fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

impl From<NotNow> for ApiError {
    fn from(error: NotNow) -> Self {
        match error {
            NotNow::Unknown => Self::unauthorised(),
            NotNow::TooOften { retry_after } => Self::too_often(retry_after),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let status = match &error {
            RequestError::BodyTooLarge => return Self::too_large(),
            RequestError::Feature { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        };
        let code = match &error {
            RequestError::NotAllowed { .. } => Some("unsupported_field"),
            RequestError::Feature { .. } => Some("unsupported_feature"),
            _ => None,
        };
        let mut told = Self::new(status, INVALID, error.to_string());
        told.0.code = code;
        match error.param() {
            Some(param) => told.param(param),
            None => told,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(should) = self.0.should_retry {
            headers.insert(
                SHOULD_RETRY,
                HeaderValue::from_static(if should { "true" } else { "false" }),
            );
        }
        // For whoever puts it into another API's words.
        response.extensions_mut().insert(self);
        response
    }
}

/// Served models whose names are like `model`, the most alike first.
pub(super) fn similar(model: &str, served: &[ServedModel]) -> Vec<String> {
    let names = served.iter().map(|served| served.id.as_str());
    crate::similar::similar(model, names)
        .into_iter()
        .map(str::to_owned)
        .collect()
}
