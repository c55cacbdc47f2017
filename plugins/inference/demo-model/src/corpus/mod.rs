//! The corpus.

pub(crate) mod cast;
pub(crate) mod dice;
mod plots;
mod plots_sea;
pub(crate) mod stories;
pub(crate) mod template;
