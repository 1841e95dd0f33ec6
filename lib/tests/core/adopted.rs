//! Flows that a later process adopts, under a configuration that gives their ports to other workers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use weirgate::counters::Counters;
use weirgate::flow::{self, Address, Adopted, Table};
use weirgate::fragment::{FragmentsError, Limits};
use weirgate::net::WorkerId;
use weirgate::pipeline::{AttachError, Worker, WorkerConfig};
use weirgate_fixture::frames::{FROM_CLIENT, Packet, SYN, framed, from_pod};
use weirgate_fixture::world::{self, DNS, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, leak_aligned, worker_config};

const FLOWS: u32 = 256;
const OUT_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

/// All workers of a gateway, and their memory.
struct Process {
    workers: Vec<Gateway>,
    memory: Vec<(WorkerConfig, *mut u8, usize)>,
}

impl Process {
    fn start(world: &World) -> Self {
        let mut process = Self { workers: vec![], memory: vec![] };
        for id in (0..world.workers).map(WorkerId) {
            world.describe(|it| {
                let config = worker_config(it, id, FLOWS);
                let memory = leak_aligned(Worker::memory_bytes(&config));
                process.memory.push((config, memory.as_mut_ptr(), memory.len()));
                process.workers.push(Gateway::with_memory(it, &config, memory));
            });
        }
        process
    }

    /// The next process, and how many of this one's flows it adopted.
    fn next(self, world: &World) -> (Self, Adopted) {
        drop(self.workers);
        let (mut workers, mut sum) = (vec![], Adopted::default());
        for (config, start, len) in &self.memory {
            // SAFETY: leaked in `start`; its only user, the earlier worker, is gone.
            let memory = unsafe { std::slice::from_raw_parts_mut(*start, *len) };
            let (worker, adopted) = world.describe(|it| Gateway::adopt(it, config, memory));
            workers.push(worker);
            sum.flows += adopted.flows;
            sum.damaged += adopted.damaged;
            sum.strayed += adopted.strayed;
        }
        (Self { workers, memory: self.memory }, sum)
    }

    /// Flows of each kind, some at each worker: of clients behind SNAT, of clients whose source is preserved, of pods
    /// to the outside, and of pods to a service.
    fn fill(&mut self, ports: std::ops::Range<u16>) {
        let as_pod = |packet: Packet, port: u16| {
            let pod: IpAddr =
                if packet.source.is_ipv4() { world::pod(0, 10).into() } else { world::pod_v6(0, 10).into() };
            Packet { source: (pod, port).into(), ..packet }
        };
        for worker in &mut self.workers {
            for port in ports.clone() {
                for client in [Packet::web(port, SYN, b""), Packet::web_v6(port, SYN, b""), Packet::dns(port, b"?")] {
                    worker.send(UPLINK, &framed(FROM_CLIENT, &client.bytes()));
                }
                let out = Packet { destination: (world::CLIENT, 443).into(), ..Packet::web(0, SYN, b"") };
                for pod in [Packet::web(0, SYN, b""), Packet::web_v6(0, SYN, b""), out] {
                    worker.send(UNDERLAY, &from_pod(0, &as_pod(pod, port).bytes()));
                }
            }
        }
    }

    /// How many flows have a reply address that is `among` these.
    fn count(&self, among: impl Fn(IpAddr) -> bool) -> u32 {
        let replies = self.workers.iter().flat_map(|worker| replies(&worker.worker));
        replies.filter(|(_, (address, _), _)| among(*address)).count() as u32
    }

    /// Every reply tuple; no two flows share one.
    fn assert_unique(&self) {
        let mut seen = BTreeMap::new();
        for (id, worker) in self.workers.iter().enumerate() {
            for reply in replies(&worker.worker) {
                let other = seen.insert(reply, id);
                assert_eq!(other, None, "worker {id} has {reply:?} as well");
            }
        }
    }
}

type Reply = ((IpAddr, [u8; 2]), (IpAddr, [u8; 2]), u8);

fn replies(worker: &Worker<'_>) -> Vec<Reply> {
    fn of<A: Address>(table: &Table<'_, A>) -> Vec<Reply> {
        let reply = |entry: &weirgate::flow::Entry<A>| {
            let tuple = entry.reply;
            let (from, to) = (tuple.source.to_ip(), tuple.destination.to_ip());
            ((from, tuple.source_port), (to, tuple.destination_port), entry.protocol)
        };
        table.iter().map(reply).collect()
    }
    [of(&worker.flows().v4), of(&worker.flows().v6)].concat()
}

fn world(workers: u8) -> World {
    World { workers, masquerade: vec![OUT_V4], ..World::new() }.preserving(DNS)
}

fn is_in(world: &World) -> impl Fn(IpAddr) -> bool {
    let pool: BTreeSet<IpAddr> = world.pool.iter().copied().collect();
    move |address| pool.contains(&address)
}

#[test]
fn a_flow_is_adopted_where_its_replies_still_reach_its_worker_and_strays_otherwise() {
    let before = world(2);
    let process = || {
        let mut process = Process::start(&before);
        process.fill(100..120);
        process
    };
    let (all, translated) = (process().count(|_| true), process().count(is_in(&before)));
    let masqueraded = process().count(|address| address == OUT_V4);
    let preserved = all - translated - masqueraded;
    assert!(translated > 40 && masqueraded > 10 && preserved > 10, "{all}: {translated}, {masqueraded}, {preserved}");

    let adopted_as = |flows, strayed| Adopted { flows, damaged: 0, strayed };
    for (after, strayed) in [
        (before.clone(), 0),
        // Shares are counted from the first port, so a later last port moves no open flow.
        (World { pool_ports: (1026, 65_535), masquerade_ports: (1024, 1100), ..before.clone() }, 0),
        (World { pool_ports: (1025, 65_535), ..before.clone() }, translated),
        (World { masquerade_ports: (1025, 65_535), ..before.clone() }, masqueraded),
        (World { masquerade: vec![[198, 51, 100, 99].into()], ..before.clone() }, masqueraded),
        // Any worker takes what comes from the overlay to a pool address.
        (World { pool: before.pool[1..].to_vec(), ..before.clone() }, 0),
    ] {
        let (next, adopted) = process().next(&after);
        assert_eq!(adopted, adopted_as(all - strayed, strayed), "{after:?}");
        assert_eq!(next.count(|_| true), adopted.flows);
    }
    // Where the client's endpoint names the worker, another seed moves about half of the flows to the other one.
    let (next, adopted) = process().next(&World { selector_seed: 43, ..before.clone() });
    assert_eq!((adopted.flows + adopted.strayed, adopted.damaged), (all, 0));
    assert!(adopted.strayed > 0 && adopted.strayed < preserved, "{adopted:?} of {preserved} with a preserved source");
    assert_eq!(next.count(is_in(&before)), translated);

    // A single worker has all ports, whichever they are.
    let before = world(1);
    let mut process = Process::start(&before);
    process.fill(100..120);
    let all = process.count(|_| true);
    let after = World { pool_ports: (1025, 65_535), masquerade_ports: (999, 65_535), selector_seed: 7, ..before };
    assert_eq!(process.next(&after).1, adopted_as(all, 0));
}

#[test]
fn no_two_workers_adopt_flows_with_the_same_reply_tuple() {
    for shift in 0..3 {
        // So few ports that the same ones are drawn again.
        let before = World { pool_ports: (2000, 2063), masquerade_ports: (3000, 3063), ..world(2) };
        let after = World {
            pool_ports: (2000 + shift, 2063 + shift),
            masquerade_ports: (3000 + shift, 3063 + shift),
            selector_seed: 42 + u64::from(shift),
            ..before.clone()
        };
        let mut process = Process::start(&before);
        process.fill(100..120);
        process.assert_unique();
        let (mut next, adopted) = process.next(&after);
        assert!(adopted.flows > 0, "{adopted:?}");
        next.fill(120..140);
        next.assert_unique();
    }
}

#[test]
fn an_adopted_flow_is_counted_for_its_service_again() {
    let world = world(1);
    let request = framed(FROM_CLIENT, &Packet::web(7, SYN, b"").bytes());
    let mut process = Process::start(&world);
    process.workers[0].send(UPLINK, &request);
    let (mut next, _) = process.next(&world);
    next.workers[0].send(UPLINK, &request);
    let counters = &next.workers[0].services[WEB as usize];
    assert_eq!((counters.original.packets.get(), counters.flows.get()), (1, 0));
}

#[test]
fn damaged_flows_of_both_families_are_dropped_and_counted() {
    let world = World::new();
    let mut process = Process::start(&world);
    for port in 1..=3 {
        process.workers[0].send(UPLINK, &framed(FROM_CLIENT, &Packet::web(port, SYN, b"").bytes()));
    }
    for port in 1..=2 {
        process.workers[0].send(UPLINK, &framed(FROM_CLIENT, &Packet::web_v6(port, SYN, b"").bytes()));
    }
    for (_, start, len) in &process.memory {
        // SAFETY: leaked in `start`; the worker is not called any more.
        let memory = unsafe { std::slice::from_raw_parts_mut(*start, *len) };
        for client in [&world::CLIENT.octets()[..], &world::CLIENT_V6.octets()] {
            while let Some(at) = memory.windows(client.len()).position(|bytes| bytes == client) {
                memory[at..at + client.len()].fill(0);
            }
        }
    }
    assert_eq!(process.next(&world).1, Adopted { flows: 0, damaged: 5, strayed: 0 });
}

#[test]
fn memory_that_cannot_be_adopted_is_told_by_its_part_and_stays_as_it_was() {
    let world = World::new();
    let mut process = Process::start(&world);
    process.fill(100..103);
    let (config, start, len) = process.memory[0];
    drop(process.workers);
    // SAFETY: leaked in `start`; its only user, the worker, is gone.
    let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
    let capacity = flow::AttachError::Capacity { found: FLOWS, expected: 2 * FLOWS };
    let limits = Limits { datagrams: 0, ..config.fragments };
    let (counters, snapshot) = (Counters::default(), world.describe(weirgate_fixture::snapshot));
    for (other, expected) in [
        (WorkerConfig { flows_v4: 2 * FLOWS, ..config }, AttachError::FlowsV4(capacity)),
        (WorkerConfig { flows_v6: 2 * FLOWS, ..config }, AttachError::FlowsV6(capacity)),
        (WorkerConfig { fragments: limits, ..config }, AttachError::Fragments(FragmentsError::Datagrams { asked: 0 })),
    ] {
        let before = memory.to_vec();
        assert_eq!(Worker::check(&other, memory), Err(expected));
        let attached = Worker::attach(&other, &snapshot, memory, &counters, &[]);
        assert_eq!(attached.err(), Some(expected));
        assert!(memory == before, "{expected:?}");
    }
    assert_eq!(Worker::check(&config, memory), Ok(()));
}
