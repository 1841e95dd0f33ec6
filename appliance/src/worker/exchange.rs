//! Handing frames from one worker to another by descriptor, and the chunks back home.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};
use weirgate::net::PortId;

use crate::xdp::sys;
use crate::xdp::umem::Chunk;

/// How many frames of one worker can wait at another.
const WAITING_MAX: usize = 1024;

/// A frame that is handed over to another worker: the chunk and its origin.
pub(crate) type Handed = (Chunk, Origin);

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// Its ingress port.
    pub(crate) port: PortId,
    /// How many workers have handed it over.
    pub(crate) handovers: u8,
}

impl Origin {
    /// A frame that has just arrived on this port.
    pub(crate) const fn port(port: PortId) -> Self {
        Self { port, handovers: 0 }
    }
}

/// One worker's ends of the rings to and from every other.
pub(crate) struct Exchange {
    /// By worker; `None` for itself.
    pub(crate) peers: Vec<Option<Peer>>,
}

/// The rings between this worker and one other.
pub(crate) struct Peer {
    pub(crate) frames_to: Producer<Handed>,
    pub(crate) frames_from: Consumer<Handed>,
    pub(crate) chunks_to: Producer<Chunk>,
    pub(crate) chunks_from: Consumer<Chunk>,
}

impl Exchange {
    /// Whether a frame or a chunk waits here.
    pub(crate) fn has_waiting(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.frames_from.is_empty() || !peer.chunks_from.is_empty())
    }
}

/// Rings between every two of `workers`.
pub(crate) fn connect(workers: usize) -> Vec<Exchange> {
    let mut exchanges: Vec<_> =
        (0..workers).map(|_| Exchange { peers: (0..workers).map(|_| None).collect() }).collect();
    for a in 0..workers {
        for b in a + 1..workers {
            let ((frames_ab, from_a), (chunks_ab, back_from_a)) =
                (RingBuffer::new(WAITING_MAX), RingBuffer::new(WAITING_MAX));
            let ((frames_ba, from_b), (chunks_ba, back_from_b)) =
                (RingBuffer::new(WAITING_MAX), RingBuffer::new(WAITING_MAX));
            exchanges[a].peers[b] = Some(Peer {
                frames_to: frames_ab,
                frames_from: from_b,
                chunks_to: chunks_ab,
                chunks_from: back_from_b,
            });
            exchanges[b].peers[a] = Some(Peer {
                frames_to: frames_ba,
                frames_from: from_a,
                chunks_to: chunks_ba,
                chunks_from: back_from_a,
            });
        }
    }
    exchanges
}

/// Wakes one worker when it sleeps.
///
/// A sender puts something in a ring, then checks whether the worker sleeps. The worker notes that it
/// sleeps, then checks the rings. The two fences order these, so that one of the two sees the other.
pub(crate) struct Doorbell {
    is_asleep: AtomicBool,
    event: OwnedFd,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { is_asleep: AtomicBool::new(false), event: sys::event()? })
    }

    /// The descriptor that becomes readable when the bell rings.
    pub(crate) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// For a sender, after it has put something into a ring.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Wakes the worker in any case, now or when it next tries to sleep.
    pub(crate) fn wake(&self) {
        sys::raise(self.event.as_fd());
    }

    /// For the worker, before it checks the rings a last time.
    pub(crate) fn lie_down(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// For the worker, once awake; `has_rung`: whether it found the descriptor readable. If it did not, the bell
    /// stays readable, and the next sleep ends at once.
    pub(crate) fn get_up(&self, has_rung: bool) {
        self.is_asleep.store(false, Ordering::Relaxed);
        if has_rung {
            sys::lower(self.event.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_two_workers_have_rings_both_ways() {
        let exchanges = connect(3);
        for (a, exchange) in exchanges.iter().enumerate() {
            for (b, peer) in exchange.peers.iter().enumerate() {
                assert_eq!(peer.is_some(), a != b);
            }
            assert!(!exchange.has_waiting());
        }
    }

    #[test]
    fn a_bell_rung_before_the_worker_lies_down_is_not_lost() {
        let bell = Doorbell::new().unwrap();
        bell.wake();
        bell.lie_down();
        let mut waiters = [sys::Waiter::new(bell.fd())];
        let before = std::time::Instant::now();
        sys::wait(&mut waiters, std::time::Duration::from_secs(10));
        assert!(before.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_bell_is_silent_while_the_worker_is_up() {
        let bell = Doorbell::new().unwrap();
        bell.ring();
        let mut waiters = [sys::Waiter::new(bell.fd())];
        let before = std::time::Instant::now();
        sys::wait(&mut waiters, std::time::Duration::from_millis(20));
        assert!(before.elapsed().as_millis() >= 20);
    }
}
