//! The ledger as a person reads it: one row per request.

use infernet_protocol::receipt::{Dispute, Status};
use infernet_protocol::{Digest, JobId, MicroUsd, ModelId, NodeId, RequestId, UnixMillis};
use serde_json::{Value, json};

use super::record::Side;

/// Rows of one answer at most.
pub const ROWS_MAX: usize = 10_000;

/// Which rows are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// At most so many, the latest first.
    pub limit: usize,
    /// Only those where this node was on this side.
    pub side: Option<Side>,
    /// Only those whose job or request begins with these hex digits.
    pub id: Option<String>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            limit: ROWS_MAX,
            side: None,
            id: None,
        }
    }
}

impl Query {
    /// Rows of one job.
    #[must_use]
    pub fn of_job(job: &JobId) -> Self {
        Self {
            id: Some(job.to_string()),
            ..Self::default()
        }
    }

    /// From JSON: `{"limit": 50, "role": "buyer", "id": "0a1b"}`, each of them optional.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value[name].as_str();
        Ok(Self {
            limit: value["limit"].as_u64().map_or(ROWS_MAX, |limit| {
                usize::try_from(limit).unwrap_or(ROWS_MAX).min(ROWS_MAX)
            }),
            side: text("role").map(str::parse).transpose()?,
            id: text("id").map(str::to_lowercase),
        })
    }

    /// As JSON, for `from_json` at the other end.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "limit": self.limit, "role": self.side.map(Side::as_str), "id": self.id })
    }

    pub(super) fn may_match(&self, job: &[u8], request: &[u8]) -> bool {
        let begins = |bytes: &[u8], id: &String| hex::encode(bytes).starts_with(id.as_str());
        self.id.as_ref().is_none_or(|id| begins(job, id) || begins(request, id))
    }
}

/// How a request ended, as far as the ledger knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStatus {
    /// As its receipt says.
    Receipted(Status),
    /// The provider was lost, and has not come back with a receipt.
    Unreceipted,
}

impl RowStatus {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receipted(status) => status.as_str(),
            Self::Unreceipted => "unreceipted",
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// The request.
    pub request: RequestId,
    /// The job it ran under.
    pub job: JobId,
    /// The attempt of the job.
    pub attempt: u16,
    /// Which side this node was.
    pub side: Side,
    /// The other side.
    pub peer: NodeId,
    /// The model.
    pub model: ModelId,
    /// How it ended.
    pub status: RowStatus,
    /// Input tokens.
    pub input_tokens: u32,
    /// Output tokens.
    pub output_tokens: u32,
    /// Time to first token at the worker, in milliseconds.
    pub ttft_ms: u32,
    /// Time to the end at the worker, in milliseconds.
    pub duration_ms: u32,
    /// What it cost.
    pub amount: MicroUsd,
    /// When it ended, by the worker's clock.
    pub finished_at: UnixMillis,
    /// The buyer's verdict, if there is one: a dispute, or none.
    pub countersigned: Option<Option<Dispute>>,
    /// Hash of the receipt's envelope, if there is one.
    pub hash: Option<Digest>,
}

impl ReceiptRow {
    /// As JSON, with the names of the command line.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "request": self.request.to_string(),
            "job": self.job.to_string(),
            "attempt": self.attempt,
            "role": self.side.as_str(),
            "peer": self.peer.peer_id(),
            "model": self.model.as_str(),
            "status": self.status.as_str(),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "ttft_ms": self.ttft_ms,
            "duration_ms": self.duration_ms,
            "amount_microusd": self.amount.0,
            "finished_at": self.finished_at.0,
            "countersigned": self.countersigned == Some(None),
            "dispute": self.countersigned.flatten().map(Dispute::as_str),
            "receipt": self.hash.map(|hash| hash.to_string()),
        })
    }
}
