//! Input frames, and checks of output frames.

use std::net::IpAddr;

use weirgate::net::{Mac, Protocol};
use weirgate::wire::checksum::Delta;
use weirgate::wire::ethernet::{self, EtherType};
use weirgate::wire::packet::{self, Ip, Transport};
use weirgate::wire::{checksum, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp, vxlan};

use super::script::Script;
use super::world;

/// Most bytes of one frame put in.
const FRAME_MAX: usize = 1900;

/// The last frames that came out.
#[derive(Default)]
pub(crate) struct Memory {
    frames: Vec<Vec<u8>>,
    next: usize,
}

impl Memory {
    pub(crate) fn keep(&mut self, frame: &[u8]) {
        const KEPT: usize = 8;
        if self.frames.len() < KEPT {
            self.frames.push(frame.to_vec());
        } else {
            self.frames[self.next % KEPT] = frame.to_vec();
        }
        self.next += 1;
    }

    /// The frame that came out `age` frames ago.
    fn recall(&self, age: usize) -> Option<&[u8]> {
        let len = self.frames.len();
        let last = self.next.checked_sub(1 + age)?;
        (age < len).then(|| &self.frames[last % len][..])
    }
}

/// Builds one frame as the script says.
pub(crate) fn build(shape: u8, script: &mut Script<'_>, memory: &Memory) -> Vec<u8> {
    let mut frame = match shape % 8 {
        0 => raw(script),
        1 | 2 => match memory.recall(script.below(8)).and_then(|sent| answer(sent, script)) {
            Some(answer) => answer,
            None => plain(script),
        },
        3 => in_vxlan(script),
        4 => match memory.recall(script.below(8)).and_then(|sent| error_about(sent, script)) {
            Some(error) => error,
            None => plain(script),
        },
        _ => plain(script),
    };
    for _ in 0..script.byte().saturating_sub(192) / 16 {
        let at = usize::from(script.short());
        let change = script.byte();
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= change;
        }
    }
    if script.byte() >= 240 {
        frame.truncate(script.short().into());
    }
    frame.truncate(FRAME_MAX);
    frame
}

fn raw(script: &mut Script<'_>) -> Vec<u8> {
    let ethertype = EtherType(script.pick(&[0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x0600]));
    let mut frame = link(script, ethertype);
    let len = script.byte();
    frame.extend_from_slice(script.bytes(len.into()));
    frame
}

/// An Ethernet header towards the gateway.
fn link(script: &mut Script<'_>, ethertype: EtherType) -> Vec<u8> {
    let choice = script.byte();
    let destination = match choice % 16 {
        15 => Mac::BROADCAST,
        14 => Mac([2, 0, 0, 0, 0, 9]),
        even if even % 2 == 0 => world::port(weirgate::net::PortId(0)).0,
        _ => world::port(weirgate::net::PortId(1)).0,
    };
    let source = if choice >= 250 { Mac::BROADCAST } else { world::STATION };
    let vlan = (choice >= 200).then_some(42);
    let mut bytes = vec![0; ethernet::HEADER_LEN + ethernet::TAG_LEN];
    let header = ethernet::Header { destination, source, vlan, ethertype };
    let len = header.emit(&mut bytes).expect("room for a header");
    bytes.truncate(len);
    bytes
}

fn plain(script: &mut Script<'_>) -> Vec<u8> {
    let (ethertype, packet) = packet(script);
    let mut frame = link(script, ethertype);
    frame.extend(packet);
    pad(&mut frame, script);
    frame
}

/// What Ethernet adds to short frames.
fn pad(frame: &mut Vec<u8>, script: &mut Script<'_>) {
    let padding = script.byte();
    if padding >= 224 {
        frame.resize(frame.len() + usize::from(padding - 223), 0);
    }
}

/// An IP packet between addresses of this world.
fn packet(script: &mut Script<'_>) -> (EtherType, Vec<u8>) {
    let (sixth, shape) = (script.below(2) == 1, script.byte());
    let tos = script.pick(&[0, 1, 2, 3, 0xb8]);
    let ttl = script.pick(&[64, 2, 1, 0, 255]);
    let len = match script.byte() {
        long @ 250.. => 1300 + usize::from(long - 250) * 40,
        short => short.into(),
    };
    if sixth {
        let (source, destination) = (script.pick(world::ADDRESSES_V6), script.pick(world::ADDRESSES_V6));
        let (protocol, segment) = segment(script, len, Ends::V6(source, destination));
        (EtherType::IPV6, wrap_v6(script, shape, [tos, ttl], protocol, (source, destination), segment))
    } else {
        let (source, destination) = (script.pick(world::ADDRESSES_V4), script.pick(world::ADDRESSES_V4));
        let (protocol, segment) = segment(script, len, Ends::V4(source, destination));
        (EtherType::IPV4, wrap_v4(shape, [tos, ttl], protocol, (source, destination), segment))
    }
}

#[derive(Clone, Copy)]
enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Ends {
    fn sum(self, protocol: Protocol, len: usize) -> checksum::Sum {
        match self {
            Self::V4(source, destination) => checksum::Sum::NONE.pseudo_v4(source, destination, protocol.0, len as u16),
            Self::V6(source, destination) => checksum::Sum::NONE.pseudo_v6(source, destination, protocol.0, len as u32),
        }
    }
}

/// A transport header and data with their checksum.
fn segment(script: &mut Script<'_>, len: usize, ends: Ends) -> (Protocol, Vec<u8>) {
    let kind = script.byte();
    let (source_port, destination_port) = (script.pick(world::PORT_NUMBERS), script.pick(world::PORT_NUMBERS));
    let (source_port, destination_port) = (source_port.to_be_bytes(), destination_port.to_be_bytes());
    let data = vec![kind; len];
    match kind % 8 {
        0..=2 => {
            let flags = tcp::Flags(script.pick(&[0x02, 0x10, 0x12, 0x18, 0x11, 0x04, 0x14, 0, 0xff]));
            let fields = tcp::Fields { source_port, destination_port, flags, ..Default::default() };
            let mut segment = fields.emit().to_vec();
            if kind >= 128 {
                segment[12] = 0x60;
                segment.extend([2, 4, 5, 0xb4]);
            }
            segment.extend(data);
            let sum = ends.sum(Protocol::TCP, segment.len()).bytes(&segment).finish();
            segment[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum);
            (Protocol::TCP, segment)
        }
        3..=5 => {
            let total = (udp::HEADER_LEN + len) as u16;
            let mut segment = udp::emit(source_port, destination_port, total, [0; 2]).to_vec();
            segment.extend(data);
            if kind < 200 || matches!(ends, Ends::V6(..)) {
                let sum = ends.sum(Protocol::UDP, segment.len()).bytes(&segment).finish_udp();
                segment[udp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum);
            }
            (Protocol::UDP, segment)
        }
        6 => icmp(script, data, ends),
        _ if kind >= 128 => (Protocol::SCTP, sctp_packet(script, source_port, destination_port, data)),
        _ => (Protocol(script.byte()), data),
    }
}

/// One chunk that moves states, perhaps with data behind it.
fn sctp_packet(script: &mut Script<'_>, source_port: [u8; 2], destination_port: [u8; 2], data: Vec<u8>) -> Vec<u8> {
    let kind = script.pick(&[1, 1, 1, 10, 7, 8, 14, 6, 0, 9, 255]);
    let tag = if kind == sctp::kind::INIT { [0; 4] } else { [0, 0, 0, script.below(3) as u8] };
    let mut value = vec![0, 0, 0, 1 + script.below(2) as u8];
    value.resize(16, 0);
    let mut packet = sctp::emit(source_port, destination_port, tag).to_vec();
    packet.extend(sctp::emit_chunk(kind, script.below(2) as u8, value.len() as u16));
    packet.extend(value);
    if script.below(4) == 0 {
        packet.extend(sctp::emit_chunk(sctp::kind::DATA, 3, data.len() as u16));
        packet.extend(data);
    }
    assert!(sctp::seal(&mut packet));
    packet
}

fn icmp(script: &mut Script<'_>, data: Vec<u8>, ends: Ends) -> (Protocol, Vec<u8>) {
    match ends {
        Ends::V4(source, destination) => {
            let kind = script.pick(&[8, 0, 3, 11, 13]);
            let mut message = icmpv4::emit(kind, script.byte() % 16, [0, 0, 5, 0]).to_vec();
            if icmpv4::is_error(kind) {
                let (_, quoted) = segment_of_udp(script, Ends::V4(destination, source));
                message.extend(wrap_v4(0, [0, 1], Protocol::UDP, (destination, source), quoted));
            }
            message.extend(data);
            assert!(icmpv4::seal(&mut message));
            (Protocol::ICMP, message)
        }
        Ends::V6(source, destination) => {
            let kind = script.pick(&[128, 129, 1, 2, 3, 135]);
            let mut message = icmpv6::emit(kind, script.byte() % 8, [0, 0, 5, 0]).to_vec();
            if icmpv6::is_error(kind) {
                let (_, quoted) = segment_of_udp(script, Ends::V6(destination, source));
                message.extend(wrap_v6(script, 0, [0, 1], Protocol::UDP, (destination, source), quoted));
            }
            message.extend(data);
            assert!(icmpv6::seal(&mut message, source, destination));
            (Protocol::ICMPV6, message)
        }
    }
}

fn segment_of_udp(script: &mut Script<'_>, ends: Ends) -> (Protocol, Vec<u8>) {
    let (from, to) = (script.pick(world::PORT_NUMBERS), script.pick(world::PORT_NUMBERS));
    let mut segment = udp::emit(from.to_be_bytes(), to.to_be_bytes(), 8, [0; 2]).to_vec();
    let sum = ends.sum(Protocol::UDP, 8).bytes(&segment).finish_udp();
    segment[udp::CHECKSUM_OFFSET..].copy_from_slice(&sum);
    (Protocol::UDP, segment)
}

/// `shape`: rare properties of the header: options, a fragment, DF clear.
fn wrap_v4(
    shape: u8,
    [tos, ttl]: [u8; 2],
    protocol: Protocol,
    (source, destination): ([u8; 4], [u8; 4]),
    mut segment: Vec<u8>,
) -> Vec<u8> {
    if shape >= 0xf0 {
        // Others follow, so that it ends at a multiple of eight bytes.
        segment.truncate(segment.len() & !7);
    }
    let options: &[u8] = if shape % 16 == 15 { &[1, 1, 1, 0] } else { &[] };
    let fields = ipv4::Fields {
        tos,
        total_len: (ipv4::HEADER_LEN + options.len() + segment.len()) as u16,
        id: 7,
        dont_fragment: shape & 0x10 == 0,
        fragment_offset: if shape >= 0xe8 { u16::from(shape & 7) * 8 } else { 0 },
        more_fragments: shape >= 0xf0,
        ttl,
        protocol,
        source,
        destination,
    };
    let mut bytes = fields.emit().to_vec();
    if !options.is_empty() {
        bytes.extend(options);
        bytes[0] = 0x46;
        bytes[10..12].fill(0);
        let sum = checksum::of(&bytes);
        bytes[10..12].copy_from_slice(&sum);
    }
    bytes.extend(segment);
    bytes
}

fn wrap_v6(
    script: &mut Script<'_>,
    shape: u8,
    [tos, ttl]: [u8; 2],
    protocol: Protocol,
    (source, destination): ([u8; 16], [u8; 16]),
    segment: Vec<u8>,
) -> Vec<u8> {
    use ipv6::extension::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    // Built from the last to the first.
    let (mut next, mut payload) = (protocol.0, segment);
    for _ in 0..shape.saturating_sub(224) / 4 {
        let header = script.pick(&[DESTINATION_OPTIONS, HOP_BY_HOP, FRAGMENT, ROUTING]);
        if header == FRAGMENT {
            payload.truncate(payload.len() & !7);
        }
        let middle = if header == FRAGMENT { [0, 0, script.byte() & 0xf9] } else { [0, 1, 4] };
        let middle = if header == ROUTING { [0, 0, 0] } else { middle };
        payload.splice(..0, [next, middle[0], middle[1], middle[2], 0, 0, 0, 9]);
        next = header;
    }
    let fields = ipv6::Fields {
        traffic_class: tos,
        flow_label: shape.into(),
        payload_len: payload.len() as u16,
        next_header: next,
        hop_limit: ttl,
        source,
        destination,
    };
    [&fields.emit()[..], &payload].concat()
}

/// A packet that a peer sends the gateway in VXLAN, over either family.
fn in_vxlan(script: &mut Script<'_>) -> Vec<u8> {
    let over_v6 = script.below(2) == 1;
    let (ethertype, inner) = packet(script);
    let choice = script.byte();
    let own = if over_v6 { world::VTEP_MAC_V6 } else { world::VTEP_MAC_V4 };
    let destination = if choice >= 248 { Mac::BROADCAST } else { own };
    let header = ethernet::Header { destination, source: world::STATION, vlan: None, ethertype };
    let mut data = vxlan::emit(if choice == 247 { weirgate::net::Vni([0, 0, 2]) } else { world::VNI }).to_vec();
    let mut inner_link = [0; ethernet::HEADER_LEN];
    header.emit(&mut inner_link).expect("room for a header");
    data.extend(inner_link);
    data.extend(inner);
    let len = (udp::HEADER_LEN + data.len()) as u16;
    let mut segment = udp::emit([0xc0, 0], world::VXLAN_PORT.to_be_bytes(), len, [0; 2]).to_vec();
    segment.extend(data);
    let tos = script.pick(&[0, 1, 2, 3]);
    if over_v6 {
        let ends = (world::v6([0xfd99, 0, 0, 0, 0, 0, 0, 0x11]), world::VTEP_V6);
        let sum = Ends::V6(ends.0, ends.1).sum(Protocol::UDP, segment.len()).bytes(&segment).finish_udp();
        segment[udp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum);
        let outer = wrap_v6(script, 0, [tos, 64], Protocol::UDP, ends, segment);
        [link(script, EtherType::IPV6), outer].concat()
    } else {
        let outer = wrap_v4(0x10, [tos, 64], Protocol::UDP, ([10, 99, 0, 11], world::VTEP_V4), segment);
        [link(script, EtherType::IPV4), outer].concat()
    }
}

/// A sent frame reversed, as if its receiver sent it back: addresses and ports are swapped on every
/// layer, which changes no checksum. TCP gets other flags.
fn answer(sent: &[u8], script: &mut Script<'_>) -> Option<Vec<u8>> {
    let mut frame = sent.to_vec();
    let (link, ip) = ethernet::Header::parse(sent).ok()?;
    let is_tunnelled = vxlan_at(&packet::parse(ip).ok()?).is_some();
    turn(&mut frame, 0, 6);
    let at = link.len();
    let data_at = turn_packet(&mut frame, at, script)?;
    if is_tunnelled {
        // The peer's source port does not show a tunnel, but the gateway's port does.
        let ports = frame.get_mut(data_at - udp::HEADER_LEN..)?.first_chunk_mut::<4>()?;
        ports.rotate_left(2);
        let inner_link = data_at + vxlan::HEADER_LEN;
        turn(frame.get_mut(inner_link..)?, 0, 6);
        turn_packet(&mut frame, inner_link + ethernet::HEADER_LEN, script)?;
    }
    Some(frame)
}

/// An ICMP error about a sent frame, as from its receiver or a router behind it:
/// back over the link and the tunnel that the frame took, with the sent packet quoted to some length.
fn error_about(sent: &[u8], script: &mut Script<'_>) -> Option<Vec<u8>> {
    let (link, ip) = ethernet::Header::parse(sent).ok()?;
    let data_at = vxlan_at(&packet::parse(ip).ok()?);
    let is_tunnelled = data_at.is_some();
    let about = data_at.map_or(Some(ip), |at| ip.get(at + vxlan::HEADER_LEN + ethernet::HEADER_LEN..))?;
    let cut = 28 + usize::from(script.byte());
    let rest = [0, 0, script.byte(), script.byte()];
    let ttl = script.pick(&[64, 64, 64, 1]);
    let error = match packet::parse(about).ok()? {
        Ip::V4(packet) => {
            let reporter = script.pick(&[packet.destination, world::ADDRESSES_V4[0], packet.source]);
            let mut message = icmpv4::emit(script.pick(&[3, 11, 12, 5]), script.byte() % 16, rest).to_vec();
            message.extend(about.get(..usize::from(packet.len).min(cut))?);
            assert!(icmpv4::seal(&mut message));
            wrap_v4(0, [0, ttl], Protocol::ICMP, (reporter, packet.source), message)
        }
        Ip::V6(packet) => {
            let reporter = script.pick(&[packet.destination, world::ADDRESSES_V6[0], packet.source]);
            let mut message = icmpv6::emit(script.pick(&[1, 2, 3, 4]), script.byte() % 8, rest).to_vec();
            message.extend(about.get(..usize::from(packet.len).min(cut + 20))?);
            assert!(icmpv6::seal(&mut message, reporter, packet.source));
            wrap_v6(script, 0, [0, ttl], Protocol::ICMPV6, (reporter, packet.source), message)
        }
    };
    let ethertype = if error[0] >> 4 == 4 { EtherType::IPV4 } else { EtherType::IPV6 };
    let mut frame = vec![0; link.len()];
    if !is_tunnelled {
        let turned = ethernet::Header { destination: link.source, source: link.destination, ..link };
        turned.emit(&mut frame)?;
        frame.extend(error);
        return Some(frame);
    }
    // Every tunnel end of this world takes VXLAN over IPv4, whose checksum may be none.
    let turned =
        ethernet::Header { destination: link.source, source: link.destination, ethertype: EtherType::IPV4, ..link };
    turned.emit(&mut frame)?;
    let inner = ethernet::Header { destination: world::VTEP_MAC_V4, source: world::STATION, vlan: None, ethertype };
    let mut inner_link = [0; ethernet::HEADER_LEN];
    inner.emit(&mut inner_link)?;
    let len = (udp::HEADER_LEN + vxlan::HEADER_LEN + inner_link.len() + error.len()) as u16;
    let udp = udp::emit([0xc0, 0], world::VXLAN_PORT.to_be_bytes(), len, [0; 2]);
    let segment = [&udp[..], &vxlan::emit(world::VNI), &inner_link, &error].concat();
    frame.extend(wrap_v4(0x10, [0, 64], Protocol::UDP, ([10, 99, 0, 11], world::VTEP_V4), segment));
    Some(frame)
}

/// Where the VXLAN header stands in a packet that carries one, between a peer and the gateway. Other datagrams to
/// that port are none: pods send those to the outside as they like.
fn vxlan_at(packet: &Ip) -> Option<usize> {
    let (is_between, transport, port, offset, fragment) = match packet {
        Ip::V4(it) => {
            let is_between = [it.source, it.destination].contains(&world::VTEP_V4);
            (is_between, it.transport, it.destination_port, it.transport_offset, it.fragment)
        }
        Ip::V6(it) => {
            let is_between = [it.source, it.destination].contains(&world::VTEP_V6);
            (is_between, it.transport, it.destination_port, it.transport_offset, it.fragment)
        }
    };
    let is_whole_udp = transport == Transport::Udp && fragment.is_none();
    (is_between && is_whole_udp && port == world::VXLAN_PORT.to_be_bytes())
        .then_some(usize::from(offset) + udp::HEADER_LEN)
}

/// Swaps two adjacent fields of `len` bytes.
fn turn(bytes: &mut [u8], at: usize, len: usize) {
    if let Some(fields) = bytes.get_mut(at..at + 2 * len) {
        fields.rotate_left(len);
    }
}

/// Reverses the packet at `at`, and returns where its data begins if it is UDP.
fn turn_packet(frame: &mut [u8], at: usize, script: &mut Script<'_>) -> Option<usize> {
    let (transport, offset) = match packet::parse(frame.get(at..)?).ok()? {
        Ip::V4(packet) => {
            turn(frame.get_mut(at..)?, 12, 4);
            (packet.transport, packet.transport_offset)
        }
        Ip::V6(packet) => {
            turn(frame.get_mut(at..)?, 8, 16);
            (packet.transport, packet.transport_offset)
        }
    };
    let start = at + usize::from(offset);
    let segment = frame.get_mut(start..)?;
    match transport {
        Transport::Udp => turn(segment, 0, 2),
        Transport::Tcp => {
            turn(segment, 0, 2);
            let new = script.pick(&[0x12, 0x10, 0x18, 0x11, 0x04, 0x02]);
            let delta = Delta::NONE.replace2([segment[12], segment[13]], [segment[12], new]);
            segment[13] = new;
            let sum = delta.apply([segment[16], segment[17]]);
            segment[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum);
        }
        Transport::Sctp => {
            turn(segment, 0, 2);
            segment[sctp::HEADER_LEN] = script.pick(&[2, 11, 8, 14, 6, 0]);
            segment[7] = 1 + script.below(2) as u8;
            sctp::seal(segment);
        }
        _ => {}
    }
    Some(start + udp::HEADER_LEN)
}

/// Whether all headers of a frame can be read, down to those inside VXLAN.
pub(crate) fn headers_are_right(frame: &[u8]) -> bool {
    each_packet(frame, &mut |_, _| true)
}

/// Whether all checksums of a frame are right, those inside VXLAN too.
pub(crate) fn is_intact(frame: &[u8]) -> bool {
    each_packet(frame, &mut |packet, ip| match packet {
        Ip::V4(packet) => packet.transport_is_intact(ip) != Some(false),
        Ip::V6(packet) => packet.transport_is_intact(ip) != Some(false),
    })
}

/// Whether a frame carries another one in VXLAN.
pub(crate) fn is_in_vxlan(frame: &[u8]) -> bool {
    matches!(ask_packet(frame, &mut |_, _| true), Some(Some(_)))
}

/// A frame's packet, or the one in it if that is VXLAN, and to whom the VXLAN is sent.
pub(crate) fn innermost(frame: &[u8]) -> Option<(Ip, Option<IpAddr>)> {
    let (_, ip) = ethernet::Header::parse(frame).ok()?;
    let outer = packet::parse(ip).ok()?;
    let Some(at) = vxlan_at(&outer) else { return Some((outer, None)) };
    let (_, inner) = vxlan::Header::parse(ip.get(at..)?).ok()?;
    let (_, ip) = ethernet::Header::parse(inner).ok()?;
    let receiver = match outer {
        Ip::V4(outer) => outer.destination.into(),
        Ip::V6(outer) => outer.destination.into(),
    };
    Some((packet::parse(ip).ok()?, Some(receiver)))
}

/// Asks of a frame's packet, and of the one in it if that is VXLAN. `false` where one cannot be read.
fn each_packet(frame: &[u8], ask: &mut dyn FnMut(&Ip, &[u8]) -> bool) -> bool {
    match ask_packet(frame, ask) {
        None => false,
        Some(None) => true,
        Some(Some(vxlan)) => vxlan::Header::parse(vxlan).is_ok_and(|(_, inner)| ask_packet(inner, ask).is_some()),
    }
}

/// The VXLAN in a frame, unless its packet cannot be read or is not as asked.
fn ask_packet<'f>(frame: &'f [u8], ask: &mut dyn FnMut(&Ip, &[u8]) -> bool) -> Option<Option<&'f [u8]>> {
    let (_, ip) = ethernet::Header::parse(frame).ok()?;
    let packet = packet::parse(ip).ok()?;
    ask(&packet, ip).then(|| vxlan_at(&packet).and_then(|at| ip.get(at..)))
}
