//! The core in a program without the standard library and without an allocator.

#![no_std]

use core::panic::PanicInfo;

use weirgate::frame::Burst;
use weirgate::pipeline::{Worker, process};
use weirgate::snapshot::Snapshot;
use weirgate::time::Instant;

/// Forwards a burst; 0, or 1 where `snapshot` holds no snapshot.
#[unsafe(no_mangle)]
pub extern "C" fn forward(worker: &mut Worker<'_>, snapshot: &[u8; 4096], now: u64, burst: &mut Burst<'_, '_>) -> u8 {
    let Ok(snapshot) = Snapshot::attach(snapshot) else { return 1 };
    process(worker, &snapshot, Instant(now), burst);
    0
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
