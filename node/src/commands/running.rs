//! The gateway of the node that runs on this home, as commands call it.

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use super::{Context, Result};
use crate::config::Config;
use crate::ipc::{self, CallError};
use crate::out::{Exit, Failure};

/// Where requests go, and with which key.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    client: Client,
    url: String,
    /// The network that its node is on.
    pub(super) network: String,
    key: Option<String>,
}

impl Gateway {
    /// At this address.
    pub(super) fn at(url: &str, network: &str, config: &Config) -> Result<Self> {
        let client = Client::builder().no_proxy().build();
        Ok(Self {
            client: client.map_err(|error| Failure::new(Exit::Failed, error))?,
            // It may listen on every address of this machine.
            url: url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:"),
            network: network.to_owned(),
            key: config.gateway.api_key.as_ref().map(|key| key.expose().to_owned()),
        })
    }

    /// That of the running node; `None` where no node runs.
    pub(super) fn of_running_node(config: &Config, context: &Context) -> Result<Option<Self>> {
        let status = match ipc::call(&context.home, "status", Value::Null) {
            Err(CallError::NotRunning(_)) => return Ok(None),
            answer => answer?,
        };
        let url = status["gateway"].as_str().ok_or_else(|| {
            let why = "the node that runs here has no gateway: start it without `--no-gateway`";
            Failure::new(Exit::Unreachable, why)
        })?;
        Self::at(url, status["network"].as_str().unwrap_or_default(), config).map(Some)
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}
