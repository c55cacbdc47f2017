//! The model.
pub(crate) mod weights;
