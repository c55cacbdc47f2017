//! The node's clocks and its randomness: the one place where the pure core's arguments come from.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use infernet_protocol::UnixMillis;
use infernet_protocol::market::{Mono, Now};
use rand::Rng as _;

/// Wall-clock time. A clock before 1970 reads as 1970, and every message then looks too new.
pub(crate) fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Both clocks, as the state machines take them.
pub(crate) fn now() -> Now {
    Now {
        wall: wall(),
        mono: Mono(monotonic()),
    }
}

/// Milliseconds since the process first asked; never goes back.
pub(crate) fn monotonic() -> u64 {
    u64::try_from(start().elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Fresh randomness.
pub(crate) fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
