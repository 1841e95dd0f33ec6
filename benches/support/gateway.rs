//! A worker with many flows, and bursts for it.

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use weirgate::flow::{Table, Tuple};
use weirgate::fragment::Limits;
use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::net::{Endpoint, PortId, Protocol, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig, process};
use weirgate::snapshot::{Backend, Neighbour, Route, RouteTarget, Snapshot};
use weirgate::time::{Instant, Span};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, SYN};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::{BURST, Family, Random, huge_memory};

/// Bytes of each frame's buffer: a chunk of the rings' memory.
const BUFFER: usize = 2048;
/// Where the packet of a request begins.
const REQUEST_AT: usize = 14;
/// Where the flags stand in a TCP header.
const TCP_FLAGS: usize = 13;
/// How many entries grow old in one call, as in a turn of the worker's loop.
const AGE_BUDGET: u32 = 1024;
/// How many flows pods have.
const PODS_FLOWS: u32 = 64;
/// Longer than any flow may idle.
const AGES: Span = Span::from_secs(10 * 86_400);

/// What a burst consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// Packets of flows that exist, from clients.
    Hit,
    /// Their answers, in VXLAN.
    Reply,
    /// First packets.
    NewFlow,
    /// Packets of no flow, which begin none.
    Miss,
    /// Packets of pods' flows to the outside.
    Masquerade,
    /// Packets of pods' flows to a service.
    Hairpin,
}

impl Workload {
    const fn verdict(self) -> Verdict {
        match self {
            Self::Hit | Self::NewFlow | Self::Hairpin => Verdict::Transmit(UNDERLAY),
            Self::Reply | Self::Masquerade => Verdict::Transmit(UPLINK),
            Self::Miss => Verdict::Drop(DropReason::NotSyn),
        }
    }
}

/// The frames' bytes of payload: the shortest frame, and the sizes of the simple Internet mix, 7:4:1,
/// its largest cut to what the overlay takes.
pub(crate) const SMALL: &[usize] = &[0];
pub(crate) const IMIX: &[usize] = &[0, 0, 0, 0, 0, 0, 0, 536, 536, 536, 536, 1390 - 20];

/// A worker with many flows of one family, and bursts for it.
pub(crate) struct Bench<A: Family> {
    worker: Worker<'static>,
    snapshot: Snapshot<'static>,
    flows: Vec<(Tuple<A>, Tuple<A>)>,
    /// What pods send, of the workload that asks for it.
    pods: Vec<Tuple<A>>,
    /// A request and its answer, in each size of the mix.
    templates: Vec<[Vec<u8>; 2]>,
    buffers: Vec<[u8; BUFFER]>,
    random: Random,
    next_client: u32,
    now: Instant,
    /// Bytes of the table's memory.
    pub(crate) table_bytes: usize,
}

impl<A: Family> Bench<A> {
    /// A worker with `flows` TCP flows of different clients behind one router, over four backends.
    ///
    /// # Panics
    /// Where a flow cannot be made.
    pub(crate) fn new(flows: u32) -> Self {
        let mut world = World::new();
        let prefix = if A::HEADER_LEN == 20 { "0.0.0.0/0" } else { "::/0" };
        world.routes.push(Route {
            prefix: prefix.parse().expect("a prefix"),
            target: RouteTarget::Router(UPLINK, A::router()),
            mtu: None,
        });
        world.neighbours.push(Neighbour { port: UPLINK, address: A::router(), mac: world::CLIENT_MAC });
        // Pool addresses enough that at most half of their ports are taken, and where a pool cannot have as
        // many, pods.
        let pods = if flows > 4_000_000 { 16 } else { 4 };
        world.backends[0] = (0..pods / 2)
            .flat_map(|pod| [0, 1].map(|node| (node, 10 + pod as u8)))
            .flat_map(|(node, pod)| [world::pod(node, pod).into(), world::pod_v6(node, pod).into()])
            .map(|address| Backend { endpoint: Endpoint { address, port: 80 }, weight: 1 })
            .collect();
        let addresses = (flows / (pods * 32_000) + 2) as u8;
        world.pool = (2..2 + addresses).map(A::pool).collect();
        world.masquerade = vec![A::masquerade()];
        let snapshot = world.describe(weirgate_fixture::snapshot);
        let mut config = WorkerConfig {
            id: WorkerId(0),
            workers: 1,
            flows_v4: 16,
            flows_v6: 16,
            fragments: Limits::default(),
            secret: [11, 22, 33, 44],
        };
        let capacity = if A::HEADER_LEN == 20 { &mut config.flows_v4 } else { &mut config.flows_v6 };
        *capacity = flows + 4096;
        let memory = huge_memory(Worker::memory_bytes(&config));
        let table_bytes = Table::<A>::memory_bytes(flows + 4096);
        let worker = Worker::new(&config, memory, Box::leak(Box::default()), &[]).expect("memory for the flows");
        let mut bench = Self {
            worker,
            snapshot,
            flows: vec![],
            pods: vec![],
            templates: SMALL.iter().map(|data| A::frames(*data)).collect(),
            buffers: vec![[0; BUFFER]; BURST],
            random: Random(0x9e37_79b9_7f4a_7c15),
            next_client: 0,
            now: Instant::from_secs(1000),
            table_bytes,
        };
        bench.fill(flows);
        bench
    }

    /// Sends frames with these payloads from now on, in turn.
    pub(crate) fn mix(&mut self, payloads: &[usize]) {
        self.templates = payloads.iter().map(|data| A::frames(*data)).collect();
    }

    /// Makes new flows, whose handshakes are done, until there are `flows`.
    fn fill(&mut self, flows: u32) {
        let [request, answer] = A::frames(0);
        for _ in self.worker.flows().of::<A>().len()..flows {
            self.next_client += 1;
            let client = A::client(self.next_client);
            let lens = [self.write_request(0, &request, &client, SYN)];
            assert_eq!(self.run(UPLINK, &lens).1, Verdict::Transmit(UNDERLAY), "flow {}", self.next_client);
            let table = self.worker.flows().of::<A>();
            let found = table.lookup(table.hash(&client, Protocol::TCP), &client, Protocol::TCP);
            let reply = table.get(found.expect("a flow just made").index).expect("its entry").reply;
            let lens = [self.write_answer(0, &answer, &reply, SYN | ACK)];
            assert_eq!(self.run(UNDERLAY, &lens).1, Verdict::Transmit(UPLINK), "flow {}", self.next_client);
            let lens = [self.write_request(0, &request, &client, ACK)];
            assert_eq!(self.run(UPLINK, &lens).1, Verdict::Transmit(UNDERLAY), "flow {}", self.next_client);
        }
        self.flows = self.worker.flows().of::<A>().iter().map(|entry| (entry.original, entry.reply)).collect();
        assert_eq!(self.flows.len(), flows as usize);
    }

    /// Makes flows of pods, whose handshakes are done.
    fn fill_pods(&mut self, workload: Workload) {
        let [request, answer] = A::frames(0);
        self.pods = (0..PODS_FLOWS).map(|number| A::pod(number, workload == Workload::Hairpin)).collect();
        for tuple in self.pods.clone() {
            let lens = [self.write_answer(0, &answer, &tuple, SYN)];
            assert_eq!(self.run(UNDERLAY, &lens).1, workload.verdict());
            let table = self.worker.flows().of::<A>();
            let found = table.lookup(table.hash(&tuple, Protocol::TCP), &tuple, Protocol::TCP);
            let reply = table.get(found.expect("a flow just made").index).expect("its entry").reply;
            if workload == Workload::Masquerade {
                let lens = [self.write_request(0, &request, &reply, SYN | ACK)];
                assert_eq!(self.run(UPLINK, &lens).1, Verdict::Transmit(UNDERLAY));
            } else {
                let lens = [self.write_answer(0, &answer, &reply, SYN | ACK)];
                assert_eq!(self.run(UNDERLAY, &lens).1, Verdict::Transmit(UNDERLAY));
            }
            let lens = [self.write_answer(0, &answer, &tuple, ACK)];
            assert_eq!(self.run(UNDERLAY, &lens).1, workload.verdict());
        }
    }

    /// Runs bursts of `workload` until `frames` frames are through; the time that the pipeline takes
    /// for them, by the median burst: what else the machine does falls on few bursts.
    ///
    /// # Panics
    /// Where a frame does not get the verdict that the workload is about.
    pub(crate) fn run_frames(&mut self, workload: Workload, frames: u64) -> Duration {
        let bursts = frames.div_ceil(BURST as u64).max(1);
        let mut times = Vec::with_capacity(bursts as usize);
        let templates = self.templates.clone();
        let is_of_pods = matches!(workload, Workload::Masquerade | Workload::Hairpin);
        if is_of_pods {
            self.fill_pods(workload);
        }
        let port = if is_of_pods || workload == Workload::Reply { UNDERLAY } else { UPLINK };
        for burst in 0..bursts as usize {
            let lens: [usize; BURST] = std::array::from_fn(|index| {
                let [request, answer] = &templates[(burst * BURST + index) % templates.len()];
                let flow = self.random.below(self.flows.len() as u32) as usize;
                match workload {
                    Workload::NewFlow => {
                        self.next_client += 1;
                        self.write_request(index, request, &A::client(self.next_client), SYN)
                    }
                    Workload::Miss => {
                        let stranger = A::client(u32::MAX - self.random.below(1 << 22));
                        self.write_request(index, request, &stranger, ACK)
                    }
                    Workload::Hit => self.write_request(index, request, &self.flows[flow].0.clone(), ACK),
                    Workload::Reply => self.write_answer(index, answer, &self.flows[flow].1.clone(), ACK),
                    Workload::Masquerade | Workload::Hairpin => {
                        let tuple = self.pods[flow % self.pods.len()];
                        self.write_answer(index, answer, &tuple, ACK)
                    }
                }
            });
            let (time, verdict) = self.run(port, &lens);
            assert_eq!(verdict, workload.verdict(), "{workload:?}");
            times.push(time);
            if workload == Workload::NewFlow {
                self.forget_newest();
            }
        }
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        median.mul_f64(frames as f64 / BURST as f64)
    }

    /// Lets every flow grow too old and be forgotten, slice by slice; the time for `flows` of them.
    pub(crate) fn run_expiry(&mut self, flows: u64) -> Duration {
        let count = self.flows.len() as u32;
        self.fill(count);
        self.now = self.now + AGES;
        let begin = Clock::now();
        while !self.worker.flows().of::<A>().is_empty() {
            self.worker.age(&self.snapshot, self.now, AGE_BUDGET);
        }
        begin.elapsed().mul_f64(flows as f64 / f64::from(count))
    }

    /// Takes the last burst's flows out again, so that the table stays as full as it was.
    fn forget_newest(&mut self) {
        let table = self.worker.flows().of::<A>();
        let newest: Vec<u32> = (0..BURST as u32)
            .map(|back| {
                let tuple = A::client(self.next_client - back);
                table.lookup(table.hash(&tuple, Protocol::TCP), &tuple, Protocol::TCP).expect("a flow just made").index
            })
            .collect();
        newest.into_iter().for_each(|index| self.worker.forget::<A>(index));
    }

    fn write_request(&mut self, index: usize, request: &[u8], tuple: &Tuple<A>, flags: u8) -> usize {
        let frame = &mut self.buffers[index][HEADROOM_MAX..HEADROOM_MAX + request.len()];
        frame.copy_from_slice(request);
        frame[REQUEST_AT + A::HEADER_LEN + TCP_FLAGS] = flags;
        A::write_tuple(&mut frame[REQUEST_AT..], tuple);
        request.len()
    }

    fn write_answer(&mut self, index: usize, answer: &[u8], tuple: &Tuple<A>, flags: u8) -> usize {
        let frame = &mut self.buffers[index][HEADROOM_MAX..HEADROOM_MAX + answer.len()];
        frame.copy_from_slice(answer);
        frame[A::ANSWER_AT + A::HEADER_LEN + TCP_FLAGS] = flags;
        A::write_tuple(&mut frame[A::ANSWER_AT..], tuple);
        A::seal_outer(frame);
        answer.len()
    }

    /// One call with a frame of each of these lengths; the time it took, and the last frame's verdict.
    fn run(&mut self, port: PortId, lens: &[usize]) -> (Duration, Verdict) {
        let mut frames: Vec<Frame<'_>> = self
            .buffers
            .iter_mut()
            .zip(lens)
            .map(|(buffer, len)| Frame::new(buffer, HEADROOM_MAX, *len, port).expect("inside the buffer"))
            .collect();
        let mut burst = Burst::new(&mut frames, &mut []);
        let begin = Clock::now();
        process(&mut self.worker, &self.snapshot, self.now, black_box(&mut burst));
        let spent = begin.elapsed();
        (spent, frames.last().and_then(Frame::verdict).expect("a verdict"))
    }
}
