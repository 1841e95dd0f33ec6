//! The vectors that the tests in C and Go read: what the core itself answers in one small world.
//!
//! The world stands in `world.rs` in the core's words, in `world.c` in C's and in `world_test.go` in Go's;
//! the snapshot's hash in the file shows that they are the same.

#[path = "../common/mod.rs"]
mod common;
mod fields;
mod world;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use weirgate::fragment::Limits;
use weirgate::net::{PortId, WorkerId};
use weirgate::pipeline::{Worker, WorkerConfig};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Link, Packet, SYN, framed, in_vxlan, tunnelled};
use weirgate_fixture::{Gateway as Bench, leak_aligned};

use common::fnv1a;
use fields::compiled;
use world::{SERVICES, UNDERLAY, UPLINK, VNI, VXLAN_PORT, at, describe, mac};

/// The worker of the vectors, and how many services it counts for.
fn worker_config() -> (WorkerConfig, u64) {
    let config = WorkerConfig {
        id: WorkerId(1),
        workers: 3,
        flows_v4: 1031,
        flows_v6: 523,
        fragments: Limits { datagrams: 67, held_bytes: 65_537, wait: Span::from_millis(499) },
        secret: [0x0202_0202_0202_0203, 0x0303_0303_0303_0305, 0x0505_0505_0505_0507, 0x0707_0707_0707_070b],
    };
    (config, 61)
}

/// The fields of that worker's configuration, by their names in C.
const WORKER_FIELDS: [&str; 12] = [
    "secret[0]",
    "secret[1]",
    "secret[2]",
    "secret[3]",
    "flows_v4",
    "flows_v6",
    "services",
    "fragment_datagrams",
    "fragment_held_bytes",
    "fragment_wait_ms",
    "id",
    "workers",
];

/// What the caller fills in for it.
fn worker_values((config, services): (WorkerConfig, u64)) -> [u64; 12] {
    let [a, b, c, d] = config.secret;
    let Limits { datagrams, held_bytes, wait } = config.fragments;
    let (flows_v4, flows_v6) = (config.flows_v4.into(), config.flows_v6.into());
    let (datagrams, held_bytes, wait_ms) = (datagrams.into(), held_bytes.into(), wait.0 / 1_000_000);
    let (id, workers) = (config.id.0.into(), config.workers.into());
    [a, b, c, d, flows_v4, flows_v6, services, datagrams, held_bytes, wait_ms, id, workers]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Runs a burst and writes it down; returns the frames that left.
fn call(text: &mut String, bench: &mut Bench, frames: &[(PortId, Vec<u8>)]) -> Vec<Vec<u8>> {
    let _ = writeln!(text, "\ncall {}", bench.now.0);
    for (port, bytes) in frames {
        let _ = writeln!(text, "in {} {}", port.0, hex(bytes));
    }
    let outs = bench.send_burst(frames);
    for out in &outs {
        let _ = match out.verdict {
            Verdict::Transmit(port) => writeln!(text, "out transmit {} {}", port.0, hex(&out.bytes)),
            Verdict::Host => writeln!(text, "out host - {}", hex(&out.bytes)),
            Verdict::Drop(reason) => writeln!(text, "out drop {} -", reason.name()),
            Verdict::Held => writeln!(text, "out held - -"),
            Verdict::Handover(worker) => writeln!(text, "out handover {} {}", worker.0, hex(&out.bytes)),
        };
    }
    outs.into_iter().filter(|out| matches!(out.verdict, Verdict::Transmit(_))).map(|out| out.bytes).collect()
}

fn client(to: &str, port: u16, body: Body) -> (PortId, Vec<u8>) {
    let to: SocketAddr = at(to);
    let from: IpAddr = at(if to.is_ipv4() { "192.0.2.10" } else { "2001:db8:1::10" });
    (UPLINK, framed(FROM_CLIENT, &Packet::new((from, port).into(), to, body).bytes()))
}

/// The answer of the pod that a VXLAN frame goes to.
fn answer(frame: &[u8], flags: u8, data: &[u8]) -> (PortId, Vec<u8>) {
    let seen = tunnelled(frame);
    let back = |link: Link| Link { destination: link.source, source: link.destination, vlan: None };
    let inner = framed(back(seen.inner_link), &Packet::read(&seen.inner).answer(flags, data).bytes());
    let outer = (
        SocketAddr::new(seen.outer.destination.ip(), 40_000),
        SocketAddr::new(seen.outer.source.ip(), seen.outer.destination.port()),
    );
    (UNDERLAY, in_vxlan(back(seen.link), outer, VNI, &inner))
}

/// An IP packet of a pod's, in VXLAN.
fn from_pod(ip: &[u8]) -> (PortId, Vec<u8>) {
    let outer = (at("10.99.0.11:40000"), SocketAddr::new(at("10.99.0.50"), VXLAN_PORT));
    let inner = framed(Link { destination: mac([4, 1]), source: mac([3, 1]), vlan: None }, ip);
    (UNDERLAY, in_vxlan(Link { destination: mac([0, 2]), source: mac([2, 1]), vlan: None }, outer, VNI, &inner))
}

/// An IPv4 packet in two fragments, the first with 64 bytes of data.
fn in_parts(ip: &[u8], id: u8) -> [Vec<u8>; 2] {
    let (header, data) = ip.split_at(20);
    let (first, last) = data.split_at(64);
    [(0_u16, first, true), (64, last, false)].map(|(offset, data, more)| {
        let mut header = header.to_vec();
        header[2..4].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
        header[4..6].copy_from_slice(&[0, id]);
        header[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        header[10..12].fill(0);
        let sum = weirgate::wire::checksum::of(&header);
        header[10..12].copy_from_slice(&sum);
        [&header, data].concat()
    })
}

/// The state of everything that counts, after all calls.
fn totals(text: &mut String, bench: &mut Bench) {
    text.push('\n');
    while let Some((port, address)) = bench.worker.next_unresolved() {
        let _ = writeln!(text, "unresolved {} {address}", port.0);
    }
    for reason in DropReason::ALL.iter().filter(|reason| bench.counters.drops(**reason) != 0) {
        let _ = writeln!(text, "drops {} {}", reason.name(), bench.counters.drops(*reason));
    }
    for port in [UPLINK, UNDERLAY] {
        let port_counters = bench.counters.port(port).expect("a port");
        for (name, traffic) in [("received", &port_counters.received), ("transmitted", &port_counters.transmitted)] {
            let _ = writeln!(text, "port {} {name} {} {}", port.0, traffic.packets.get(), traffic.bytes.get());
        }
    }
    for id in SERVICES {
        let service = &bench.services[id as usize];
        for (name, traffic) in [("original", &service.original), ("reply", &service.reply)] {
            let _ = writeln!(text, "service {id} {name} {} {}", traffic.packets.get(), traffic.bytes.get());
        }
        let _ = writeln!(text, "service {id} flows {}", service.flows.get());
    }
    for (name, counter) in bench.counters.named() {
        let _ = writeln!(text, "counter {name} {}", counter.get());
    }
}

/// The flows that are left when the worker has aged, so many entries at a time.
fn age(text: &mut String, bench: &mut Bench, budget: u32) -> (u32, u32) {
    let (now, snapshot) = (bench.now, bench.snapshot());
    bench.worker.age(&snapshot, now, budget);
    let _ = writeln!(text, "age {} {budget}", now.0);
    flows(text, bench)
}

fn flows(text: &mut String, bench: &Bench) -> (u32, u32) {
    let (v4, v6) = (bench.worker.flows().v4.len(), bench.worker.flows().v6.len());
    let _ = writeln!(text, "flows {v4} {v6}");
    (v4, v6)
}

/// What the worker of this configuration answers, and what it had to do for it.
struct Answers {
    text: String,
    /// Verdicts, by their first word in the vectors.
    verdicts: Vec<String>,
    /// Nodes that the clients' connections went to.
    nodes: usize,
    /// Flows after the last call, and after each round of ageing.
    flows: Vec<(u32, u32)>,
}

fn answers(config: &WorkerConfig) -> Answers {
    let mut text = String::new();
    let mut bench = Bench::with_memory(&describe(), config, leak_aligned(Worker::memory_bytes(config)));
    let web = "192.0.2.1:30080";
    let opened = call(
        &mut text,
        &mut bench,
        &[
            client(web, 40_000, Body::Tcp(SYN, vec![])),
            client(web, 40_001, Body::Tcp(SYN, vec![])),
            client(web, 40_002, Body::Tcp(SYN, vec![])),
            client(web, 40_003, Body::Tcp(SYN, vec![])),
            client("[2001:db8:1::1]:30083", 40_000, Body::Tcp(SYN, vec![])),
            client("[2001:db8:1::1]:30083", 40_001, Body::Tcp(SYN, vec![])),
            client(web, 40_009, Body::Tcp(ACK, b"of no flow".to_vec())),
            client("192.0.2.1:30053", 5353, Body::Udp(b"who is it".to_vec())),
            client("192.0.2.1:22", 40_000, Body::Tcp(SYN, vec![])),
            (
                UPLINK,
                framed(FROM_CLIENT, &Packet::new(at("198.51.100.7:40000"), at(web), Body::Tcp(SYN, vec![])).bytes()),
            ),
        ],
    );
    let nodes: std::collections::BTreeSet<_> = opened.iter().map(|frame| frame[..6].to_vec()).collect();

    bench.advance(Span::from_millis(5));
    let replies: Vec<_> = opened.iter().map(|frame| answer(frame, SYN | ACK, b"")).collect();
    call(&mut text, &mut bench, &replies);

    bench.advance(Span::from_millis(5));
    let data: Vec<u8> = (0..=255).cycle().take(1400).collect();
    call(
        &mut text,
        &mut bench,
        &[
            client(web, 40_000, Body::Tcp(ACK, b"GET / HTTP/1.1\r\n\r\n".to_vec())),
            client(web, 40_001, Body::Tcp(ACK, data)),
            (UPLINK, vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 8, 0, 0x45]),
        ],
    );
    // Pods' own connections to the outside, which are other workers' too, some to a service, and one to where nobody
    // can be reached.
    let syn = |from: &str, to: &str| from_pod(&Packet::new(at(from), at(to), Body::Tcp(SYN, vec![])).bytes());
    let mut begun: Vec<_> =
        (0..6).map(|number| syn(&format!("10.77.74.10:{}", 50_000 + number), "192.0.2.10:443")).collect();
    begun.extend((0..6).map(|number| syn(&format!("10.77.74.10:{}", 51_000 + number), web)));
    begun.push(syn("10.77.74.10:50000", "198.18.0.1:443"));
    call(&mut text, &mut bench, &begun);

    // Two datagrams whose second fragment comes first: for one of them the first comes in time.
    let datagram = |id: u8| {
        let data = vec![id; 100];
        in_parts(&Packet::new(at("10.77.74.10:52001"), at("192.0.2.10:53"), Body::Udp(data)).bytes(), id)
            .map(|part| from_pod(&part))
    };
    let ([late_first, late], [timely_first, timely]) = (datagram(1), datagram(2));
    call(&mut text, &mut bench, &[late]);
    bench.advance(Span::from_millis(300));
    call(&mut text, &mut bench, &[timely]);
    bench.advance(Span::from_millis(300));
    call(&mut text, &mut bench, &[late_first, timely_first]);

    text.push('\n');
    let mut left = vec![flows(&mut text, &bench)];
    bench.advance(Span::from_secs(86_400));
    left.extend([2, 3, 2048].map(|budget| age(&mut text, &mut bench, budget)));
    totals(&mut text, &mut bench);
    let words = |line: &str| Some(line.strip_prefix("out ")?.split(' ').next()?.to_owned());
    let verdicts = text.lines().filter_map(words).collect();
    Answers { text, verdicts, nodes: nodes.len(), flows: left }
}

#[test]
fn the_vectors_are_what_the_core_answers() {
    let mut text = String::from(
        "# What one worker answers, call by call: written by the core itself (bindings/update), read by every language.\n\
         # worker FIELD VALUE | snapshot BYTES FNV-1a | call NOW_NS, in PORT FRAME, out VERDICT DETAIL FRAME\n\
         # flows V4 V6 | age NOW_NS BUDGET | totals after all calls, zero drops left out\n\n",
    );
    let (config, services) = worker_config();
    for (field, value) in WORKER_FIELDS.iter().zip(worker_values((config, services))) {
        let _ = writeln!(text, "worker {field} {value}");
    }
    let snapshot = compiled(&describe());
    let _ = writeln!(text, "snapshot {} {:016x}", snapshot.len(), fnv1a(snapshot));
    let answers = answers(&config);
    text += &answers.text;

    for verdict in ["transmit", "host", "drop", "handover", "held"] {
        assert!(answers.verdicts.iter().any(|seen| seen == verdict), "no frame with the verdict {verdict}");
    }
    assert!(answers.nodes >= 2, "both nodes, and so both families of the underlay");
    let flows: Vec<_> = answers.flows.iter().map(|(v4, v6)| v4 + v6).collect();
    assert!(flows.windows(2).all(|pair| pair[0] > pair[1]) && flows.last() == Some(&0), "each budget shows: {flows:?}");
    common::compare("tests/data/vectors/gateway.txt", &text);
}

/// What no size of memory shows of a worker's configuration, the answers show.
#[test]
fn the_answers_depend_on_every_field_that_is_no_size() {
    let (config, _) = worker_config();
    let told = answers(&config).text;
    let mut others = vec![
        WorkerConfig { id: WorkerId(0), ..config },
        WorkerConfig { id: WorkerId(2), ..config },
        WorkerConfig { fragments: Limits { wait: Limits::default().wait, ..config.fragments }, ..config },
        WorkerConfig { fragments: Limits { wait: Span::from_millis(257), ..config.fragments }, ..config },
    ];
    for word in 0..4 {
        let mut secret = config.secret;
        secret[word] ^= 1;
        others.push(WorkerConfig { secret, ..config });
        secret = config.secret;
        secret.swap(word, (word + 1) % 4);
        others.push(WorkerConfig { secret, ..config });
    }
    for other in others {
        assert!(answers(&other).text != told, "{other:?}");
    }
}

#[test]
fn every_field_has_an_effect_of_its_own_and_none_is_left_out() {
    let layouts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vectors/layout.txt");
    fields::assert_complete(&std::fs::read_to_string(layouts).expect("layouts"));
    common::compare("tests/data/vectors/fields.txt", &fields::text());
}

#[test]
fn the_vector_of_a_selector_is_what_the_core_fills() {
    use weirgate::hash::HashKey;
    use weirgate::maglev::{Member, fill};

    let mut text =
        String::from("# The selector's table of three backends with weights 1, 2 and 0: seed, slots, and the slots.\n");
    let key = HashKey::from_seed(42);
    let mapped = |last: u8| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 74, last];
    let mut members = [(10, 1), (11, 2), (12, 0)].map(|(last, weight)| Member::new(&key, mapped(last), 80, weight, 31));
    let mut table = [0; 31];
    fill(&mut members, &mut table).expect("a prime and a weight");
    let slots = table.map(|slot| slot.to_string()).join(" ");
    let _ = writeln!(text, "maglev 42 31\nslots {slots}");
    common::compare("tests/data/vectors/maglev.txt", &text);
}
