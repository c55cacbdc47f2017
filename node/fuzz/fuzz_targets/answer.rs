//! A provider's bytes on their way to a client; what must hold is in `node/src/gateway/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    infernet_node::gateway::fuzzing::answer(input);
});
