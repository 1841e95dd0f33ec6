//! A straightforward implementation of the same job, for the ratio: a hash map from tuples to flows, headers
//! parsed into structures and written out again, checksums summed in full, a new buffer for each
//! frame. It has the same services as the benches' gateway, and no limits, timers or defences.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use weirgate_fixture::world;

use super::{BURST, Family, Random};

type Endpoint = ([u8; 4], u16);
/// Source and destination.
type Key = (Endpoint, Endpoint);

struct Flow {
    original: Key,
    reply: Key,
    node: usize,
    packets: u64,
    bytes: u64,
}

/// A minimal gateway.
pub(crate) struct Baseline {
    by_tuple: HashMap<Key, usize>,
    flows: Vec<Flow>,
    random: Random,
}

const VXLAN: [u8; 8] = [8, 0, 0, 0, 0, 0, 1, 0];

impl Baseline {
    /// With this many flows, of the same clients as the benches' other gateway.
    ///
    /// # Panics
    /// Where a frame is not understood.
    pub(crate) fn new(flows: u32) -> Self {
        let mut baseline = Self { by_tuple: HashMap::new(), flows: vec![], random: Random(1) };
        let [request, _] = <[u8; 4]>::frames(0);
        for number in 1..=flows {
            let mut frame = request.clone();
            <[u8; 4]>::write_tuple(&mut frame[14..], &<[u8; 4]>::client(number));
            baseline.forward(&frame).expect("a request");
        }
        baseline
    }

    /// From a client's frame to the node's.
    fn forward(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (key, mut inner, payload) = read(frame)?;
        let index = match self.by_tuple.get(&key) {
            Some(index) => *index,
            None => self.bind(key),
        };
        let flow = &mut self.flows[index];
        flow.packets += 1;
        flow.bytes += frame.len() as u64;
        let (backend, pool) = flow.reply;
        let packet = inner.rewritten((pool, backend), &payload)?;
        let datagram = [&VXLAN, &in_ethernet(world::NODE_VTEPS[flow.node].0, world::VTEP_V4.0, &packet)[..]].concat();
        let builder = PacketBuilder::ethernet2(world::UNDERLAY_MAC.0, world::NODE_MACS[flow.node].0)
            .ipv4(world::PUBLIC.octets(), world::NODES[flow.node].octets(), 64)
            .udp(50_000 + key.0.1 % 1000, world::VXLAN_PORT);
        let mut out = Vec::with_capacity(builder.size(datagram.len()));
        builder.write(&mut out, &datagram).ok()?;
        Some(out)
    }

    /// From a node's frame to the client's.
    fn back(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let outer = PacketHeaders::from_ethernet_slice(frame).ok()?;
        let datagram = outer.payload.slice();
        let (key, mut inner, payload) = read(datagram.get(VXLAN.len()..)?)?;
        let flow = &mut self.flows[*self.by_tuple.get(&key)?];
        flow.packets += 1;
        flow.bytes += datagram.len() as u64;
        let (client, service) = flow.original;
        let packet = inner.rewritten((service, client), &payload)?;
        Some(in_ethernet(world::CLIENT_MAC.0, world::UPLINK_MAC.0, &packet))
    }

    fn bind(&mut self, original: Key) -> usize {
        let node = self.random.below(2) as usize;
        let backend = (world::pod(node, 10 + self.random.below(2) as u8).octets(), 80);
        let reply = loop {
            let pool = Ipv4Addr::new(10, 77, 200, 2 + self.random.below(200) as u8).octets();
            let reply = (backend, (pool, 1024 + self.random.below(64_000) as u16));
            if !self.by_tuple.contains_key(&reply) {
                break reply;
            }
        };
        let index = self.flows.len();
        self.by_tuple.insert(original, index);
        self.by_tuple.insert(reply, index);
        self.flows.push(Flow { original, reply, node, packets: 0, bytes: 0 });
        index
    }

    /// The time for `frames` requests of random flows, or their answers, by the median burst.
    ///
    /// # Panics
    /// Where a frame is not forwarded.
    pub(crate) fn run_frames(&mut self, is_reply: bool, frames: u64) -> Duration {
        let [request, answer] = <[u8; 4]>::frames(0);
        let mut times = Vec::new();
        for _ in 0..frames.div_ceil(BURST as u64).max(1) {
            let burst: Vec<Vec<u8>> = (0..BURST)
                .map(|_| {
                    let flow = &self.flows[self.random.below(self.flows.len() as u32) as usize];
                    let (key, template, at) = if is_reply {
                        (flow.reply, &answer, <[u8; 4]>::ANSWER_AT)
                    } else {
                        (flow.original, &request, 14)
                    };
                    let mut frame = template.clone();
                    let ((source, source_port), (destination, destination_port)) = key;
                    let tuple = weirgate::flow::Tuple {
                        source,
                        destination,
                        source_port: source_port.to_be_bytes(),
                        destination_port: destination_port.to_be_bytes(),
                    };
                    <[u8; 4]>::write_tuple(&mut frame[at..], &tuple);
                    frame
                })
                .collect();
            let begin = Instant::now();
            for frame in &burst {
                let out = if is_reply { self.back(frame) } else { self.forward(frame) };
                black_box(out.expect("a known flow's frame"));
            }
            times.push(begin.elapsed());
        }
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        median.mul_f64(frames as f64 / BURST as f64)
    }
}

/// A packet's headers.
struct Headers {
    ip: etherparse::Ipv4Header,
    tcp: etherparse::TcpHeader,
}

impl Headers {
    /// The packet with other addresses and ports, one hop further.
    fn rewritten(&mut self, (source, destination): Key, payload: &[u8]) -> Option<Vec<u8>> {
        self.ip.source = source.0;
        self.ip.destination = destination.0;
        self.ip.time_to_live = self.ip.time_to_live.checked_sub(1)?;
        self.ip.header_checksum = self.ip.calc_header_checksum();
        self.tcp.source_port = source.1;
        self.tcp.destination_port = destination.1;
        self.tcp.checksum = self.tcp.calc_checksum_ipv4(&self.ip, payload).ok()?;
        let mut packet = Vec::new();
        self.ip.write(&mut packet).ok()?;
        self.tcp.write(&mut packet).ok()?;
        packet.extend_from_slice(payload);
        Some(packet)
    }
}

fn read(frame: &[u8]) -> Option<(Key, Headers, Vec<u8>)> {
    let packet = PacketHeaders::from_ethernet_slice(frame).ok()?;
    let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) = (packet.net, packet.transport) else {
        return None;
    };
    let key = ((ip.source, tcp.source_port), (ip.destination, tcp.destination_port));
    Some((key, Headers { ip, tcp }, packet.payload.slice().to_vec()))
}

fn in_ethernet(destination: [u8; 6], source: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&destination, &source, &[0x08, 0x00][..], packet].concat()
}
