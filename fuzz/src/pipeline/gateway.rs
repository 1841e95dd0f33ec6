//! Runs a gateway of two workers by a script of bytes: frames, whole and fragmented, hand-overs, steps in
//! time, snapshots, and processes that die and pass their memory to the next, intact or damaged.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;

use weirgate::counters::{Counters, ServiceCounters};
use weirgate::flow::{Address, Direction, Table};
use weirgate::fragment::Limits;
use weirgate::frame::{Burst, Frame};
use weirgate::net::{PortId, Protocol, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig, process};
use weirgate::snapshot::Snapshot;
use weirgate::time::{Instant, Span};
use weirgate::verdict::Verdict;
use weirgate::wire::ethernet;

use super::backends::{self, Alone};
use super::fragments;
use super::frames::{self, Memory};
use super::script::Script;
use super::world::{self, World};

/// Bytes of each frame's buffer.
const BUFFER: usize = 2048;
const SPARES: usize = 6;
const HEADROOM: usize = 96;
/// The most input of a run, so that it ends soon.
const FRAMES_MAX: usize = 256;
/// The most hand-overs of a frame: once round, and the searches for the owner of a pod's packet.
const HANDOVERS_MAX: u8 = world::WORKERS as u8 + 3;

pub(crate) fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let flows = 16 + script.below(48) as u32;
    let mut gateway = Gateway {
        configs: [0, 1].map(|id| WorkerConfig {
            id: WorkerId(id),
            workers: world::WORKERS as u8,
            flows_v4: flows,
            flows_v6: flows,
            fragments: Limits { datagrams: 16, held_bytes: 8192, ..Limits::default() },
            secret: [1, 2, 3, u64::from(id)],
        }),
        snapshot: script.below(world::SNAPSHOTS_OF_BOTH),
        now: Instant::from_secs(1000),
        taken: 0,
        remembered: Memory::default(),
        is_damaged: false,
    };
    let mut memories = gateway.configs.map(|config| Aligned::new(Worker::memory_bytes(&config)));
    let mut left_behind = None;
    while let Some(flows) = gateway.live(&mut script, &mut memories, left_behind) {
        left_behind = Some(flows);
        for _ in 0..script.byte().saturating_sub(128) / 32 {
            gateway.is_damaged = true;
            let memory = memories[script.below(2)].bytes();
            let at = (usize::from(script.short()) << 8 | usize::from(script.byte())) % memory.len();
            memory[at] ^= script.byte();
        }
    }
}

/// Bytes that begin at a multiple of 64.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    fn new(len: usize) -> Self {
        Self(vec![0; len + 64], len)
    }

    fn bytes(&mut self) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(64);
        &mut self.0[skip..skip + self.1]
    }
}

/// The state that outlives a process.
struct Gateway {
    configs: [WorkerConfig; world::WORKERS],
    /// Which one is in force.
    snapshot: usize,
    now: Instant,
    taken: usize,
    remembered: Memory,
    /// Whether the memory has ever been.
    is_damaged: bool,
}

/// One worker of a process.
struct Part<'m> {
    worker: Worker<'m>,
    counters: &'m Counters,
    adopted: u64,
}

/// A frame in flight.
struct Carried {
    worker: usize,
    port: PortId,
    bytes: Vec<u8>,
    handovers: u8,
    /// Whether all its checksums are right.
    intact: bool,
}

impl Gateway {
    /// The life of one process; the flows of each worker when it dies, or `None` at the script's end.
    fn live(
        &mut self,
        script: &mut Script<'_>,
        memories: &mut [Aligned; world::WORKERS],
        left_behind: Option<[u32; world::WORKERS]>,
    ) -> Option<[u32; world::WORKERS]> {
        let world = World::get();
        let counters: [Counters; world::WORKERS] = Default::default();
        let services: [ServiceCounters; world::SERVICES] = Default::default();
        let mut started = 0..world::WORKERS;
        let mut parts = memories.each_mut().map(|memory| {
            let index = started.next().expect("as many");
            let left = left_behind.map(|flows| flows[index]);
            self.start(index, &world.snapshot(self.snapshot), memory.bytes(), &counters[index], &services, left)
        });
        let mut snapshot = world.snapshot(self.snapshot);
        self.audit(&parts);
        loop {
            let Some(order) = script.next().filter(|_| self.taken < FRAMES_MAX) else {
                self.audit(&parts);
                return None;
            };
            match order {
                0 => self.now = self.now + Span::from_millis(u64::from(script.short())),
                1 => self.now = self.now + Span::from_secs(u64::from(script.short())),
                2 => {
                    let budget = script.short().into();
                    parts.iter_mut().for_each(|part| part.worker.age(&snapshot, self.now, budget));
                }
                3 => {
                    self.snapshot = script.below(world::SNAPSHOTS_OF_BOTH);
                    snapshot = world.snapshot(self.snapshot);
                }
                4 | 5 => {
                    self.audit(&parts);
                    return Some(parts.map(|part| part.live()));
                }
                shape => {
                    let built = frames::build(shape, script, &self.remembered);
                    let all = if shape >= 192 { fragments::cut(&built, script) } else { None };
                    let worker = script.below(world::WORKERS);
                    for bytes in all.unwrap_or_else(|| vec![built]) {
                        self.taken += 1;
                        let (port, intact) = (world::port_of(&bytes), frames::is_intact(&bytes));
                        self.send(&mut parts, &snapshot, Carried { worker, port, bytes, handovers: 0, intact });
                    }
                }
            }
        }
    }

    /// A worker, with its predecessor's flows if they can be adopted.
    fn start<'m>(
        &self,
        index: usize,
        snapshot: &Snapshot<'_>,
        memory: &'m mut [u8],
        counters: &'m Counters,
        services: &'m [ServiceCounters],
        left: Option<u32>,
    ) -> Part<'m> {
        let config = &self.configs[index];
        let check = Worker::check(config, memory);
        match left {
            None => assert!(check.is_err(), "nothing was there"),
            Some(_) => assert!(check.is_ok() || self.is_damaged, "{check:?}"),
        }
        if check.is_err() {
            let worker = Worker::new(config, memory, counters, services).expect("a worker");
            return Part { worker, counters, adopted: 0 };
        }
        let attached = Worker::attach(config, snapshot, memory, counters, services);
        let (worker, adopted) = attached.expect("what was checked");
        // Pods' flows end where masquerade is removed.
        let seen = adopted.flows + adopted.strayed;
        assert!(self.is_damaged || (Some(seen), adopted.damaged) == (left, 0), "{adopted:?} of {left:?}");
        Part { worker, counters, adopted: adopted.flows.into() }
    }

    /// Carries a frame to its end, and all frames that it releases.
    fn send(&mut self, parts: &mut [Part<'_>; world::WORKERS], snapshot: &Snapshot<'_>, frame: Carried) {
        let mut waiting = VecDeque::from([frame]);
        while let Some(carried) = waiting.pop_front() {
            let mut frame = Some(carried);
            loop {
                self.call(parts, snapshot, frame.as_ref(), &mut waiting);
                let worker = frame.take().map_or(0, |carried| carried.worker);
                // Frames that wait for buffers, at any worker, are sent before the next frame comes.
                if !parts[worker].worker.has_waiting_frames() && !parts[1 - worker].worker.has_waiting_frames() {
                    break;
                }
            }
        }
    }

    /// One call of the pipeline: with this frame, or at whichever worker has frames that wait.
    fn call(
        &mut self,
        parts: &mut [Part<'_>; world::WORKERS],
        snapshot: &Snapshot<'_>,
        carried: Option<&Carried>,
        waiting: &mut VecDeque<Carried>,
    ) {
        let waits = |part: &Part<'_>| part.worker.has_waiting_frames();
        let at = carried.map_or_else(|| parts.iter().position(waits).expect("one that waits"), |it| it.worker);
        let mut buffer = [0xee; BUFFER];
        let mut lent = [[0xee; BUFFER]; SPARES];
        let mut frames = vec![];
        if let Some(Carried { bytes, port, handovers, .. }) = carried {
            buffer[HEADROOM..][..bytes.len()].copy_from_slice(bytes);
            let frame = Frame::new(&mut buffer, HEADROOM, bytes.len(), *port).expect("a frame inside");
            frames.push(frame.handed_over(*handovers));
        }
        let mut spares: Vec<Frame<'_>> = lent.iter_mut().map(|buffer| Frame::spare(buffer)).collect();
        let mut burst = Burst::new(&mut frames, &mut spares);
        let begun = parts[at].counters.flows_created.get();
        process(&mut parts[at].worker, snapshot, self.now, &mut burst);
        let emitted = burst.emitted;
        for (index, frame) in frames.iter().chain(&spares[..emitted]).enumerate() {
            let received = carried.filter(|_| index == 0);
            match frame.verdict().expect("a verdict for every frame") {
                Verdict::Transmit(port) => {
                    let (link, _) = ethernet::Header::parse(frame.bytes()).expect("a frame to send");
                    let (mac, mtu) = world::port(port);
                    assert_eq!(link.source, mac, "sent from the port's own link address");
                    assert!(frame.len() - link.len() <= usize::from(mtu), "larger than the link takes");
                    assert!(frames::headers_are_right(frame.bytes()), "a wrong header: {:02x?}", frame.bytes());
                    if received.is_none_or(|received| received.intact) {
                        assert!(frames::is_intact(frame.bytes()), "a wrong checksum: {:02x?}", frame.bytes());
                    }
                    // What is damaged in memory may say anything of flows.
                    if let Some(received) = received.filter(|_| !self.is_damaged) {
                        let has_begun = parts[at].counters.flows_created.get() > begun;
                        let alone = Alone { flows: parts[at].worker.flows(), has_begun };
                        let moment = World::get().moment(self.snapshot);
                        backends::check(moment, &received.bytes, frame.bytes(), Some(&alone));
                    }
                    self.remembered.keep(frame.bytes());
                }
                Verdict::Handover(worker) => {
                    let (to, handovers) = (usize::from(worker.0), frame.handovers() + 1);
                    assert!(to < world::WORKERS && to != at, "handed to worker {to} by {at}");
                    assert!(handovers <= HANDOVERS_MAX, "handed over for ever");
                    let intact = received.is_none_or(|received| received.intact);
                    let (port, bytes) = (frame.port(), frame.bytes().to_vec());
                    waiting.push_back(Carried { worker: to, port, bytes, handovers, intact });
                }
                Verdict::Held => assert!(received.is_some(), "a frame that has waited does not wait again"),
                Verdict::Host | Verdict::Drop(_) => {}
            }
        }
        let Part { worker, counters, adopted } = &parts[at];
        let (live, ended) = (u64::from(worker.flows().len()), counters.flows_ended());
        assert_eq!(counters.flows_created.get() + adopted, ended + live);
    }

    /// Every flow is found by both its tuples, and no two share one.
    fn audit(&self, parts: &[Part<'_>]) {
        let mut replies = HashSet::new();
        for Part { worker, .. } in parts {
            let one = self.audit_table(&worker.flows().v4, &mut replies);
            let other = self.audit_table(&worker.flows().v6, &mut replies);
            assert_eq!((one, other), (worker.flows().v4.len(), worker.flows().v6.len()));
        }
    }

    fn audit_table<A: Address>(
        &self,
        table: &Table<'_, A>,
        replies: &mut HashSet<(SocketAddr, SocketAddr, u8)>,
    ) -> u32 {
        let endpoint = |address: A, port: [u8; 2]| SocketAddr::new(address.to_ip(), u16::from_be_bytes(port));
        let mut count = 0;
        for entry in table.iter() {
            count += 1;
            let protocol = Protocol(entry.protocol);
            for (tuple, direction) in [(&entry.original, Direction::Original), (&entry.reply, Direction::Reply)] {
                let found = table.lookup(table.hash(tuple, protocol), tuple, protocol).expect("a flow by its tuple");
                let same = table.get(found.index).is_some_and(|it| it.original == entry.original);
                assert!(same && found.direction == direction, "another flow by this tuple");
            }
            let from = endpoint(entry.reply.source, entry.reply.source_port);
            let to = endpoint(entry.reply.destination, entry.reply.destination_port);
            // A flipped bit may have turned one worker's flow into another's.
            assert!(replies.insert((from, to, entry.protocol)) || self.is_damaged, "{from} answers twice to {to}");
        }
        count
    }
}

impl Part<'_> {
    fn live(&self) -> u32 {
        self.worker.flows().len()
    }
}
