//! What the gateway asks of this node: the models of the network, and answers bought on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use infernet_inference::backend::Model;
use infernet_inference::{ContentType, Counted, Usage};
use infernet_protocol::auction::Policy;
use infernet_protocol::capability::{Features, ModelAd};
use infernet_protocol::{ModelId, NodeId, Price};

use crate::buyer::consumer::{self, Answer, Said};
use crate::buyer::{self, BuyError, Failure, Purchase, told};
use crate::gateway::inference::RETRY_AFTER;
use crate::gateway::{InferError, Inference, InferenceRequest, Part, Preferences, Reply, ServedModel, Source, Summary};
use crate::leases::Unplaced;
use crate::node::Node;

/// This node as the gateway sees it.
#[derive(Debug)]
pub struct Service {
    node: Arc<Node>,
    policy: Policy,
    price_cap: Price,
    public: bool,
    failover: bool,
    hedging: bool,
}

impl Service {
    /// Buys with these defaults, where a request does not say otherwise.
    #[must_use]
    pub fn new(node: Arc<Node>, policy: Policy, price_cap: Price) -> Self {
        Self {
            node,
            policy,
            price_cap,
            public: true,
            failover: true,
            hedging: true,
        }
    }

    /// Whether another provider may go on where one breaks off.
    #[must_use]
    pub fn failover(self, failover: bool) -> Self {
        Self { failover, ..self }
    }

    /// Whether a second provider may be asked where the first is later than it usually is.
    #[must_use]
    pub fn hedging(self, hedging: bool) -> Self {
        Self { hedging, ..self }
    }

    /// Whether its deals may be seen by everybody.
    #[must_use]
    pub fn public(self, public: bool) -> Self {
        Self { public, ..self }
    }

    /// The most that a request pays: it may lower what its user set, and never raise it.
    pub(crate) fn price_cap(&self, preferences: &Preferences) -> Price {
        preferences.max_price.unwrap_or(self.price_cap).at_most(&self.price_cap)
    }

    /// What is bought for a request, from `first` where it names a provider to begin with.
    fn purchase(&self, request: InferenceRequest, first: Option<NodeId>, may_wait: bool) -> Purchase {
        let InferenceRequest {
            model,
            request,
            body,
            preferences,
            caller,
            deadline,
            ..
        } = request;
        let price_cap = self.price_cap(&preferences);
        let mut only = preferences.only;
        if preferences.fallbacks_refused && only.is_empty() {
            only.clone_from(&preferences.order);
        }
        Purchase {
            caller,
            policy: preferences.policy.unwrap_or(self.policy),
            price_cap,
            only: first.map_or_else(|| only.clone(), |first| vec![first]),
            only_then: only,
            ignore: preferences.ignore,
            quantisations: preferences.quantisations,
            quality: preferences.quality,
            public: self.public,
            may_continue: self.failover && !preferences.fallbacks_refused && told::may_continue(&request),
            may_hedge: self.hedging && request.stream,
            may_wait,
            ..Purchase::new(model, &request, body, deadline)
        }
    }
}

#[async_trait]
impl Inference for Service {
    async fn models(&self) -> Vec<ServedModel> {
        served(&self.node)
    }

    async fn infer(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        self.answer(request, true).await
    }
}

impl Service {
    /// The same from whoever is free now, or from nobody.
    pub(crate) async fn infer_at_once(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        self.answer(request, false).await
    }

    async fn answer(&self, mut request: InferenceRequest, may_wait: bool) -> Result<Reply, InferError> {
        if request.preferences.data_collection_refused {
            return Err(InferError::Unfit {
                model: request.model.to_string(),
                needs: "`data_collection: deny`, which nobody can promise: a provider sees what it runs".to_owned(),
            });
        }
        let order = match request.preferences.fallbacks_refused {
            true => Vec::new(),
            false => std::mem::take(&mut request.preferences.order),
        };
        for provider in order {
            match self.answer_from(Some(provider), request.clone(), may_wait).await {
                Err(error) if error.is_anothers_chance() => {}
                answered => return answered,
            }
        }
        self.answer_from(None, request, may_wait).await
    }

    async fn answer_from(
        &self,
        first: Option<NodeId>,
        request: InferenceRequest,
        may_wait: bool,
    ) -> Result<Reply, InferError> {
        let (model, wanted) = (request.model.clone(), Wanted::of(&request));
        let Answer { head, said } = self.node.buy(self.purchase(request, first, may_wait));
        let (head, chosen) = match head.await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => {
                let served = || served(&self.node).into_iter().filter(|served| served.id == model);
                return Err(error_of(error, || wanted.lacking(&served().collect::<Vec<_>>())));
            }
            Err(_) => return Err(InferError::stopping()),
        };
        let body = stream::unfold(Some(said), |said| async {
            let mut said = said?;
            match said.recv().await? {
                Said::Data(bytes) => Some((Ok(Part::Data(bytes)), Some(said))),
                Said::Over(outcome) => match *outcome {
                    Ok(summary) => Some((Ok(Part::End(summary_of(&summary))), None)),
                    Err(error) => Some((Err(error_of(error, String::new)), None)),
                },
            }
        });
        Ok(Reply {
            job: Some(chosen.lease.job),
            request: chosen.request,
            provider: Some(chosen.provider.peer_id()),
            model,
            source: Source::Network,
            price: chosen.price,
            status: head.status,
            content_type: ContentType::of(&head.content_type),
            body: body.boxed(),
        })
    }
}

/// Models of the network, as the ads that are known tell.
#[must_use]
pub fn served(node: &Node) -> Vec<ServedModel> {
    let mut models = BTreeMap::<ModelId, ServedModel>::new();
    for ad in node.ads().iter().filter(|ad| ad.signer() != node.id()) {
        for entry in ad.models.iter() {
            let model = models.entry(entry.id.clone()).or_insert_with(|| unserved(entry));
            add(model, entry);
        }
    }
    models.into_values().collect()
}

/// Models of the network, and of this node's own engines those that nobody else offers.
pub(crate) fn served_or_ours(node: &Node) -> Vec<ServedModel> {
    let mut models = served(node);
    for model in node.models_of_our_own() {
        if models.iter().all(|known| known.id != model.id) {
            models.push(served_here(model));
        }
    }
    models
}

pub(crate) fn served_here(model: Model) -> ServedModel {
    ServedModel {
        id: model.id,
        providers: 0,
        context: model.context,
        max_output: model.max_output,
        features: model.features,
        quantisations: model.quantisation.into_iter().collect(),
        price: Price::FREE,
        ttft_ms: None,
        tokens_per_second: None,
    }
}

fn unserved(entry: &ModelAd) -> ServedModel {
    ServedModel {
        id: entry.id.clone(),
        providers: 0,
        context: None,
        max_output: None,
        features: entry.features,
        quantisations: Vec::new(),
        price: entry.price,
        ttft_ms: None,
        tokens_per_second: None,
    }
}

fn add(model: &mut ServedModel, entry: &ModelAd) {
    model.providers += 1;
    model.context = model.context.max(Some(entry.context));
    model.max_output = model.max_output.max(Some(entry.max_output));
    model.features = model.features.with(entry.features);
    model.price = model.price.at_most(&entry.price);
    let quantisation = entry.quantisation.as_str();
    if !quantisation.is_empty() && model.quantisations.iter().all(|known| known != quantisation) {
        model.quantisations.push(quantisation.to_owned());
    }
    if entry.ttft.0 > 0 {
        model.ttft_ms = Some(model.ttft_ms.map_or(entry.ttft.0, |ttft| ttft.min(entry.ttft.0)));
    }
    if entry.speed > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
        let speed = entry.speed as f32 / 1000.0;
        model.tokens_per_second = Some(model.tokens_per_second.map_or(speed, |fastest| fastest.max(speed)));
    }
}

fn summary_of(summary: &consumer::Summary) -> Summary {
    Summary {
        usage: Usage {
            input_tokens: summary.usage.input_tokens,
            output_tokens: summary.usage.output_tokens,
            counted: Counted::Engine,
        },
        cost: summary.cost,
        attempts: summary.attempts,
        providers: summary.providers.iter().map(NodeId::peer_id).collect(),
        receipt: Some(summary.receipt),
    }
}

/// What a model must have for a request.
pub(crate) struct Wanted {
    features: Features,
    context: u32,
    quantisations: Vec<String>,
}

impl Wanted {
    pub(crate) fn of(request: &InferenceRequest) -> Self {
        Self {
            features: request.request.needs,
            context: request.request.context,
            quantisations: request.preferences.quantisations.clone(),
        }
    }

    /// Whether a model has all of it.
    pub(crate) fn is_met_by(&self, served: &ServedModel) -> bool {
        served.can(self.features, self.context) && self.is_quantised(served)
    }

    fn fits(&self, served: &ServedModel) -> bool {
        served.can(Features::default(), self.context)
    }

    fn is_quantised(&self, served: &ServedModel) -> bool {
        let is_quantised = |told: &str| buyer::is_quantised(&self.quantisations, told);
        match served.quantisations.is_empty() {
            true => is_quantised(""),
            false => served.quantisations.iter().any(|told| is_quantised(told)),
        }
    }

    /// What of it none of these has, for people; all of it where each is had by one of them, and not by one and the same.
    pub(crate) fn lacking(&self, served: &[ServedModel]) -> String {
        let had = served.iter().map(|served| served.features);
        let had = had.fold(Features::default(), Features::with);
        let any = |has: fn(&Self, &ServedModel) -> bool| served.iter().any(|served| has(self, served));
        let lacking = Self {
            features: self.features.without(had),
            context: if any(Self::fits) { 0 } else { self.context },
            quantisations: match any(Self::is_quantised) {
                true => Vec::new(),
                false => self.quantisations.clone(),
            },
        };
        let told = lacking.to_string();
        if told.is_empty() { self.to_string() } else { told }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.features.names().map(str::to_owned).collect();
        if self.context > 0 {
            parts.push(format!("a context of {} tokens", self.context));
        }
        if !self.quantisations.is_empty() {
            parts.push(self.quantisations.join(" or "));
        }
        f.write_str(&parts.join(", "))
    }
}

fn error_of(error: BuyError, needs: impl FnOnce() -> String) -> InferError {
    match error {
        BuyError::Unplaced(unplaced) => unplaced_of(unplaced, needs),
        BuyError::Failed(Failure::Stopping) => InferError::nobody_free(),
        BuyError::BrokenOff(Failure::Stopping) => InferError::stopping(),
        BuyError::Failed(failure) => failed(failure, false),
        BuyError::BrokenOff(failure) => failed(failure, true),
        BuyError::Deadline { delivered } => InferError::Deadline { delivered },
    }
}

fn unplaced_of(unplaced: Unplaced, needs: impl FnOnce() -> String) -> InferError {
    match unplaced {
        Unplaced::NobodyServes { model, near } => InferError::NobodyServes {
            model: model.to_string(),
            near: near.iter().map(ToString::to_string).collect(),
        },
        Unplaced::TooDear { model, cheapest } => InferError::too_dear(model.to_string(), &cheapest),
        Unplaced::NoRail { model } => InferError::NoRail {
            model: model.to_string(),
        },
        Unplaced::Unfit { model } => InferError::Unfit {
            model: model.to_string(),
            needs: needs(),
        },
        Unplaced::LeftOut { model } => InferError::LeftOut {
            model: model.to_string(),
        },
        Unplaced::NobodyFree { .. } => InferError::nobody_free(),
        Unplaced::TooManyWait => InferError::TooManyWait {
            retry_after: RETRY_AFTER,
        },
        Unplaced::Journal => InferError::Internal(unplaced.to_string()),
    }
}

fn failed(failure: Failure, delivered: bool) -> InferError {
    match failure {
        Failure::Failed(fail) if fail.status < 500 && !fail.retryable && !delivered => {
            let body = serde_json::json!({
                "error": {
                    "message": fail.message.as_str(),
                    "type": "invalid_request_error",
                    "param": null,
                    "code": null,
                }
            });
            InferError::Refused {
                status: fail.status,
                body: body.to_string().into(),
            }
        }
        Failure::OverBudget(over) => InferError::OverBudget {
            reason: over.to_string(),
            retry_after: over.frees_in,
        },
        Failure::Journal => InferError::Internal(failure.to_string()),
        failure => InferError::Failed {
            reason: failure.to_string(),
            delivered,
        },
    }
}
