//! Where questions go: the gateway of the node that runs on this home, or of one that joins the network for this
//! conversation alone.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::answer::{Answer, refused};
use super::cost::Usage;
use crate::commands::models::Model;
use crate::commands::{Context, Result};
use crate::config::{Config, Role};
use crate::home::Home;
use crate::ipc;
use crate::launch::launch;
use crate::node::Node;
use crate::out::{Exit, Failure};
use crate::runtime::Tasks;
use crate::store::{Query, Side};

/// A node that joins for one question knows the network within this, or there is nobody.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// How often a list is asked for that cannot be waited for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    home: Home,
    joined: Option<Arc<Node>>,
}

impl Connection {
    /// To the node that runs here, or to one of its own.
    pub(super) async fn open(config: Config, context: &Context, tasks: &Tasks) -> Result<Self> {
        let key = config.gateway.api_key.as_ref().map(|key| key.expose().to_owned());
        let running = ipc::call(&context.home, "status", Value::Null).ok();
        let (url, joined) = match running.as_ref().map(|status| status["gateway"].as_str()) {
            Some(Some(url)) => (url.to_owned(), None),
            Some(None) => {
                let why = "the node that runs here has no gateway: start it without `--no-gateway`";
                return Err(Failure::new(Exit::Unreachable, why));
            }
            None => join(config, context, tasks).await?,
        };
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build().map_err(unreachable)?,
            url,
            key,
            home: context.home.clone(),
            joined,
        })
    }

    /// Ends the node that joined for this, with what it owes others done.
    pub(super) async fn leave(&self) {
        if let Some(node) = &self.joined {
            node.stop().await;
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// What the network serves, by name.
    pub(super) async fn models(&self) -> Result<Vec<Model>> {
        let answer = self.request(Method::GET, "/v1/models").send().await;
        let answer = answer.map_err(unreachable)?;
        let status = answer.status();
        let list: Value = answer.json().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(refused(&list));
        }
        Ok(list["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Model::read)
            .collect())
    }

    /// The same, once there is something.
    pub(super) async fn some_models(&self) -> Result<Vec<Model>> {
        let looked = async {
            loop {
                let models = self.models().await?;
                if !models.is_empty() {
                    return Ok(models);
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let nobody = "nobody on the network serves a model yet; name a node to join through with `--bootstrap`";
        let looked = tokio::time::timeout(JOIN_WITHIN, looked).await;
        looked.map_err(|_| Failure::new(Exit::Unreachable, nobody))?
    }

    /// The first of them.
    pub(super) async fn first_model(&self) -> Result<String> {
        Ok(self.some_models().await?.swap_remove(0).id)
    }

    /// Returns once an answer has begun. Dropping the future, or later the answer, cancels it.
    pub(super) async fn ask(&self, body: &Value) -> Result<Answer> {
        let asked = self.request(Method::POST, "/v1/chat/completions").json(body);
        Answer::begin(asked.send().await.map_err(unreachable)?).await
    }

    /// What a request cost by the ledger; `None` while its receipt has not come.
    pub(super) async fn receipt(&self, request: &str) -> Option<Usage> {
        let (home, request) = (self.home.clone(), request.to_owned());
        let query = Query {
            side: Some(Side::Buyer),
            id: Some(request.clone()),
            ..Query::default()
        };
        let asked = move || ipc::call(&home, "receipts", query.to_json());
        let rows = tokio::task::spawn_blocking(asked).await.ok()?.ok()?;
        let rows: Vec<Value> = rows
            .as_array()?
            .iter()
            .filter(|row| row["request"] == json!(request))
            .cloned()
            .collect();
        Usage::of_rows(&rows)
    }
}

async fn join(mut config: Config, context: &Context, tasks: &Tasks) -> Result<(String, Option<Arc<Node>>)> {
    config.role = Role::Consumer;
    config.p2p.port = 0;
    config.gateway.listen = Some(([127, 0, 0, 1], 0).into());
    let home = context.home.lock()?;
    let launched = launch(&home, &config, tasks).await.map_err(unreachable)?;
    let url = launched
        .gateway
        .ok_or_else(|| unreachable("the gateway did not start"))?;
    Ok((url, Some(launched.node)))
}

pub(super) fn unreachable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, error)
}
