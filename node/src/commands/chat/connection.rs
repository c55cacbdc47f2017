//! Where questions go: the gateway of the node that runs on this home, or of one that joins the network for this
//! conversation alone.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::answer::{Answer, refused};
use super::cost::Usage;
use crate::cli::ChatArgs;
use crate::commands::models::Model;
use crate::commands::running::Gateway;
use crate::commands::{Context, Result};
use crate::config::{Config, Role};
use crate::home::Home;
use crate::ipc;
use crate::joining::{self, Source};
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
    gateway: Gateway,
    home: Home,
    joined: Option<Joined>,
}

/// A node that joined for this conversation, and where.
#[derive(Debug)]
struct Joined {
    node: Arc<Node>,
    through: Vec<Source>,
}

impl Connection {
    /// To the node that runs here, or to one of its own.
    pub(super) async fn open(args: &ChatArgs, config: Config, context: &Context, tasks: &Tasks) -> Result<Self> {
        let (gateway, joined) = match Gateway::of_running_node(&config, context)? {
            Some(gateway) => {
                is_on(args.join.network.as_deref(), &gateway)?;
                let unused = args.join.only_for_a_node_of_its_own();
                if !unused.is_empty() {
                    let flags = unused.join("`, `");
                    context.out.note(format_args!(
                        "a node runs here and goes by its own settings: `{flags}` counts only where none runs"
                    ));
                }
                (gateway, None)
            }
            None => {
                let (gateway, joined) = join(config, context, tasks).await?;
                (gateway, Some(joined))
            }
        };
        Ok(Self {
            gateway,
            home: context.home.clone(),
            joined,
        })
    }

    /// Ends the node that joined for this, with what it owes others done.
    pub(super) async fn leave(&self) {
        if let Some(joined) = &self.joined {
            joined.node.stop().await;
        }
    }

    /// What the network serves, by name.
    pub(super) async fn models(&self) -> Result<Vec<Model>> {
        let answer = self.gateway.request(Method::GET, "/v1/models").send().await;
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
        match tokio::time::timeout(JOIN_WITHIN, looked).await {
            Ok(models) => models,
            Err(_) => Err(Failure::new(Exit::Unreachable, self.nobody().await)),
        }
    }

    /// Why there is no model.
    async fn nobody(&self) -> String {
        let alone = match &self.joined {
            Some(joined) => joining::alone(&joined.node, &joined.through).await,
            None => None,
        };
        let why = "nobody on the network serves a model yet; name a node to join through with `--bootstrap`";
        alone.unwrap_or_else(|| why.to_owned())
    }

    /// The first of them that chats.
    pub(super) async fn first_model(&self) -> Result<String> {
        Ok(Model::first_to_chat(&self.some_models().await?).id.clone())
    }

    /// Returns once an answer has begun. Dropping the future, or later the answer, cancels it.
    pub(super) async fn ask(&self, body: &Value) -> Result<Answer> {
        let asked = self.gateway.request(Method::POST, "/v1/chat/completions").json(body);
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

/// A conversation on another network than the running node's would silently be one on its network.
fn is_on(network: Option<&str>, gateway: &Gateway) -> Result<()> {
    match network {
        Some(wanted) if wanted != gateway.network => {
            let why = format!(
                "the node that runs here is on the network `{}`: leave `--network {wanted}` out, or use another `--home`",
                gateway.network
            );
            Err(Failure::new(Exit::Usage, why))
        }
        _ => Ok(()),
    }
}

async fn join(mut config: Config, context: &Context, tasks: &Tasks) -> Result<(Gateway, Joined)> {
    config.role = Role::Consumer;
    config.p2p.port = 0;
    config.gateway.listen = Some(([127, 0, 0, 1], 0).into());
    // Work of hours is not taken up for one question.
    config.gateway.batches = false;
    let home = context.home.lock()?;
    let through = config.p2p.bootstrap.clone();
    let launched = launch(&home, &config, tasks).await?;
    let url = launched
        .gateway
        .ok_or_else(|| unreachable("the gateway did not start"))?;
    let joined = Joined {
        node: launched.node,
        through,
    };
    Ok((Gateway::at(&url, config.network.as_str(), &config)?, joined))
}

pub(super) fn unreachable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, error)
}
