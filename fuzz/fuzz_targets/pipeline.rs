//! Bytes as a script: frames, bursts, steps in time, changes of the snapshot.

#![no_main]

#[path = "../src/pipeline/mod.rs"]
mod pipeline;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pipeline::run(data));
