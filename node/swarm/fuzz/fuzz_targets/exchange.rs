//! What must hold is in `node/swarm/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    infernet_swarm::fuzzing::exchange(input);
});
