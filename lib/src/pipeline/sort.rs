//! First pass: what is this frame, and where would its flow be?

use super::{Item, Sorted, Way, Wire, Worker, tuple_of};
use crate::flow::{Address, Table};
use crate::frame::Frame;
use crate::net::Mac;
use crate::overlay::{decapsulate, decapsulated_ecn};
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::packet::{Packet, Transport, parse_v4_into, parse_v6_into};
use crate::wire::{Ecn, ParseError, ipv4, ipv6, udp};

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
    let mut outer = None;
    let vtep = match ethertype {
        EtherType::IPV4 => {
            parse_v4_into(ip, |packet| {
                outer = outer_of(&packet, &globals.vtep_v4, globals.vxlan_port, globals.has_v4);
                if outer.is_none() {
                    *out = Sorted::V4(item(&worker.v4, packet, at, envelope));
                }
            })?;
            Mac(globals.mac_v4)
        }
        EtherType::IPV6 => {
            parse_v6_into(ip, |packet| {
                outer = outer_of(&packet, &globals.vtep_v6, globals.vxlan_port, globals.has_v6);
                if outer.is_none() {
                    *out = Sorted::V6(item(&worker.v6, packet, at, envelope));
                }
            })
            .map_err(|error| match error {
                ParseError::UdpChecksumMissing { port } if port.to_be_bytes() == globals.vxlan_port => {
                    DropReason::VxlanChecksum
                }
                error => error.into(),
            })?;
            Mac(globals.mac_v6)
        }
        _ => {
            *out = Sorted::Decided(Verdict::Host);
            return Ok(());
        }
    };
    match outer {
        Some(outer) => open(worker, snapshot, ip, at, outer, vtep, envelope, out),
        None => Ok(()),
    }
}

/// What a packet is as an outer one, where it is VXLAN for the gateway.
#[inline(always)]
fn outer_of<A: Wire>(packet: &Packet<A>, vtep: &A, port: [u8; 2], has_vtep: u8) -> Option<Outer> {
    let is_vxlan = packet.transport == Transport::Udp
        && packet.destination_port == port
        && packet.destination == *vtep
        && has_vtep != 0
        && packet.fragment.is_none();
    let data = (packet.transport_offset + udp::HEADER_LEN as u16, packet.len);
    is_vxlan.then_some(Outer { data, tos: packet.tos })
}

#[inline(always)]
fn item<A: Address>(flows: &Table<'_, A>, packet: Packet<A>, at: usize, envelope: Envelope) -> Item<A> {
    let hash = flows.hash(&tuple_of(&packet), packet.protocol);
    flows.prefetch_bucket(hash);
    // A frame is at most 65535 bytes of packet behind a handful of headers that fit in its buffer.
    Item { packet, hash, at: at as u16, way: envelope.way, station: envelope.station, vlan: envelope.vlan }
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
    let mut tos = 0;
    match opened.ethertype {
        EtherType::IPV4 => {
            parse_v4_into(inner, |packet| {
                tos = packet.tos;
                *out = Sorted::V4(item(&worker.v4, packet, at, envelope));
            })?;
            if let Some(ecn) = ecn_to_bring_in(tos, outer.tos)?
                && let Some(mut header) = ipv4::HeaderMut::at_front(inner)
            {
                header.set_ecn(ecn);
            }
        }
        EtherType::IPV6 => {
            parse_v6_into(inner, |packet| {
                tos = packet.tos;
                *out = Sorted::V6(item(&worker.v6, packet, at, envelope));
            })?;
            if let Some(ecn) = ecn_to_bring_in(tos, outer.tos)?
                && let Some(mut header) = ipv6::HeaderMut::at_front(inner)
            {
                header.set_ecn(ecn);
            }
        }
        _ => return Err(DropReason::NotIp),
    }
    Ok(())
}

/// The mark that the inner packet shall have, where it differs from the one it has.
#[inline]
fn ecn_to_bring_in(inner_tos: u8, outer_tos: u8) -> Result<Option<Ecn>, DropReason> {
    let inner = Ecn::of(inner_tos);
    let ecn = decapsulated_ecn(inner, Ecn::of(outer_tos))?;
    Ok((ecn != inner).then_some(ecn))
}
