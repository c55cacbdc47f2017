//! Clients that break HTTP, or only strain it, against a listening gateway: each is answered with what is wrong or is cut
//! off within a bound, and an ordinary request is served all the while.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "wire/bodies.rs"]
mod bodies;
#[path = "gateway/fake.rs"]
mod fake;
#[path = "wire/heads.rs"]
mod heads;
#[path = "wire/leaving.rs"]
mod leaving;
#[path = "wire/providers.rs"]
mod providers;
#[path = "wire/raw.rs"]
mod raw;
#[path = "wire/slow.rs"]
mod slow;
