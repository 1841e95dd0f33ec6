//! What differs between IPv4 and IPv6 in the benches' frames.

use std::net::IpAddr;

use weirgate::flow::{Address, Tuple};
use weirgate_fixture::frames::{ACK, FROM_CLIENT, Packet, framed, from_pod};
use weirgate_fixture::world;

/// A family's frames and flows.
pub(crate) trait Family: Address {
    /// How the benches' names call it.
    const NAME: &str;
    /// Bytes of the IP header.
    const HEADER_LEN: usize;
    /// Offset of the inner packet of a reply in VXLAN begins.
    const ANSWER_AT: usize;

    /// The flow of client number `number`, before translation.
    fn client(number: u32) -> Tuple<Self>;

    /// Flow number `number` of a pod, before translation: to a service, or to the outside.
    fn pod(number: u32, is_to_service: bool) -> Tuple<Self>;

    /// The masquerade address of pods.
    fn masquerade() -> IpAddr;

    /// A router on the uplink.
    fn router() -> IpAddr;

    /// Address number `number` of the pool, from 2 on.
    fn pool(number: u8) -> IpAddr;

    /// A request and its answer, each with `data` bytes, as IP packets.
    fn packets(data: usize) -> [Packet; 2];

    /// Writes addresses, and what checksum of them the IP header has.
    fn write_addresses(ip: &mut [u8], tuple: &Tuple<Self>);

    /// Writes the checksum of the outer datagram of an answer, where its family asks for one.
    fn seal_outer(frame: &mut [u8]);

    /// A request as a frame from the client's link, and its answer as one from a node.
    fn frames(data: usize) -> [Vec<u8>; 2] {
        let [request, answer] = Self::packets(data);
        [padded(framed(FROM_CLIENT, &request.bytes())), padded(from_pod(0, &answer.bytes()))]
    }

    /// Writes the tuple into a packet; the transport checksum, which nobody looks at, stays.
    fn write_tuple(ip: &mut [u8], tuple: &Tuple<Self>) {
        Self::write_addresses(ip, tuple);
        ip[Self::HEADER_LEN..][..2].copy_from_slice(&tuple.source_port);
        ip[Self::HEADER_LEN + 2..][..2].copy_from_slice(&tuple.destination_port);
    }
}

/// Four flows of each client, to the web service.
const FLOWS_PER_CLIENT: u32 = 4;
const SERVICE_PORT: u16 = 30_080;

fn ports(number: u32) -> ([u8; 2], [u8; 2]) {
    ((1024 + (number % FLOWS_PER_CLIENT) as u16).to_be_bytes(), SERVICE_PORT.to_be_bytes())
}

impl Family for [u8; 4] {
    const NAME: &str = "v4";
    const HEADER_LEN: usize = 20;
    const ANSWER_AT: usize = 14 + 20 + 8 + 8 + 14;

    fn client(number: u32) -> Tuple<Self> {
        let [_, high, middle, low] = (number / FLOWS_PER_CLIENT).to_be_bytes();
        let (source_port, destination_port) = ports(number);
        let destination = world::NODE_PORT_ADDRESS.octets();
        Tuple { source: [20, high, middle, low], destination, source_port, destination_port }
    }

    fn pod(number: u32, is_to_service: bool) -> Tuple<Self> {
        let outside = if is_to_service { world::NODE_PORT_ADDRESS.octets() } else { [198, 51, 100, 9] };
        let source_port = (1024 + number as u16).to_be_bytes();
        let destination_port = SERVICE_PORT.to_be_bytes();
        Tuple { source: world::pod(0, 10).octets(), destination: outside, source_port, destination_port }
    }

    fn masquerade() -> IpAddr {
        [203, 0, 113, 77].into()
    }

    fn router() -> IpAddr {
        [192, 0, 2, 254].into()
    }

    fn pool(number: u8) -> IpAddr {
        [10, 77, 200, number].into()
    }

    fn packets(data: usize) -> [Packet; 2] {
        let request = Packet::web(1, ACK, &vec![0; data]);
        let answer = request.answer(ACK, &vec![0; data]);
        [request, answer]
    }

    fn write_addresses(ip: &mut [u8], tuple: &Tuple<Self>) {
        ip[12..16].copy_from_slice(&tuple.source);
        ip[16..20].copy_from_slice(&tuple.destination);
        ip[10..12].fill(0);
        let sum = weirgate::wire::checksum::of(&ip[..20]);
        ip[10..12].copy_from_slice(&sum);
    }

    fn seal_outer(_: &mut [u8]) {}
}

impl Family for [u8; 16] {
    const NAME: &str = "v6";
    const HEADER_LEN: usize = 40;
    const ANSWER_AT: usize = 14 + 40 + 8 + 8 + 14;

    fn client(number: u32) -> Tuple<Self> {
        let mut source = [0; 16];
        source[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        // Each client has a /64 of its own, as far as limits on clients go.
        source[4..8].copy_from_slice(&(0x2000_0000 + number / FLOWS_PER_CLIENT).to_be_bytes());
        source[15] = 1;
        let (source_port, destination_port) = ports(number);
        Tuple { source, destination: world::NODE_PORT_ADDRESS_V6.octets(), source_port, destination_port }
    }

    fn pod(number: u32, is_to_service: bool) -> Tuple<Self> {
        let outside = [0x20, 0x01, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let outside = if is_to_service { world::NODE_PORT_ADDRESS_V6.octets() } else { outside };
        let source_port = (1024 + number as u16).to_be_bytes();
        let destination_port = SERVICE_PORT.to_be_bytes();
        Tuple { source: world::pod_v6(0, 10).octets(), destination: outside, source_port, destination_port }
    }

    fn masquerade() -> IpAddr {
        [0x2001, 0xdb8, 7, 0, 0, 0, 0, 7].into()
    }

    fn router() -> IpAddr {
        [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe].into()
    }

    fn pool(number: u8) -> IpAddr {
        [0xfd77, 0, 0, 0x200, 0, 0, 0, u16::from(number)].into()
    }

    fn packets(data: usize) -> [Packet; 2] {
        let request = Packet::web_v6(1, ACK, &vec![0; data]);
        let answer = request.answer(ACK, &vec![0; data]);
        [request, answer]
    }

    fn write_addresses(ip: &mut [u8], tuple: &Tuple<Self>) {
        ip[8..24].copy_from_slice(&tuple.source);
        ip[24..40].copy_from_slice(&tuple.destination);
    }

    fn seal_outer(frame: &mut [u8]) {
        const IP: usize = 14;
        const UDP: usize = IP + 40;
        frame[UDP + 6..UDP + 8].fill(0);
        let length = [frame[UDP + 4], frame[UDP + 5]];
        let end = UDP + usize::from(u16::from_be_bytes(length));
        // RFC 8200 §8.1: the pseudo-header, then the datagram.
        let summed = [&frame[IP + 8..UDP], &[0, 0], &length, &[0, 0, 0, 17], &frame[UDP..end]].concat();
        frame[UDP + 6..UDP + 8].copy_from_slice(&weirgate::wire::checksum::Sum::NONE.bytes(&summed).finish_udp());
    }
}

/// At least 60 bytes, as the shortest Ethernet frame has without its check sequence.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}
