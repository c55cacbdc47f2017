//! The bench's network: a bootstrap node, three providers in front of one engine, and a consumer with a gateway.

use std::sync::Arc;

use infernet_inference::scripted::{Reply, Script, ScriptedBackend};
use infernet_inference::{BackendKind, OpenAiBackend};
use infernet_protocol::auction::Policy;
use infernet_protocol::{ModelId, Price};

use super::super::loopback::{Loopback, failed, free};
use super::Result;
use crate::gateway::{self, Gateway};
use crate::node::Node;
use crate::runtime::Tasks;
use crate::service::Service;

/// Providers of the bench.
const PROVIDERS: usize = 3;
/// Tokens of one answer.
pub(super) const TOKENS: u32 = 64;
/// The request of the bench.
pub(super) const BODY: &str =
    r#"{"model":"bench","stream":true,"messages":[{"role":"user","content":"Say something short, please."}]}"#;
/// More than anything that is measured uses at once.
const SLOTS: u16 = 512;

/// Who is on stage.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) engine: String,
    pub(super) gateway: String,
    pub(super) consumer: Arc<Node>,
    _providers: Vec<Arc<Node>>,
    _loopback: Loopback<'a>,
}

impl<'a> Stage<'a> {
    pub(super) async fn set(tasks: &'a Tasks) -> Result<Self> {
        let model = ModelId::new("bench").map_err(failed)?;
        let script = Script {
            models: vec!["bench".to_owned()],
            reply: Reply::Words(TOKENS),
            ..Script::default()
        };
        let scripted = ScriptedBackend::new(script);
        let engine = super::engine::serve(vec![(model.clone(), scripted)], tasks).await?;
        let engine = format!("http://{engine}");
        let mut loopback = Loopback::new("bench", tasks).await?;
        let mut providers = Vec::new();
        for _ in 0..PROVIDERS {
            let backend = OpenAiBackend::new(BackendKind::OpenAi, &engine, None).map_err(failed)?;
            providers.push(loopback.node(Some(free(Arc::new(backend), SLOTS))).await?);
        }
        let consumer = loopback.node(None).await?;
        consumer.until_served(&model, PROVIDERS).await;
        let service = Service::new(consumer.clone(), Policy::Balanced, Price::FREE);
        let settings = gateway::Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            ..gateway::Settings::default()
        };
        let bound = Gateway::bind(settings, Arc::new(service)).await.map_err(failed)?;
        let gateway = bound.url();
        tasks.spawn("gateway", bound.serve(tasks.clone()));
        Ok(Self {
            engine,
            gateway,
            consumer,
            _providers: providers,
            _loopback: loopback,
        })
    }
}
