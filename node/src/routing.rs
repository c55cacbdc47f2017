//! Where a request goes: which model its name stands for, and who is asked for it in which order.
//!
//! ```text
//!   name ── names ──> models to try, in turn
//!                        |
//!                        +-- an engine of this node, where that goes first               direct
//!                        +-- the network                                                 service
//!                        +-- an engine of this node, where the network goes first        direct
//!                        +-- services outside, where the user has set a key              direct
//! ```
//!
//! An engine of this node goes first where its user wants that, or nobody else is known to serve the model.
//!
//! The next one is asked only where nothing was delivered and the failure is not the request's own. `allow_fallbacks:
//! false` keeps a request to its first model and to the network.

mod direct;
mod names;
mod own;

use std::sync::Arc;

use async_trait::async_trait;
use infernet_inference::Backend;
use infernet_inference::json::{self, Edit, Object};
use infernet_protocol::{ModelId, Price};
use tracing::info;

use crate::gateway::{InferError, Inference, InferenceRequest, Preferences, Reply, ServedModel, Source};
use crate::node::Node;
use crate::service::{self, Service, Wanted};
use direct::Asked;
use names::Asks;

pub use names::Names;

/// A service outside the network that the user has a key for.
#[derive(Clone, Debug)]
pub struct Outside {
    /// What badges call it.
    pub name: &'static str,
    /// It.
    pub backend: Arc<dyn Backend>,
    /// The model that it is asked for; `None` asks for the one that was wanted.
    pub model: Option<String>,
}

/// All that may answer, as the gateway asks for it.
#[derive(Debug)]
pub struct Router {
    node: Arc<Node>,
    network: Service,
    names: Names,
    local_first: bool,
    outside: Vec<Outside>,
}

impl Router {
    /// Asks the network, and this node's own engines where the network cannot.
    #[must_use]
    pub fn new(node: Arc<Node>, network: Service) -> Self {
        Self {
            node,
            network,
            names: Names::default(),
            local_first: false,
            outside: Vec::new(),
        }
    }

    /// With names of the user's own.
    #[must_use]
    pub fn names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Whether this node's own engines are asked before the network, and not only where it cannot answer.
    #[must_use]
    pub fn local_first(self, local_first: bool) -> Self {
        Self { local_first, ..self }
    }

    /// With services that are asked where the network cannot answer.
    #[must_use]
    pub fn outside(self, outside: Vec<Outside>) -> Self {
        Self { outside, ..self }
    }

    /// An answer of one model, from whoever gives it first.
    async fn answer(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        if !self.may_stay(&request) {
            let (model, is_ours) = (request.model.to_string(), self.node.serves_itself(&request.model));
            return match self.elsewhere(request).await {
                // There is somebody: this node.
                Err(InferError::NobodyServes { .. }) if is_ours => Err(InferError::LeftOut { model }),
                answered => answered,
            };
        }
        let has_others = self.node.market.serving(&request.model);
        if has_others && !self.local_first && !self.is_for_us(&request) {
            return match self.network.infer_at_once(request.clone()).await {
                Err(error @ InferError::OverBudget { .. }) => Err(error),
                Err(error) if error.is_anothers_chance() => match self.locally(&request, false).await {
                    Err(ours) if ours.is_anothers_chance() => self.elsewhere(request).await,
                    answered => answered,
                },
                answered => answered,
            };
        }
        match self.locally(&request, !has_others).await {
            Err(ours) if ours.is_anothers_chance() => match self.elsewhere(request).await {
                Err(InferError::NobodyServes { .. } | InferError::LeftOut { .. }) => Err(ours),
                answered => answered,
            },
            answered => answered,
        }
    }

    /// From the network, or else from a service outside.
    async fn elsewhere(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        let again = self.may_leave(&request).then(|| request.clone());
        match (self.network.infer(request).await, again) {
            // A service outside costs its owner's money, which no budget here counts.
            (Err(error @ InferError::OverBudget { .. }), _) => Err(error),
            (Err(error), Some(request)) if error.is_anothers_chance() => self.outside_of(request, error).await,
            (answered, _) => answered,
        }
    }

    /// From the first service outside that answers; the network's own error where none does.
    async fn outside_of(&self, request: InferenceRequest, error: InferError) -> Result<Reply, InferError> {
        for outside in &self.outside {
            let model = outside.model.clone().unwrap_or_else(|| request.request.model.clone());
            let asked = Asked {
                backend: outside.backend.clone(),
                id: ModelId::new(&model).unwrap_or_else(|_| request.model.clone()),
                model,
                max_output: None,
                source: Source::Fallback(outside.name.to_owned()),
                closing: self.node.closing.clone(),
            };
            info!(model = %request.model, service = outside.name, %error, "the network cannot, so a service outside is asked");
            match direct::infer(asked, request.clone(), ()).await {
                Err(theirs) => info!(service = outside.name, error = %theirs, "the service outside cannot either"),
                answered => return answered,
            }
        }
        Err(error)
    }

    /// The models to try for the name of a request, or why there are none.
    fn chain(&self, request: &InferenceRequest, asks: &Asks) -> Result<Vec<ModelId>, InferError> {
        let served = match self.is_for_others(request) {
            true => service::served(&self.node),
            false => service::served_or_ours(&self.node),
        };
        let chain = self.names.chain(&request.model, asks, &served);
        if !chain.is_empty() {
            return Ok(chain);
        }
        let model = request.model.to_string();
        let able = served.iter().filter(|model| model.can(asks.needs, asks.context));
        let cheapest = able.map(|model| model.price).reduce(|a, b| a.at_most(&b));
        Err(match cheapest {
            Some(price) => InferError::too_dear(model, &price),
            None if served.is_empty() => InferError::nobody_serves(&request.model),
            None => InferError::Unfit {
                model,
                needs: Wanted::of(request).lacking(&served),
            },
        })
    }

    /// Whether a request may go to a service outside: there is one, it asks for nothing that only the network keeps, and it
    /// is the node's own user who asks, and not the holder of a key.
    fn may_leave(&self, request: &InferenceRequest) -> bool {
        let preferences = &request.preferences;
        !self.outside.is_empty()
            && request.caller.is_none()
            && !preferences.fallbacks_refused
            && !preferences.data_collection_refused
            && preferences.only.is_empty()
            && preferences.ignore.is_empty()
            && preferences.quantisations.is_empty()
            && preferences.max_price.is_none()
    }
}

/// The same request for another model.
fn renamed(request: &InferenceRequest, model: &ModelId) -> InferenceRequest {
    if request.model == *model {
        return request.clone();
    }
    let body = Object::read(&request.body).map(|object| {
        let edits = [Edit::set("model", json::quoted(model.as_str()))];
        object.edited(&edits).into()
    });
    let mut request = InferenceRequest {
        model: model.clone(),
        body: body.unwrap_or_else(|_| request.body.clone()),
        ..request.clone()
    };
    request.request.model = model.to_string();
    request
}

#[async_trait]
impl Inference for Router {
    async fn models(&self) -> Vec<ServedModel> {
        service::served_or_ours(&self.node)
    }

    async fn model(&self, name: &ModelId) -> Option<ServedModel> {
        let served = service::served_or_ours(&self.node);
        let first = |id: &ModelId| served.iter().find(|model| model.id == *id);
        // What it would stand for at any price, where there is nothing within the cap.
        [self.network.price_cap(&Preferences::default()), Price::ANY]
            .into_iter()
            .map(|cap| self.names.chain(name, &Asks::of_a_chat(cap), &served))
            .find_map(|chain| chain.iter().find_map(first).cloned())
    }

    async fn infer(&self, request: InferenceRequest) -> Result<Reply, InferError> {
        // A batch goes on when the node is back.
        if request.background && self.node.is_leaving() {
            return Err(InferError::nobody_free());
        }
        // In the steady state a name is a model's own.
        if !self.names.knows(&request.model) {
            return self.answer(request).await;
        }
        let asks = Asks {
            needs: request.request.needs,
            input_tokens: request.request.input_tokens,
            context: request.request.context,
            price_cap: self.network.price_cap(&request.preferences),
        };
        let mut chain = match self.chain(&request, &asks) {
            Ok(chain) => chain,
            Err(error) if self.may_leave(&request) => return self.outside_of(request, error).await,
            Err(error) => return Err(error),
        };
        if request.preferences.fallbacks_refused {
            chain.truncate(1);
        }
        let last = chain.pop().unwrap_or_else(|| request.model.clone());
        for model in &chain {
            match self.answer(renamed(&request, model)).await {
                Err(error) if error.is_anothers_chance() => {
                    info!(%model, %error, "going on with the next model of the name");
                }
                answered => return answered,
            }
        }
        self.answer(renamed(&request, &last)).await
    }
}
