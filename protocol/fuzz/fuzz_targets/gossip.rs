//! What must hold is in `protocol/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    infernet_protocol::fuzzing::gossip(input);
});
