//! Bytes as a script for a whole gateway: frames and fragments, two workers, time, restarts.

#![no_main]

#[path = "../src/pipeline/mod.rs"]
mod pipeline;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pipeline::gateway::run(data));
