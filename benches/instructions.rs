//! A fixed number of frames through the core, for counting instructions where time is too noisy:
//!
//! `valgrind --tool=callgrind --toggle-collect='weirgate::pipeline::process' BINARY WORKLOAD FRAMES`
//!
//! WORKLOAD is `hit`, `reply`, `new-flow`, `masquerade` or `hairpin`. The count divided by FRAMES is instructions a frame. With a
//! third argument, FLOWS, the table has as many flows instead of 64: `perf record` then shows what waits for
//! memory, and with `--cache-sim=yes --LL=262144,8,64` and 100000 flows the sum of DLmr and DLmw divided by FRAMES is
//! the cache lines per frame that earlier packets did not leave in the cache: those of the flow tables.

mod support;

use support::{Bench, Workload};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let workload = match arguments.next().as_deref() {
        None | Some("hit") => Workload::Hit,
        Some("reply") => Workload::Reply,
        Some("new-flow") => Workload::NewFlow,
        Some("masquerade") => Workload::Masquerade,
        Some("hairpin") => Workload::Hairpin,
        Some(other) => panic!("{other} is no workload; use hit, reply, new-flow, masquerade or hairpin"),
    };
    let frames = arguments.next().map_or(3200, |text| text.parse().expect("a number of frames"));
    let flows = arguments.next().map_or(64, |text| text.parse().expect("a number of flows"));
    let mut bench = Bench::<[u8; 4]>::new(flows);
    let time = bench.run_frames(workload, frames);
    println!("{frames} frames of {workload:?} over {flows} flows, {} ns a frame", time.as_nanos() as u64 / frames);
}
