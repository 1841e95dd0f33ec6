use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use weirgate::net::PORTS_MAX;

use super::Latency;
use crate::xdp::Polling;

/// What one worker counts about its rings. The worker alone writes, anyone may read at any time.
/// Each number is exact by itself; two of them may be of different moments.
#[derive(Debug, Default)]
pub struct Stats {
    /// By port.
    pub ports: [PortStats; PORTS_MAX],
    /// Bursts that the pipeline processed.
    pub bursts: AtomicU64,
    /// Times the worker went to sleep.
    pub sleeps: AtomicU64,
    /// Frames handed over to other workers.
    pub handed_over: AtomicU64,
    /// Frames received from other workers.
    pub taken_over: AtomicU64,
    /// Chunks of memory held by this worker and its rings, as of its last turn.
    pub held: AtomicU64,
    /// Frames that the kernel dropped because an RX ring was full; updated once a second.
    pub receive_ring_full: AtomicU64,
    /// Frames that the kernel dropped because the fill ring had no chunk, as in a lasting overload;
    /// updated once a second.
    pub fill_ring_empty: AtomicU64,
    /// Frames that the kernel dropped for another reason: larger than a chunk, since the MTU was raised;
    /// updated once a second.
    pub receive_dropped: AtomicU64,
    /// Descriptors that the kernel refused; anything but 0 is a bug.
    pub invalid: AtomicU64,
    /// How long the turns that moved frames took.
    pub latency: Latency,
}

/// One port's counters.
#[derive(Debug, Default)]
pub struct PortStats {
    /// Frames received from the RX rings.
    pub received_frames: AtomicU64,
    /// Bytes of those, Ethernet header included.
    pub received_bytes: AtomicU64,
    /// Frames put into the TX rings.
    pub transmitted_frames: AtomicU64,
    /// Bytes of those.
    pub transmitted_bytes: AtomicU64,
    /// What has been measured of polling, updated once a second.
    polling: PollingStats,
}

/// [`Polling`], shared.
#[derive(Debug, Default)]
struct PollingStats {
    polled: AtomicU32,
    unpolled: AtomicU32,
    by_call: AtomicU64,
    between: AtomicU64,
}

impl PortStats {
    /// What one worker has measured of polling.
    #[must_use]
    pub fn polling(&self) -> Polling {
        let PollingStats { polled, unpolled, by_call, between } = &self.polling;
        Polling {
            polled: polled.load(Relaxed),
            unpolled: unpolled.load(Relaxed),
            by_call: by_call.load(Relaxed),
            between: between.load(Relaxed),
        }
    }

    pub(super) fn set_polling(&self, seen: &Polling) {
        let PollingStats { polled, unpolled, by_call, between } = &self.polling;
        polled.store(seen.polled, Relaxed);
        unpolled.store(seen.unpolled, Relaxed);
        by_call.store(seen.by_call, Relaxed);
        between.store(seen.between, Relaxed);
    }
}

/// Adds to a counter that only this thread writes: no locked instruction needed.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}
