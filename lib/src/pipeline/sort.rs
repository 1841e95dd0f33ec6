//! First pass: what is this frame, and where would its flow be?

use super::{Item, Sorted, Way, Wire, Worker, tuple_of};
use crate::flow::Address;
use crate::frame::Frame;
use crate::net::Mac;
use crate::overlay::{decapsulate, decapsulated_ecn};
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::packet::{Packet, Transport, parse_v4, parse_v6};
use crate::wire::{Ecn, ParseError, ipv4, ipv6, udp};

/// The link's part of a frame.
struct Envelope {
    way: Way,
    station: Mac,
    vlan: [u8; 2],
}

pub(super) fn sort(worker: &Worker<'_>, snapshot: &Snapshot<'_>, frame: &mut Frame<'_>) -> Result<Sorted, DropReason> {
    let port = snapshot.port(frame.port()).ok_or(DropReason::UnknownPort)?;
    let bytes = frame.bytes_mut();
    let (link, _) = ethernet::Header::parse(bytes)?;
    if link.destination != port.mac() {
        return Err(DropReason::NotForThisLink);
    }
    let envelope = Envelope {
        way: if port.underlay == 0 { Way::Link } else { Way::Underlay },
        station: link.source,
        vlan: link.vlan.unwrap_or(0).to_be_bytes(),
    };
    let at = link.len();
    let ip = bytes.get_mut(at..).unwrap_or_default();
    let globals = snapshot.globals;
    match link.ethertype {
        EtherType::IPV4 => {
            let packet = parse_v4(ip)?;
            if is_vxlan(&packet, &globals.vtep_v4, globals.vxlan_port, globals.has_v4) {
                return open(worker, snapshot, ip, at, &packet, Mac(globals.mac_v4), envelope);
            }
            Ok(Sorted::V4(item(&worker.v4, packet, at, envelope)))
        }
        EtherType::IPV6 => {
            let packet = parse_v6(ip).map_err(|error| match error {
                ParseError::UdpChecksumMissing { port } if port.to_be_bytes() == globals.vxlan_port => {
                    DropReason::VxlanChecksum
                }
                error => error.into(),
            })?;
            if is_vxlan(&packet, &globals.vtep_v6, globals.vxlan_port, globals.has_v6) {
                return open(worker, snapshot, ip, at, &packet, Mac(globals.mac_v6), envelope);
            }
            Ok(Sorted::V6(item(&worker.v6, packet, at, envelope)))
        }
        _ => Ok(Sorted::Decided(Verdict::Host)),
    }
}

#[inline]
fn is_vxlan<A: Wire>(packet: &Packet<A>, vtep: &A, port: [u8; 2], has_vtep: u8) -> bool {
    packet.transport == Transport::Udp
        && packet.destination_port == port
        && packet.destination == *vtep
        && has_vtep != 0
        && packet.fragment.is_none()
}

#[inline]
fn item<A: Address>(flows: &crate::flow::Table<'_, A>, packet: Packet<A>, at: usize, envelope: Envelope) -> Item<A> {
    let hash = flows.hash(&tuple_of(&packet), packet.protocol);
    flows.prefetch_bucket(hash);
    // A frame is at most 65535 bytes of packet behind a handful of headers that fit in its buffer.
    Item { packet, hash, at: at as u16, way: envelope.way, station: envelope.station, vlan: envelope.vlan }
}

/// Takes a packet out of VXLAN: reads what is inside and brings the congestion mark in.
#[inline]
fn open<A: Wire>(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    ip: &mut [u8],
    at: usize,
    outer: &Packet<A>,
    vtep: Mac,
    envelope: Envelope,
) -> Result<Sorted, DropReason> {
    let data_at = usize::from(outer.transport_offset) + udp::HEADER_LEN;
    let data = ip.get_mut(data_at..usize::from(outer.len)).unwrap_or_default();
    let opened = decapsulate(data, snapshot.globals.vni(), vtep)?;
    let inner = data.get_mut(opened.offset..).unwrap_or_default();
    let at = at + data_at + opened.offset;
    let envelope = Envelope { way: Way::Overlay, ..envelope };
    match opened.ethertype {
        EtherType::IPV4 => {
            let packet = parse_v4(inner)?;
            if let Some(ecn) = ecn_to_bring_in(packet.tos, outer.tos)?
                && let Some(mut header) = ipv4::HeaderMut::at_front(inner)
            {
                header.set_ecn(ecn);
            }
            Ok(Sorted::V4(item(&worker.v4, packet, at, envelope)))
        }
        EtherType::IPV6 => {
            let packet = parse_v6(inner)?;
            if let Some(ecn) = ecn_to_bring_in(packet.tos, outer.tos)?
                && let Some(mut header) = ipv6::HeaderMut::at_front(inner)
            {
                header.set_ecn(ecn);
            }
            Ok(Sorted::V6(item(&worker.v6, packet, at, envelope)))
        }
        _ => Err(DropReason::NotIp),
    }
}

/// The mark that the inner packet shall have, where it differs from the one it has.
#[inline]
fn ecn_to_bring_in(inner_tos: u8, outer_tos: u8) -> Result<Option<Ecn>, DropReason> {
    let inner = Ecn::of(inner_tos);
    let ecn = decapsulated_ecn(inner, Ecn::of(outer_tos))?;
    Ok((ecn != inner).then_some(ecn))
}
