//! `infernet batch`: OpenAI batch files over the network, through the gateway of the node that runs here.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::running::Gateway;
use super::{Context, Result};
use crate::cli::{BatchCommand, BatchResultsArgs, BatchSubmitArgs};
use crate::config::Overrides;
use crate::out::{Exit, Failure, Style};
use crate::{clock, home, runtime};

/// How often a batch is asked for while somebody waits.
const ASK_EVERY: Duration = Duration::from_millis(300);

pub(super) fn run(command: &BatchCommand, context: &Context) -> Result {
    let config = context.config(&Overrides::default())?.config;
    // It must outlive this command, so it is not one of the command's own.
    let gateway = Gateway::of_running_node(&config, context)?
        .ok_or_else(|| Failure::new(Exit::Unreachable, "no node runs here: start one with `infernet start`"))?;
    runtime::executor()?.block_on(async {
        let done = async {
            match command {
                BatchCommand::Submit(args) => submit(&gateway, args, context).await,
                BatchCommand::Status(args) if args.wait => watch(&gateway, &args.id, context).await,
                BatchCommand::Status(args) => show(&find(&gateway, &args.id).await?, context),
                BatchCommand::Results(args) => results(&gateway, args, context).await,
                BatchCommand::List => list(&gateway, context).await,
                BatchCommand::Cancel(args) => {
                    let path = format!("/v1/batches/{}/cancel", args.id);
                    show(&told(gateway.request(Method::POST, &path)).await?, context)
                }
            }
        };
        tokio::select! {
            done = done => done,
            signal = runtime::signal() => signal.map(|_| Exit::Interrupted).map_err(Failure::from),
        }
    })
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

fn unsent(error: reqwest::Error) -> Failure {
    let exit = if error.is_connect() {
        Exit::Unreachable
    } else {
        Exit::Failed
    };
    Failure::new(exit, error)
}

/// What the gateway answers, or why it does not.
async fn told(request: RequestBuilder) -> Result<Value> {
    let answer = request.send().await.map_err(unsent)?;
    let (status, told) = (answer.status(), answer.json::<Value>().await.map_err(failed)?);
    match status.is_success() {
        true => Ok(told),
        false => Err(failed(
            told["error"]["message"].as_str().unwrap_or("the gateway refused it"),
        )),
    }
}

async fn find(gateway: &Gateway, id: &str) -> Result<Value> {
    told(gateway.request(Method::GET, &format!("/v1/batches/{id}"))).await
}

async fn submit(gateway: &Gateway, args: &BatchSubmitArgs, context: &Context) -> Result {
    let endpoint = match &args.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => endpoint_of(&args.file)?,
    };
    let file = tokio::fs::File::open(&args.file).await.map_err(|error| {
        Failure::new(
            Exit::Usage,
            format_args!("`{}` cannot be read: {error}", args.file.display()),
        )
    })?;
    // Who is refused learns it before the upload, in the middle of which an answer may be lost.
    told(gateway.request(Method::GET, "/v1/batches?limit=1")).await?;
    let length = file.metadata().await?.len();
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let part = Part::stream_with_length(reqwest::Body::from(file), length).file_name(name);
    let form = Form::new().text("purpose", "batch").part("file", part);
    let uploaded = told(gateway.request(Method::POST, "/v1/files").multipart(form)).await?;
    let wanted = json!({
        "input_file_id": uploaded["id"], "endpoint": endpoint, "completion_window": args.window,
    });
    let batch = told(gateway.request(Method::POST, "/v1/batches").json(&wanted)).await?;
    let id = batch["id"].as_str().unwrap_or_default();
    if !args.wait {
        return show(&batch, context);
    }
    context.out.note(format_args!("batch {id}; Ctrl-C leaves it running"));
    watch(gateway, id, context).await
}

/// The route that the first line names.
fn endpoint_of(path: &Path) -> Result<String> {
    let usage = |why: String| Failure::new(Exit::Usage, why);
    let file =
        std::fs::File::open(path).map_err(|error| usage(format!("`{}` cannot be read: {error}", path.display())))?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(file), &mut line)?;
    let first: Value = serde_json::from_str(&line).unwrap_or_default();
    let url = first["url"].as_str().map(str::to_owned);
    url.ok_or_else(|| usage("the first line has no `url`: name the route with `--endpoint /v1/embeddings`".to_owned()))
}

/// Shows how far a batch is until it is over.
async fn watch(gateway: &Gateway, id: &str, context: &Context) -> Result {
    let bar = if context.out.is_json() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        let batch = find(gateway, id).await?;
        let counts = &batch["request_counts"];
        let [total, completed, failed] =
            ["total", "completed", "failed"].map(|name| counts[name].as_u64().unwrap_or(0));
        bar.set_length(total);
        bar.set_position(completed + failed);
        if failed > 0 {
            bar.set_message(format!("{failed} failed"));
        }
        if is_over(&batch) {
            bar.finish_and_clear();
            return show(&batch, context);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn is_over(batch: &Value) -> bool {
    matches!(
        batch["status"].as_str(),
        Some("completed" | "failed" | "expired" | "cancelled")
    )
}

fn show(batch: &Value, context: &Context) -> Result {
    let out = &context.out;
    let status = batch["status"].as_str().unwrap_or("-");
    let counts = &batch["request_counts"];
    let nothing_done = status == "completed" && counts["completed"] == 0 && counts["failed"] != 0;
    let exit = if nothing_done || matches!(status, "failed" | "expired") {
        Exit::Failed
    } else {
        Exit::Done
    };
    if out.is_json() {
        out.json(batch);
        return Ok(exit);
    }
    let style = match status {
        "completed" => Style::Green,
        "failed" | "expired" | "cancelled" => Style::Red,
        _ => Style::Yellow,
    };
    let text = |name: &str| batch[name].as_str().unwrap_or("-").to_owned();
    let made = batch["created_at"].as_u64().unwrap_or_default();
    out.fields(&[
        ("batch", out.paint(Style::Cyan, &text("id"))),
        ("status", out.paint(style, status)),
        ("route", text("endpoint")),
        ("made", clock::utc(made.saturating_mul(1_000))),
        (
            "requests",
            format!(
                "{} of {} done, {} failed",
                counts["completed"], counts["total"], counts["failed"]
            ),
        ),
    ]);
    for error in batch["errors"]["data"].as_array().into_iter().flatten() {
        let line = error["line"]
            .as_u64()
            .map(|line| format!("line {line}: "))
            .unwrap_or_default();
        out.error(format_args!("{line}{}", error["message"].as_str().unwrap_or_default()));
    }
    if is_over(batch) && status != "failed" {
        out.note(format_args!(
            "the results: infernet batch results {} --output FILE",
            text("id")
        ));
    }
    Ok(exit)
}

async fn list(gateway: &Gateway, context: &Context) -> Result {
    let list = told(gateway.request(Method::GET, "/v1/batches?limit=100")).await?;
    let out = &context.out;
    let batches = list["data"].as_array().cloned().unwrap_or_default();
    if out.is_json() {
        out.json(&batches.into());
        return Ok(Exit::Done);
    }
    if batches.is_empty() {
        out.note("no batches yet; `infernet batch submit FILE.jsonl` makes one");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = batches
        .iter()
        .map(|batch| {
            let text = |name: &str| batch[name].as_str().unwrap_or("-").to_owned();
            let counts = &batch["request_counts"];
            let made = clock::utc(batch["created_at"].as_u64().unwrap_or_default().saturating_mul(1_000));
            let done = format!("{}/{}", counts["completed"], counts["total"]);
            vec![
                text("id"),
                made,
                text("status"),
                text("endpoint"),
                done,
                counts["failed"].to_string(),
            ]
        })
        .collect();
    out.table(&["batch", "made", "status", "route", "done", "failed"], &rows);
    Ok(Exit::Done)
}

/// Writes the results: to a new file, or to stdout.
async fn results(gateway: &Gateway, args: &BatchResultsArgs, context: &Context) -> Result {
    let batch = find(gateway, &args.id).await?;
    if !is_over(&batch) {
        let counts = &batch["request_counts"];
        let why = format!(
            "the batch is not over yet ({} of {} done): wait with `infernet batch status {} --wait`",
            counts["completed"], counts["total"], args.id
        );
        return Err(failed(why));
    }
    let member = if args.errors { "error_file_id" } else { "output_file_id" };
    let Some(file) = batch[member].as_str() else {
        let other = if args.errors {
            "no request failed"
        } else {
            "no request succeeded; see `--errors`"
        };
        context.out.note(other);
        return Ok(Exit::Done);
    };
    let path = format!("/v1/files/{file}/content");
    let mut answer = gateway.request(Method::GET, &path).send().await.map_err(unsent)?;
    if !answer.status().is_success() {
        return Err(failed("the results are no longer kept"));
    }
    let mut to: Box<dyn std::io::Write> = match &args.output {
        None => Box::new(std::io::stdout()),
        Some(path) => {
            let opened = home::private_file().write(true).create_new(true).open(path);
            Box::new(opened.map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    failed(format_args!("`{}` exists already: name another file", path.display()))
                }
                _ => failed(format_args!("`{}` cannot be made: {error}", path.display())),
            })?)
        }
    };
    while let Some(bytes) = answer.chunk().await.map_err(failed)? {
        to.write_all(&bytes)?;
    }
    to.flush()?;
    if let Some(path) = &args.output {
        context.out.note(format_args!("written to `{}`", path.display()));
    }
    Ok(Exit::Done)
}
