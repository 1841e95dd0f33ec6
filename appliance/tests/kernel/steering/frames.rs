//! One frame of every kind that the steering program distinguishes.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const FRONTEND_V4: &str = "10.1.0.1";
pub(crate) const FRONTEND_V6: &str = "2001:db8:1::1";
pub(crate) const VTEP: &str = "10.1.0.1";
pub(crate) const EXCLUSIVE_V4: &str = "10.1.0.77";
pub(crate) const OUTSIDE: &str = "198.51.100.9";
pub(crate) const PINGED_V4: &str = "10.1.0.78";
pub(crate) const PINGED_V6: &str = "2001:db8:1::78";
pub(crate) const EXCLUSIVE_V6: &str = "2001:db8:1::77";
const CLIENT_V4: &str = "10.1.0.2";
const CLIENT_V6: &str = "2001:db8:1::2";

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const MORE_FRAGMENTS: u16 = 0x2000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receiver {
    Ring,
    Kernel,
    /// The kernel, and the rings a copy.
    Both,
    Nobody,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) frame: Vec<u8>,
    pub(crate) receiver: Receiver,
}

/// The cases in an order that matters for fragments: a first one comes before its later ones.
pub(crate) fn cases() -> Vec<Case> {
    use Receiver::{Both, Kernel, Ring};
    let other = "10.9.9.9";
    let other_v6 = "2001:db8:9::9";
    let fragment =
        |id, offset, payload: Vec<u8>| ethernet(0x0800, v4(UDP, CLIENT_V4, FRONTEND_V4, id, offset, &[], payload));
    let to_alone =
        |id, offset, payload: Vec<u8>| ethernet(0x0800, v4(UDP, CLIENT_V4, EXCLUSIVE_V4, id, offset, &[], payload));
    let ping_fragment =
        |id, offset, payload: Vec<u8>| ethernet(0x0800, v4(ICMP, CLIENT_V4, FRONTEND_V4, id, offset, &[], payload));
    let ping_of = |address, id, offset| {
        ethernet(0x0800, v4(ICMP, CLIENT_V4, address, id, offset, &[], vec![8, 0, 0, 0, 0, 1, 0, id as u8]))
    };
    let fragment_v6_of = |protocol, id: u32, offset: u16, payload: Vec<u8>| {
        let mut head = vec![protocol, 0];
        head.extend(offset.to_be_bytes());
        head.extend(id.to_be_bytes());
        ethernet(0x86dd, v6(44, CLIENT_V6, FRONTEND_V6, [head, payload].concat()))
    };
    let fragment_v6 = |id, offset, payload| fragment_v6_of(UDP, id, offset, payload);
    let error = |kind: u8, quoted: Vec<u8>| {
        ethernet(0x0800, packet_v4(ICMP, CLIENT_V4, FRONTEND_V4, [vec![kind, 1, 0, 0, 0, 0, 0, 0], quoted].concat()))
    };
    let error_v6 = |kind: u8, quoted: Vec<u8>| {
        ethernet(0x86dd, v6(ICMPV6, CLIENT_V6, FRONTEND_V6, [vec![kind, 0, 0, 0, 0, 0, 5, 0], quoted].concat()))
    };
    let reply = |port| packet_v4(TCP, FRONTEND_V4, CLIENT_V4, ports(port, 40_000));
    let reply_v6 = |port| v6(UDP, FRONTEND_V6, CLIENT_V6, ports(port, 40_000));
    let options = |count: usize, last: u8, payload: Vec<u8>| {
        let mut chain = Vec::new();
        for index in 0..count {
            chain.extend([if index + 1 == count { last } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        ethernet(0x86dd, v6(60, CLIENT_V6, FRONTEND_V6, [chain, payload].concat()))
    };
    let tagged = |ethertype: u16, payload: Vec<u8>| {
        ethernet(0x8100, [7u16.to_be_bytes().to_vec(), ethertype.to_be_bytes().to_vec(), payload].concat())
    };
    let to_v4 =
        |protocol, address: &str, port| ethernet(0x0800, packet_v4(protocol, CLIENT_V4, address, ports(40_000, port)));
    let to_v6 = |protocol, address: &str, port| ethernet(0x86dd, v6(protocol, CLIENT_V6, address, ports(40_000, port)));
    let echo = |address: &str| ethernet(0x0800, packet_v4(ICMP, CLIENT_V4, address, vec![8, 0, 0, 0, 0, 1, 0, 1]));
    let echo_v6 =
        |kind: u8, address: &str| ethernet(0x86dd, v6(ICMPV6, CLIENT_V6, address, vec![kind, 0, 0, 0, 0, 0, 0, 0]));
    let from_pod = |protocol, to: &str, payload| ethernet(0x0800, packet_v4(protocol, "10.77.4.9", to, payload));
    let pods_fragment = |id, offset, protocol, payload: Vec<u8>| {
        ethernet(0x0800, v4(protocol, "10.77.4.9", OUTSIDE, id, offset, &[], payload))
    };
    let from_pod_v6 = |protocol, payload| ethernet(0x86dd, v6(protocol, "fd77:0:0:4::9", "2001:db8:9::9", payload));
    let udp_packet = || packet_v4(UDP, CLIENT_V4, FRONTEND_V4, ports(40_000, 53));

    let list: Vec<(&'static str, Vec<u8>, Receiver)> = vec![
        ("tcp to a frontend", to_v4(TCP, FRONTEND_V4, 80), Ring),
        ("udp to a frontend", to_v4(UDP, FRONTEND_V4, 53), Ring),
        ("tcp to a frontend, ipv6", to_v6(TCP, FRONTEND_V6, 80), Ring),
        ("udp to a frontend, ipv6", to_v6(UDP, FRONTEND_V6, 53), Ring),
        ("udp to a port that is a frontend of tcp", to_v4(UDP, FRONTEND_V4, 80), Kernel),
        ("ssh", to_v4(TCP, FRONTEND_V4, 22), Kernel),
        ("ssh, ipv6", to_v6(TCP, FRONTEND_V6, 22), Kernel),
        ("a frontend's port of another address", to_v4(TCP, other, 80), Kernel),
        ("a frontend's port of another address, ipv6", to_v6(TCP, other_v6, 80), Kernel),
        ("sctp to a frontend", to_v4(SCTP, FRONTEND_V4, 38), Ring),
        ("sctp to a frontend, ipv6", to_v6(SCTP, FRONTEND_V6, 38), Ring),
        ("sctp to a port that is a frontend of tcp", to_v4(SCTP, FRONTEND_V4, 80), Kernel),
        ("another protocol", to_v4(33, FRONTEND_V4, 80), Kernel),
        ("ping of a service's address", echo(PINGED_V4), Ring),
        ("ping of a service's address, ipv6", echo_v6(128, PINGED_V6), Ring),
        ("an answer there", echo_v6(129, PINGED_V6), Kernel),
        ("a type of the other family's", ethernet(0x0800, packet_v4(ICMP, CLIENT_V4, PINGED_V4, vec![128; 8])), Kernel),
        ("ping of a service's address of which none is heard", echo(EXCLUSIVE_V4), Kernel),
        ("ping", echo(FRONTEND_V4), Kernel),
        ("ping, ipv6", echo_v6(128, FRONTEND_V6), Kernel),
        ("neighbour solicitation", echo_v6(135, FRONTEND_V6), Kernel),
        (
            "arp",
            ethernet(
                0x0806,
                vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 1, 0, 2, 0, 0, 0, 0, 0, 0, 10, 1, 0, 9],
            ),
            Kernel,
        ),
        ("vxlan to the vtep", to_v4(UDP, VTEP, 8472), Ring),
        ("vxlan to another port", to_v4(UDP, VTEP, 4789), Kernel),
        ("vxlan to another vtep", to_v4(UDP, other, 8472), Kernel),
        ("plain ip into the overlay", to_v4(TCP, "10.77.200.9", 12_345), Ring),
        ("ping into the overlay", echo("10.77.200.2"), Ring),
        ("plain ip into the overlay, ipv6", to_v6(TCP, "fd77:0:0:200::9", 12_345), Ring),
        ("a pod's, reached by a plain route, to the outside", from_pod(TCP, OUTSIDE, ports(40_000, 443)), Ring),
        ("its ping", from_pod(ICMP, OUTSIDE, vec![8, 0, 0, 0, 0, 1, 0, 1]), Ring),
        ("its tunnel", from_pod(47, OUTSIDE, vec![0; 8]), Kernel),
        ("its timestamp request", from_pod(ICMP, OUTSIDE, vec![13, 0, 0, 0, 0, 1, 0, 1]), Kernel),
        ("its first fragment", pods_fragment(1, MORE_FRAGMENTS, UDP, ports(40_000, 53)), Ring),
        ("its last", pods_fragment(1, 100, UDP, vec![1; 32]), Ring),
        ("the first fragment of its tunnel", pods_fragment(2, MORE_FRAGMENTS, 47, vec![0; 32]), Kernel),
        ("its last", pods_fragment(2, 100, 47, vec![0; 32]), Kernel),
        ("its, to another pod", from_pod(TCP, "10.77.74.9", ports(40_000, 443)), Kernel),
        ("its, to the host", from_pod(TCP, "10.1.0.1", ports(40_000, 22)), Kernel),
        ("a pod's, reached by a plain route, to the outside, ipv6", from_pod_v6(UDP, ports(40_000, 443)), Ring),
        ("its ping, ipv6", from_pod_v6(ICMPV6, vec![128, 0, 0, 0, 0, 1, 0, 1]), Ring),
        ("its neighbour solicitation", from_pod_v6(ICMPV6, vec![135, 0, 0, 0, 0, 0, 0, 0]), Kernel),
        (
            "another pod's, to the outside",
            ethernet(0x0800, packet_v4(TCP, "10.77.74.9", OUTSIDE, ports(40_000, 443))),
            Kernel,
        ),
        ("a node's subnet", to_v4(TCP, "10.77.74.9", 12_345), Kernel),
        ("a later fragment without a first", fragment(1, 100, vec![1; 32]), Both),
        ("a first fragment", fragment(2, MORE_FRAGMENTS, ports(40_000, 53)), Ring),
        ("its next", fragment(2, MORE_FRAGMENTS | 100, vec![2; 32]), Ring),
        ("its last", fragment(2, 200, vec![3; 32]), Ring),
        ("a fragment before its first, after one of ours", fragment(4, 100, vec![9; 32]), Both),
        (
            "a first fragment to another port, its number ours before",
            fragment(2, MORE_FRAGMENTS, ports(40_000, 9)),
            Kernel,
        ),
        ("its last", fragment(2, 200, vec![7; 32]), Kernel),
        ("a first fragment to another port", fragment(3, MORE_FRAGMENTS, ports(40_000, 9)), Kernel),
        ("its last", fragment(3, 100, vec![4; 32]), Kernel),
        ("a fragment before its first, after one of the host's", fragment(5, 100, vec![10; 32]), Both),
        ("a fragment before its first, to an address of the gateway's alone", to_alone(1, 100, vec![12; 32]), Ring),
        ("its first", to_alone(1, MORE_FRAGMENTS, ports(40_000, 53)), Ring),
        ("a first fragment of what passes by", to_alone(2, MORE_FRAGMENTS, ports(40_000, 9)), Kernel),
        ("its last", to_alone(2, 100, vec![13; 32]), Kernel),
        ("a fragment before its first, after what passed by", to_alone(3, 100, vec![14; 32]), Ring),
        ("its first, which is the gateway's", to_alone(3, MORE_FRAGMENTS, ports(40_000, 53)), Ring),
        ("another fragment of it", to_alone(3, 104, vec![15; 32]), Ring),
        (
            "a fragment before its first, to an address of the gateway's alone, ipv6",
            ethernet(0x86dd, v6(44, CLIENT_V6, EXCLUSIVE_V6, vec![UDP, 0, 0, 64, 0, 0, 0, 1, 16, 16, 16, 16])),
            Ring,
        ),
        ("a later fragment without a first, ipv6", fragment_v6(8, 64, vec![6; 32]), Both),
        ("a first fragment, ipv6", fragment_v6(7, 1, ports(40_000, 53)), Ring),
        ("its last, ipv6", fragment_v6(7, 64, vec![5; 32]), Ring),
        ("a fragment before its first, after one of ours, ipv6", fragment_v6(10, 64, vec![11; 32]), Both),
        // Their datagrams are identified without the protocol (RFC 8200 §4.5): a ping of the host ends one of ours.
        (
            "a ping's first fragment, its number ours before, ipv6",
            fragment_v6_of(ICMPV6, 7, 1, vec![128, 0, 0, 0, 0, 1, 0, 1]),
            Kernel,
        ),
        ("its last, ipv6", fragment_v6_of(ICMPV6, 7, 64, vec![8; 32]), Kernel),
        ("a ping's first fragment, of a service's address", ping_of(PINGED_V4, 1, MORE_FRAGMENTS), Ring),
        ("its last", ping_of(PINGED_V4, 1, 100), Ring),
        ("a ping's last before its first, of a service's address", ping_of(PINGED_V4, 2, 100), Ring),
        // Datagrams of the host's and of the gateway's with interleaved fragments.
        ("the host's first", fragment(20, MORE_FRAGMENTS, ports(40_000, 9)), Kernel),
        ("ours between its fragments", fragment(21, MORE_FRAGMENTS, ports(40_000, 53)), Ring),
        ("the host's last after ours began", fragment(20, 100, vec![17; 32]), Kernel),
        ("our last after the host's", fragment(21, 100, vec![18; 32]), Ring),
        ("our first", fragment(22, MORE_FRAGMENTS, ports(40_000, 53)), Ring),
        ("the host's between our fragments", fragment(23, MORE_FRAGMENTS, ports(40_000, 9)), Kernel),
        ("our last after the host's began", fragment(22, 100, vec![19; 32]), Ring),
        ("the host's last after ours", fragment(23, 100, vec![20; 32]), Kernel),
        ("the host's first, ipv6", fragment_v6(20, 1, ports(40_000, 9)), Kernel),
        ("ours between its fragments, ipv6", fragment_v6(21, 1, ports(40_000, 53)), Ring),
        ("the host's last after ours began, ipv6", fragment_v6(20, 64, vec![17; 32]), Kernel),
        ("our last after the host's, ipv6", fragment_v6(21, 64, vec![18; 32]), Ring),
        ("our first, ipv6", fragment_v6(22, 1, ports(40_000, 53)), Ring),
        ("the host's between our fragments, ipv6", fragment_v6(23, 1, ports(40_000, 9)), Kernel),
        ("our last after the host's began, ipv6", fragment_v6(22, 64, vec![19; 32]), Ring),
        ("the host's last after ours, ipv6", fragment_v6(23, 64, vec![20; 32]), Kernel),
        // Pings are the host's, in any order.
        ("our first, before a ping's last", fragment(24, MORE_FRAGMENTS, ports(40_000, 53)), Ring),
        ("a ping's last before its first", ping_fragment(25, 100, vec![21; 32]), Kernel),
        ("a ping's first after its last", ping_fragment(25, MORE_FRAGMENTS, vec![8, 0, 0, 0, 0, 1, 0, 1]), Kernel),
        ("our last before its first, after a ping", fragment(26, 100, vec![22; 32]), Both),
        ("our first, before a ping's last, ipv6", fragment_v6(24, 1, ports(40_000, 53)), Ring),
        ("a ping's last before its first, ipv6", fragment_v6_of(ICMPV6, 25, 64, vec![21; 32]), Kernel),
        ("a ping's first after its last, ipv6", fragment_v6_of(ICMPV6, 25, 1, vec![128, 0, 0, 0, 0, 1, 0, 1]), Kernel),
        ("our last before its first, after a ping, ipv6", fragment_v6(26, 64, vec![22; 32]), Both),
        // Options behind the fragment header: the fragments name those, and only the first one names UDP.
        (
            "our first with options, ipv6",
            fragment_v6_of(60, 27, 1, [vec![UDP, 0, 1, 4, 0, 0, 0, 0], ports(40_000, 53)].concat()),
            Ring,
        ),
        ("its last, with options, ipv6", fragment_v6_of(60, 27, 64, vec![23; 32]), Ring),
        ("a fragment with options before its first, ipv6", fragment_v6_of(60, 28, 64, vec![24; 32]), Both),
        ("an atomic fragment, ipv6", fragment_v6(9, 0, ports(40_000, 53)), Ring),
        ("unreachable, about a frontend's reply", error(3, reply(80)), Ring),
        ("time exceeded, about a frontend's reply", error(11, reply(80)), Ring),
        ("unreachable, cut to eight bytes of the quoted packet", error(3, reply(80)[..28].to_vec()), Ring),
        (
            "unreachable, about a frontend's sctp",
            error(3, packet_v4(SCTP, FRONTEND_V4, CLIENT_V4, ports(38, 40_000))[..28].to_vec()),
            Ring,
        ),
        ("unreachable, about the host's own", error(3, reply(22)), Kernel),
        ("unreachable, quoting too little", error(3, reply(80)[..21].to_vec()), Kernel),
        ("a redirect, about a frontend's reply", error(5, reply(80)), Kernel),
        ("packet too big, about a frontend's reply", error_v6(2, reply_v6(53)), Ring),
        ("packet too big, about the host's own", error_v6(2, reply_v6(22)), Kernel),
        ("a tagged frame to a frontend", tagged(0x0800, udp_packet()), Ring),
        (
            "a tagged frame to the host",
            tagged(0x0800, packet_v4(TCP, CLIENT_V4, FRONTEND_V4, ports(40_000, 22))),
            Kernel,
        ),
        (
            "a tagged frame to a frontend, ipv6",
            tagged(0x86dd, v6(TCP, CLIENT_V6, FRONTEND_V6, ports(40_000, 80))),
            Ring,
        ),
        ("two tags", tagged(0x8100, [vec![0, 8, 8, 0], udp_packet()].concat()), Kernel),
        (
            "ipv4 with options",
            ethernet(0x0800, v4(UDP, CLIENT_V4, FRONTEND_V4, 0, 0, &[1, 1, 1, 0], ports(40_000, 53))),
            Ring,
        ),
        ("extension headers", options(3, TCP, ports(40_000, 80)), Ring),
        ("too many extension headers", options(9, TCP, ports(40_000, 80)), Kernel),
        ("an ethernet header alone", ethernet(0x0800, vec![]), Kernel),
        ("half an ip header", ethernet(0x0800, udp_packet()[..12].to_vec()), Kernel),
        ("half a port", ethernet(0x0800, udp_packet()[..22].to_vec()), Kernel),
        ("half an extension header", ethernet(0x86dd, v6(60, CLIENT_V6, FRONTEND_V6, vec![6])), Kernel),
        (
            "an extension header longer than the frame",
            ethernet(0x86dd, v6(60, CLIENT_V6, FRONTEND_V6, vec![6, 255, 0, 0, 0, 0, 0, 0])),
            Kernel,
        ),
        (
            "a header length below the least",
            ethernet(0x0800, {
                let mut packet = udp_packet();
                packet[0] = 0x44;
                packet
            }),
            Kernel,
        ),
    ];
    list.into_iter().map(|(name, frame, receiver)| Case { name, frame, receiver }).collect()
}

/// A datagram from the client to a frontend, distinct for each pair of ports.
pub(crate) fn udp_v4(source: u16, destination: u16) -> Vec<u8> {
    ethernet(0x0800, packet_v4(UDP, CLIENT_V4, FRONTEND_V4, ports(source, destination)))
}

/// A later fragment to an address that a service and the host share, from a client of its own.
pub(crate) fn early_fragment_v4(client: u8) -> Vec<u8> {
    ethernet(0x0800, v4(UDP, &format!("10.1.0.{client}"), FRONTEND_V4, 77, 100, &[], vec![client; 32]))
}

fn ethernet(ethertype: u16, payload: Vec<u8>) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn packet_v4(protocol: u8, source: &str, destination: &str, payload: Vec<u8>) -> Vec<u8> {
    v4(protocol, source, destination, 0x1234, 0, &[], payload)
}

fn v4(
    protocol: u8,
    source: &str,
    destination: &str,
    id: u16,
    fragment: u16,
    options: &[u8],
    payload: Vec<u8>,
) -> Vec<u8> {
    let head = 20 + options.len();
    let mut packet = vec![0x40 | (head / 4) as u8, 0];
    packet.extend(((head + payload.len()) as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(destination.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn v6(next: u8, source: &str, destination: &str, payload: Vec<u8>) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(source.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(destination.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(payload);
    packet
}

/// The beginning of a TCP or UDP header, and something after it.
fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut bytes = source.to_be_bytes().to_vec();
    bytes.extend(destination.to_be_bytes());
    bytes.extend([0, 24, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}
