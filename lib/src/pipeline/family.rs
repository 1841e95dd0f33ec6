//! What differs between IPv4 and IPv6 on the data path. `translate` has both families' bytes.

use super::item::{Item, Sorted};
use super::report::Report;
use crate::flow::Tuple;
use crate::net::Mac;
use crate::snapshot::{Family, Snapshot};
use crate::verdict::DropReason;
use crate::wire::ethernet::EtherType;
use crate::wire::packet::{Packet, PlainUdp};
use crate::wire::quote::Quote;
use crate::wire::{Dscp, Ecn, ParseError};

/// What differs between the families on the data path.
pub(super) trait Wire: Family {
    /// The gateway's end of the overlay over this family, and whether there is one.
    fn vtep(snapshot: &Snapshot<'_>) -> (Self, bool);

    /// The link address of that end.
    fn vtep_mac<'a>(snapshot: &Snapshot<'a>) -> &'a Mac;

    /// The item of a packet of this family.
    fn sorted(item: Item<Self>) -> Sorted;

    /// Reads a packet; `None` for one off the fast path.
    fn parse_plain(ip: &[u8]) -> Result<Option<Packet<Self>>, ParseError>;

    /// Whether this is to this address, of a family whose outer datagrams are read by
    /// [`parse_plain_udp`](Self::parse_plain_udp).
    fn is_to(ip: &[u8], address: Self) -> bool;

    /// Whether this is UDP.
    fn is_udp(ip: &[u8]) -> bool;

    /// Reads a datagram whose data are another packet; `None` for one off the fast path, or with something wrong.
    fn parse_plain_udp(ip: &[u8]) -> Option<PlainUdp>;

    /// Reads any packet.
    fn parse(ip: &[u8]) -> Result<Packet<Self>, ParseError>;

    /// Replaces addresses and ports by those of `to`, takes one hop off, keeps all checksums right.
    ///
    /// - `whole_len`: with the first fragment of an SCTP packet, bytes of the whole.
    fn translate(ip: &mut [u8], packet: &Packet<Self>, to: &Tuple<Self>, whole_len: u16) -> Result<(), DropReason>;

    /// Gives an IPv4 fragment its datagram's identification; fragments of IPv6 keep theirs.
    fn set_identification(ip: &mut [u8], identification: u16);

    /// Replaces the congestion mark.
    fn set_ecn(ip: &mut [u8], ecn: Ecn);

    /// Replaces the differentiated services codepoint.
    fn set_dscp(ip: &mut [u8], dscp: Dscp) -> Option<()>;

    /// Whether a packet from this address may be forwarded.
    fn may_send(address: Self) -> bool;

    /// Makes an echo request its own reply, or a later fragment of one that of the reply.
    fn answer_echo(ip: &mut [u8], packet: &Packet<Self>) -> Option<()>;

    /// Whether a parsed packet has a source route.
    fn has_source_route(ip: &[u8]) -> bool;

    /// Bytes of the family's IP header without options.
    const HEADER_LEN: usize;

    /// Whether every UDP datagram has a checksum (RFC 8200 §8.1).
    const HAS_UDP_CHECKSUM: bool;

    /// The most bytes of an ICMP error, from its IP header on.
    const ERROR_LEN_MAX: usize;

    /// The type of service or traffic class of one of the gateway's own.
    const ERROR_TOS: u8;

    /// Writes the headers of an ICMP error before the packet that it quotes: `ip` begins where the
    /// error's IP header shall.
    fn write_error(ip: &mut [u8], report: Report, source: Self, destination: Self) -> Option<()>;

    /// Writes a TCP reset of this tuple into exactly as many bytes.
    fn write_reset(ip: &mut [u8], tuple: &Tuple<Self>, sequence: u32) -> Option<()>;

    /// Whether the packet's transport checksum is right; `None` where that cannot be told.
    fn is_intact(ip: &[u8], packet: &Packet<Self>) -> Option<bool>;

    /// Whether an ICMP error of this type means anything on the other side of a translation: not a
    /// redirect, which speaks of the link it was sent on, nor source quench (RFC 6633).
    fn is_translatable(kind: u8) -> bool;

    /// Whether an ICMP error of this type and code tells of an MTU (RFC 1191 §4, RFC 4443 §3.2).
    fn is_too_big(type_and_code: [u8; 2]) -> bool;

    /// Reads what an ICMP error quotes.
    fn quote(quoted: &[u8]) -> Result<Quote<Self>, ParseError>;

    /// Replaces an ICMP error's addresses by those of `to` (source, destination) and those of the
    /// packet that it quotes by `quoted`, takes one hop off, keeps all checksums right.
    fn translate_error(
        ip: &mut [u8],
        packet: &Packet<Self>,
        quote: &Quote<Self>,
        quoted: &Tuple<Self>,
        to: (Self, Self),
    ) -> Result<(), DropReason>;
}

/// Whether this is the family of IPv4.
pub(super) const fn is_v4<A: Wire>() -> bool {
    A::ETHERTYPE.0 == EtherType::IPV4.0
}
