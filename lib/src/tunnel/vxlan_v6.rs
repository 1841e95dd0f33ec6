//! VXLAN over IPv6.

use core::net::Ipv6Addr;

use super::vxlan::{TUNNEL_LEN, Tunnel, Vtep, source_port};
use super::{Carrier, Headers, Link, OUTER, OUTER_TTL, Passage, Writer};
use crate::frame::Frame;
use crate::net::Protocol;
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::EtherType;
use crate::wire::{Dscp, Ecn, ipv6, udp};

impl Headers {
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
        writer.vxlan(own.mac, peer.mac, tunnel);
        writer.headers
    }

    /// Puts the headers before the packet, completed for its length and with its checksum.
    #[inline(always)]
    pub(super) fn write_vxlan_v6(
        &self,
        frame: &mut Frame<'_>,
        at: usize,
        len: u16,
        passage: Passage,
    ) -> Result<(), DropReason> {
        const LEN: usize = OUTER + ipv6::HEADER_LEN + TUNNEL_LEN;
        let total = len.checked_add((LEN - OUTER) as u16).ok_or(DropReason::TooBig)?;
        let place = self.put::<LEN>(frame, at, len)?;
        let payload = total - ipv6::HEADER_LEN as u16;
        // The low two bits of the traffic class are the middle of the second byte.
        place[OUTER + 1] = Ecn::of(passage.tos).mark(0) << 4;
        [place[OUTER + 4], place[OUTER + 5]] = payload.to_be_bytes();
        const UDP: usize = OUTER + ipv6::HEADER_LEN;
        [place[UDP], place[UDP + 1]] = source_port(passage.entropy);
        [place[UDP + 4], place[UDP + 5]] = payload.to_be_bytes();
        fill_checksum(frame.bytes_mut(), payload);
        Ok(())
    }
}

#[inline(never)]
fn fill_checksum(bytes: &mut [u8], payload: u16) {
    const UDP: usize = OUTER + ipv6::HEADER_LEN;
    let (Some(addresses), Some(datagram)) = (bytes.get(OUTER + 8..UDP), bytes.get(UDP..)) else { return };
    let sum = Sum::NONE.bytes(addresses).two(payload.to_be_bytes()).two([0, Protocol::UDP.0]).bytes(datagram);
    let checksum = sum.finish_udp();
    if let Some(field) = bytes.get_mut(UDP + udp::CHECKSUM_OFFSET..UDP + udp::CHECKSUM_OFFSET + 2) {
        field.copy_from_slice(&checksum);
    }
}

/// Gives the outer header its codepoint.
pub(super) fn mark(bytes: &mut [u8], dscp: Dscp) -> Result<(), DropReason> {
    let header = bytes.get_mut(OUTER..).and_then(ipv6::HeaderMut::at_front);
    header.ok_or(DropReason::NoRoom)?.set_dscp(dscp);
    Ok(())
}
