//! A capture goes through the pipeline, frame by frame, with each step and verdict told. No root, no network.
//!
//! `cargo run -p weirgate --example pipeline_pcap [FILE [ADDRESS:PORT]]`: frames of FILE (pcap, Ethernet) arrive at a
//! gateway with a service at ADDRESS:PORT, by default 192.0.2.1:80. Without FILE, a few frames of its own do.

use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weirgate::counters::{Counters, ServiceCounters};
use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::net::{Endpoint, Mac, PortId, Prefix, Protocol, WorkerId};
use weirgate::pipeline::{Observer, Step, Worker, WorkerConfig, process_observed};
use weirgate::snapshot::{
    Backend, Description, Encapsulation, Gateway, NextHop, Peer, Port, Route, RouteTarget, Service, Snapshot, Vtep,
    bytes_required, compile,
};
use weirgate::time::Instant;
use weirgate::verdict::Verdict;
use weirgate::wire::checksum::{self, Sum};
use weirgate::wire::ethernet::{EtherType, Header};
use weirgate::wire::{icmpv4, ipv4, tcp};

const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NODE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 3]);
const UPLINK: PortId = PortId(0);
const UNDERLAY: PortId = PortId(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let capture = match arguments.next() {
        Some(file) => std::fs::read(file)?,
        None => written(&frames()),
    };
    let service = arguments.next().map_or(Ok(SocketAddr::from(([192, 0, 2, 1], 80))), |text| text.parse())?;
    tell(&mut io::stdout(), &capture, service)
}

pub(crate) fn tell(out: &mut impl Write, capture: &[u8], service: SocketAddr) -> Result<(), Box<dyn Error>> {
    // The control side: a description is compiled to a snapshot, in memory that begins at a multiple of 8.
    let frontends = [Endpoint { address: service.ip(), port: service.port() }];
    let backends = [2, 3].map(|pod| Backend {
        endpoint: Endpoint { address: Ipv4Addr::new(10, 77, 1, pod).into(), port: 8080 },
        weight: 1,
    });
    let services = [Service { id: 0, frontends: &frontends, backends: &backends, ..Service::default() }];
    let subnets: [Prefix; 1] = ["10.77.0.0/24".parse()?];
    let pool: [IpAddr; 1] = ["10.77.0.2".parse()?];
    let description = Description {
        generation: 1,
        gateway: Gateway {
            v4: Some(Vtep { public: Ipv4Addr::new(10, 99, 0, 50), mac: GATEWAY }),
            subnets: &subnets,
            pool: &pool,
            ..Gateway::default()
        },
        ports: &[Port { mac: GATEWAY, mtu: 1500 }, Port { mac: GATEWAY, mtu: 1500 }],
        peers: &[Peer {
            subnet: "10.77.1.0/24".parse()?,
            public: Ipv4Addr::new(10, 99, 0, 11).into(),
            encapsulation: Encapsulation::Vxlan { mac: NODE },
            next_hop: Some(NextHop { port: UNDERLAY, mac: NODE, mtu: None }),
        }],
        services: &services,
        routes: &[Route { prefix: "0.0.0.0/0".parse()?, target: RouteTarget::Link(UPLINK), mtu: None }],
        ..Description::default()
    };
    let mut memory = vec![0_u64; bytes_required(&description).div_ceil(8)];
    let memory: &mut [u8] = zerocopy::IntoBytes::as_mut_bytes(&mut memory[..]);
    let len = compile(&description, memory)?;
    let snapshot = Snapshot::attach(&memory[..len])?;

    // The data side: a worker in memory of its own, that begins at a multiple of 64.
    let config = WorkerConfig { flows_v4: 1024, flows_v6: 1024, ..WorkerConfig::new(WorkerId(0), 1, [1, 2, 3, 4]) };
    let mut memory = vec![0_u8; Worker::memory_bytes(&config) + 64];
    let start = memory.as_ptr().align_offset(64);
    let (counters, of_services) = (Box::<Counters>::default(), [ServiceCounters::default()]);
    let mut worker = Worker::new(&config, &mut memory[start..], &counters, &of_services)?;

    for (number, (time, bytes)) in (1..).zip(read(capture)?) {
        let (mut buffer, mut spare) = (vec![0; HEADROOM_MAX + bytes.len() + 64], vec![0; 2048]);
        buffer[HEADROOM_MAX..][..bytes.len()].copy_from_slice(&bytes);
        // Wherever the frame was recorded, here it arrives at the gateway's uplink.
        buffer[HEADROOM_MAX..][..bytes.len().min(6)].copy_from_slice(&GATEWAY.0[..bytes.len().min(6)]);
        let mut frames = [Frame::new(&mut buffer, HEADROOM_MAX, bytes.len(), UPLINK)?];
        let mut spares = [Frame::spare(&mut spare)];
        writeln!(out, "frame {number}: {} bytes", bytes.len())?;
        let mut steps = Steps(Vec::new());
        process_observed(&mut worker, &snapshot, time, &mut Burst::new(&mut frames, &mut spares), &mut steps);
        for step in steps.0.iter().filter(|step| !matches!(step, Step::Decided(_))) {
            writeln!(out, "    {step:?}")?;
        }
        match frames[0].verdict() {
            Some(Verdict::Transmit(port)) => writeln!(out, "  sent on port {}: {} bytes", port.0, frames[0].len())?,
            Some(Verdict::Drop(reason)) => writeln!(out, "  dropped, {reason}: {}", reason.description())?,
            other => writeln!(out, "  {other:?}")?,
        }
    }
    writeln!(out, "flows: {}", worker.flows().len())?;
    Ok(())
}

struct Steps(Vec<Step>);

impl Observer for Steps {
    fn step(&mut self, _: usize, step: Step) {
        self.0.push(step);
    }
}

/// The frames of a capture file, with their times: a header of 24 bytes, and one of 16 before each frame
/// (draft-ietf-opsawg-pcap). Numbers are in the byte order of who wrote them, as the first one tells.
fn read(file: &[u8]) -> Result<Vec<(Instant, Vec<u8>)>, String> {
    let magic = file.first_chunk().ok_or("the file is too short")?;
    let (little, nanoseconds) = match u32::from_le_bytes(*magic) {
        0xa1b2_c3d4 => (true, 1000),
        0xa1b2_3c4d => (true, 1),
        0xd4c3_b2a1 => (false, 1000),
        0x4d3c_b2a1 => (false, 1),
        _ => return Err("not a pcap file".into()),
    };
    let number = |at: usize| {
        let bytes = file.get(at..).and_then(|rest| rest.first_chunk().copied());
        bytes.map(|bytes| if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    match number(20) {
        Some(1) => {}
        other => return Err(format!("the link is of type {other:?}, not Ethernet")),
    }
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < file.len() {
        let fields = [at, at + 4, at + 8].map(number);
        let [Some(seconds), Some(fraction), Some(len)] = fields else {
            return Err("a frame's header ends early".into());
        };
        let bytes = file.get(at + 16..).and_then(|rest| rest.get(..len as usize)).ok_or("a frame ends early")?;
        let time = Instant(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * nanoseconds);
        frames.push((time, bytes.to_vec()));
        at += 16 + bytes.len();
    }
    Ok(frames)
}

/// A capture file of these frames, a millisecond apart.
pub(crate) fn written(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(number.to_le_bytes());
    }
    for (index, frame) in (0..).zip(frames) {
        for number in [1, 1000 * index, frame.len() as u32, frame.len() as u32] {
            file.extend(number.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// What a client at 198.51.100.7 sends to 192.0.2.1: a connection that begins and goes on, one packet at the end of its
/// time to live, a connection to nobody, a ping, a stray segment, and half a header.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = vec![
        segment(40_000, 80, tcp::Flags::SYN, 64),
        segment(40_000, 80, tcp::Flags::SYN, 1),
        segment(40_001, 22, tcp::Flags::SYN, 64),
        framed(Protocol::ICMP, 64, &ping()),
        segment(40_002, 80, tcp::Flags::ACK, 64),
    ];
    frames.push(frames[0][..30].to_vec());
    frames
}

fn segment(from: u16, to: u16, flags: tcp::Flags, ttl: u8) -> Vec<u8> {
    let [source_port, destination_port] = [from, to].map(u16::to_be_bytes);
    let fields = tcp::Fields { source_port, destination_port, sequence: 1, acknowledgement: 0, flags, window: 65_535 };
    let mut segment = fields.emit();
    let sum = Sum::NONE.bytes(&[198, 51, 100, 7, 192, 0, 2, 1, 0, 6, 0, 20]).bytes(&segment);
    segment[16..18].copy_from_slice(&sum.finish());
    framed(Protocol::TCP, ttl, &segment)
}

fn ping() -> Vec<u8> {
    let mut ping = vec![icmpv4::kind::ECHO_REQUEST, 0, 0, 0, 0, 7, 0, 1];
    let sum = checksum::of(&ping);
    ping[2..4].copy_from_slice(&sum);
    ping
}

fn framed(protocol: Protocol, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let link = Header { destination: GATEWAY, source: CLIENT, vlan: None, ethertype: EtherType::IPV4 };
    let ip = ipv4::Fields {
        tos: 0,
        total_len: (ipv4::HEADER_LEN + payload.len()) as u16,
        id: 1,
        dont_fragment: true,
        fragment_offset: 0,
        more_fragments: false,
        ttl,
        protocol,
        source: [198, 51, 100, 7],
        destination: [192, 0, 2, 1],
    };
    let mut frame = vec![0; 14];
    assert_eq!(link.emit(&mut frame), Some(14));
    frame.extend(ip.emit());
    frame.extend(payload);
    frame
}
