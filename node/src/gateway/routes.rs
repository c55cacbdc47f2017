//! The routes, and a request from its head to its reply.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use infernet_inference::json::Object;
use infernet_inference::{Endpoint, allow, request};
use infernet_protocol::ModelId;
use infernet_protocol::capability::Features;

use super::errors::{ApiError, similar};
use super::extension::{FIELDS, Preferences};
use super::inference::{InferError, InferenceRequest, Reply};
use super::metrics::Watching;
use super::{Shared, answer, guard, models};

type Gateway = State<Arc<Shared>>;

/// All routes.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/models", get(list))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::guard))
        .with_state(shared)
}

async fn no_route(State(shared): Gateway, request: Request) -> Response {
    shared.metrics.responded("other", StatusCode::NOT_FOUND);
    ApiError::no_route(request.method().as_str(), request.uri().path()).into_response()
}

async fn no_method(State(shared): Gateway, request: Request) -> Response {
    shared.metrics.responded("other", StatusCode::METHOD_NOT_ALLOWED);
    ApiError::no_method(request.method().as_str(), request.uri().path()).into_response()
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready is who knows of a model to ask for.
async fn readyz(State(shared): Gateway) -> (StatusCode, &'static str) {
    match shared.inference.models().await.is_empty() {
        false => (StatusCode::OK, "ok\n"),
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no provider of any model is known yet\n",
        ),
    }
}

async fn metrics(State(shared): Gateway) -> Response {
    let mut response = shared.metrics.text().into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn list(State(shared): Gateway) -> Response {
    let list = models::list(shared.inference.models().await);
    shared.metrics.responded("models", StatusCode::OK);
    Json(list).into_response()
}

async fn model(State(shared): Gateway, Path(name): Path<String>) -> Response {
    let served = shared.inference.models().await;
    let id = ModelId::new(&name).ok();
    let response = match served.iter().find(|model| Some(&model.id) == id.as_ref()) {
        Some(model) => Json(models::model(model)).into_response(),
        None => ApiError::no_model(&name, &similar(&name, &served)).into_response(),
    };
    shared.metrics.responded("model", response.status());
    response
}

async fn chat(State(shared): Gateway, request: Request) -> Response {
    serve(&shared, "chat_completions", Endpoint::ChatCompletions, request).await
}

async fn completion(State(shared): Gateway, request: Request) -> Response {
    serve(&shared, "completions", Endpoint::Completions, request).await
}

async fn serve(shared: &Arc<Shared>, route: &'static str, endpoint: Endpoint, request: Request) -> Response {
    let response = match begin(shared, endpoint, request).await {
        Ok((reply, usage_asked, watching)) => answer::respond(reply, usage_asked, watching).await,
        Err(error) => error.into_response(),
    };
    shared.metrics.responded(route, response.status());
    response
}

/// Reads a request, checks it once, and has its answer begun.
async fn begin(
    shared: &Arc<Shared>,
    endpoint: Endpoint,
    request: Request,
) -> Result<(Reply, bool, Watching), ApiError> {
    let began = Instant::now();
    let told = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let (body, share) = shared.limits.read(request.into_body(), told).await?;
    let mut watching = Watching::begin(shared, began, share);
    let checked = check(shared, endpoint, &body, began);
    let asked = match checked {
        Ok(asked) => asked,
        Err(error) => {
            watching.failed();
            return Err(error);
        }
    };
    let usage_asked = asked.request.usage_asked;
    match shared.inference.infer(asked).await {
        Ok(reply) => Ok((reply, usage_asked, watching)),
        Err(error) => {
            watching.failed();
            let served = match &error {
                InferError::NobodyServes { near, .. } if near.is_empty() => shared.inference.models().await,
                _ => Vec::new(),
            };
            Err(ApiError::of(error, &served))
        }
    }
}

fn check(
    shared: &Shared,
    endpoint: Endpoint,
    body: &bytes::Bytes,
    began: Instant,
) -> Result<InferenceRequest, ApiError> {
    let request = infernet_inference::Request::read(endpoint, body)?;
    let preferences = Preferences::read(&Object::read(body).map_err(infernet_inference::RequestError::from)?)?;
    let body = request::without(body, &FIELDS).map_err(infernet_inference::RequestError::from)?;
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
        deadline: began + shared.settings.deadline,
    })
}
