//! `infernet identity`: who this node is.

use infernet_protocol::Identity;
use serde_json::{Value, json};

use super::{Context, Result};
use crate::cli::IdentityArgs;
use crate::identity;
use crate::out::{Exit, Style};

pub(super) fn run(args: &IdentityArgs, context: &Context) -> Result {
    let identity = identity::load(&context.home)?;
    if args.nsec {
        context.out.note("keep this secret: whoever has it is this node");
        if context.out.is_json() {
            context.out.json(&json!({ "nsec": identity.nsec() }));
        } else {
            context.out.line(identity.nsec());
        }
        return Ok(Exit::Done);
    }
    show(&identity, context);
    Ok(Exit::Done)
}

/// Prints the public half.
pub(super) fn show(identity: &Identity, context: &Context) {
    let out = &context.out;
    if out.is_json() {
        out.json(&as_json(identity, context));
        return;
    }
    let node = identity.node();
    out.fields(&[
        ("peer id", out.paint(Style::Cyan, &node.peer_id())),
        ("npub", node.npub()),
        ("public key", node.to_string()),
        ("key file", context.home.identity_file().display().to_string()),
    ]);
}

pub(super) fn as_json(identity: &Identity, context: &Context) -> Value {
    let node = identity.node();
    json!({
        "peer_id": node.peer_id(),
        "npub": node.npub(),
        "public_key": node.to_string(),
        "key_file": context.home.identity_file(),
    })
}
