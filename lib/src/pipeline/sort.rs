//! First pass: what is this frame, and where would its flow be?

use zerocopy::IntoBytes;

use super::family::Wire;
use super::item::{Ingress, Item, Sorted, tuple_of};
use super::worker::Worker;
use crate::flow::NO_ENTRY;
use crate::frame::Frame;
use crate::net::{Mac, Origin};
use crate::snapshot::Snapshot;
use crate::tunnel::{decapsulated_ecn, vxlan::decapsulate_from};
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::packet::{Packet, Transport};
use crate::wire::{Ecn, ParseError, udp};

/// Reads a frame into `out`.
#[inline(always)]
pub(super) fn sort(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    frame: &mut Frame<'_>,
    out: &mut Sorted,
) -> Result<(), DropReason> {
    match read::<false>(worker, snapshot, frame, out) {
        Ok(()) => Ok(()),
        Err(Stop::Drop(reason)) => Err(reason),
        Err(Stop::Rare) => sort_rare(worker, snapshot, frame, out),
    }
}

/// As [`sort`], from the start, for a frame with something rare in it: an 802.1Q tag, IPv4 options, IPv6
/// extension headers, a fragment, neither TCP nor UDP, a congestion mark to take in.
#[cold]
#[inline(never)]
fn sort_rare(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    frame: &mut Frame<'_>,
    out: &mut Sorted,
) -> Result<(), DropReason> {
    read::<true>(worker, snapshot, frame, out).map_err(|stop| match stop {
        Stop::Drop(reason) => reason,
        Stop::Rare => DropReason::Malformed,
    })
}

/// Why reading a frame has ended early.
enum Stop {
    Drop(DropReason),
    /// What comes now is rare, and the frame is as it was.
    Rare,
}

impl From<DropReason> for Stop {
    #[inline]
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl From<ParseError> for Stop {
    #[inline]
    fn from(error: ParseError) -> Self {
        Self::Drop(error.into())
    }
}

/// - `RARE`: whether to go into what is rare, or to stop there, so that the fast path has no call in it for
///   whose sake its values would have to be in memory.
#[inline(always)]
fn read<const RARE: bool>(
    worker: &Worker<'_>,
    snapshot: &Snapshot<'_>,
    frame: &mut Frame<'_>,
    out: &mut Sorted,
) -> Result<(), Stop> {
    let port = snapshot.port(frame.port()).ok_or(DropReason::UnknownPort)?;
    let bytes = frame.bytes_mut();
    let head = bytes.first_chunk::<{ ethernet::HEADER_LEN }>().ok_or(DropReason::Truncated)?;
    if !ethernet::is_for_first(head, port.as_bytes().first_chunk().ok_or(DropReason::UnknownPort)?) {
        return Err(DropReason::NotForThisLink.into());
    }
    if !ethernet::source(head).is_unicast() {
        return Err(DropReason::MartianAddress.into());
    }
    let ingress = if port.underlay == 0 { Ingress::Link } else { Ingress::Underlay };
    let (mut ethertype, mut at) = (ethernet::ethertype(head), ethernet::HEADER_LEN);
    let mut origin = ethernet::origin(head);
    if RARE && ethertype == EtherType::VLAN {
        let (link, _) = ethernet::Header::parse(bytes)?;
        (ethertype, at) = (link.ethertype, link.len());
        origin = Origin::new(link.source, link.vlan.unwrap_or(0).to_be_bytes());
    }
    let (_, ip) = bytes.split_at_mut_checked(at).ok_or(DropReason::Truncated)?;
    let reading = Reading::<RARE> { worker, snapshot, out, at, ingress, origin };
    match ethertype {
        EtherType::IPV4 => reading.outer::<[u8; 4]>(ip),
        EtherType::IPV6 => reading.outer::<[u8; 16]>(ip),
        EtherType::VLAN => Err(Stop::Rare),
        _ => {
            *reading.out = Sorted::Decided(Verdict::Host);
            Ok(())
        }
    }
}

/// What is known of a packet whose IP header comes next.
struct Reading<'x, 'm, 's, const RARE: bool> {
    worker: &'x Worker<'m>,
    snapshot: &'x Snapshot<'s>,
    out: &'x mut Sorted,
    /// Where the packet begins in the frame.
    at: usize,
    ingress: Ingress,
    origin: Origin,
}

impl<const RARE: bool> Reading<'_, '_, '_, RARE> {
    /// A packet that is not in another one, and may have another one in it.
    #[inline(always)]
    fn outer<A: Wire>(self, ip: &mut [u8]) -> Result<(), Stop> {
        let globals = self.snapshot.globals;
        let (vtep, has_vtep) = A::vtep(self.snapshot);
        if !RARE && A::is_to(ip, vtep) {
            // Said so that the protocol is not looked at before it has to be.
            core::hint::cold_path();
            if A::is_udp(ip) {
                return self.open_plain::<A>(ip);
            }
        }
        let packet = parse::<A, RARE>(ip, |error| without_checksum(error, globals.vxlan_port))?;
        // Over IPv4 it has been told above.
        let is_vxlan = (RARE || A::HAS_UDP_CHECKSUM)
            && packet.transport == Transport::Udp
            && packet.destination_port == globals.vxlan_port
            && packet.destination == vtep
            && has_vtep
            && packet.fragment.is_none();
        if !is_vxlan {
            self.put(packet);
            return Ok(());
        }
        // Peers are not behind this link, so whoever sends this only says to be one.
        if self.ingress == Ingress::Link {
            return Err(DropReason::VxlanLink.into());
        }
        if A::HAS_UDP_CHECKSUM && !is_intact::<A>(ip) {
            return Err(DropReason::VxlanChecksum.into());
        }
        let data_at = usize::from(packet.transport_offset) + udp::HEADER_LEN;
        let data = udp_data(ip, data_at).ok_or(DropReason::Truncated)?;
        let vtep_mac = A::vtep_mac(self.snapshot);
        self.open(data, data_at, packet.tos, vtep_mac)
    }

    /// The data of a VXLAN datagram, `data_at` bytes behind the outer IP header's start.
    #[inline(always)]
    fn open(self, data: &mut [u8], data_at: usize, outer_tos: u8, vtep: &Mac) -> Result<(), Stop> {
        let opened = decapsulate_from(data, &self.snapshot.globals.vni, vtep)?;
        let (_, ip) = data.split_at_mut_checked(opened.offset).ok_or(DropReason::Truncated)?;
        let inside = Reading { at: self.at + data_at + opened.offset, ingress: Ingress::Overlay, ..self };
        match opened.ethertype {
            EtherType::IPV4 => inside.inner::<[u8; 4]>(ip, outer_tos),
            EtherType::IPV6 => inside.inner::<[u8; 16]>(ip, outer_tos),
            _ => Err(DropReason::NotIp.into()),
        }
    }

    /// VXLAN whose outer headers have nothing rare in them. What is not so comes back with its reason, or to be read
    /// again by [`outer`](Self::outer).
    #[inline(always)]
    fn open_plain<A: Wire>(self, ip: &mut [u8]) -> Result<(), Stop> {
        let globals = self.snapshot.globals;
        let (_, has_vtep) = A::vtep(self.snapshot);
        let datagram = A::parse_plain_udp(ip).filter(|datagram| datagram.destination_port == globals.vxlan_port);
        let datagram = datagram.filter(|_| has_vtep && self.ingress != Ingress::Link).ok_or(Stop::Rare)?;
        let data_at = A::HEADER_LEN + udp::HEADER_LEN;
        let data = ip.get_mut(data_at..datagram.end).ok_or(Stop::Rare)?;
        let vtep_mac = A::vtep_mac(self.snapshot);
        self.open(data, data_at, datagram.tos, vtep_mac)
    }

    /// A packet out of VXLAN: with the congestion mark that it shall have, which an outer header that it
    /// gets again repeats.
    #[inline(always)]
    fn inner<A: Wire>(self, ip: &mut [u8], outer_tos: u8) -> Result<(), Stop> {
        let mut packet = parse::<A, RARE>(ip, DropReason::from)?;
        let own = Ecn::of(packet.tos);
        let ecn = decapsulated_ecn(own, Ecn::of(outer_tos))?;
        if ecn != own {
            if !RARE {
                return Err(Stop::Rare);
            }
            A::set_ecn(ip, ecn);
            packet.tos = ecn.mark(packet.tos);
        }
        self.put(packet);
        Ok(())
    }

    /// Puts a packet in its place.
    #[inline(always)]
    fn put<A: Wire>(self, mut packet: Packet<A>) {
        if !RARE {
            // Known here, and so not carried along.
            (packet.fragment, packet.icmp) = (None, [0; 2]);
        }
        let hash = self.worker.flows.of::<A>().hash(&tuple_of(&packet), packet.protocol);
        let Self { at, ingress, origin, .. } = self;
        // A frame is at most 65535 bytes of packet behind a handful of headers that fit in its buffer.
        *self.out = A::sorted(Item { packet, hash, likely: NO_ENTRY, at: at as u16, ingress, origin });
    }
}

/// The data, from `at` on, of a UDP datagram whose header has been read. What the IP packet has behind its length is
/// none of it.
#[inline(always)]
fn udp_data(ip: &mut [u8], at: usize) -> Option<&mut [u8]> {
    let (headers, data) = ip.split_at_mut_checked(at)?;
    let [.., high, low, _, _] = *headers else { return None };
    data.get_mut(..usize::from(u16::from_be_bytes([high, low])).wrapping_sub(udp::HEADER_LEN))
}

/// Whether the transport checksum of a packet that has been read is right. Reads it again: the caller's packet
/// would have to be in memory for this.
#[cold]
#[inline(never)]
fn is_intact<A: Wire>(ip: &[u8]) -> bool {
    A::parse(ip).is_ok_and(|packet| A::is_intact(ip, &packet) == Some(true))
}

#[inline(always)]
fn parse<A: Wire, const RARE: bool>(ip: &[u8], reason: impl Fn(ParseError) -> DropReason) -> Result<Packet<A>, Stop> {
    match A::parse_plain(ip).map_err(&reason)? {
        Some(packet) => Ok(packet),
        None if RARE => Ok(A::parse(ip).map_err(&reason)?),
        None => Err(Stop::Rare),
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
