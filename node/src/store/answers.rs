//! Questions of the command line, answered in JSON: the same by a running node and by a command that opens the ledger.

use infernet_protocol::JobId;
use serde_json::{Value, json};

use super::{Query, Store};

/// Rows of the ledger; `params` is a `Query` in JSON.
pub async fn answer_receipts(store: &Store, params: &Value) -> Result<Value, String> {
    let query = Query::from_json(params)?;
    let rows = store.rows(query).await.map_err(|error| error.to_string())?;
    Ok(rows.iter().map(super::ReceiptRow::to_json).collect())
}

/// Every lease of the job that `params.id` names, or that the request it names ran under, as files in hex.
pub async fn answer_export(store: &Store, params: &Value) -> Result<Value, String> {
    let query = Query {
        id: Some(params["id"].as_str().unwrap_or_default().to_lowercase()),
        ..Query::default()
    };
    let rows = store.rows(query).await.map_err(|error| error.to_string())?;
    let mut jobs: Vec<JobId> = rows.iter().map(|row| row.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let job = match &jobs[..] {
        [] => return Ok(json!([])),
        [job] => *job,
        several => return Err(format!("{} jobs match: give more digits of the id", several.len())),
    };
    let deals = store.deals(job).await.map_err(|error| error.to_string())?;
    Ok(deals
        .iter()
        .map(|deal| {
            json!({
                "job": job.to_string(),
                "attempt": deal.lease().attempt,
                "role": deal.side.as_str(),
                "receipts": deal.ledger.entries().len(),
                "countersigned": deal.ledger.settled(),
                "file": hex::encode(deal.export(store.network())),
            })
        })
        .collect())
}
