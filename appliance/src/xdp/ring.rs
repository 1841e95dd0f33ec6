//! One AF_XDP socket and its four rings (Documentation/networking/af_xdp.rst in the kernel).
//!
//! ```text
//!            fill ring ──► kernel ──► RX ring           received frames
//!   chunks                                     chunks
//!              TX ring ──► kernel ──► completion ring   transmitted frames
//! ```

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use weirgate::frame::BURST_FRAMES_MAX;
use weirgate::net::PortId;
use xsk_rs::config::{BindFlags, Interface as Name, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue};

use super::napi::{Arrivals, Polling};
use super::umem::{Area, Chunk};
use super::{StartError, sys};

/// Chunks between a ring and the pipeline.
pub(crate) type Batch = ArrayVec<Chunk, BURST_FRAMES_MAX>;

/// How long one call may poll for frames, in microseconds. The workers call again at once, so this
/// only has to be more than 0.
const BUSY_POLL_MICROSECONDS: u32 = 20;

/// How frames get to and from the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// The driver reads and writes the chunks themselves.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// What the kernel has counted for one socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RingCounters {
    /// Frames dropped because the RX ring was full.
    pub receive_ring_full: u64,
    /// Frames dropped because the fill ring had no chunk, as in a lasting overload.
    pub fill_ring_empty: u64,
    /// Frames dropped for another reason: larger than a chunk, since the MTU was raised.
    pub dropped: u64,
    /// Descriptors that the kernel did not accept. Always 0: anything else is a bug of ours.
    pub invalid: u64,
}

impl RingCounters {
    /// The sum of both.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            receive_ring_full: self.receive_ring_full + other.receive_ring_full,
            fill_ring_empty: self.fill_ring_empty + other.fill_ring_empty,
            dropped: self.dropped + other.dropped,
            invalid: self.invalid + other.invalid,
        }
    }
}

/// One socket: a port and one of its queues.
pub(crate) struct Queue {
    port: PortId,
    number: u32,
    receive: RxQueue,
    transmit: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    /// How many descriptors each ring holds.
    size: u32,
    /// Chunks that the kernel can receive into, or that are in the RX ring.
    receiving: u32,
    /// Chunks handed to the kernel for transmission and not returned yet.
    transmitting: u32,
    /// Scratch space for descriptors that come out of a ring.
    taken: [FrameDesc; BURST_FRAMES_MAX],
    prefers_busy_poll: bool,
    /// Calls poll the driver. Where they do not, a call that finds nothing to do only costs time.
    is_polled: bool,
    has_received_any: bool,
    arrivals: Arrivals,
    /// The interface is down. Frames in its TX ring wait until it comes up again, even for hours.
    is_down: bool,
    /// The interface has gone, and the rings lead nowhere.
    is_dead: bool,
}

impl Queue {
    /// Opens a socket for one queue. The first one on `area` decides whether frames are copied.
    pub(super) fn open(
        area: &Area,
        name: &str,
        port: PortId,
        number: u32,
        size: u32,
        transfer: Transfer,
    ) -> Result<Self, StartError> {
        const STEP: &str = "open an AF_XDP socket";
        let how = match transfer {
            Transfer::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            Transfer::Copy => BindFlags::XDP_COPY,
        };
        let ring =
            QueueSize::new(size).map_err(|error| StartError::Program { step: STEP, cause: error.to_string() })?;
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(how | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface: Name = name.parse().map_err(|_| StartError::NoInterface { name: name.into() })?;
        // SAFETY: the flag that inhibits libxdp's own program is set, which is the only requirement.
        let opened = unsafe { Socket::new(config, area.umem(), &interface, number) };
        let (transmit, receive, others) = opened.map_err(|error| {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
            match cause.and_then(io::Error::raw_os_error) {
                Some(libc::EBUSY) => StartError::QueueOccupied { name: name.into(), queue: number },
                Some(libc::ENOBUFS | libc::ENOMEM) => StartError::LockedMemory { needed: area.len() as u64 },
                Some(number) => StartError::system(STEP, Some(name), io::Error::from_raw_os_error(number)),
                None => StartError::Program { step: STEP, cause: error.to_string() },
            }
        })?;
        let Some((fill, completion)) = others else {
            return Err(StartError::QueueOccupied { name: name.into(), queue: number });
        };
        Ok(Self {
            port,
            number,
            receive,
            transmit,
            fill,
            completion,
            size,
            receiving: 0,
            transmitting: 0,
            taken: [FrameDesc::default(); BURST_FRAMES_MAX],
            prefers_busy_poll: false,
            is_polled: false,
            has_received_any: false,
            arrivals: Arrivals::default(),
            is_down: false,
            is_dead: false,
        })
    }

    /// Asks for preferred busy polling and large transmit calls. Both are only faster.
    pub(crate) fn tune(&mut self, budget: u32) -> io::Result<()> {
        let _ = sys::transmit_budget(self.fd(), self.size);
        sys::prefer_busy_poll(self.fd(), BUSY_POLL_MICROSECONDS, budget)?;
        self.prefers_busy_poll = true;
        Ok(())
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.receive.fd().as_raw_fd()
    }

    /// The port.
    #[must_use]
    pub(crate) const fn port(&self) -> PortId {
        self.port
    }

    /// The queue's number on its interface.
    #[must_use]
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// How many chunks the kernel holds for this queue, in whichever ring.
    #[must_use]
    pub(crate) const fn held(&self) -> u32 {
        self.receiving + self.transmitting
    }

    /// Takes received frames, as many as `into` has room for, and prefetches their headers.
    pub(crate) fn receive(&mut self, into: &mut Batch, area: &Area) {
        let room = into.remaining_capacity();
        // SAFETY: every descriptor in the fill ring, and so in this one, was put there as a `Chunk`
        // of the same memory.
        let count = unsafe { self.receive.consume(&mut self.taken[..room]) };
        self.receiving -= count as u32;
        self.has_received_any |= count > 0;
        self.arrivals.taken(count as u32);
        for &descriptor in &self.taken[..count] {
            // SAFETY: consuming it was the kernel's giving it up, and it is used this once.
            let chunk = unsafe { Chunk::from_ring(descriptor) };
            area.prefetch(&chunk);
            into.push(chunk);
        }
    }

    /// Hands the kernel chunks to receive into until it has as many as a ring holds.
    pub(crate) fn supply(&mut self, free: &mut Vec<Chunk>) {
        let wanted = (self.size - self.receiving.min(self.size)).min(free.len() as u32);
        // Refilling a few at a time costs more than it gains.
        if wanted == 0 || (wanted < 32 && self.receiving > self.size / 2) {
            return;
        }
        let rest = free.len() - wanted as usize;
        // SAFETY: the chunks are of this memory, nobody else has them, and they are forgotten once handed over.
        let given = unsafe { self.fill.produce(Chunk::descriptors(&free[rest..])) };
        self.receiving += given as u32;
        free.truncate(free.len() - given);
    }

    /// Hands the frames to the kernel to transmit, from the front, as many as the ring has room for, and none
    /// while the interface is down. The rest stays in `batch`.
    pub(crate) fn transmit(&mut self, batch: &mut Batch) {
        if batch.is_empty() || self.is_down || self.is_dead {
            return;
        }
        let room = self.transmit.nb_free(batch.len() as u32);
        let count = batch.len().min(room as usize);
        // SAFETY: the chunks are of this memory, hold a frame that `Area::settle` has moved into place,
        // nobody else has them, and they are forgotten once handed over.
        let given = unsafe { self.transmit.produce(Chunk::descriptors(&batch[..count])) };
        self.transmitting += given as u32;
        batch.drain(..given).for_each(drop);
    }

    /// Takes back what has been transmitted.
    pub(crate) fn reap(&mut self, into: &mut Vec<Chunk>) {
        while self.transmitting > 0 {
            // SAFETY: every descriptor in the TX ring, and so in this one, was put there as a
            // `Chunk` of the same memory.
            let count = unsafe { self.completion.consume(&mut self.taken) };
            self.transmitting -= count as u32;
            for &descriptor in &self.taken[..count] {
                // SAFETY: consuming it was the kernel's giving it up, and it is used this once.
                into.push(unsafe { Chunk::from_ring(descriptor) });
            }
            if count < BURST_FRAMES_MAX {
                break;
            }
        }
    }

    /// Whether frames wait in the TX ring for the kernel.
    pub(crate) fn has_unsent(&mut self) -> bool {
        !self.is_dead && self.transmitting > 0 && self.transmit.nb_free_exact() < self.size
    }

    /// Whether received frames wait in the RX ring.
    pub(crate) fn has_received(&mut self) -> bool {
        self.receive.nb_avail_exact() > 0
    }

    /// Makes the kernel work on the rings, where it needs a wakeup or leaves the polling to us.
    /// One call may send only some frames, so this is called while any is unsent.
    pub(crate) fn kick(&mut self) {
        let call = if self.has_unsent() && (self.is_polled || self.transmit.needs_wakeup()) {
            sys::kick_transmit
        } else if self.is_polled || self.is_down || self.fill.needs_wakeup() {
            sys::kick_receive
        } else {
            return;
        };
        self.call(call);
    }

    /// Finds out whether calls poll the driver by now, and, where nothing else would show it, whether the interface
    /// is down or has gone.
    pub(crate) fn look(&mut self) {
        self.is_polled = self.prefers_busy_poll && sys::has_napi_id(self.fd());
        self.call(sys::kick_receive);
    }

    fn call(&mut self, call: fn(RawFd) -> io::Result<()>) {
        if self.is_dead {
            return;
        }
        let before = if self.is_polled { self.receive.nb_avail_exact() } else { 0 };
        let result = call(self.fd());
        if self.is_polled {
            self.arrivals.polled(before, self.receive.nb_avail_exact());
        }
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENETDOWN)) => self.is_down = true,
            Err(Some(libc::ENXIO | libc::ENODEV | libc::EBADF)) => self.bury(),
            _ => self.is_down = false,
        }
    }

    /// The worker has slept, and has not polled meanwhile.
    pub(crate) fn slept(&mut self) {
        self.arrivals.forget();
    }

    /// This queue's measurements of polling.
    pub(crate) fn polling(&self) -> Polling {
        Polling {
            polled: u32::from(self.is_polled),
            unpolled: u32::from(self.has_received_any && !self.is_polled),
            by_call: self.arrivals.by_call,
            between: self.arrivals.between,
        }
    }

    /// Notes that the interface has gone. Frames in its rings are lost with it.
    #[cold]
    pub(crate) fn bury(&mut self) {
        if !self.is_dead {
            self.is_dead = true;
            tracing::warn!(port = self.port.0, queue = self.number, "the interface has gone; restart when it is back");
        }
    }

    /// What the kernel has counted for this socket.
    #[must_use]
    pub(crate) fn counters(&self) -> RingCounters {
        let Ok(counted) = self.receive.fd().xdp_statistics() else { return RingCounters::default() };
        RingCounters {
            receive_ring_full: counted.rx_ring_full(),
            fill_ring_empty: counted.rx_fill_ring_empty_descs(),
            dropped: counted.rx_dropped(),
            invalid: counted.rx_invalid_descs() + counted.tx_invalid_descs(),
        }
    }
}

/// Every socket of the gateway over one memory, and the chunks without an owner yet.
pub(crate) struct Rings {
    pub(crate) area: Arc<Area>,
    /// By worker.
    pub(crate) queues: Vec<Vec<Queue>>,
    /// By worker, equally many each, in the order of their numbers.
    pub(crate) chunks: Vec<Vec<Chunk>>,
    pub(crate) transfer: Transfer,
}

/// A port's name and how many queues it has.
pub(crate) type PortQueues<'a> = (&'a str, u32);

/// Chunks beyond what a worker's rings can hold: a burst being processed, spares, hand-overs.
const CHUNKS_OVER: u32 = 1024;

/// How long an occupied queue is tried again, and how often.
const OCCUPIED_PATIENCE: Duration = Duration::from_secs(2);
const OCCUPIED_RETRY: Duration = Duration::from_millis(5);

/// What sockets to open, and on what memory.
pub(crate) struct Shape<'a> {
    /// The ports, in the order of their numbers.
    pub(crate) ports: &'a [PortQueues<'a>],
    /// How many workers share the queues out: queue `q` belongs to worker `q % workers`.
    pub(crate) workers: u32,
    /// How many descriptors each ring holds, a power of two.
    pub(crate) ring: u32,
    pub(crate) chunk_bytes: u32,
}

impl Shape<'_> {
    /// Opens a socket for every queue of every port, without copying where all ports can.
    pub(crate) fn open(&self, zero_copy: bool) -> Result<Rings, StartError> {
        let open = |transfer| patiently(|| self.open_as(transfer));
        if zero_copy {
            match open(Transfer::ZeroCopy) {
                // The cause is not zero-copy, so copying would not help.
                Err(
                    error @ (StartError::QueueOccupied { .. }
                    | StartError::Privilege { .. }
                    | StartError::LockedMemory { .. }),
                ) => return Err(error),
                Err(error) => tracing::info!(cause = %error, "no zero-copy, frames will be copied"),
                opened => return opened,
            }
        }
        open(Transfer::Copy)
    }

    fn open_as(&self, transfer: Transfer) -> Result<Rings, StartError> {
        let &Self { ports, workers, ring, chunk_bytes } = self;
        let of_worker = |worker: u32, queues: u32| (worker..queues).step_by(workers as usize);
        let sockets =
            (0..workers).map(|worker| ports.iter().map(|&(_, queues)| of_worker(worker, queues).count()).sum());
        let most: usize = sockets.max().unwrap_or(0);
        // Each socket can hold a ring of chunks on either side.
        let each = most as u32 * ring * 2 + CHUNKS_OVER;
        let (area, mut all) = Area::new(chunk_bytes, each * workers, ring)?;

        let mut queues = Vec::new();
        for worker in 0..workers {
            let mut own = Vec::new();
            for (port, &(name, count)) in ports.iter().enumerate() {
                for number in of_worker(worker, count) {
                    own.push(Queue::open(&area, name, PortId(port as u8), number, ring, transfer)?);
                }
            }
            queues.push(own);
        }
        let chunks = (0..workers).map(|_| all.drain(..each as usize).collect()).collect();
        Ok(Rings { area: Arc::new(area), queues, chunks, transfer })
    }
}

/// Waits for a while until queues whose sockets were closed can be opened again, which shows that the driver knows.
pub(crate) fn wait_until_free(ports: &[(String, u32)]) {
    const FEW: u32 = 64;
    for (name, count) in ports {
        let shape = Shape { ports: &[(name.as_str(), *count)], workers: 1, ring: FEW, chunk_bytes: 2048 };
        if let Err(cause) = shape.open(false) {
            tracing::warn!(interface = name, %cause, "it is not known whether the driver has released the queues");
        }
    }
}

/// Tries again for a while as long as a queue is occupied.
///
/// A closed socket releases its queue a little later, from a work queue of the kernel's
/// (`xp_put_pool` of net/xdp/xsk_buff_pool.c). The wait covers sockets of a process that has just
/// ended, so that a restart does not depend on luck, and those of our own attempt at zero-copy,
/// whose first ports were opened before a later one refused.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StartError>) -> Result<T, StartError> {
    let patience = Instant::now() + OCCUPIED_PATIENCE;
    loop {
        match attempt() {
            Err(StartError::QueueOccupied { .. }) if Instant::now() < patience => thread::sleep(OCCUPIED_RETRY),
            result => return result,
        }
    }
}
