//! The infernet binary.
fn main() {}
