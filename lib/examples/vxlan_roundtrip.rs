//! A packet goes into VXLAN and comes out again, over both families. `cargo run -p weirgate --example vxlan_roundtrip`

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use weirgate::frame::{Frame, HEADROOM_MAX};
use weirgate::net::{Mac, PortId, Protocol, Vni};
use weirgate::tunnel::{Headers, Link, OuterDscp, Passage, Tunnel, Vtep, vxlan};
use weirgate::wire::ethernet::EtherType;
use weirgate::wire::{ipv4, ipv6, udp};

const VNI: Vni = Vni([0, 0, 1]);
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn main() -> Result<(), Box<dyn Error>> {
    tell(&mut io::stdout())
}

pub(crate) fn tell(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let packet = hello();
    writeln!(out, "a packet of {} bytes from pod to pod: {}", packet.len(), hex(&packet[..20]))?;
    let link = Link { destination: Mac([2, 0, 0, 0, 1, 2]), source: Mac([2, 0, 0, 0, 1, 1]) };
    let tunnel = Tunnel { vni: VNI, port: 8472, inner: EtherType::IPV4, dscp: OuterDscp::default() };
    let ends = [Ipv4Addr::new(10, 99, 0, 50), Ipv4Addr::new(10, 99, 0, 11)];
    let [own, peer] = [Vtep { public: ends[0], mac: OWN }, Vtep { public: ends[1], mac: PEER }];
    let over_v4 = Headers::vxlan_v4(link, own, peer, tunnel);
    let [own_v6, peer_v6] = ends.map(|end| Ipv6Addr::from_bits(0xfd99 << 112 | u128::from(end.octets()[3])));
    let [own, peer] = [Vtep { public: own_v6, mac: OWN }, Vtep { public: peer_v6, mac: PEER }];
    let over_v6 = Headers::vxlan_v6(link, own, peer, tunnel);

    for (family, headers, ip_len) in [("IPv4", over_v4, ipv4::HEADER_LEN), ("IPv6", over_v6, ipv6::HEADER_LEN)] {
        // A frame from the pod, with room in front. New headers take the place of its Ethernet header; nothing is copied.
        let mut buffer = [0; 512];
        buffer[HEADROOM_MAX + 14..][..packet.len()].copy_from_slice(&packet);
        let mut frame = Frame::new(&mut buffer, HEADROOM_MAX, 14 + packet.len(), PortId(0))?;
        let passage = Passage { entropy: 0x1234_5678, identification: 1, tos: 0 };
        headers.encapsulate(&mut frame, 14, packet.len() as u16, passage)?;
        let bytes = frame.bytes();
        let (ip, rest) = bytes[14..].split_at(ip_len);
        let (header, data) = udp::Header::parse(rest)?;
        writeln!(out, "\nover {family}: {} bytes, {} of them for the tunnel", bytes.len(), headers.overhead())?;
        writeln!(out, "  Ethernet  {}\n  {family}      {}", hex(&bytes[..14]), hex(ip))?;
        let ports = [header.source_port(), header.destination_port()].map(u16::from_be_bytes);
        writeln!(out, "  UDP       from port {}, which tells flows apart, to {}", ports[0], ports[1])?;
        writeln!(out, "  VXLAN     {}\n  inside    {}", hex(&data[..8]), hex(&data[8..22]))?;

        let opened = vxlan::decapsulate(data, VNI, &PEER)?;
        let inside = &data[opened.offset..];
        writeln!(out, "  the peer opens it: {} bytes, the same: {}", inside.len(), inside == packet)?;
        let refused = vxlan::decapsulate(data, Vni([0, 0, 2]), &PEER).map(|_| ());
        writeln!(out, "  a peer in another network refuses it: {}", refused.expect_err("another network"))?;
    }
    Ok(())
}

/// A datagram that says hello.
fn hello() -> Vec<u8> {
    let data = b"hello, pod";
    let len = (udp::HEADER_LEN + data.len()) as u16;
    let header = ipv4::Fields {
        tos: 0,
        total_len: ipv4::HEADER_LEN as u16 + len,
        id: 1,
        dont_fragment: true,
        fragment_offset: 0,
        more_fragments: false,
        ttl: 64,
        protocol: Protocol::UDP,
        source: [10, 77, 1, 2],
        destination: [10, 77, 2, 2],
    };
    let udp = udp::emit([0x9c, 0x40], [0, 53], len, [0; 2]);
    [&header.emit()[..], &udp, data].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>().trim_end().to_owned()
}
