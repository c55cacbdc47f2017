//! The demo's network: who is on it, and what is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infernet_inference::{Backend, Endpoint, Request};
use infernet_protocol::auction::Policy;
use infernet_protocol::{ModelId, Network, NodeId, Price};
use serde_json::json;

use super::super::loopback::{Loopback, failed, free};
use super::Result;
use super::page::Page;
use crate::cli::DemoArgs;
use crate::gateway::Quality;
use crate::node::Node;
use crate::runtime::Tasks;

/// Providers in the demo.
pub(super) const PROVIDERS: usize = 2;
/// Requests at once of one of them.
const SLOTS: u16 = 4;
/// An answer of a model that small is over in a second; a machine that swaps gets time.
const DEADLINE: Duration = Duration::from_secs(120);
/// Chance in an answer: at none all stories of a small model share one plot.
const TEMPERATURE: f32 = 0.7;
/// The unlikeliest fifth is left out: it is where a small model slips.
const TOP_P: f32 = 0.8;

/// Who is on stage.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) consumer: Arc<Node>,
    pub(super) model: ModelId,
    providers: Vec<Arc<Node>>,
    loopback: Loopback<'a>,
}

impl<'a> Stage<'a> {
    pub(super) async fn set(tasks: &'a Tasks, page: &mut Page<'_>) -> Result<Self> {
        let mut loopback = Loopback::new("demo", tasks).await?;
        page.node("bootstrap", &loopback.bootstrap, &loopback.at, "DHT, gossip, relay");
        let (backends, model) = tokio::task::spawn_blocking(engines).await.map_err(failed)??;
        let mut providers = Vec::new();
        for (name, backend) in ["provider A", "provider B"].into_iter().zip(backends) {
            let node = loopback.node(Some(free(backend, SLOTS))).await?;
            let listen = node.listening().await.map_err(failed)?;
            page.node(
                name,
                &node.id(),
                &listen,
                &format!("sells {model}, embedded engine, free"),
            );
            providers.push(node);
        }
        let consumer = loopback.node(None).await?;
        page.node(
            "consumer",
            &consumer.id(),
            &consumer.listening().await.map_err(failed)?,
            "buys",
        );
        Ok(Self {
            consumer,
            model,
            providers,
            loopback,
        })
    }

    pub(super) fn network(&self) -> &Network {
        &self.loopback.network
    }

    /// What a node is called on the page.
    pub(super) fn name(&self, node: &NodeId) -> String {
        let provider = self.providers.iter().position(|provider| provider.id() == *node);
        match provider {
            Some(place) => format!("provider {}", ["A", "B"][place]),
            None if self.consumer.id() == *node => "consumer".to_owned(),
            None if self.loopback.bootstrap == *node => "bootstrap".to_owned(),
            None => node.short(),
        }
    }

    /// The question as a program would ask it.
    pub(super) fn purchase(&self, args: &DemoArgs) -> Result<crate::buyer::Purchase> {
        let mut body = json!({
            "model": self.model.as_str(),
            "stream": true,
            "max_tokens": args.max_tokens,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "messages": [{ "role": "user", "content": args.prompt }],
        });
        if let Some(seed) = args.seed {
            body["seed"] = json!(seed);
        }
        let body = Bytes::from(body.to_string());
        let request = Request::read(Endpoint::ChatCompletions, &body).map_err(failed)?;
        Ok(crate::buyer::Purchase {
            endpoint: request.endpoint,
            model: self.model.clone(),
            body,
            needs: request.needs,
            input_tokens: request.input_tokens,
            context: request.context,
            max_output: request.max_output,
            policy: Policy::Balanced,
            price_cap: Price::FREE,
            only: Vec::new(),
            ignore: Vec::new(),
            quantisations: Vec::new(),
            quality: Quality::default(),
            public: true,
            may_continue: true,
            continuation: None,
            weights: None,
            deadline: Instant::now() + DEADLINE,
        })
    }
}

/// One engine for each provider, and what their model is called.
#[cfg(feature = "embedded")]
fn engines() -> Result<(Vec<Arc<dyn Backend>>, ModelId)> {
    use infernet_inference::embedded::{DEMO_MODEL, EmbeddedBackend};
    let engine = || EmbeddedBackend::demo(usize::from(SLOTS)).map(|engine| Arc::new(engine) as Arc<dyn Backend>);
    let engines = (0..PROVIDERS)
        .map(|_| engine().map_err(failed))
        .collect::<Result<_>>()?;
    Ok((engines, ModelId::new(DEMO_MODEL).map_err(failed)?))
}

#[cfg(not(feature = "embedded"))]
fn engines() -> Result<(Vec<Arc<dyn Backend>>, ModelId)> {
    Err(failed(
        "the demo runs on the embedded engine; build with the feature `embedded`",
    ))
}
