//! `infernet receipts verify FILE`: whether an exported deal holds together, with nothing but the file.

use std::fs::File;
use std::io::Read as _;

use infernet_protocol::receipt::Total;
use infernet_protocol::receipt::chain::{self, Checked};
use serde_json::{Value, json};

use super::super::{Context, Result};
use crate::cli::ReceiptsVerifyArgs;
use crate::clock;
use crate::out::{Exit, Failure, Out, Style};

/// Largest file that is read: the longest lease has 72,000 receipts of about a kilobyte with their countersignatures.
const FILE_BYTES: u64 = 256 * 1024 * 1024;

pub(super) fn run(args: &ReceiptsVerifyArgs, context: &Context) -> Result {
    let mut bytes = Vec::new();
    File::open(&args.file)
        .and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| {
            Failure::new(
                Exit::Failed,
                format_args!("cannot read `{}`: {error}", args.file.display()),
            )
        })?;
    let out = &context.out;
    match chain::check(&bytes) {
        Ok(checked) => {
            if out.is_json() {
                out.json(&as_json(&checked));
            } else {
                print(&checked, out);
            }
            Ok(Exit::Done)
        }
        Err(fault) => {
            if out.is_json() {
                out.json(&json!({ "valid": false, "fault": fault.to_string() }));
            } else {
                out.line(format_args!("{}  {fault}", out.paint(Style::Red, "false")));
            }
            Ok(Exit::Failed)
        }
    }
}

fn total(total: &Total) -> Value {
    json!({
        "requests": total.requests,
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "amount_microusd": total.amount.0,
    })
}

fn as_json(checked: &Checked) -> Value {
    let (deal, ledger) = (checked.ledger.deal(), &checked.ledger);
    json!({
        "valid": true,
        "network": checked.network.as_str(),
        "job": deal.lease.job.to_string(),
        "attempt": deal.lease.attempt,
        "buyer": deal.buyer.peer_id(),
        "provider": deal.worker.peer_id(),
        "model": checked.offer.requirement.model.as_str(),
        "price": {
            "input_microusd_per_mtok": deal.price.input.0,
            "output_microusd_per_mtok": deal.price.output.0,
            "request_microusd": deal.price.request.0,
        },
        "accepted_at": checked.accept.issued_at.0,
        "receipts": ledger.entries().len(),
        "settled": ledger.settled(),
        "disputed": ledger.is_disputed(),
        "total": total(&ledger.total()),
        "settled_total": total(&checked.settled_total()),
    })
}

fn print(checked: &Checked, out: &Out) {
    let (deal, ledger) = (checked.ledger.deal(), &checked.ledger);
    let (receipts, settled) = (ledger.entries().len(), ledger.settled() as usize);
    out.line(format_args!(
        "{}  offer, bid, accept and {receipts} receipt{} hold together; every signature is right",
        out.paint(Style::Green, "true"),
        if receipts == 1 { "" } else { "s" },
    ));
    let signed = match (settled, ledger.is_disputed()) {
        (settled, false) if settled == receipts => out.paint(Style::Green, "all of them"),
        (settled, false) => out.paint(
            Style::Yellow,
            &format!("{settled} of {receipts}; the others only by the provider"),
        ),
        (settled, true) => out.paint(
            Style::Red,
            &format!("{settled} of {receipts}; the buyer disputes the rest"),
        ),
    };
    let price = if deal.price.is_free() {
        "free".to_owned()
    } else {
        format!(
            "{} per million input tokens, {} per million output tokens, {} per request",
            deal.price.input, deal.price.output, deal.price.request
        )
    };
    let sums = checked.settled_total();
    out.fields(&[
        ("network", checked.network.to_string()),
        ("job", format!("{}, attempt {}", deal.lease.job, deal.lease.attempt)),
        ("buyer", deal.buyer.peer_id()),
        ("provider", deal.worker.peer_id()),
        ("model", checked.offer.requirement.model.to_string()),
        ("price", price),
        ("accepted", format!("{} UTC", clock::utc(checked.accept.issued_at.0))),
        ("signed by both", signed),
        (
            "sum of those",
            format!(
                "{} requests, {} + {} tokens, {}",
                sums.requests, sums.input_tokens, sums.output_tokens, sums.amount
            ),
        ),
    ]);
}
