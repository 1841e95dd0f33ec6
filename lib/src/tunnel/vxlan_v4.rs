//! VXLAN over IPv4.

use core::net::Ipv4Addr;

use super::vxlan::{TUNNEL_LEN, Tunnel, Vtep, source_port};
use super::{Carrier, Headers, Link, OUTER, OUTER_TTL, Passage, Writer};
use crate::frame::Frame;
use crate::net::Protocol;
use crate::verdict::DropReason;
use crate::wire::ethernet::EtherType;
use crate::wire::{Dscp, Ecn, ipv4};

impl Headers {
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
        writer.vxlan(own.mac, peer.mac, tunnel);
        writer.headers
    }

    /// Puts the headers before the packet, completed for its length.
    #[inline(always)]
    pub(super) fn write_vxlan_v4(
        &self,
        frame: &mut Frame<'_>,
        at: usize,
        len: u16,
        passage: Passage,
    ) -> Result<(), DropReason> {
        const LEN: usize = OUTER + ipv4::HEADER_LEN + TUNNEL_LEN;
        let total = len.checked_add((LEN - OUTER) as u16).ok_or(DropReason::TooBig)?;
        let place = self.put::<LEN>(frame, at, len)?;
        let tos = Ecn::of(passage.tos).mark(0);
        // What stands there has zeroes for these three.
        let sum = u32::from(!u16::from_be_bytes(self.checksum))
            + u32::from(tos)
            + u32::from(total)
            + u32::from(passage.identification);
        let checksum = !(sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        place[OUTER + 1] = tos;
        [place[OUTER + 2], place[OUTER + 3]] = total.to_be_bytes();
        [place[OUTER + 4], place[OUTER + 5]] = passage.identification.to_be_bytes();
        [place[OUTER + 10], place[OUTER + 11]] = checksum.to_be_bytes();
        const UDP: usize = OUTER + ipv4::HEADER_LEN;
        [place[UDP], place[UDP + 1]] = source_port(passage.entropy);
        [place[UDP + 4], place[UDP + 5]] = (total - ipv4::HEADER_LEN as u16).to_be_bytes();
        Ok(())
    }
}

/// Gives the outer header its codepoint.
pub(super) fn mark(bytes: &mut [u8], dscp: Dscp) -> Result<(), DropReason> {
    let header = bytes.get_mut(OUTER..).and_then(ipv4::HeaderMut::at_front);
    header.ok_or(DropReason::NoRoom)?.set_dscp(dscp);
    Ok(())
}
