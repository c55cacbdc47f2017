//! Hugging Face: what files a repository has, and the bytes of one.
//!
//! API: <https://huggingface.co/docs/hub/api> (`/api/models/{repo}/tree/main`) and, for downloads,
//! <https://huggingface.co/docs/huggingface_hub/package_reference/file_download> (`/{repo}/resolve/main/{file}`, which
//! sends large files from another host). The token goes to the endpoint itself and to nobody else.

use reqwest::header::{LINK, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::name::{Repository, is_path};
use crate::config::Secret;

/// Redirections on the way to one file: a renamed repository and a download host are two.
const REDIRECTIONS_MAX: usize = 5;
/// Pages of a repository's list of files, of a thousand each.
const PAGES_MAX: usize = 10;
/// Longest page.
const PAGE_BYTES: usize = 4 << 20;

/// Why Hugging Face gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The address of the endpoint is none.
    #[error("`{0}` is no address: set `hub.endpoint` (HF_ENDPOINT) to one such as `https://huggingface.co`")]
    Endpoint(String),
    /// Nothing answers there.
    #[error("`{host}` cannot be reached ({reason}): check the network, or `hub.endpoint` (HF_ENDPOINT)")]
    Unreachable {
        /// The host.
        host: String,
        /// What the connection said.
        reason: String,
    },
    /// The connection broke before there was an answer.
    #[error("the server broke off ({0}): try again")]
    Broken(String),
    /// It wants a token, or another one.
    #[error(
        "`{repository}` is gated, private or not there: accept its terms at `{page}`, and set HF_TOKEN to a token \
         that may read it"
    )]
    Gated {
        /// The repository.
        repository: Repository,
        /// Where its terms are.
        page: String,
    },
    /// There is no such thing.
    #[error("there is no {0} there: check the name")]
    NotFound(String),
    /// It answered with another status.
    #[error("the server answered with status {0}: try again later")]
    Status(u16),
    /// It sent from one host to another and to no end, or to where nothing is encrypted.
    #[error("the server redirects to where nothing may be fetched from (`{0}`): check `hub.endpoint` (HF_ENDPOINT)")]
    Redirected(String),
    /// What it said cannot be read.
    #[error("the server's list of files cannot be read ({0}): try again later")]
    List(String),
}

/// A file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its path in the repository: one that leads nowhere else.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// What changes with its content.
    pub oid: String,
    /// SHA-256 of its content: large files have it.
    pub sha256: Option<[u8; 32]>,
}

/// An entry of the list as it is sent.
#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// A hub, and who asks.
#[derive(Debug, Clone)]
pub struct Hub {
    client: Client,
    endpoint: Url,
    token: Option<Secret>,
}

impl Hub {
    /// The hub at `endpoint`.
    pub fn new(endpoint: &str, token: Option<Secret>) -> Result<Self, HubError> {
        let wrong = || HubError::Endpoint(endpoint.to_owned());
        let url = Url::parse(endpoint.trim_end_matches('/')).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong());
        }
        Ok(Self {
            client: super::client().map_err(|_| wrong())?,
            endpoint: url,
            token,
        })
    }

    /// The files of a repository. Those whose paths lead elsewhere are left out.
    pub async fn files(&self, repository: &Repository) -> Result<Vec<Remote>, HubError> {
        let Repository { owner, name } = repository;
        let mut url = self.url(&["api", "models", owner, name, "tree", "main"]);
        url.set_query(Some("recursive=1"));
        let mut files = Vec::new();
        for _ in 0..PAGES_MAX {
            let response = self.get(url.clone(), 0, repository, "repository").await?;
            let next = next_page(&response).and_then(|next| url.join(&next).ok());
            files.extend(page(response).await?.into_iter().filter_map(Remote::read));
            match next.filter(|next| next.origin() == self.endpoint.origin()) {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(files)
    }

    /// The content of a file from byte `from` on, or from its beginning where the server cannot do that.
    pub async fn content(&self, repository: &Repository, path: &str, from: u64) -> Result<Response, HubError> {
        let mut parts = vec![&*repository.owner, &*repository.name, "resolve", "main"];
        parts.extend(path.split('/'));
        self.get(self.url(&parts), from, repository, path).await
    }

    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    async fn get(&self, url: Url, from: u64, of: &Repository, what: &str) -> Result<Response, HubError> {
        let mut url = url;
        for _ in 0..=REDIRECTIONS_MAX {
            let mut request = self.client.get(url.clone());
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let ours = url.origin() == self.endpoint.origin();
            if let Some(token) = self.token.as_ref().filter(|_| ours) {
                request = request.bearer_auth(token.expose());
            }
            let response = request.send().await.map_err(|error| match error.is_connect() {
                true => HubError::Unreachable {
                    host: url.host_str().unwrap_or_default().to_owned(),
                    reason: innermost(&error),
                },
                false => HubError::Broken(innermost(&error)),
            })?;
            if response.status().is_redirection() {
                let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let to = location.unwrap_or_default();
                let next = url.join(to).ok().filter(|next| may_follow(&url, next));
                url = next.ok_or_else(|| HubError::Redirected(to.to_owned()))?;
                continue;
            }
            return self.judge(response, of, what);
        }
        Err(HubError::Redirected(url.to_string()))
    }

    fn judge(&self, response: Response, of: &Repository, what: &str) -> Result<Response, HubError> {
        match response.status() {
            status if status.is_success() => Ok(response),
            // What was asked for begins beyond the end: the caller sees that by the status and begins anew.
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(HubError::Gated {
                repository: of.clone(),
                page: self.url(&[&of.owner, &of.name]).to_string(),
            }),
            StatusCode::NOT_FOUND => Err(HubError::NotFound(format!("`{what}` of `{of}`"))),
            status => Err(HubError::Status(status.as_u16())),
        }
    }
}

/// Nobody follows from where everything is encrypted to where nothing is.
fn may_follow(from: &Url, to: &Url) -> bool {
    match to.scheme() {
        "https" => true,
        "http" => from.scheme() == "http",
        _ => false,
    }
}

/// The address of the next page: `<address>; rel="next"`.
fn next_page(response: &Response) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let next = link.split(',').find(|part| part.contains(r#"rel="next""#))?;
    let (_, rest) = next.split_once('<')?;
    rest.split_once('>').map(|(address, _)| address.to_owned())
}

async fn page(mut response: Response) -> Result<Vec<Entry>, HubError> {
    let mut bytes = Vec::new();
    let broken = |error: reqwest::Error| HubError::List(innermost(&error));
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > PAGE_BYTES {
            return Err(HubError::List("it is too long".to_owned()));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| HubError::List(error.to_string()))
}

/// What an error says at its root, where the reason is.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Remote {
    fn read(entry: Entry) -> Option<Self> {
        if entry.r#type != "file" || !is_path(&entry.path) {
            return None;
        }
        Some(match entry.lfs {
            None => Self {
                path: entry.path,
                size: entry.size,
                oid: entry.oid,
                sha256: None,
            },
            Some(lfs) => Self {
                path: entry.path,
                size: lfs.size,
                sha256: Some(hex::decode(&lfs.oid).ok()?.try_into().ok()?),
                oid: lfs.oid,
            },
        })
    }
}
