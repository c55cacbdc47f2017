//! Models on this machine and where more come from: Hugging Face for the embedded engine, Ollama for its own.
//!
//! ```text
//!   name      hf:org/repo[:file]  -->  hub        which files there are, and which of them are meant (choice)
//!                                        |
//!                                     download    one file: resumed, checked, renamed when it is whole
//!                                        v
//!   local     <home>/models/org/repo/file         what is here, what is in use, what is removed
//!   ollama    the engine's own models, by its own API
//! ```

pub mod choice;
pub mod download;
pub mod hub;
pub mod local;
pub mod name;
pub mod ollama;

pub(crate) use hub::innermost;

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may say nothing in the middle of an answer.
const SILENT_AT_MOST: Duration = Duration::from_secs(60);

/// A client that follows no redirection by itself: where a token goes is decided here.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("infernet/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENT_AT_MOST)
        .build()
}
