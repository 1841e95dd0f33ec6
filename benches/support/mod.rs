//! What the benches of the core share: large memory, many flows, and the yardstick *L*.

#![allow(dead_code, reason = "each bench uses its part")]

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use weirgate::flow::Tuple;
use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::net::{PortId, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig, process};
use weirgate::snapshot::{Neighbour, Route, RouteTarget, Snapshot};
use weirgate::time::Instant;
use weirgate::verdict::Verdict;
use weirgate_fixture::frames::{ACK, FROM_CLIENT, Packet, SYN, framed, from_pod};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

/// Frames of one call, as the bars have it.
pub(crate) const BURST: usize = 32;

/// Bytes of each frame's buffer: a chunk of the rings' memory.
const BUFFER: usize = 2048;

/// Zeroed memory that lives for ever, in huge pages where the system gives them.
///
/// # Panics
/// Where there is none.
pub(crate) fn huge_memory(len: usize) -> &'static mut [u8] {
    // SAFETY: an anonymous private mapping of our own; nothing else refers to it, it is zeroed,
    // page-aligned, `len` bytes long and never unmapped.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED, "{len} bytes: {}", std::io::Error::last_os_error());
        libc::madvise(memory, len, libc::MADV_HUGEPAGE);
        std::slice::from_raw_parts_mut(memory.cast(), len)
    }
}

/// *L*: nanoseconds of one dependent random load over `len` bytes, in memory like the tables'.
pub(crate) fn load_latency(len: usize) -> f64 {
    const LINE: usize = 64;
    let lines = (len / LINE).max(2);
    let memory = huge_memory(lines * LINE);
    let (words, _) = memory.as_chunks_mut::<8>();
    // A random cycle through all lines (Sattolo's shuffle).
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random = Random(7);
    for last in (1..lines).rev() {
        order.swap(last, random.below(last as u32) as usize);
    }
    for pair in 0..lines {
        let (from, to) = (order[pair] as usize, order[(pair + 1) % lines] as usize);
        words[from * LINE / 8] = (to * LINE / 8).to_le_bytes();
    }
    let loads = 2_000_000;
    let mut at = 0;
    let begin = Clock::now();
    for _ in 0..loads {
        at = usize::from_le_bytes(words[at]);
    }
    let spent = begin.elapsed();
    black_box(at);
    // SAFETY: the mapping that `huge_memory` has just made for us; `words` is not used after this.
    unsafe { libc::munmap(memory.as_mut_ptr().cast(), memory.len()) };
    spent.as_nanos() as f64 / f64::from(loads)
}

/// A small random number generator (xorshift), so that runs repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// What a burst consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// Packets of flows that exist, from clients.
    Hit,
    /// Their answers, in VXLAN.
    Reply,
    /// First packets.
    NewFlow,
}

/// A flow as its client sends it, and as its pod does.
type Tuples = (Tuple<[u8; 4]>, Tuple<[u8; 4]>);

/// A worker with many flows, and bursts for it.
pub(crate) struct Bench {
    worker: Worker<'static>,
    snapshot: Snapshot<'static>,
    flows: Vec<Tuples>,
    request: Vec<u8>,
    answer: Vec<u8>,
    buffers: Vec<[u8; BUFFER]>,
    random: Random,
    next_client: u32,
    /// Bytes of the table's memory.
    pub(crate) table_bytes: usize,
}

const NOW: Instant = Instant::from_secs(1000);

/// Where the transport header of a request begins, and of an answer's inner packet.
const REQUEST_IP: usize = 14;
const ANSWER_IP: usize = 64;

impl Bench {
    /// A worker with `flows` TCP flows of different clients behind one router, over four backends.
    ///
    /// # Panics
    /// Where a flow cannot be made.
    pub(crate) fn new(flows: u32) -> Self {
        let mut world = World::new();
        let router = [192, 0, 2, 254].into();
        world.routes.push(Route {
            prefix: "0.0.0.0/0".parse().expect("a prefix"),
            target: RouteTarget::Router(UPLINK, router),
        });
        world.neighbours.push(Neighbour { port: UPLINK, address: router, mac: world::CLIENT_MAC });
        // Pool addresses enough that at most half of their ports are taken.
        let addresses = (flows / (4 * 32_000) + 2).min(250) as u8;
        world.pool = (2..2 + addresses).map(|last| [10, 77, 200, last].into()).collect();
        let snapshot = world.describe(weirgate_fixture::snapshot);
        let config = WorkerConfig {
            id: WorkerId(0),
            workers: 1,
            flows_v4: flows + 4096,
            flows_v6: 16,
            secret: [11, 22, 33, 44],
        };
        let memory = huge_memory(Worker::memory_bytes(&config));
        let table_bytes = memory.len();
        let worker = Worker::new(&config, memory, Box::leak(Box::default()), &[]).expect("memory for the flows");
        let request = framed(FROM_CLIENT, &Packet::web(1, ACK, &[]).bytes());
        let answer_packet = Packet::web(1, ACK, &[]).answer(ACK, &[]);
        let mut bench = Self {
            worker,
            snapshot,
            flows: vec![],
            request: padded(request),
            answer: padded(from_pod(0, &answer_packet.bytes())),
            buffers: vec![[0; BUFFER]; BURST],
            random: Random(0x9e37_79b9_7f4a_7c15),
            next_client: 0,
            table_bytes,
        };
        for _ in 0..flows {
            bench.next_client += 1;
            let tuple = client(bench.next_client);
            bench.write_request(0, &tuple, SYN);
            let verdict = bench.run(UPLINK, bench.request.len(), 1).1;
            assert_eq!(verdict, Verdict::Transmit(UNDERLAY), "flow {}", bench.next_client);
        }
        bench.flows = bench.worker.flows_v4().iter().map(|(entry, _)| (entry.original, entry.reply)).collect();
        assert_eq!(bench.flows.len(), flows as usize);
        bench
    }

    /// Runs bursts of `workload` until `frames` frames are through; the time that the pipeline takes
    /// for them, by the median burst: what else the machine does falls on few bursts.
    ///
    /// # Panics
    /// Where a frame is not forwarded.
    pub(crate) fn run_frames(&mut self, workload: Workload, frames: u64) -> Duration {
        let bursts = frames.div_ceil(BURST as u64).max(1);
        let mut times = Vec::with_capacity(bursts as usize);
        for _ in 0..bursts {
            let (port, len) = match workload {
                Workload::Hit | Workload::NewFlow => (UPLINK, self.request.len()),
                Workload::Reply => (UNDERLAY, self.answer.len()),
            };
            for index in 0..BURST {
                match workload {
                    Workload::NewFlow => {
                        self.next_client += 1;
                        self.write_request(index, &client(self.next_client), SYN);
                    }
                    Workload::Hit => {
                        let (original, _) = self.flows[self.random.below(self.flows.len() as u32) as usize];
                        self.write_request(index, &original, ACK);
                    }
                    Workload::Reply => {
                        let (_, reply) = self.flows[self.random.below(self.flows.len() as u32) as usize];
                        let answer = &self.answer;
                        let frame = &mut self.buffers[index][HEADROOM_MAX..HEADROOM_MAX + answer.len()];
                        frame.copy_from_slice(answer);
                        write_tuple(&mut frame[ANSWER_IP..], &reply);
                    }
                }
            }
            let (time, verdict) = self.run(port, len, BURST);
            assert!(matches!(verdict, Verdict::Transmit(_)), "{workload:?}: {verdict:?}");
            times.push(time);
            if workload == Workload::NewFlow {
                self.forget_newest();
            }
        }
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        median.mul_f64(frames as f64 / BURST as f64)
    }

    /// Takes the last burst's flows out again, so that the table stays as full as it was.
    fn forget_newest(&mut self) {
        let table = self.worker.flows_v4();
        let newest: Vec<u32> = (0..BURST as u32)
            .map(|back| {
                let tuple = client(self.next_client - back);
                let protocol = weirgate::net::Protocol::TCP;
                table.lookup(table.hash(&tuple, protocol), &tuple, protocol).expect("a flow just made").index
            })
            .collect();
        newest.into_iter().for_each(|index| self.worker.forget_v4(index));
    }

    fn write_request(&mut self, index: usize, tuple: &Tuple<[u8; 4]>, flags: u8) {
        let request = &self.request;
        let frame = &mut self.buffers[index][HEADROOM_MAX..HEADROOM_MAX + request.len()];
        frame.copy_from_slice(request);
        frame[REQUEST_IP + 20 + 13] = flags;
        write_tuple(&mut frame[REQUEST_IP..], tuple);
    }

    /// One call with `count` frames of `len` bytes; the time it took, and the last frame's verdict.
    fn run(&mut self, port: PortId, len: usize, count: usize) -> (Duration, Verdict) {
        let mut frames: Vec<Frame<'_>> = self
            .buffers
            .iter_mut()
            .take(count)
            .map(|buffer| Frame::new(buffer, HEADROOM_MAX, len, port).expect("inside the buffer"))
            .collect();
        let mut burst = Burst::new(&mut frames, &mut []);
        let begin = Clock::now();
        process(&mut self.worker, &self.snapshot, NOW, black_box(&mut burst));
        let spent = begin.elapsed();
        (spent, frames.last().and_then(Frame::verdict).expect("a verdict"))
    }
}

fn client(number: u32) -> Tuple<[u8; 4]> {
    let [_, high, middle, low] = (number >> 2).to_be_bytes();
    Tuple {
        source: [20, high, middle, low],
        destination: world::NODE_PORT_ADDRESS.octets(),
        source_port: (1024 + (number & 3) as u16).to_be_bytes(),
        destination_port: 30_080_u16.to_be_bytes(),
    }
}

/// Writes addresses and ports and makes the IPv4 checksum right; the TCP checksum is not looked at.
fn write_tuple(ip: &mut [u8], tuple: &Tuple<[u8; 4]>) {
    ip[12..16].copy_from_slice(&tuple.source);
    ip[16..20].copy_from_slice(&tuple.destination);
    ip[20..22].copy_from_slice(&tuple.source_port);
    ip[22..24].copy_from_slice(&tuple.destination_port);
    ip[10..12].fill(0);
    let sum = weirgate::wire::checksum::of(&ip[..20]);
    ip[10..12].copy_from_slice(&sum);
}

/// At least 60 bytes, as the shortest Ethernet frame has without its check sequence.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}
