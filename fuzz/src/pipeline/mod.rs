//! Runs the pipeline by a script of bytes, and checks the pipeline's invariants after every burst.
//!
//! Random bytes never get past a checksum, so most inputs are valid packets between addresses that the
//! gateway knows, then damaged at a few offsets or not at all. Output frames are remembered, and come
//! in again reversed, as the other side's reply.

mod backends;
mod fragments;
mod frames;
#[allow(dead_code, reason = "a target of its own")]
pub(crate) mod gateway;
mod script;
mod world;

use weirgate::counters::{Counters, ServiceCounters};
use weirgate::fragment::Limits;
use weirgate::frame::{BURST_FRAMES_MAX, Burst, Frame};
use weirgate::net::{PortId, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig, process};
use weirgate::snapshot::Snapshot;
use weirgate::time::{Instant, Span};
use weirgate::verdict::{DropReason, Verdict};
use weirgate::wire::ethernet;

use backends::Alone;
use frames::Memory;
use script::Script;
use world::{Moment, World};

/// Bytes of each frame's buffer.
const BUFFER: usize = 2048;
const SPARES: usize = 4;
/// The most input of a run, so that it ends soon.
const FRAMES_MAX: usize = 512;

/// A frame that waits for its burst.
struct Waiting {
    bytes: Vec<u8>,
    headroom: usize,
    port: PortId,
    /// Whether all its checksums are right.
    intact: bool,
}

#[allow(dead_code, reason = "a target of its own")]
pub(crate) fn run(data: &[u8]) {
    let world = World::get();
    let mut script = Script::new(data);
    let config = WorkerConfig {
        id: WorkerId(script.below(2) as u8),
        workers: 2,
        flows_v4: 16 + script.below(32) as u32,
        flows_v6: 16 + script.below(8) as u32,
        fragments: Limits { datagrams: 16, held_bytes: 4096, ..Limits::default() },
        secret: [1, 2, 3, 4],
    };
    let counters = Counters::default();
    let services: [ServiceCounters; world::SERVICES] = Default::default();
    let mut memory = vec![0; Worker::memory_bytes(&config) + 64];
    let skip = memory.as_ptr().align_offset(64);
    let worker = Worker::new(&config, &mut memory[skip..], &counters, &services).expect("a worker");
    let mut gateway = Gateway {
        snapshot: world.snapshot(0),
        moment: world.moment(0),
        worker,
        counters: &counters,
        now: Instant::from_secs(1000),
        remembered: Memory::default(),
        tally: Tally::default(),
    };

    let mut waiting = Vec::new();
    let mut taken = 0;
    while let Some(order) = script.next() {
        match order {
            0 => gateway.burst(&mut waiting),
            1 => gateway.now = gateway.now + Span::from_millis(u64::from(script.short())),
            2 => gateway.now = gateway.now + Span::from_secs(u64::from(script.short())),
            3 => gateway.worker.age(&gateway.snapshot, gateway.now, script.short().into()),
            4 => {
                gateway.burst(&mut waiting);
                let index = script.pick(&world::SNAPSHOTS);
                (gateway.snapshot, gateway.moment) = (world.snapshot(index), world.moment(index));
            }
            5 => while gateway.worker.next_unresolved().is_some() {},
            shape => {
                taken += 1;
                let bytes = frames::build(shape, &mut script, &gateway.remembered);
                let headroom = match script.below(4) {
                    0 => script.below(120),
                    _ => 96,
                };
                let port = match script.below(8) {
                    0 => PortId(script.below(3) as u8),
                    _ => world::port_of(&bytes),
                };
                let intact = frames::is_intact(&bytes);
                waiting.push(Waiting { bytes, headroom, port, intact });
                if waiting.len() == BURST_FRAMES_MAX || script.below(4) != 0 {
                    gateway.burst(&mut waiting);
                }
            }
        }
        if taken == FRAMES_MAX {
            break;
        }
    }
    gateway.burst(&mut waiting);
}

/// Verdicts given so far.
#[derive(Default)]
struct Tally {
    received: u64,
    transmitted: u64,
    host: u64,
    handovers: u64,
    drops: u64,
    held: u64,
}

struct Gateway<'m, 's> {
    snapshot: Snapshot<'s>,
    /// What that was compiled from.
    moment: &'s Moment,
    worker: Worker<'m>,
    counters: &'m Counters,
    now: Instant,
    remembered: Memory,
    tally: Tally,
}

impl Gateway<'_, '_> {
    fn burst(&mut self, waiting: &mut Vec<Waiting>) {
        let mut buffers: Vec<[u8; BUFFER]> = waiting.iter().map(fill).collect();
        let mut spare_buffers = [[0xee; BUFFER]; SPARES];
        let mut frames: Vec<Frame<'_>> = buffers
            .iter_mut()
            .zip(waiting.iter())
            .map(|(buffer, it)| Frame::new(buffer, it.headroom, it.bytes.len(), it.port).expect("a frame inside"))
            .collect();
        let mut spares: Vec<Frame<'_>> = spare_buffers.iter_mut().map(|buffer| Frame::spare(buffer)).collect();

        let begun = self.counters.flows_created.get();
        let mut burst = Burst::new(&mut frames, &mut spares);
        process(&mut self.worker, &self.snapshot, self.now, &mut burst);
        let emitted = burst.emitted;

        assert!(emitted <= SPARES);
        let has_begun = self.counters.flows_created.get() > begun;
        let alone = Alone { flows: self.worker.flows(), has_begun };
        let alone = Some(&alone).filter(|_| waiting.len() == 1);
        for (frame, received) in frames.iter().zip(waiting.iter()) {
            if let Some(Verdict::Transmit(_)) = frame.verdict() {
                backends::check(self.moment, &received.bytes, frame.bytes(), alone);
            }
        }
        for (frame, received) in frames.iter().zip(waiting.iter()) {
            self.check(frame, Some(received));
        }
        for (index, spare) in spares.iter().enumerate() {
            assert_eq!(index < emitted, spare.verdict().is_some(), "spare {index} of {emitted}");
            if index < emitted {
                self.check(spare, None);
            }
        }
        self.check_counts(waiting);
        waiting.clear();
    }

    /// Checks one frame against its verdict; `received` is the input frame, unless the pipeline made it.
    fn check(&mut self, frame: &Frame<'_>, received: Option<&Waiting>) {
        let verdict = frame.verdict().expect("a verdict for every frame");
        assert!(frame.start() + frame.len() <= BUFFER);
        match verdict {
            Verdict::Transmit(port) => {
                self.tally.transmitted += 1;
                let (link, _) = ethernet::Header::parse(frame.bytes()).expect("a frame to send");
                let (mac, mtu) = world::port(port);
                assert_eq!(link.source, mac, "sent from the port's own link address");
                assert!(frame.len() - link.len() <= usize::from(mtu), "larger than the link takes");
                assert!(frames::headers_are_right(frame.bytes()), "a wrong header: {:02x?}", frame.bytes());
                if received.is_none_or(|received| received.intact) {
                    assert!(frames::is_intact(frame.bytes()), "a wrong checksum: {:02x?}", frame.bytes());
                }
                self.remembered.keep(frame.bytes());
            }
            Verdict::Host => {
                self.tally.host += 1;
                // A fragment that has waited egresses in one of the pipeline's own frames.
                if let Some(received) = received {
                    assert_eq!((frame.start(), frame.len()), (received.headroom, received.bytes.len()));
                    // Decapsulation may have copied a congestion mark to the inner packet.
                    assert!(frame.bytes() == received.bytes || frames::is_in_vxlan(frame.bytes()));
                }
            }
            Verdict::Handover(worker) => {
                self.tally.handovers += 1;
                assert!(usize::from(worker.0) < world::WORKERS);
                if let Some(received) = received {
                    assert_eq!((frame.start(), frame.len()), (received.headroom, received.bytes.len()));
                }
            }
            Verdict::Held => {
                self.tally.held += 1;
                assert!(received.is_some(), "a frame that has waited does not wait again");
            }
            Verdict::Drop(_) => self.tally.drops += 1,
        }
    }

    /// Every frame is counted once, by its outcome.
    fn check_counts(&mut self, waiting: &[Waiting]) {
        self.tally.received += waiting.iter().filter(|it| self.counters.port(it.port).is_some()).count() as u64;
        let ports = &self.counters.ports;
        assert_eq!(self.tally.received, ports.iter().map(|port| port.received.packets.get()).sum());
        assert_eq!(self.tally.transmitted, ports.iter().map(|port| port.transmitted.packets.get()).sum());
        // Fragments that waited in vain are drops without a frame.
        let in_vain = [DropReason::FragmentExpired, DropReason::FragmentDisplaced, DropReason::FragmentRefused];
        let drops: u64 = DropReason::ALL.iter().map(|reason| self.counters.drops(*reason)).sum();
        let lost: u64 = in_vain.iter().map(|reason| self.counters.drops(*reason)).sum();
        assert!((drops - lost..=drops).contains(&self.tally.drops) && drops - self.tally.drops <= self.tally.held);
        assert_eq!(self.tally.held, self.counters.fragments_held.get());
        assert_eq!(self.tally.host, self.counters.host.get());
        assert_eq!(self.tally.handovers, self.counters.handovers.get());
        for (len, capacity) in [
            (self.worker.flows().v4.len(), self.worker.flows().v4.capacity()),
            (self.worker.flows().v6.len(), self.worker.flows().v6.capacity()),
        ] {
            assert!(len <= capacity);
        }
    }
}

fn fill(waiting: &Waiting) -> [u8; BUFFER] {
    let mut buffer = [0xee; BUFFER];
    buffer[waiting.headroom..][..waiting.bytes.len()].copy_from_slice(&waiting.bytes);
    buffer
}
