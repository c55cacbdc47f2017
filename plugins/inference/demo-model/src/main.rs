//! The demo-model binary.
fn main() {}
