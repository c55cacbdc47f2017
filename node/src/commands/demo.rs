//! `infernet demo`: a bootstrap node, two providers and a consumer in this process, on loopback, in homes that are
//! gone when it ends; one question bought, answered and receipted, shown step by step.
//!
//! Everything is the real thing: sockets, gossip, auction, engine, journal, signatures. Only the homes are temporary.

mod page;
mod stage;

use std::time::Duration;

use infernet_protocol::receipt::chain;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use self::page::Page;
use self::stage::Stage;
use super::loopback::failed;
use super::{Context, Result};
use crate::buyer::consumer::{Answer, Said, Summary};
use crate::cli::DemoArgs;
use crate::out::{Exit, Failure};
use crate::runtime::{self, Tasks};

/// The network of the demo has this long to know itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Its tasks have this long to end.
const DRAIN: Duration = Duration::from_secs(3);

pub(super) fn run(args: &DemoArgs, context: &Context) -> Result {
    super::foreground::log("error", context)?;
    runtime::executor()?.block_on(async {
        let tasks = Tasks::new();
        let ended = tokio::select! {
            shown = show(args, context, &tasks) => shown,
            signal = runtime::signal() => signal.map(|_| Exit::Interrupted).map_err(Failure::from),
        };
        tasks.drain(DRAIN).await;
        ended
    })
}

async fn show(args: &DemoArgs, context: &Context, tasks: &Tasks) -> Result {
    let mut page = Page::new(&context.out);
    page.title();
    let stage = Stage::set(tasks, &mut page).await?;
    let known = tokio::time::timeout(PATIENCE, stage.consumer.until_served(&stage.model, stage::PROVIDERS)).await;
    known.map_err(|_| failed("the nodes did not find each other on loopback; is it shut off by a firewall?"))?;
    page.question(&args.prompt, &stage);
    let mut happenings = stage.consumer.happenings();
    let Answer { mut head, mut said } = stage.consumer.buy(stage.purchase(args)?);
    let mut begun = false;
    let outcome = loop {
        tokio::select! {
            biased;
            happening = happenings.recv() => match happening {
                Ok(happening) => page.happening(&happening, &stage),
                Err(RecvError::Lagged(_) | RecvError::Closed) => {}
            },
            head = &mut head, if !begun => match head {
                Ok(Ok(_)) => begun = true,
                Ok(Err(error)) => return Err(failed(error)),
                Err(_) => return Err(failed("the consumer stopped")),
            },
            part = said.recv(), if begun => match part {
                Some(Said::Data(bytes)) => page.answer(bytes),
                Some(Said::Over(outcome)) => break *outcome,
                None => return Err(failed("the answer ended silently")),
            },
        }
    };
    let summary = outcome.map_err(failed)?;
    page.answered();
    // The receipt was filed and countersigned before the answer ended; what is left in the queue tells of it.
    while let Ok(happening) = happenings.try_recv() {
        page.happening(&happening, &stage);
    }
    check(&summary, &stage, &mut page).await?;
    Ok(Exit::Done)
}

/// Exports the deal out of the consumer's ledger and checks it as a stranger would.
async fn check(summary: &Summary, stage: &Stage<'_>, page: &mut Page<'_>) -> Result<()> {
    let deals = stage.consumer.store().deals(summary.chosen.lease.job).await?;
    let deal = deals
        .first()
        .ok_or_else(|| failed("the ledger does not hold the deal"))?;
    let file = deal.export(stage.network());
    match chain::check(&file) {
        Ok(checked) => page.checked(summary, &checked, file.len()),
        Err(fault) => return Err(failed(format_args!("the receipt does not hold together: {fault}"))),
    }
    Ok(())
}

/// An event of the demo, for programs.
fn event(name: &str, mut fields: serde_json::Value) -> serde_json::Value {
    fields["event"] = json!(name);
    fields
}
