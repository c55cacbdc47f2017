//! A request's body on its way to a provider; what must hold is in `node/src/gateway/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    infernet_node::gateway::fuzzing::request(input);
});
