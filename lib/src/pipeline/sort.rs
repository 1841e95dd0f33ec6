//! First pass: what is this frame, and where would its flow be?

use super::{Item, Sorted, Way, Wire, Worker, tuple_of};
use crate::flow::NO_ENTRY;
use crate::frame::Frame;
use crate::net::Mac;
use crate::overlay::{decapsulate, decapsulated_ecn};
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::packet::{Packet, Transport, parse_plain_v4, parse_plain_v6, parse_v4, parse_v6};
use crate::wire::{Ecn, ParseError, udp};

/// The link's part of a frame.
#[derive(Clone, Copy)]
struct Envelope {
    way: Way,
    station: Mac,
    vlan: [u8; 2],
}

/// The outer packet of a VXLAN frame.
#[derive(Clone, Copy)]
struct Outer {
    /// Where the UDP data begins and where it ends, from the IP header's start.
    data: (u16, u16),
    tos: u8,
}

/// Reads a frame into `out`.
#[inline(always)]
pub(super) fn sort(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    frame: &mut Frame<'_>,
    out: &mut Sorted,
) -> Result<(), DropReason> {
    let port = snapshot.port(frame.port()).ok_or(DropReason::UnknownPort)?;
    let bytes = frame.bytes_mut();
    let head = bytes.first_chunk::<{ ethernet::HEADER_LEN }>().ok_or(DropReason::Truncated)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *head;
    if Mac([d0, d1, d2, d3, d4, d5]) != port.mac() {
        return Err(DropReason::NotForThisLink);
    }
    let (mut ethertype, mut at, mut vlan) = (EtherType(u16::from_be_bytes([t0, t1])), ethernet::HEADER_LEN, [0; 2]);
    if ethertype == EtherType::VLAN {
        let (link, _) = ethernet::Header::parse(bytes)?;
        (ethertype, at, vlan) = (link.ethertype, link.len(), link.vlan.unwrap_or(0).to_be_bytes());
    }
    let way = if port.underlay == 0 { Way::Link } else { Way::Underlay };
    let envelope = Envelope { way, station: Mac([s0, s1, s2, s3, s4, s5]), vlan };
    let ip = bytes.get_mut(at..).unwrap_or_default();
    let globals = snapshot.globals;
    let (outer, vtep) = match ethertype {
        EtherType::IPV4 => {
            let outer = match parse_plain_v4(ip)? {
                Some(packet) => put(worker, snapshot, packet, at, envelope, out),
                None => put_aside(worker, snapshot, parse_v4(ip)?, at, envelope, out),
            };
            (outer, Mac(globals.mac_v4))
        }
        EtherType::IPV6 => {
            let packet = parse_plain_v6(ip).map_err(|error| without_checksum(error, globals.vxlan_port))?;
            let outer = match packet {
                Some(packet) => put(worker, snapshot, packet, at, envelope, out),
                None => put_aside(worker, snapshot, parse_v6(ip)?, at, envelope, out),
            };
            (outer, Mac(globals.mac_v6))
        }
        _ => {
            *out = Sorted::Decided(Verdict::Host);
            return Ok(());
        }
    };
    match outer {
        // Peers are not behind this link, so whoever sends this only says to be one.
        Some(_) if envelope.way == Way::Link => Err(DropReason::VxlanLink),
        Some(outer) => open(worker, snapshot, ip, at, outer, vtep, envelope, out),
        None => Ok(()),
    }
}

/// The drop of an outer datagram that has to have a checksum, and of anything else that is wrong.
#[cold]
fn without_checksum(error: ParseError, vxlan_port: [u8; 2]) -> DropReason {
    match error {
        ParseError::UdpChecksumMissing { port } if port.to_be_bytes() == vxlan_port => DropReason::VxlanChecksum,
        error => error.into(),
    }
}

/// Puts a packet in its place, unless it is VXLAN for the gateway: then tells what is in it.
#[inline(always)]
fn put<A: Wire>(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    packet: Packet<A>,
    at: usize,
    envelope: Envelope,
    out: &mut Sorted,
) -> Option<Outer> {
    let (vtep, has_vtep) = A::vtep(snapshot);
    let is_vxlan = packet.transport == Transport::Udp
        && packet.destination_port == snapshot.globals.vxlan_port
        && packet.destination == vtep
        && has_vtep
        && packet.fragment.is_none();
    if is_vxlan && envelope.way != Way::Overlay {
        let data = (packet.transport_offset + udp::HEADER_LEN as u16, packet.len);
        return Some(Outer { data, tos: packet.tos });
    }
    let flows = A::flows_of(worker);
    let hash = flows.hash(&tuple_of(&packet), packet.protocol);
    let Envelope { way, station, vlan } = envelope;
    // A frame is at most 65535 bytes of packet behind a handful of headers that fit in its buffer.
    *out = A::sorted(Item { packet, hash, likely: NO_ENTRY, at: at as u16, way, station, vlan });
    None
}

/// As [`put`], for packets off the fast path.
#[cold]
#[inline(never)]
fn put_aside<A: Wire>(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    packet: Packet<A>,
    at: usize,
    envelope: Envelope,
    out: &mut Sorted,
) -> Option<Outer> {
    put(worker, snapshot, packet, at, envelope, out)
}

/// Takes a packet out of VXLAN: reads what is inside and brings the congestion mark in.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one use, split off so that the first pass reads as a list")]
fn open(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    ip: &mut [u8],
    at: usize,
    outer: Outer,
    vtep: Mac,
    envelope: Envelope,
    out: &mut Sorted,
) -> Result<(), DropReason> {
    let (data_at, data_end) = (usize::from(outer.data.0), usize::from(outer.data.1));
    let data = ip.get_mut(data_at..data_end).unwrap_or_default();
    let opened = decapsulate(data, snapshot.globals.vni(), vtep)?;
    let inner = data.get_mut(opened.offset..).unwrap_or_default();
    let at = at + data_at + opened.offset;
    let envelope = Envelope { way: Way::Overlay, ..envelope };
    match opened.ethertype {
        EtherType::IPV4 => match parse_plain_v4(inner)? {
            Some(packet) => put_inner(worker, snapshot, packet, inner, outer.tos, at, envelope, out),
            None => put_inner_aside(worker, snapshot, parse_v4(inner)?, inner, outer.tos, at, envelope, out),
        },
        EtherType::IPV6 => match parse_plain_v6(inner)? {
            Some(packet) => put_inner(worker, snapshot, packet, inner, outer.tos, at, envelope, out),
            None => put_inner_aside(worker, snapshot, parse_v6(inner)?, inner, outer.tos, at, envelope, out),
        },
        _ => Err(DropReason::NotIp),
    }
}

/// As [`put`], for a packet out of VXLAN: with the congestion mark that it shall have, which an outer header
/// that it gets again repeats.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "split off so that both families share it")]
fn put_inner<A: Wire>(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    packet: Packet<A>,
    ip: &mut [u8],
    outer_tos: u8,
    at: usize,
    envelope: Envelope,
    out: &mut Sorted,
) -> Result<(), DropReason> {
    let inner = Ecn::of(packet.tos);
    put(worker, snapshot, packet, at, envelope, out);
    let ecn = decapsulated_ecn(inner, Ecn::of(outer_tos))?;
    if ecn != inner {
        bring_in::<A>(ip, ecn, out);
    }
    Ok(())
}

/// Gives a packet that has been put in its place this congestion mark.
#[cold]
#[inline(never)]
fn bring_in<A: Wire>(ip: &mut [u8], ecn: Ecn, out: &mut Sorted) {
    A::set_ecn(ip, ecn);
    match out {
        Sorted::V4(Item { packet, .. }) => packet.tos = ecn.mark(packet.tos),
        Sorted::V6(Item { packet, .. }) => packet.tos = ecn.mark(packet.tos),
        Sorted::Decided(_) => {}
    }
}

/// As [`put_inner`], for packets off the fast path.
#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "as of `put_inner`")]
fn put_inner_aside<A: Wire>(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    packet: Packet<A>,
    ip: &mut [u8],
    outer_tos: u8,
    at: usize,
    envelope: Envelope,
    out: &mut Sorted,
) -> Result<(), DropReason> {
    put_inner(worker, snapshot, packet, ip, outer_tos, at, envelope, out)
}
