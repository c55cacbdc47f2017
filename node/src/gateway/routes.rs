//! The routes, and a request from its head to its reply.

use std::any::Any;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::handler::Handler;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use infernet_inference::Endpoint;
use infernet_protocol::ModelId;
use tower_http::catch_panic::CatchPanicLayer;

use super::answer::Wanted;
use super::dialect::ollama::Loading;
use super::dialect::{self, Dialect, anthropic, ollama, responses};
use super::errors::{ApiError, similar};
use super::inference::{InferError, Reply, ServedModel};
use super::limits::Share;
use super::metrics::Watching;
use super::reading::{self, Arrived, Asked, Words};
use super::{Shared, answer, batches, guard, idempotency, models, openapi};

type Gateway = State<Arc<Shared>>;

/// All routes, as `/openapi.json` describes them.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/v1/models", list),
        Route::new(Method::GET, "/v1/models/{*id}", model),
        Route::new(Method::POST, "/v1/chat/completions", chat),
        Route::new(Method::POST, "/v1/completions", completion),
        Route::new(Method::POST, "/v1/embeddings", embeddings),
        Route::new(Method::POST, "/v1/responses", respond),
        Route::new(Method::POST, "/v1/messages", messages),
        Route::new(Method::POST, "/v1/messages/count_tokens", count_tokens),
        Route::new(Method::POST, "/api/chat", ollama_chat),
        Route::new(Method::POST, "/api/generate", ollama_generate),
        Route::new(Method::POST, "/api/embed", ollama_embed),
        Route::new(Method::POST, "/api/embeddings", ollama_embeddings),
        Route::new(Method::GET, "/api/tags", ollama_tags),
        Route::new(Method::GET, "/api/ps", ollama_ps),
        Route::new(Method::POST, "/api/show", ollama_show),
        Route::new(Method::POST, "/api/pull", ollama_pull),
        Route::new(Method::GET, "/api/version", ollama_version),
        Route::new(Method::POST, "/v1/files", batches::upload),
        Route::new(Method::GET, "/v1/files", batches::list_files),
        Route::new(Method::GET, "/v1/files/{id}", batches::file),
        Route::new(Method::DELETE, "/v1/files/{id}", batches::remove),
        Route::new(Method::GET, "/v1/files/{id}/content", batches::content),
        Route::new(Method::POST, "/v1/batches", batches::create),
        Route::new(Method::GET, "/v1/batches", batches::list),
        Route::new(Method::GET, "/v1/batches/{id}", batches::batch),
        Route::new(Method::POST, "/v1/batches/{id}/cancel", batches::cancel),
        Route::new(Method::GET, "/", root),
        Route::new(Method::GET, "/healthz", healthz),
        Route::new(Method::GET, "/readyz", readyz),
        Route::new(Method::GET, "/metrics", metrics),
        Route::new(Method::GET, "/openapi.json", openapi),
    ]
}

/// One method of one path.
pub(super) struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "the description is compared with it"))]
    pub(super) method: Method,
    pub(super) path: &'static str,
    handler: MethodRouter<Arc<Shared>>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        let filter = match method {
            Method::GET => MethodFilter::GET,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::POST,
        };
        Self {
            method,
            path,
            handler: on(filter, handler),
        }
    }
}

/// The router over all routes, and what stands before them.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        // A fault of ours in one request is no reason to end the node.
        .layer(CatchPanicLayer::custom(panicked))
        // Bodies are bounded where they are read, and files are longer than what is held in memory.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), idempotency::once))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::guard))
        .layer(middleware::from_fn(dialect::errors))
        .with_state(shared)
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::of(
        InferError::Internal("a fault in the gateway, which is in its log".to_owned()),
        &[],
    )
    .into_response()
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

async fn openapi() -> Response {
    let mut response = openapi::document().into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn list(State(shared): Gateway) -> Response {
    let list = models::list(shared.inference.models().await);
    shared.metrics.responded("models", StatusCode::OK);
    Json(list).into_response()
}

async fn model(State(shared): Gateway, name: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(name)) = name else {
        shared.metrics.responded("model", StatusCode::BAD_REQUEST);
        return ApiError::invalid("the name of the model is not UTF-8", "model").into_response();
    };
    let response = match served(&shared, &name).await {
        Ok(model) => Json(models::model(&model)).into_response(),
        Err(error) => error.into_response(),
    };
    shared.metrics.responded("model", response.status());
    response
}

async fn chat(State(shared): Gateway, request: Request) -> Response {
    serve(
        &shared,
        "chat_completions",
        Words::OpenAi(Endpoint::ChatCompletions),
        request,
    )
    .await
}

async fn completion(State(shared): Gateway, request: Request) -> Response {
    serve(&shared, "completions", Words::OpenAi(Endpoint::Completions), request).await
}

async fn embeddings(State(shared): Gateway, request: Request) -> Response {
    serve(&shared, "embeddings", Words::OpenAi(Endpoint::Embeddings), request).await
}

async fn respond(State(shared): Gateway, request: Request) -> Response {
    serve(&shared, "responses", Words::Other(responses::read), request).await
}

async fn messages(State(shared): Gateway, request: Request) -> Response {
    serve(&shared, "messages", Words::Other(anthropic::read), request).await
}

async fn ollama_chat(State(shared): Gateway, request: Request) -> Response {
    let words = Words::Other(ollama::read_chat);
    ollama_text(&shared, "ollama_chat", Loading::of_chat, words, request).await
}

async fn ollama_generate(State(shared): Gateway, request: Request) -> Response {
    let words = Words::Other(ollama::read_generate);
    ollama_text(&shared, "ollama_generate", Loading::of_generate, words, request).await
}

/// No model of the network needs loading, so one that somebody serves is loaded already.
async fn ollama_text(
    shared: &Arc<Shared>,
    route: &'static str,
    loading: fn(&[u8]) -> Option<Loading>,
    words: Words,
    request: Request,
) -> Response {
    let arrived = Arrived::now(&request, shared.settings.deadline);
    let answered = async {
        let (body, share) = read_body(shared, request).await?;
        let Some(Loading { asked, mut told }) = loading(&body) else {
            return Ok(respond_to(shared, route, words, body, &arrived, Some(share)).await);
        };
        reading::read(&words, &asked.into(), &arrived)?;
        told["model"] = served(shared, &ollama::named(&body)?).await?.id.as_str().into();
        shared.metrics.responded(route, StatusCode::OK);
        Ok::<_, ApiError>(Json(told).into_response())
    };
    match answered.await {
        Ok(response) => response,
        Err(error) => {
            let response = error.into_response();
            shared.metrics.responded(route, response.status());
            response
        }
    }
}

async fn ollama_embed(State(shared): Gateway, request: Request) -> Response {
    let read = Words::Other(|body| ollama::read_embed(body, false));
    serve(&shared, "ollama_embed", read, request).await
}

async fn ollama_embeddings(State(shared): Gateway, request: Request) -> Response {
    let read = Words::Other(|body| ollama::read_embed(body, true));
    serve(&shared, "ollama_embed", read, request).await
}

/// As far as the gateway can tell, which has no tokenizer: the estimate that its own auctions go by.
async fn count_tokens(State(shared): Gateway, request: Request) -> Response {
    let counted = async {
        let arrived = Arrived::now(&request, shared.settings.deadline);
        let (body, _share) = read_body(&shared, request).await?;
        let asked = reading::read(&Words::Other(anthropic::read_to_count), &body, &arrived)?;
        Ok::<_, ApiError>(Json(
            serde_json::json!({ "input_tokens": asked.request.request.input_tokens }),
        ))
    };
    let response = counted.await.into_response();
    shared.metrics.responded("count_tokens", response.status());
    response
}

/// What Ollama's programs look for to see whether somebody is there.
async fn root() -> &'static str {
    "Infernet is running\n"
}

async fn ollama_version() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn ollama_tags(State(shared): Gateway) -> Response {
    let tags = ollama::tags(&shared.inference.models().await);
    shared.metrics.responded("models", StatusCode::OK);
    Json(tags).into_response()
}

/// No model is loaded here, and any of them answers at once.
async fn ollama_ps() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "models": [] }))
}

async fn ollama_show(State(shared): Gateway, request: Request) -> Response {
    let shown = async { Ok::<_, ApiError>(Json(ollama::show(&named(&shared, request).await?))) };
    let response = shown.await.into_response();
    shared.metrics.responded("model", response.status());
    response
}

/// A model of the network needs no pulling; one that nobody serves cannot be pulled from here.
async fn ollama_pull(State(shared): Gateway, request: Request) -> Response {
    let pulled = async {
        named(&shared, request).await?;
        Ok::<_, ApiError>(Json(serde_json::json!({ "status": "success" })))
    };
    let response = pulled.await.into_response();
    shared.metrics.responded("model", response.status());
    response
}

/// The served model that a request names.
async fn named(shared: &Arc<Shared>, request: Request) -> Result<ServedModel, ApiError> {
    let (body, _share) = read_body(shared, request).await?;
    served(shared, &ollama::named(&body)?).await
}

async fn served(shared: &Arc<Shared>, name: &str) -> Result<ServedModel, ApiError> {
    if let Ok(id) = ModelId::new(name)
        && let Some(model) = shared.inference.model(&id).await
    {
        return Ok(model);
    }
    let served = shared.inference.models().await;
    Err(ApiError::no_model(name, &similar(name, &served)))
}

/// A request whose answer has begun, and all that its way back needs.
struct Begun {
    reply: Reply,
    wanted: Wanted,
    watching: Watching,
    dialect: Option<Box<dyn Dialect>>,
}

async fn serve(shared: &Arc<Shared>, route: &'static str, words: Words, request: Request) -> Response {
    let arrived = Arrived::now(&request, shared.settings.deadline);
    match read_body(shared, request).await {
        Ok((body, share)) => respond_to(shared, route, words, body, &arrived, Some(share)).await,
        Err(error) => {
            let response = error.into_response();
            shared.metrics.responded(route, response.status());
            response
        }
    }
}

/// Answers a body; one that came over HTTP has a share of what may be held at once.
pub(super) async fn respond_to(
    shared: &Arc<Shared>,
    route: &'static str,
    words: Words,
    body: Bytes,
    arrived: &Arrived,
    share: Option<Share>,
) -> Response {
    let response = match begin(shared, &words, body, arrived, share).await {
        Ok(begun) => answer::respond(begun.reply, begun.wanted, begun.watching, begun.dialect).await,
        Err(error) => error.into_response(),
    };
    shared.metrics.responded(route, response.status());
    response
}

/// How a route that answers is spoken to.
pub(super) fn words_of(path: &str) -> Option<(&'static str, Words)> {
    Some(match path {
        "/v1/chat/completions" => ("chat_completions", Words::OpenAi(Endpoint::ChatCompletions)),
        "/v1/completions" => ("completions", Words::OpenAi(Endpoint::Completions)),
        "/v1/embeddings" => ("embeddings", Words::OpenAi(Endpoint::Embeddings)),
        "/v1/responses" => ("responses", Words::Other(responses::read)),
        _ => return None,
    })
}

pub(super) async fn read_body(shared: &Shared, request: Request) -> Result<(Bytes, Share), ApiError> {
    let told = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let visitor = request.extensions().get().cloned();
    shared.limits.read(request.into_body(), told, visitor).await
}

/// Reads a request, checks it once, and has its answer begun.
async fn begin(
    shared: &Arc<Shared>,
    words: &Words,
    body: Bytes,
    arrived: &Arrived,
    share: Option<Share>,
) -> Result<Begun, ApiError> {
    let mut watching = Watching::begin(shared, arrived.at, share);
    let Asked { request, dialect } = match reading::read(words, &body, arrived) {
        Ok(asked) => asked,
        Err(error) => {
            watching.failed();
            return Err(error);
        }
    };
    // What is held from here on is the body that goes to a provider.
    drop(body);
    let wanted = Wanted {
        stream: request.request.stream,
        usage: request.request.usage_asked,
    };
    match shared.inference.infer(request).await {
        Ok(reply) => Ok(Begun {
            reply,
            wanted,
            watching,
            dialect,
        }),
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
