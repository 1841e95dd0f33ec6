//! Recorded frames of flannel nodes, decapsulated and encapsulated again by the core.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use weirgate::frame::{Frame, HEADROOM_MAX};
use weirgate::net::{Mac, PortId, Vni};
use weirgate::snapshot::{OuterDscp, Vtep};
use weirgate::tunnel::vxlan::{Opened, decapsulate};
use weirgate::tunnel::{Headers, Link, Passage, Tunnel};
use weirgate::wire::checksum::Sum;
use weirgate::wire::packet::{self, Ip, Transport};
use weirgate::wire::{Ecn, ethernet, ipv4, ipv6, udp, vxlan};

/// A recorded overlay, as its nodes' devices describe it.
struct Overlay {
    folder: &'static str,
    vni: u32,
    port: u16,
    /// Underlay addresses and VTEPs of all nodes.
    vteps: &'static [(&'static str, &'static str)],
    /// The number of recorded VXLAN frames, and how many of them are over IPv6.
    frames: (usize, usize),
}

const OVERLAYS: &[Overlay] = &[
    Overlay {
        folder: "vxlan",
        vni: 1,
        port: 8472,
        vteps: &[("10.99.0.11", "96:b5:c3:d1:0b:f4"), ("10.99.0.12", "0a:b5:b9:10:98:4c")],
        frames: (28, 0),
    },
    Overlay {
        folder: "vxlan-dual",
        vni: 1,
        port: 8472,
        vteps: &[
            ("10.99.0.11", "26:80:87:57:48:1c"),
            ("10.99.0.12", "8a:0d:14:51:9c:4d"),
            ("fd99::11", "0e:41:54:f3:ad:2d"),
            ("fd99::12", "86:a8:03:d0:7f:14"),
        ],
        frames: (32, 4),
    },
    Overlay {
        folder: "vxlan-port-vni",
        vni: 4096,
        port: 4789,
        vteps: &[("10.99.0.11", "56:2b:64:64:94:fe"), ("10.99.0.12", "52:81:1d:30:d5:6e")],
        frames: (32, 0),
    },
];

impl Overlay {
    fn vtep(&self, public: IpAddr) -> Mac {
        let (_, mac) = self.vteps.iter().find(|(address, _)| address.parse() == Ok(public)).expect("a node");
        Mac::parse(mac).expect("a link address")
    }

    /// The recorded VXLAN frames, parsed up to the UDP header.
    fn recorded(&self) -> Vec<Recorded> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings").join(self.folder);
        let capture = fs::read(path.join("wire.pcap")).expect("a recording");
        let frames: Vec<Recorded> = frames(&capture).filter_map(|frame| Recorded::read(frame, self.port)).collect();
        let over_v6 = frames.iter().filter(|recorded| matches!(recorded.outer, Ip::V6(_))).count();
        assert_eq!((frames.len(), over_v6), self.frames, "{}", self.folder);
        frames
    }
}

/// The frames of a capture file: the classic format, little-endian, Ethernet, nothing cut off.
fn frames(capture: &[u8]) -> impl Iterator<Item = &[u8]> {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (header, mut rest) = capture.split_at(24);
    assert_eq!((word(header, 0), word(header, 20)), (0xa1b2_c3d4, 1), "a capture of Ethernet frames");
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (header, after) = rest.split_at(16);
        assert_eq!(word(header, 8), word(header, 12), "a whole frame");
        let (frame, after) = after.split_at(word(header, 8) as usize);
        rest = after;
        Some(frame)
    })
}

/// One frame of VXLAN.
struct Recorded {
    frame: Vec<u8>,
    link: ethernet::Header,
    outer: Ip,
    /// Where the UDP data begins in the frame.
    data_at: usize,
}

impl Recorded {
    fn read(frame: &[u8], port: u16) -> Option<Self> {
        let (link, ip) = ethernet::Header::parse(frame).unwrap();
        let outer = packet::parse(ip).ok()?;
        let (transport, destination_port, offset) = match &outer {
            Ip::V4(packet) => (packet.transport, packet.destination_port, packet.transport_offset),
            Ip::V6(packet) => (packet.transport, packet.destination_port, packet.transport_offset),
        };
        let data_at = link.len() + usize::from(offset) + udp::HEADER_LEN;
        let is_vxlan = transport == Transport::Udp && destination_port == port.to_be_bytes();
        is_vxlan.then(|| Self { frame: frame.to_vec(), link, outer, data_at })
    }

    fn outer_addresses(&self) -> (IpAddr, IpAddr) {
        match &self.outer {
            Ip::V4(packet) => (packet.source.into(), packet.destination.into()),
            Ip::V6(packet) => (packet.source.into(), packet.destination.into()),
        }
    }

    fn opened(&self, overlay: &Overlay) -> Opened {
        let (_, destination) = self.outer_addresses();
        let vni = Vni::new(overlay.vni).unwrap();
        decapsulate(&self.frame[self.data_at..], vni, &overlay.vtep(destination)).expect("a frame of ours")
    }

    /// Where the inner packet begins in the frame.
    fn inner_at(&self, overlay: &Overlay) -> usize {
        self.data_at + self.opened(overlay).offset
    }
}

/// The key that the fragments of an IPv4 datagram share: source, destination, protocol, identification.
type Shared = ([u8; 4], [u8; 4], u8, u32);

fn is_intact(packet: &Ip, bytes: &[u8]) -> Option<bool> {
    match packet {
        Ip::V4(packet) => packet.transport_is_intact(bytes),
        Ip::V6(packet) => packet.transport_is_intact(bytes),
    }
}

#[test]
fn every_recorded_packet_has_the_checksums_that_we_compute() {
    for overlay in OVERLAYS {
        let mut pieces: BTreeMap<Shared, Vec<u8>> = BTreeMap::new();
        for recorded in overlay.recorded() {
            let outer = &recorded.frame[recorded.link.len()..];
            assert_eq!(is_intact(&recorded.outer, outer), Some(true), "{}: outer", overlay.folder);
            let bytes = &recorded.frame[recorded.inner_at(overlay)..];
            let inner = packet::parse(bytes).expect("an inner packet");
            match &inner {
                Ip::V4(packet) if packet.fragment.is_some() => {
                    let fragment = packet.fragment.unwrap();
                    let key = (packet.source, packet.destination, packet.protocol.0, fragment.id);
                    let datagram = pieces.entry(key).or_default();
                    assert_eq!(usize::from(fragment.offset), datagram.len(), "in their order");
                    datagram.extend_from_slice(&bytes[usize::from(packet.transport_offset)..usize::from(packet.len)]);
                }
                _ => assert_eq!(is_intact(&inner, bytes), Some(true), "{}: inner {inner:?}", overlay.folder),
            }
        }
        for ((source, destination, protocol, _), datagram) in &pieces {
            let len = datagram.len() as u16;
            let sum = match *protocol {
                1 => Sum::NONE,
                protocol => Sum::NONE.pseudo_v4(*source, *destination, protocol, len),
            };
            assert!(sum.bytes(datagram).is_valid(), "{}: put together", overlay.folder);
        }
        assert_eq!(pieces.len(), if overlay.folder == "vxlan-port-vni" { 4 } else { 0 }, "{}", overlay.folder);
    }
}

#[test]
fn every_recorded_frame_is_rebuilt_but_for_source_port_and_checksum() {
    for overlay in OVERLAYS {
        for recorded in overlay.recorded() {
            let inner_at = recorded.inner_at(overlay);
            let inner_ethertype = recorded.opened(overlay).ethertype;
            let (source, destination) = recorded.outer_addresses();
            let link = Link { destination: recorded.link.destination, source: recorded.link.source };
            let tunnel = Tunnel {
                vni: Vni::new(overlay.vni).unwrap(),
                port: overlay.port,
                inner: inner_ethertype,
                dscp: OuterDscp::default(),
            };
            let headers = match (source, destination) {
                (IpAddr::V4(own), IpAddr::V4(peer)) => {
                    let own = Vtep { public: own, mac: overlay.vtep(source) };
                    Headers::vxlan_v4(link, own, Vtep { public: peer, mac: overlay.vtep(destination) }, tunnel)
                }
                (IpAddr::V6(own), IpAddr::V6(peer)) => {
                    let own = Vtep { public: own, mac: overlay.vtep(source) };
                    Headers::vxlan_v6(link, own, Vtep { public: peer, mac: overlay.vtep(destination) }, tunnel)
                }
                _ => unreachable!("one family outside"),
            };
            let inner = &recorded.frame[inner_at..];
            let (udp_at, identification) = match &recorded.outer {
                Ip::V4(_) => {
                    let (outer, _) = ipv4::Header::parse(&recorded.frame[ethernet::HEADER_LEN..]).unwrap();
                    (ethernet::HEADER_LEN + ipv4::HEADER_LEN, outer.id())
                }
                Ip::V6(_) => (ethernet::HEADER_LEN + ipv6::HEADER_LEN, 0),
            };
            let ecn = match packet::parse(inner).unwrap() {
                Ip::V4(packet) => Ecn::of(packet.tos),
                Ip::V6(packet) => Ecn::of(packet.tos),
            };

            // As received on a link: behind an Ethernet header, with headroom.
            let received = [&[0xaa; ethernet::HEADER_LEN][..], inner].concat();
            let mut buffer = vec![0xaa; HEADROOM_MAX + received.len()];
            buffer[HEADROOM_MAX..].copy_from_slice(&received);
            let mut frame = Frame::new(&mut buffer, HEADROOM_MAX, received.len(), PortId(0)).unwrap();
            let passage = Passage { entropy: 0x1234_5678_9abc_def0, identification, tos: ecn as u8 };
            headers
                .encapsulate(&mut frame, ethernet::HEADER_LEN, inner.len() as u16, passage)
                .expect("room for the headers");

            let rebuilt = Recorded::read(frame.bytes(), overlay.port).expect("a frame of VXLAN");
            let (_, ip) = ethernet::Header::parse(frame.bytes()).unwrap();
            assert_eq!(is_intact(&rebuilt.outer, ip), Some(true), "{}: outer checksum", overlay.folder);
            let checksum = udp::Header::parse(&frame.bytes()[udp_at..]).unwrap().0.checksum();
            // RFC 7348 §5 wants zero over IPv4, RFC 8200 §8.1 forbids it over IPv6.
            assert_eq!(checksum == [0; 2], source.is_ipv4(), "{}", overlay.folder);

            let mut expected = recorded.frame.clone();
            let mut found = frame.bytes().to_vec();
            for bytes in [&mut expected, &mut found] {
                bytes[udp_at..udp_at + 2].fill(0);
                bytes[udp_at + udp::CHECKSUM_OFFSET..][..2].fill(0);
            }
            assert_eq!(found, expected, "{}", overlay.folder);
        }
    }
}

#[test]
fn a_recorded_frame_of_another_network_or_vtep_is_not_decapsulated() {
    use weirgate::verdict::DropReason;
    for overlay in OVERLAYS {
        for recorded in overlay.recorded() {
            let data = &recorded.frame[recorded.data_at..];
            let (_, destination) = recorded.outer_addresses();
            let (vni, vtep) = (Vni::new(overlay.vni).unwrap(), overlay.vtep(destination));
            let other = Vni::new(overlay.vni + 1).unwrap();
            assert_eq!(decapsulate(data, other, &vtep), Err(DropReason::VxlanVni));
            assert_eq!(decapsulate(data, vni, &Mac::BROADCAST), Err(DropReason::VxlanInnerAddress));
            let mut unflagged = data.to_vec();
            unflagged[0] &= !0x08;
            assert_eq!(decapsulate(&unflagged, vni, &vtep), Err(DropReason::VxlanFlags));
            for len in 0..vxlan::HEADER_LEN + ethernet::HEADER_LEN {
                assert_eq!(decapsulate(&data[..len], vni, &vtep), Err(DropReason::Truncated));
            }
        }
    }
}
