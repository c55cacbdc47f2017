//! Who may call: the Host and Origin of a request, its key, and whether it has been through a gateway before.
//!
//! A page on the web can make a browser call this machine, under its own name after DNS rebinding. A name that is not
//! ours is therefore refused; an address in digits cannot be rebound.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, ORIGIN,
    TRANSFER_ENCODING, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use infernet_inference::detect::GATEWAY_HEADER;
use infernet_inference::openai::HOP_HEADER;

use super::Shared;
use super::errors::ApiError;
use super::keys::NotNow;
use crate::spending::Caller;

/// Where Anthropic's clients put their key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Routes that tell nothing but that the process is alive.
const OPEN_ROUTES: [&str; 2] = ["/healthz", "/readyz"];

/// Lets a request through, or says why not.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let (mut response, allowed) = match unambiguous(&request).map(|()| check(&shared, &request)) {
        Err(error) => {
            let mut response = error.into_response();
            // Where one request ends and the next begins is in doubt.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            (response, false)
        }
        Ok(Err(error)) => (error.into_response(), false),
        Ok(Ok(_)) if origin.is_some() && request.method() == Method::OPTIONS => {
            (StatusCode::NO_CONTENT.into_response(), true)
        }
        Ok(Ok(caller)) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            (next.run(request).await, true)
        }
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(GATEWAY_HEADER), HeaderValue::from_static("1"));
    if let Some(origin) = origin.filter(|_| allowed) {
        allow_origin(headers, origin);
    }
    response
}

/// A request says once for whom it is and how long it is: a proxy in front of this gateway may read the other saying.
fn unambiguous(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(ApiError::ambiguous("the body's length is told in two ways"));
    }
    match (headers.get_all(HOST).iter().count(), request.uri().authority()) {
        (0, None) => Err(ApiError::ambiguous("a `Host` header is needed")),
        (0 | 1, _) => Ok(()),
        _ => Err(ApiError::ambiguous("there is more than one `Host` header")),
    }
}

/// Who calls, as far as a key of the file says so.
fn check(shared: &Shared, request: &Request) -> Result<Option<Caller>, ApiError> {
    let settings = &shared.settings;
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let names = || text(HOST).into_iter().chain(authority);
    if let Some(host) = names().find(|host| !is_ours(host, &settings.allowed_hosts)) {
        return Err(ApiError::host(host));
    }
    let host = names().next().unwrap_or_default();
    if let Some(origin) = text(ORIGIN).filter(|origin| !may_call(origin, host, &settings.cors_origins)) {
        return Err(ApiError::origin(origin));
    }
    if headers.contains_key(HOP_HEADER) {
        return Err(ApiError::looped());
    }
    // A browser asks whether it may send the key before it does.
    let open = OPEN_ROUTES.contains(&request.uri().path()) || request.method() == Method::OPTIONS;
    if open {
        return Ok(None);
    }
    admit(shared, headers)
}

/// Looks a caller's key up. Where this machine alone can call, a key is not asked for, and one that means nothing here is
/// what clients send that cannot do without.
fn admit(shared: &Shared, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
    let now = Instant::now();
    let master = shared.settings.api_key.as_ref();
    for sent in keys_of(headers) {
        if master.is_some_and(|key| same(sent.as_bytes(), key.expose().as_bytes())) {
            return Ok(None);
        }
        match shared.keys.admit(sent, now) {
            Ok(key) => return Ok(Some(key.caller())),
            Err(NotNow::Unknown) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let is_open = shared.settings.listen.ip().is_loopback() && master.is_none();
    is_open.then_some(None).ok_or_else(ApiError::unauthorised)
}

/// Whether `host`, with or without its port, names this gateway.
fn is_ours(host: &str, allowed: &[String]) -> bool {
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok()
        || allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(host))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// Whether a page of `origin` may call: one of this gateway's own, or one that the configuration names.
fn may_call(origin: &str, host: &str, allowed: &[String]) -> bool {
    let own = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    own || allowed
        .iter()
        .any(|allowed| allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

fn keys_of(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let plain = headers.get(X_API_KEY).and_then(|value| value.to_str().ok());
    bearer.into_iter().chain(plain).map(str::trim)
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("origin"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE, OPTIONS"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("*, authorization, content-type"),
    );
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_refused() {
        let allowed = ["host.docker.internal".to_owned(), "exact:46338".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:46338",
            "127.0.0.1:46338",
            "192.168.1.5",
            "[::1]:46338",
            "[::1]",
            "::1",
            "host.docker.internal:46338",
            "exact:46338",
        ] {
            assert!(is_ours(host, &allowed), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:46338",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "exact:1",
            "localhost:x",
        ] {
            assert!(!is_ours(host, &allowed), "{host}");
        }
    }

    #[test]
    fn pages_must_be_named() {
        let allowed = ["https://app.example/".to_owned()];
        assert!(may_call("https://app.example", "127.0.0.1:1", &allowed));
        assert!(may_call("http://127.0.0.1:1", "127.0.0.1:1", &[]));
        assert!(may_call("https://any.example", "127.0.0.1:1", &["*".to_owned()]));
        for origin in [
            "https://evil.example",
            "null",
            "http://127.0.0.1:2",
            "https://app.example.evil",
        ] {
            assert!(!may_call(origin, "127.0.0.1:1", &allowed), "{origin}");
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"ab", b"abc") && !same(b"", b"abc"));
    }
}
