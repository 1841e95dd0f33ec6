//! The frames: the generator, and the counter that takes them away.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use weirgate_world::{ECHO_NODE_PORT, GATEWAY_V4, Host, NODES, POD_SUFFIXES, World};

use crate::{first, sys};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/traffic.bpf.o"));

/// The first of the clients; as many follow as the program spreads the flows over.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 16);
/// The port of the pods' echo service.
const BACKEND_PORT: u16 = 7;
/// How many frames each call makes before it looks whether it should end.
const BATCH: u32 = 64;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const HEADERS: usize = ETHERNET + IPV4 + UDP;

/// One kind of traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    /// How many flows take turns, up to 512 000.
    pub(crate) flows: u32,
    /// A frame's length without its check sequence, in bytes: even, and at least 60.
    pub(crate) length: u16,
}

/// What was counted; the order is that of the program's `enum counter`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    /// Frames made.
    pub(crate) sent: u64,
    /// Translated frames in VXLAN towards a pod.
    pub(crate) vxlan: u64,
    /// Unchanged frames.
    pub(crate) plain: u64,
    /// Frames of the forwarder that moves none.
    pub(crate) unmoved: u64,
    /// Frames that were passed to the host.
    pub(crate) passed: u64,
    /// Frames with a wrong length or checksum, among those that were checked to the last byte.
    pub(crate) wrong: u64,
    /// Frames with right ones.
    pub(crate) checked: u64,
}

impl Counts {
    /// Frames that arrived.
    pub(crate) const fn forwarded(&self) -> u64 {
        self.vxlan + self.plain + self.unmoved
    }

    /// What was counted since.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            vxlan: self.vxlan - earlier.vxlan,
            plain: self.plain - earlier.plain,
            unmoved: self.unmoved - earlier.unmoved,
            passed: self.passed - earlier.passed,
            wrong: self.wrong - earlier.wrong,
            checked: self.checked - earlier.checked,
        }
    }
}

/// The counters while traffic flows.
pub(crate) struct Meter(PerCpuArray<MapData, u64>);

impl Meter {
    /// The time, and what was counted until then.
    pub(crate) fn read(&self) -> (Instant, Counts) {
        let counter = |which| self.0.get(&which, 0).map_or(0, |each| each.iter().sum());
        let counts = Counts {
            sent: counter(0),
            vxlan: counter(1),
            plain: counter(2),
            unmoved: counter(3),
            passed: counter(4),
            wrong: counter(5),
            checked: counter(6),
        };
        (Instant::now(), counts)
    }
}

/// Sends traffic from the client's end of the uplink, as fast as `core` makes it, while `meanwhile`
/// runs; what arrives at the far end of the underlay is counted and goes no further.
pub(crate) fn offer<T>(world: &World, load: Load, core: usize, meanwhile: impl FnOnce(&Meter) -> T) -> T {
    let mut programs = load_programs(world, load);
    let counters = programs.take_map("counters").expect("the object file defines the map");
    let meter = Meter(PerCpuArray::try_from(counters).expect("the map is an array for each processor"));

    let sink: &mut SchedClassifier =
        programs.program_mut("count").expect("it is defined").try_into().expect("a classifier");
    sink.load().expect("the kernel takes the program");
    world.inside(Host::Switch, || sink.attach("gw0", TcAttachType::Ingress).expect("gw0 exists"));

    let generator: &mut Xdp =
        programs.program_mut("generate").expect("it is defined").try_into().expect("an XDP program");
    generator.load().expect("the kernel takes the program");
    let index: u32 = world.shell(Host::Client, "cat /sys/class/net/cl0/ifindex").trim().parse().expect("a number");

    let stop = AtomicBool::new(false);
    let (announce, target) = channel();
    let generator = &*generator;
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            world.inside(Host::Client, || {
                first::pin(0, core).expect("the core exists");
                announce.send(sys::be_interruptible().expect("a handler can be set")).expect("somebody waits");
                generate(generator, load, index, &stop);
            });
        });
        let target = target.recv().expect("the generator starts");
        let result = meanwhile(&meter);
        stop.store(true, Relaxed);
        while !sending.is_finished() {
            sys::interrupt(target);
            thread::sleep(Duration::from_millis(5));
        }
        result
    })
}

/// Has the kernel run the program until it is stopped. Setting up a run takes some 20 ms, so
/// one run lasts for as long as it may.
fn generate(program: &Xdp, load: Load, interface: u32, stop: &AtomicBool) {
    let frame = payload(load);
    // struct xdp_md of linux/bpf.h: data, data_end, data_meta, ingress_ifindex, and two that stay 0.
    let context = [0, u32::from(load.length), 0, interface, 0, 0].map(u32::to_ne_bytes).concat();
    while !stop.load(Relaxed) {
        let result = program.test_run(TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context),
            repeat: 1 << 30,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        });
        if let Err(error) = result
            && !stop.load(Relaxed)
        {
            panic!("the kernel does not run the generator: {error:?}");
        }
    }
}

fn load_programs(world: &World, load: Load) -> Ebpf {
    let frame = payload(load);
    let mut head = [0u64; 6];
    for (word, bytes) in head.iter_mut().zip(header(world, load).chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(whole);
    }
    let bytes = header(world, load);
    let ipv4_sum = sum(&bytes[ETHERNET..ETHERNET + IPV4]);
    // RFC 768: source and destination address, zero, protocol and length stand in front.
    let length = u32::from(load.length) - (ETHERNET + IPV4) as u32;
    let udp_sum = sum(&bytes[ETHERNET + 12..]) + 17 + length + sum(&frame[HEADERS..]);
    let pods: Vec<u32> =
        NODES.iter().flat_map(|node| (0..POD_SUFFIXES.len()).map(|pod| number(&node.pod_v4(pod)))).collect();
    EbpfLoader::new()
        .override_global("head", &head, true)
        .override_global("flows", &load.flows, true)
        .override_global("source", &u32::from(CLIENTS), true)
        .override_global("ipv4_sum", &ipv4_sum, true)
        .override_global("udp_sum", &udp_sum, true)
        .override_global("destination", &number(GATEWAY_V4), true)
        .override_global("node_port", &ECHO_NODE_PORT, true)
        .override_global("backend_port", &BACKEND_PORT, true)
        .override_global("pods", &pods[..], true)
        .override_global("length", &load.length, true)
        .load(OBJECT)
        .expect("the kernel takes the programs' tables")
}

/// All of a frame but its headers.
fn payload(load: Load) -> Vec<u8> {
    assert!(load.length >= 60 && load.length.is_multiple_of(2), "{load:?}");
    (0..load.length).map(|at| if usize::from(at) < HEADERS { 0 } else { at as u8 }).collect()
}

/// The headers of a frame, with zeroes for the client's address and port and for the checksums.
fn header(world: &World, load: Load) -> Vec<u8> {
    let mac = |host, interface: &str| -> Vec<u8> {
        let text = world.shell(host, &format!("cat /sys/class/net/{interface}/address"));
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a link address")).collect()
    };
    let ip_length = load.length - ETHERNET as u16;
    let udp_length = ip_length - IPV4 as u16;
    let mut bytes = [mac(Host::Gateway, world.uplink()), mac(Host::Client, "cl0")].concat();
    bytes.extend([0x08, 0x00, 0x45, 0]);
    bytes.extend(ip_length.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0]); // identification, DF, TTL, UDP, checksum
    bytes.extend([0; 4]);
    bytes.extend(number(GATEWAY_V4).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(ECHO_NODE_PORT.to_be_bytes());
    bytes.extend(udp_length.to_be_bytes());
    bytes.extend([0; 2]);
    assert_eq!(bytes.len(), HEADERS);
    bytes
}

fn number(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().expect("an IPv4 address").into()
}

/// The sum of 16-bit words, not folded (RFC 1071 §1).
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum()
}
