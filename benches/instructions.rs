//! A fixed number of frames through the core, for counting instructions where time is too noisy:
//!
//! `valgrind --tool=callgrind --toggle-collect='weirgate::pipeline::process' BINARY WORKLOAD FRAMES`
//!
//! WORKLOAD is `hit`, `reply` or `new-flow`. The count divided by FRAMES is instructions a frame.

mod support;

use support::{Bench, Workload};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let workload = match arguments.next().as_deref() {
        None | Some("hit") => Workload::Hit,
        Some("reply") => Workload::Reply,
        Some("new-flow") => Workload::NewFlow,
        Some(other) => panic!("{other} is no workload; use hit, reply or new-flow"),
    };
    let frames = arguments.next().map_or(3200, |text| text.parse().expect("a number of frames"));
    let mut bench = Bench::<[u8; 4]>::new(64);
    let time = bench.run_frames(workload, frames);
    println!("{frames} frames of {workload:?} over 64 flows, {} ns a frame", time.as_nanos() as u64 / frames);
}
