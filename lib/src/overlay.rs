//! Across the underlay and back: the headers that carry a packet to a peer's node, put before it
//! and taken off in place.

use core::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::frame::Frame;
use crate::hash::reduce;
use crate::net::{Mac, Protocol, Vni};
use crate::snapshot::{OuterDscp, Vtep};
use crate::verdict::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ethernet::{self, EtherType};
use crate::wire::{Dscp, Ecn, ipv4, ipv6, udp, vxlan};

/// The most bytes that stand before an inner IP header: Ethernet, IPv6, UDP, VXLAN, Ethernet.
const HEADERS_MAX: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + TUNNEL_LEN;

/// UDP, VXLAN and the inner Ethernet header.
const TUNNEL_LEN: usize = udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;

/// Where the outer IP header begins.
const OUTER: usize = ethernet::HEADER_LEN;

/// Outer source ports: the range that Linux gives to tunnels (`ip_local_port_range`).
const ENTROPY_FIRST: u16 = 32_768;
const ENTROPY_PORTS: u32 = 28_232;

/// The outer time to live: what Linux gives to packets of its own.
const OUTER_TTL: u8 = 64;

/// How a packet crosses the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// As it is.
    Direct,
    /// In VXLAN over IPv4.
    VxlanV4,
    /// In VXLAN over IPv6.
    VxlanV6,
}

/// Both ends of the first link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The next station.
    pub destination: Mac,
    /// The gateway's port.
    pub source: Mac,
}

/// What all packets of a VXLAN tunnel have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The network.
    pub vni: Vni,
    /// The UDP port that peers listen at.
    pub port: u16,
    /// The family of the packets inside.
    pub inner: EtherType,
    /// What the outer header is marked with.
    pub dscp: OuterDscp,
}

/// All headers before a packet, ready but for lengths, identification, checksums and source port.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Headers {
    bytes: [u8; HEADERS_MAX],
    len: u8,
    carrier: u8,
    /// The outer IPv4 header's checksum as it stands.
    checksum: [u8; 2],
    /// The outer header's codepoint where it is marked, or [`COPY`].
    dscp: u8,
    reserved: u8,
}

/// Stands for the codepoint of the packet inside.
const COPY: u8 = u8::MAX;

/// Above the number of a carrier whose outer header is to be marked: the usual ones cost nothing for it.
const MARKED: u8 = 2;

/// What differs from packet to packet.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// A hash of the inner flow, for the outer source port (RFC 7348 §5).
    pub entropy: u64,
    /// The outer IPv4 identification.
    pub identification: u16,
    /// The inner packet's type of service or traffic class. Its ECN the outer one repeats (RFC 6040 §4.1,
    /// normal mode).
    pub tos: u8,
}

impl Headers {
    /// Ethernet alone.
    #[must_use]
    pub fn direct(link: Link, inner: EtherType) -> Self {
        let mut writer = Writer::new(Carrier::Direct);
        writer.ethernet(link, inner);
        writer.headers
    }

    /// VXLAN over IPv4 (RFC 7348 §5). DF is clear, as flannel nodes have it.
    #[must_use]
    pub fn vxlan_v4(link: Link, own: Vtep<Ipv4Addr>, peer: Vtep<Ipv4Addr>, tunnel: Tunnel) -> Self {
        let mut writer = Writer::new(Carrier::VxlanV4);
        writer.ethernet(link, EtherType::IPV4);
        let outer = ipv4::Fields {
            tos: 0,
            total_len: 0,
            id: 0,
            dont_fragment: false,
            fragment_offset: 0,
            more_fragments: false,
            ttl: OUTER_TTL,
            protocol: Protocol::UDP,
            source: own.public.octets(),
            destination: peer.public.octets(),
        };
        let outer = outer.emit();
        writer.put(&outer);
        writer.headers.checksum = [outer[10], outer[11]];
        writer.tunnel(own.mac, peer.mac, tunnel);
        writer.headers
    }

    /// VXLAN over IPv6.
    #[must_use]
    pub fn vxlan_v6(link: Link, own: Vtep<Ipv6Addr>, peer: Vtep<Ipv6Addr>, tunnel: Tunnel) -> Self {
        let mut writer = Writer::new(Carrier::VxlanV6);
        writer.ethernet(link, EtherType::IPV6);
        let outer = ipv6::Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 0,
            next_header: Protocol::UDP.0,
            hop_limit: OUTER_TTL,
            source: own.public.octets(),
            destination: peer.public.octets(),
        };
        writer.put(&outer.emit());
        writer.tunnel(own.mac, peer.mac, tunnel);
        writer.headers
    }

    /// How the packet is carried.
    #[must_use]
    #[inline]
    pub const fn carrier(&self) -> Carrier {
        match self.carrier {
            1 | 3 => Carrier::VxlanV4,
            2 | 4 => Carrier::VxlanV6,
            _ => Carrier::Direct,
        }
    }

    /// How many bytes of the link's MTU these headers take.
    #[must_use]
    pub const fn overhead(&self) -> u16 {
        (self.len as u16).saturating_sub(ethernet::HEADER_LEN as u16)
    }

    /// Puts the headers before the packet of `len` bytes that begins `at` bytes into the frame, in place of what
    /// stands there, and takes off what is behind it.
    ///
    /// Work: copies the headers; over IPv6 it also sums the packet, since UDP must have a checksum
    /// there (RFC 8200 §8.1). Over IPv4 the outer UDP checksum is zero (RFC 7348 §5).
    ///
    /// # Errors
    /// [`DropReason::NoRoom`] where the headroom is too short, or the frame's buffer behind it;
    /// [`DropReason::TooBig`] past 65535 bytes. The packet itself is untouched.
    #[inline(always)]
    pub fn encapsulate(&self, frame: &mut Frame<'_>, at: usize, len: u16, passage: Passage) -> Result<(), DropReason> {
        let outer_len = len.checked_add(self.overhead()).ok_or(DropReason::TooBig)?;
        let bytes = frame.rebuild(at, usize::from(len), usize::from(self.len)).ok_or(DropReason::NoRoom)?;
        match self.carrier {
            1 => self.write_v4(bytes, outer_len, passage),
            2 => self.write_v6(bytes, outer_len, passage),
            3.. => {
                let Passage { entropy, identification, tos } = passage;
                self.write_marked(bytes, outer_len, entropy, identification, tos)
            }
            0 => {
                const LEN: usize = ethernet::HEADER_LEN;
                let (Some(place), Some(own)) = (bytes.first_chunk_mut::<LEN>(), self.bytes.first_chunk()) else {
                    return Err(DropReason::NoRoom);
                };
                *place = *own;
                Ok(())
            }
        }
    }

    /// As the usual ones, and then the codepoint. What differs from packet to packet comes in registers:
    /// in memory, the usual ones would write it too.
    #[cold]
    #[inline(never)]
    fn write_marked(
        &self,
        bytes: &mut [u8],
        outer_len: u16,
        entropy: u64,
        identification: u16,
        tos: u8,
    ) -> Result<(), DropReason> {
        let passage = Passage { entropy, identification, tos };
        let dscp = Dscp::new(self.dscp).unwrap_or(Dscp::of(passage.tos));
        match self.carrier() {
            Carrier::VxlanV6 => {
                self.write_v6(bytes, outer_len, passage)?;
                let header = bytes.get_mut(OUTER..).and_then(ipv6::HeaderMut::at_front);
                header.ok_or(DropReason::NoRoom)?.set_dscp(dscp);
            }
            _ => {
                self.write_v4(bytes, outer_len, passage)?;
                let header = bytes.get_mut(OUTER..).and_then(ipv4::HeaderMut::at_front);
                header.ok_or(DropReason::NoRoom)?.set_dscp(dscp);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn write_v4(&self, bytes: &mut [u8], outer_len: u16, passage: Passage) -> Result<(), DropReason> {
        const LEN: usize = OUTER + ipv4::HEADER_LEN + TUNNEL_LEN;
        let (Some(place), Some(own)) = (bytes.first_chunk_mut::<LEN>(), self.bytes.first_chunk()) else {
            return Err(DropReason::NoRoom);
        };
        *place = *own;
        let tos = Ecn::of(passage.tos).mark(0);
        let id = passage.identification.to_be_bytes();
        let total = outer_len.to_be_bytes();
        let delta = Delta::NONE.replace4([0x45, 0, 0, 0], [0x45, tos, total[0], total[1]]).replace2([0; 2], id);
        place[OUTER + 1] = tos;
        [place[OUTER + 2], place[OUTER + 3]] = total;
        [place[OUTER + 4], place[OUTER + 5]] = id;
        [place[OUTER + 10], place[OUTER + 11]] = delta.apply(self.checksum);
        const UDP: usize = OUTER + ipv4::HEADER_LEN;
        [place[UDP], place[UDP + 1]] = source_port(passage.entropy);
        [place[UDP + 4], place[UDP + 5]] = (outer_len - ipv4::HEADER_LEN as u16).to_be_bytes();
        Ok(())
    }

    #[inline(always)]
    fn write_v6(&self, bytes: &mut [u8], outer_len: u16, passage: Passage) -> Result<(), DropReason> {
        const LEN: usize = OUTER + ipv6::HEADER_LEN + TUNNEL_LEN;
        let (Some(place), Some(own)) = (bytes.first_chunk_mut::<LEN>(), self.bytes.first_chunk()) else {
            return Err(DropReason::NoRoom);
        };
        *place = *own;
        let payload = outer_len - ipv6::HEADER_LEN as u16;
        // The low two bits of the traffic class are the middle of the second byte.
        place[OUTER + 1] = Ecn::of(passage.tos).mark(0) << 4;
        [place[OUTER + 4], place[OUTER + 5]] = payload.to_be_bytes();
        const UDP: usize = OUTER + ipv6::HEADER_LEN;
        [place[UDP], place[UDP + 1]] = source_port(passage.entropy);
        [place[UDP + 4], place[UDP + 5]] = payload.to_be_bytes();
        self.fill_checksum_v6(bytes, payload);
        Ok(())
    }

    #[inline(never)]
    fn fill_checksum_v6(&self, bytes: &mut [u8], payload: u16) {
        const UDP: usize = OUTER + ipv6::HEADER_LEN;
        let (Some(addresses), Some(datagram)) = (bytes.get(OUTER + 8..UDP), bytes.get(UDP..)) else { return };
        let sum = Sum::NONE.bytes(addresses).two(payload.to_be_bytes()).two([0, Protocol::UDP.0]).bytes(datagram);
        let checksum = sum.finish_udp();
        if let Some(field) = bytes.get_mut(UDP + udp::CHECKSUM_OFFSET..UDP + udp::CHECKSUM_OFFSET + 2) {
            field.copy_from_slice(&checksum);
        }
    }
}

#[inline]
fn source_port(entropy: u64) -> [u8; 2] {
    (ENTROPY_FIRST + reduce(entropy as u32, ENTROPY_PORTS) as u16).to_be_bytes()
}

/// What came out of a VXLAN datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Where the inner packet begins, in bytes from the start of the UDP data.
    pub offset: usize,
    /// Its family.
    pub ethertype: EtherType,
}

/// Opens a VXLAN datagram that is addressed to the gateway: `data` follows the UDP header.
///
/// Reserved bits are ignored (RFC 7348 §5).
///
/// # Errors
/// - [`DropReason::VxlanFlags`], [`DropReason::VxlanVni`]: not a frame of this network.
/// - [`DropReason::VxlanInnerAddress`]: an inner frame for another station, or for several.
/// - [`DropReason::NotIp`]: an inner frame with an 802.1Q tag (RFC 7348 §6.1).
/// - [`DropReason::Truncated`].
#[inline]
pub fn decapsulate(data: &[u8], vni: Vni, vtep: &Mac) -> Result<Opened, DropReason> {
    // One look at the length for both headers.
    let both = data.first_chunk::<{ vxlan::HEADER_LEN + ethernet::HEADER_LEN }>().ok_or(DropReason::Truncated)?;
    let (header, frame) = vxlan::Header::parse(both)?;
    if header.vni() != vni {
        return Err(DropReason::VxlanVni);
    }
    let inner = frame.first_chunk().ok_or(DropReason::Truncated)?;
    if !ethernet::is_for(inner, vtep) {
        return Err(DropReason::VxlanInnerAddress);
    }
    match ethernet::ethertype(inner) {
        EtherType::VLAN => Err(DropReason::NotIp),
        ethertype => Ok(Opened { offset: vxlan::HEADER_LEN + ethernet::HEADER_LEN, ethertype }),
    }
}

/// The inner ECN after an outer header with `outer` has been taken off (RFC 6040 §4.2, figure 4).
///
/// # Errors
/// [`DropReason::EcnNotCapable`] where congestion was marked on a packet that cannot carry the mark.
#[inline]
pub const fn decapsulated_ecn(inner: Ecn, outer: Ecn) -> Result<Ecn, DropReason> {
    match (inner, outer) {
        (Ecn::NotCapable, Ecn::Congested) => Err(DropReason::EcnNotCapable),
        (Ecn::NotCapable, _) => Ok(Ecn::NotCapable),
        (_, Ecn::Congested) => Ok(Ecn::Congested),
        (Ecn::Capable0, Ecn::Capable1) => Ok(Ecn::Capable1),
        (inner, _) => Ok(inner),
    }
}

struct Writer {
    headers: Headers,
}

impl Writer {
    const fn new(carrier: Carrier) -> Self {
        let carrier = match carrier {
            Carrier::Direct => 0,
            Carrier::VxlanV4 => 1,
            Carrier::VxlanV6 => 2,
        };
        Self { headers: Headers { bytes: [0; HEADERS_MAX], len: 0, carrier, checksum: [0; 2], dscp: 0, reserved: 0 } }
    }

    fn put(&mut self, part: &[u8]) {
        let len = usize::from(self.headers.len);
        if let Some(place) = self.headers.bytes.get_mut(len..len + part.len()) {
            place.copy_from_slice(part);
            self.headers.len += part.len() as u8;
        }
    }

    fn ethernet(&mut self, link: Link, ethertype: EtherType) {
        self.put(&link.destination.0);
        self.put(&link.source.0);
        self.put(&ethertype.0.to_be_bytes());
    }

    fn tunnel(&mut self, own: Mac, peer: Mac, tunnel: Tunnel) {
        if tunnel.dscp != OuterDscp::default() {
            self.headers.carrier += MARKED;
            self.headers.dscp = if let OuterDscp::Fixed(dscp) = tunnel.dscp { dscp.number() } else { COPY };
        }
        self.put(&udp::emit([0; 2], tunnel.port.to_be_bytes(), 0, [0; 2]));
        self.put(&vxlan::emit(tunnel.vni));
        self.ethernet(Link { destination: peer, source: own }, tunnel.inner);
    }
}
