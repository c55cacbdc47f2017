//! What must hold is in `bootstrap/study/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    infernet_study::fuzzing::recording(input);
});
