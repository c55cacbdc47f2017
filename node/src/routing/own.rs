//! An answer from an engine of this node: it costs nothing and needs no auction.

use std::time::Duration;

use infernet_inference::allow;
use tracing::info;

use super::direct::{self, Asked};
use super::{Router, is_for_the_network};
use crate::engines::Served;
use crate::gateway::{InferError, InferenceRequest, Reply, ServedModel, Source};
use crate::node::Lent;
use crate::service::{self, RETRY_AFTER, Wanted};

/// How often a slot is looked for that a buyer may have freed, which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Router {
    /// Whether an engine of this node has the model of a request that is not for others alone.
    pub(super) fn may_stay(&self, request: &InferenceRequest) -> bool {
        !is_for_the_network(request)
            && !request.preferences.ignore.contains(&self.node.id())
            && self.node.serves_itself(&request.model)
    }

    /// From an engine of this node; where it `waits`, once there is a slot.
    pub(super) async fn locally(&self, request: &InferenceRequest, waits: bool) -> Result<Reply, InferError> {
        self.is_able(request)?;
        let (served, slot) = self.slot(request, waits).await?;
        let source = match served.backend.name() {
            "embedded" => Source::Embedded,
            _ => Source::Local,
        };
        let room = served.room(request.body.len() as u64).min(served.max_output());
        let asked = Asked {
            backend: served.backend,
            model: served.model.name,
            id: request.model.clone(),
            max_output: request.request.max_output.is_none().then_some(room),
            source,
        };
        let answered = direct::infer(asked, request.clone(), slot).await;
        if let Err(error) = &answered {
            info!(model = %request.model, %error, "our own engine cannot");
        }
        answered
    }

    fn is_able(&self, request: &InferenceRequest) -> Result<(), InferError> {
        let model = request.model.to_string();
        let Some(served) = self.node.own_engine(&request.model) else {
            return Err(nobody(request));
        };
        let context = served.context();
        let told = ServedModel {
            context: Some(context),
            ..service::served_here(served.model)
        };
        let wanted = Wanted::of(request);
        if !wanted.is_met_by(&told) {
            let needs = wanted.lacking(&[told]);
            return Err(InferError::Unfit { model, needs });
        }
        allow::check(request.request.endpoint, &request.body, told.features).map_err(|error| InferError::Unfit {
            model,
            needs: error.to_string(),
        })
    }

    async fn slot(&self, request: &InferenceRequest, waits: bool) -> Result<(Served, Option<Lent>), InferError> {
        loop {
            let given_back = self.node.given_back.notified();
            if let Some(slot) = self.node.engine_of_our_own(&request.model) {
                return Ok(slot);
            }
            if !self.node.serves_itself(&request.model) {
                return Err(nobody(request));
            }
            if !waits {
                return Err(InferError::NobodyFree {
                    retry_after: RETRY_AFTER,
                });
            }
            let left = request.deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(InferError::Deadline { delivered: false });
            }
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), given_back).await;
        }
    }
}

/// The engine has gone in the meantime.
fn nobody(request: &InferenceRequest) -> InferError {
    InferError::NobodyServes {
        model: request.model.to_string(),
        near: Vec::new(),
    }
}
