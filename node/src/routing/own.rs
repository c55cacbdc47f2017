//! An answer from an engine of this node: it costs nothing and needs no auction.

use std::time::Duration;

use infernet_inference::allow;
use tracing::info;

use super::Router;
use super::direct::{self, Asked};
use crate::engines::Served;
use crate::gateway::{InferError, InferenceRequest, Reply, ServedModel, Source};
use crate::node::Lent;
use crate::service::{self, Wanted};

/// How often a slot is looked for that a buyer may have freed, which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Of so many slots one is kept free of what nobody waits for.
const KEPT_FREE_OF: u16 = 4;

impl Router {
    /// Whether an engine of this node has the model of a request that is not for others alone.
    pub(super) fn may_stay(&self, request: &InferenceRequest) -> bool {
        !self.is_for_others(request) && self.node.serves_itself(&request.model)
    }

    /// Whether a request says that this node is not to answer it.
    pub(super) fn is_for_others(&self, request: &InferenceRequest) -> bool {
        let (preferences, us) = (&request.preferences, self.node.id());
        let is_named = preferences.only.contains(&us) || preferences.order.contains(&us);
        preferences.ignore.contains(&us)
            || !preferences.only.is_empty() && !preferences.only.contains(&us)
            || preferences.fallbacks_refused && !is_named
    }

    /// Whether this node is the first, or the only one, that a request names.
    pub(super) fn is_for_us(&self, request: &InferenceRequest) -> bool {
        let (preferences, us) = (&request.preferences, self.node.id());
        preferences.order.first() == Some(&us) || preferences.order.is_empty() && preferences.only == [us]
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
            closing: self.node.closing.clone(),
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
            return Err(InferError::nobody_serves(&request.model));
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
        if !waits {
            return self.free_slot(request).ok_or_else(InferError::nobody_free);
        }
        let queue = &self.node.queue;
        let waited = async {
            let _turn = queue.turn(request.background).await;
            loop {
                let freed = queue.freed();
                if let Some(slot) = self.free_slot(request) {
                    return Ok(slot);
                }
                if !self.node.serves_itself(&request.model) {
                    return Err(InferError::nobody_serves(&request.model));
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
            }
        };
        tokio::select! {
            waited = tokio::time::timeout_at(request.deadline.into(), waited) => {
                waited.unwrap_or(Err(InferError::Deadline { delivered: false }))
            }
            () = self.node.closing.cancelled() => Err(InferError::nobody_free()),
        }
    }

    /// A slot that is free. What nobody waits for leaves some to others, and the next to whoever waits.
    fn free_slot(&self, request: &InferenceRequest) -> Option<(Served, Option<Lent>)> {
        let slots = self.node.slots();
        let kept_free = match request.background {
            true if self.node.queue.has_somebody() || self.node.is_leaving() => slots,
            true if slots > 1 => slots.div_ceil(KEPT_FREE_OF),
            _ => 0,
        };
        self.node.engine_of_our_own(&request.model, kept_free)
    }
}
