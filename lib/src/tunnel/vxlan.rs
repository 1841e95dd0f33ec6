//! What VXLAN has in common over both families (RFC 7348): its ends, what stands behind the outer IP header, and how
//! it is opened.

use super::{Link, Writer};
use crate::hash::reduce;
use crate::net::{Mac, Vni};
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, EtherType};
use crate::wire::{Dscp, udp, vxlan};

/// UDP, VXLAN and the inner Ethernet header.
pub(super) const TUNNEL_LEN: usize = udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;

/// Outer source ports: the range that Linux gives to tunnels (`ip_local_port_range`).
const ENTROPY_FIRST: u16 = 32_768;
const ENTROPY_PORTS: u32 = 28_232;

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

/// The differentiated services codepoint of VXLAN's outer headers. On the way out of VXLAN, the inner
/// one stays as it is (RFC 2983 §3.1, pipe model).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OuterDscp {
    /// This one, whatever is inside.
    Fixed(Dscp),
    /// That of the packet inside.
    Copy,
}

impl Default for OuterDscp {
    fn default() -> Self {
        Self::Fixed(Dscp::DEFAULT)
    }
}

/// One end of a VXLAN overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vtep<A> {
    /// The underlay address that peers send to.
    pub public: A,
    /// The inner link address that peers send to.
    pub mac: Mac,
}

/// Stands for the codepoint of the packet inside.
const COPY: u8 = u8::MAX;

/// Above the number of a carrier whose outer header is to be marked: the usual ones cost nothing for it.
const MARKED: u8 = 2;

impl Writer {
    pub(super) fn vxlan(&mut self, own: Mac, peer: Mac, tunnel: Tunnel) {
        if tunnel.dscp != OuterDscp::default() {
            self.headers.carrier += MARKED;
            self.headers.dscp = if let OuterDscp::Fixed(dscp) = tunnel.dscp { dscp.number() } else { COPY };
        }
        self.put(&udp::emit([0; 2], tunnel.port.to_be_bytes(), 0, [0; 2]));
        self.put(&vxlan::emit(tunnel.vni));
        self.ethernet(Link { destination: peer, source: own }, tunnel.inner);
    }
}

#[inline]
pub(super) fn source_port(entropy: u64) -> [u8; 2] {
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
/// - [`DropReason::VxlanInnerAddress`]: an inner frame for another receiver, or for a group.
/// - [`DropReason::NotIp`]: an inner frame with an 802.1Q tag (RFC 7348 §6.1).
/// - [`DropReason::Truncated`].
#[inline]
pub fn decapsulate(data: &[u8], vni: Vni, vtep: &Mac) -> Result<Opened, DropReason> {
    decapsulate_from(data, &vni.0, vtep)
}

/// As [`decapsulate`], and compares the network where it is, which a copy of three bytes would have to be put first.
#[inline(always)]
pub(crate) fn decapsulate_from(data: &[u8], vni: &[u8; 3], vtep: &Mac) -> Result<Opened, DropReason> {
    // One look at the length for both headers.
    let both = data.first_chunk::<{ vxlan::HEADER_LEN + ethernet::HEADER_LEN }>().ok_or(DropReason::Truncated)?;
    let (header, frame) = vxlan::Header::parse(both)?;
    if !header.is_of(vni) {
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
