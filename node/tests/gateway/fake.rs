//! The gateway in front of a scripted engine, with no network in between.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use infernet_inference::scripted::{Counts, Script};
use infernet_inference::{Backend, BackendError, Job, Piece, ScriptedBackend};
use infernet_node::gateway::{
    Gateway, InferError, Inference, InferenceRequest, Part, Reply, ServedModel, Settings, Source, Summary,
};
use infernet_node::runtime::Tasks;
use infernet_protocol::{Digest, JobId, MicroUsd, Price, RequestId};

pub const PROVIDER: &str = "16Uiu2HAkwZfN8D8YDZ3QJxqm2bTbBzBVrYZPF9dEL2Z5JmY8bE2V";

/// Answers with a scripted engine, or with an error that the test set.
#[derive(Clone)]
pub struct Fake {
    pub engine: ScriptedBackend,
    pub asked: Arc<Mutex<Vec<InferenceRequest>>>,
    pub error: Arc<Mutex<Option<InferError>>>,
    /// Whether answers end in a summary.
    pub summary: bool,
}

impl Fake {
    pub fn new(script: Script) -> Self {
        Self {
            engine: ScriptedBackend::new(script),
            asked: Arc::default(),
            error: Arc::default(),
            summary: true,
        }
    }

    pub fn fail_with(&self, error: InferError) {
        *self.error.lock().unwrap() = Some(error);
    }

    pub fn last_asked(&self) -> InferenceRequest {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until the engine's counts satisfy `holds`.
    pub async fn until(&self, holds: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.engine.observe();
        let waited = tokio::time::timeout(Duration::from_secs(20), counts.wait_for(holds)).await;
        *waited.expect("in time").unwrap()
    }
}

fn refusal(error: BackendError) -> InferError {
    match error {
        BackendError::Refused { status, body } => InferError::Refused { status, body },
        BackendError::Busy { retry_after } => InferError::NobodyFree {
            retry_after: retry_after.unwrap_or(Duration::from_secs(1)),
        },
        other => InferError::Failed {
            reason: other.to_string(),
            delivered: false,
        },
    }
}

#[async_trait]
impl Inference for Fake {
    async fn models(&self) -> Vec<ServedModel> {
        let models = self.engine.models().await.unwrap();
        let served = |model: infernet_inference::Model| ServedModel {
            id: model.id,
            providers: 2,
            context: model.context,
            max_output: None,
            features: model.features,
            quantisations: vec!["q8_0".into()],
            price: Price {
                input: MicroUsd(150_000),
                ..Price::FREE
            },
            ttft_ms: Some(12),
            tokens_per_second: Some(80.5),
        };
        models.into_iter().map(served).collect()
    }

    async fn infer(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        self.asked.lock().unwrap().push(request.clone());
        if let Some(error) = self.error.lock().unwrap().clone() {
            return Err(error);
        }
        let models = self.engine.models().await.unwrap();
        let Some(model) = models.into_iter().find(|model| model.id == request.model) else {
            return Err(InferError::NobodyServes {
                model: request.model.to_string(),
                near: Vec::new(),
            });
        };
        let job = Job {
            endpoint: request.request.endpoint,
            model: model.name,
            id: model.id,
            body: request.body,
            max_output: None,
            resume: None,
        };
        let answer = self.engine.run(job).await.map_err(refusal)?;
        let content_type = answer.content_type;
        let ends = self.summary;
        let body = answer.into_pieces().filter_map(move |piece| {
            let part = match piece {
                Ok(Piece::Data { bytes, .. }) => Some(Ok(Part::Data(bytes))),
                Ok(Piece::Usage(usage)) => ends.then(|| {
                    Ok(Part::End(Summary {
                        usage,
                        cost: MicroUsd(42),
                        attempts: 1,
                        providers: vec![PROVIDER.into()],
                        receipt: Some(Digest([7; 32])),
                    }))
                }),
                Err(error) => Some(Err(InferError::Failed {
                    reason: error.to_string(),
                    delivered: true,
                })),
            };
            std::future::ready(part)
        });
        Ok(Reply {
            model: request.model,
            job: Some(JobId([1; 16])),
            request: RequestId([2; 16]),
            provider: Some(PROVIDER.into()),
            source: Source::Network,
            price: Price {
                input: MicroUsd(150_000),
                ..Price::FREE
            },
            status: 200,
            content_type,
            body: body.boxed(),
        })
    }
}

/// A running gateway.
pub struct Running {
    pub url: String,
    pub fake: Fake,
    pub tasks: Tasks,
}

impl Running {
    pub async fn start(fake: Fake, settings: Settings) -> Self {
        let settings = Settings {
            listen: (settings.listen.ip(), 0).into(),
            ..settings
        };
        let gateway = Gateway::bind(settings, Arc::new(fake.clone())).await.unwrap();
        let (url, tasks) = (gateway.url(), Tasks::new());
        tasks.spawn("gateway", gateway.serve(tasks.clone()));
        Self { url, fake, tasks }
    }

    pub async fn with(script: Script) -> Self {
        Self::start(Fake::new(script), Settings::default()).await
    }

    pub fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}
