//! Across the underlay and back: the headers that carry a packet to a peer's node, put before it
//! and taken off in place.
//!
//! Each tunnel is a file with a template of its headers and a writer that completes them, and an opener where there is
//! something to open: [`vxlan`] for what VXLAN has in common, `vxlan_v4` and `vxlan_v6` for its outer headers,
//! `direct` for packets that cross the underlay as they are. Another tunnel is another file, a [`Carrier`] and an arm
//! in [`Headers::encapsulate`].
//!
//! # Examples
//!
//! A packet goes into VXLAN and comes out again:
//!
//! ```
//! use core::net::Ipv4Addr;
//!
//! use weirgate::frame::{Frame, HEADROOM_MAX};
//! use weirgate::net::{Mac, PortId, Vni};
//! use weirgate::tunnel::{Headers, Link, OuterDscp, Passage, Tunnel, Vtep, vxlan};
//! use weirgate::wire::ethernet::EtherType;
//!
//! let vni = Vni::new(1).unwrap();
//! let own = Vtep { public: Ipv4Addr::new(10, 99, 0, 50), mac: Mac([2, 0, 0, 0, 0, 1]) };
//! let peer = Vtep { public: Ipv4Addr::new(10, 99, 0, 11), mac: Mac([2, 0, 0, 0, 0, 2]) };
//! let link = Link { destination: Mac([2, 0, 0, 0, 1, 2]), source: Mac([2, 0, 0, 0, 1, 1]) };
//! let tunnel = Tunnel { vni, port: 8472, inner: EtherType::IPV4, dscp: OuterDscp::default() };
//! let headers = Headers::vxlan_v4(link, own, peer, tunnel);
//! assert_eq!(headers.overhead(), 50);
//!
//! let packet = [0x45; 84];
//! let mut buffer = [0; 256];
//! buffer[HEADROOM_MAX..][..84].copy_from_slice(&packet);
//! let mut frame = Frame::new(&mut buffer, HEADROOM_MAX, 84, PortId(0))?;
//! headers.encapsulate(&mut frame, 0, 84, Passage { entropy: 7, identification: 1, tos: 0 }).unwrap();
//! assert_eq!(frame.len(), 14 + 50 + 84);
//!
//! // Behind Ethernet, IPv4 and UDP lies what the peer opens.
//! let datagram = &frame.bytes()[14 + 20 + 8..];
//! let opened = vxlan::decapsulate(datagram, vni, &peer.mac).unwrap();
//! assert_eq!(datagram[opened.offset..], packet);
//! # Ok::<(), weirgate::frame::OutsideBuffer>(())
//! ```

mod direct;
mod ecn;
pub mod vxlan;
mod vxlan_v4;
mod vxlan_v6;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::frame::Frame;
use crate::net::Mac;
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, EtherType};
use crate::wire::{Dscp, ipv6};

pub use ecn::decapsulated_ecn;
pub use vxlan::{OuterDscp, Tunnel, Vtep};

/// The most bytes that stand before an inner IP header: Ethernet, IPv6, UDP, VXLAN, Ethernet.
const HEADERS_MAX: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + vxlan::TUNNEL_LEN;

/// Where the outer IP header begins.
const OUTER: usize = ethernet::HEADER_LEN;

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
    /// The next hop.
    pub destination: Mac,
    /// The gateway's port.
    pub source: Mac,
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
    /// The outer header's codepoint where it is marked, or 255 for that of the packet inside.
    dscp: u8,
    reserved: u8,
}

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
        match self.carrier {
            1 => self.write_vxlan_v4(frame, at, len, passage),
            2 => self.write_vxlan_v6(frame, at, len, passage),
            3.. => {
                let Passage { entropy, identification, tos } = passage;
                self.write_marked(frame, at, len, entropy, identification, tos)
            }
            0 => self.write_direct(frame, at, len),
        }
    }

    /// As the usual ones, and then the codepoint. What differs from packet to packet comes in registers:
    /// in memory, the usual ones would write it too.
    #[cold]
    #[inline(never)]
    fn write_marked(
        &self,
        frame: &mut Frame<'_>,
        at: usize,
        len: u16,
        entropy: u64,
        identification: u16,
        tos: u8,
    ) -> Result<(), DropReason> {
        let passage = Passage { entropy, identification, tos };
        let dscp = Dscp::new(self.dscp).unwrap_or(Dscp::of(passage.tos));
        match self.carrier() {
            Carrier::VxlanV6 => {
                self.write_vxlan_v6(frame, at, len, passage)?;
                vxlan_v6::mark(frame.bytes_mut(), dscp)
            }
            _ => {
                self.write_vxlan_v4(frame, at, len, passage)?;
                vxlan_v4::mark(frame.bytes_mut(), dscp)
            }
        }
    }

    /// Puts headers of `LEN` bytes before the packet, as they are here, and returns them.
    #[inline(always)]
    fn put<'f, const LEN: usize>(
        &self,
        frame: &'f mut Frame<'_>,
        at: usize,
        len: u16,
    ) -> Result<&'f mut [u8; LEN], DropReason> {
        let place = frame.rebuild_behind(at, usize::from(len)).ok_or(DropReason::NoRoom)?;
        if let Some(own) = self.bytes.first_chunk() {
            *place = *own;
        }
        Ok(place)
    }
}

/// Puts a template of headers together.
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
}
