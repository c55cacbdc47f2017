//! What the demo shows: a page for a person, or one JSON event per line for a program.

use std::time::Instant;

use bytes::Bytes;
use infernet_inference::sse::Splitter;
use infernet_protocol::receipt::chain::Checked;
use infernet_protocol::receipt::{Countersign, JobReceipt};
use infernet_protocol::{NodeId, Verified};
use infernet_swarm::Multiaddr;
use serde_json::{Value, json};

use super::event;
use super::stage::Stage;
use crate::buyer::consumer::Summary;
use crate::happenings::Happening;
use crate::out::{Out, Style, Wrap, short_peer};

/// Columns of the page.
const WIDTH: usize = 78;
/// Columns of an answer's text.
const TEXT: usize = 72;

/// See the module.
#[derive(Debug)]
pub(super) struct Page<'a> {
    out: &'a Out,
    events: Splitter,
    wrap: Wrap,
    asked: Instant,
    first_token: Option<u64>,
    /// Lines of bids that the choice was made without.
    late: Vec<String>,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a Out) -> Self {
        Self {
            out,
            events: Splitter::default(),
            wrap: Wrap::new(TEXT, "  "),
            asked: Instant::now(),
            first_token: None,
            late: Vec::new(),
        }
    }

    fn heading(&self, name: &str, aside: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(name.chars().count() + aside.chars().count() + 6));
        let (name, rest) = (
            self.out.paint(Style::Bold, name),
            self.out.paint(Style::Dim, &format!("{aside} {rule}")),
        );
        self.out.line(format_args!("\n  {name}  {rest}"));
    }

    pub(super) fn title(&self) {
        if !self.out.is_json() {
            self.heading("infernet", "a whole network, on this machine only");
        }
    }

    pub(super) fn node(&self, role: &str, node: &NodeId, listen: &[Multiaddr], does: &str) {
        if self.out.is_json() {
            let listen: Vec<_> = listen.iter().map(ToString::to_string).collect();
            let fields = json!({ "role": role, "peer_id": node.peer_id(), "npub": node.npub(), "listen": listen });
            return self.out.json(&event("node", fields));
        }
        let dot = self.out.paint(Style::Green, "●");
        let (peer, at) = (
            short_peer(&node.peer_id()),
            listen.first().map(port).unwrap_or_default(),
        );
        let peer = self.out.paint(Style::Cyan, &peer);
        let does = self.out.paint(Style::Dim, does);
        self.out
            .line(format_args!("  {dot} {role:<11} {peer}  {at:<16} {does}"));
    }

    pub(super) fn question(&mut self, prompt: &str, stage: &Stage<'_>) {
        self.asked = Instant::now();
        if self.out.is_json() {
            return self.out.json(&event(
                "question",
                json!({ "prompt": prompt, "model": stage.model.as_str() }),
            ));
        }
        self.heading("question", "it leaves the consumer only towards the provider that wins");
        self.out.line(format_args!("  {prompt}"));
    }

    pub(super) fn happening(&mut self, happening: &Happening, stage: &Stage<'_>) {
        match happening {
            Happening::Offered(offer) => {
                if self.out.is_json() {
                    let fields = json!({
                        "job": offer.job.to_string(), "model": offer.requirement.model.as_str(),
                        "invited": offer.invited.iter().map(NodeId::peer_id).collect::<Vec<_>>(),
                        "window_ms": offer.window.0, "policy": offer.policy.as_str(),
                    });
                    return self.out.json(&event("offer", fields));
                }
                self.heading("auction", "what the network sees");
                let what = format!(
                    "offer     {}  wanted by policy `{}`, {} invited, open {} ms at most",
                    offer.requirement.model,
                    offer.policy,
                    offer.invited.len(),
                    offer.window.0
                );
                self.out.line(format_args!("  {what}"));
            }
            Happening::Bid { bid, after_us, late } => {
                if self.out.is_json() {
                    let fields = json!({
                        "provider": bid.signer().peer_id(), "ttft_ms": bid.ttft.0,
                        "tokens_per_second": per_second(bid.speed), "after_us": after_us, "late": late,
                        "price_microusd": { "input": bid.price.input.0, "output": bid.price.output.0 },
                    });
                    return self.out.json(&event("bid", fields));
                }
                let price = if bid.price.is_free() {
                    "free".to_owned()
                } else {
                    bid.price.output.to_string()
                };
                let speed = match bid.speed {
                    0 => "no history yet".to_owned(),
                    speed => format!("{} tokens/s, first after {} ms", speed / 1000, bid.ttft.0),
                };
                let name = stage.name(&bid.signer());
                let line = format!("{name:<11} {price:<8} {speed:<32} {:>8}", ms(*after_us));
                if *late {
                    self.late.push(line);
                } else {
                    self.out.line(format_args!("  bid       {line}"));
                }
            }
            Happening::Accepted {
                lease,
                winner,
                after_us,
            } => {
                if self.out.is_json() {
                    let fields =
                        json!({ "lease": lease.to_string(), "winner": winner.peer_id(), "after_us": after_us });
                    return self.out.json(&event("accept", fields));
                }
                let name = self.out.paint(Style::Green, &format!("{:<11}", stage.name(winner)));
                self.out
                    .line(format_args!("  accepted  {name} {:<41} {:>8}", "", ms(*after_us)));
                self.heading("answer", "over the encrypted stream between the two, and nowhere else");
                self.out.piece("  ");
            }
            Happening::FirstToken { after_us, .. } => self.first_token = Some(*after_us),
            Happening::Settled { receipt, countersign } => self.receipt(receipt, countersign),
            Happening::Hedged { provider, also } => {
                if self.out.is_json() {
                    let fields = json!({ "provider": provider.peer_id(), "also": also.peer_id() });
                    return self.out.json(&event("hedged", fields));
                }
                let (late, also) = (stage.name(provider), stage.name(also));
                self.out.line(format_args!(
                    "  {}  {late} is late, so {also} is asked too",
                    self.out.paint(Style::Yellow, "hedged")
                ));
            }
            Happening::WentOn { provider, why } => {
                if self.out.is_json() {
                    let fields = json!({ "provider": provider.peer_id(), "why": why });
                    return self.out.json(&event("went_on", fields));
                }
                let name = stage.name(provider);
                self.out.line(format_args!(
                    "  {}  {name}: {why}",
                    self.out.paint(Style::Yellow, "went on")
                ));
            }
        }
    }

    /// The answer's text, as it comes.
    pub(super) fn answer(&mut self, bytes: Bytes) {
        self.events.push(bytes);
        while let Ok(Some(sse)) = self.events.next_event() {
            let text = sse.data().and_then(|data| serde_json::from_slice::<Value>(&data).ok());
            let Some(text) = text
                .as_ref()
                .and_then(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            else {
                continue;
            };
            if self.out.is_json() {
                self.out.json(&event("token", json!({ "text": text })));
            } else {
                self.out.piece(&self.wrap.push(text));
            }
        }
    }

    pub(super) fn answered(&mut self) {
        if !self.out.is_json() {
            self.out.line(self.wrap.finish());
        }
    }

    fn receipt(&self, receipt: &Verified<JobReceipt>, countersign: &Verified<Countersign>) {
        if self.out.is_json() {
            let step = &receipt.step;
            let fields = json!({
                "lease": receipt.lease.to_string(), "seq": receipt.seq, "request": step.request.to_string(),
                "status": step.status.as_str(), "input_tokens": step.input_tokens,
                "output_tokens": step.output_tokens, "ttft_ms": step.ttft.0, "duration_ms": step.duration.0,
                "amount_microusd": step.amount.0, "hash": receipt.hash().to_string(),
                "accepted": countersign.dispute.is_none(),
                "signatures": [signature(receipt.bytes()), signature(countersign.bytes())],
            });
            self.out.json(&event("receipt", fields));
        }
    }

    /// The receipt, checked as a stranger would, and what all of it took.
    pub(super) fn checked(&self, summary: &Summary, checked: &Checked, bytes: usize) {
        let receipt = &summary.signed;
        let (step, total) = (&receipt.step, self.asked.elapsed());
        let streamed = u64::from(step.duration.0.saturating_sub(step.ttft.0)).max(1);
        let speed = u64::from(step.output_tokens) * 1000 / streamed;
        if self.out.is_json() {
            let fields = json!({
                "ttft_us": self.first_token, "tokens_per_second": speed, "cost_microusd": summary.cost.0,
                "attempts": summary.attempts, "total_ms": total.as_millis() as u64, "verified": true,
            });
            return self.out.json(&event("done", fields));
        }
        let sign = checked
            .ledger
            .entries()
            .last()
            .and_then(|entry| entry.countersign.as_ref());
        if !self.late.is_empty() {
            self.heading(
                "runner-up",
                "it bid after the choice, and is kept in case the winner fails",
            );
            for line in &self.late {
                self.out.line(format_args!("  late bid  {line}"));
            }
        }
        self.heading("receipt", "signed by both, kept by both");
        let cost = if summary.cost.0 == 0 {
            "$0 (free)".to_owned()
        } else {
            summary.cost.to_string()
        };
        let rows = [
            (
                "tokens",
                format!("{} in, {} out", step.input_tokens, step.output_tokens),
            ),
            (
                "speed",
                format!(
                    "first token after {}, then {speed} tokens/s",
                    ms(self.first_token.unwrap_or_default())
                ),
            ),
            ("cost", cost),
            (
                "provider",
                format!(
                    "{}  signed {}",
                    short_peer(&summary.chosen.provider.peer_id()),
                    signature(receipt.bytes())
                ),
            ),
            (
                "consumer",
                match sign {
                    Some(sign) => format!(
                        "{}  signed {}",
                        short_peer(&sign.signer().peer_id()),
                        signature(sign.bytes())
                    ),
                    None => "not countersigned".to_owned(),
                },
            ),
        ];
        for (name, value) in rows {
            self.out.line(format_args!(
                "  {} {value}",
                self.out.paint(Style::Dim, &format!("{name:<9}"))
            ));
        }
        let tick = self.out.paint(Style::Green, "✓");
        self.out.line(format_args!(
            "  {tick} checked offline: offer, bid, accept, receipt and countersignature fit together ({bytes} bytes)\n"
        ));
    }
}

/// The end of an envelope is its signature; the first of its bytes are enough to tell signatures apart.
fn signature(envelope: &[u8]) -> String {
    let start = envelope.len().saturating_sub(64);
    format!("{}…", hex::encode(&envelope[start..(start + 8).min(envelope.len())]))
}

/// `127.0.0.1:port` of a listening address.
fn port(address: &Multiaddr) -> String {
    let text = address.to_string();
    let mut parts = text.split('/').skip(2);
    let (host, port) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    format!("{host}:{port}")
}

fn ms(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

fn per_second(speed: u32) -> f64 {
    f64::from(speed) / 1000.0
}
