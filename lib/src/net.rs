//! The small vocabulary shared by every room: link addresses, overlay numbers, ports, protocols.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An Ethernet link address, in wire order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The all-zero address, which nobody has.
    pub const ZERO: Self = Self([0; 6]);
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is clear: the frame is meant for one receiver (IEEE 802-2014 §8.2).
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0
    }

    /// Whether this can be somebody's address: unicast and not all zero.
    #[must_use]
    pub fn is_assignable(self) -> bool {
        self.is_unicast() && self != Self::ZERO
    }

    /// Reads six octets of two hexadecimal digits, parted by colons.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next()?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *octet = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where on its link a frame came from: the link address of its sender, and its 802.1Q tag or zero. In one
/// piece, so that it is copied as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Origin([u8; 8]);

impl Origin {
    /// Nowhere.
    pub(crate) const NONE: Self = Self([0; 8]);

    /// Of this sender, with this tag.
    pub(crate) const fn new(Mac([a, b, c, d, e, f]): Mac, [v, w]: [u8; 2]) -> Self {
        Self([a, b, c, d, e, f, v, w])
    }

    /// Of the sender whose address the first six bytes are, without a tag.
    #[inline(always)]
    pub(crate) const fn untagged(bytes: [u8; 8]) -> Self {
        const ADDRESS: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        Self((u64::from_ne_bytes(bytes) & ADDRESS).to_ne_bytes())
    }

    /// The sender's link address.
    #[inline(always)]
    pub(crate) const fn mac(self) -> Mac {
        let [a, b, c, d, e, f, _, _] = self.0;
        Mac([a, b, c, d, e, f])
    }

    /// The tag, or zero.
    #[inline(always)]
    pub(crate) const fn vlan(self) -> [u8; 2] {
        let [.., v, w] = self.0;
        [v, w]
    }
}

/// A VXLAN network identifier: 24 bits, in wire order (RFC 7348 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Vni(pub [u8; 3]);

impl Vni {
    /// The identifier with this value, or `None` past 24 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        let [high, a, b, c] = value.to_be_bytes();
        if high == 0 { Some(Self([a, b, c])) } else { None }
    }

    /// The identifier as a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }
}

/// One of the gateway's attachments to a link: an index into the snapshot's ports, below [`PORTS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct PortId(pub u8);

/// The most ports that a gateway can have.
pub const PORTS_MAX: usize = 16;

/// The most pool addresses that a gateway can have of each family.
pub const POOL_MAX: usize = 64;

/// A worker: one core, one queue of each port, one set of flow tables. Below [`WORKERS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct WorkerId(pub u8);

/// The most workers that a gateway can have.
pub const WORKERS_MAX: usize = 64;

/// An IP protocol number (RFC 8200 §3, RFC 791 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// SCTP (RFC 9260).
    pub const SCTP: Self = Self(132);

    /// The name; `None` for a protocol that flows do not have.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ICMP => "icmp",
            Self::TCP => "tcp",
            Self::UDP => "udp",
            Self::ICMPV6 => "icmpv6",
            Self::SCTP => "sctp",
            Self(_) => return None,
        })
    }

    /// Every protocol that has a [`name`](Self::name), by number.
    pub fn named() -> impl Iterator<Item = (Self, &'static str)> {
        (0..=u8::MAX).map(Self).filter_map(|protocol| Some((protocol, protocol.name()?)))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "protocol-{}", self.0),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ports from the first to the last, both included. Empty where the last is below the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// A transport address: where a service listens or a backend answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// The network address.
    pub address: IpAddr,
    /// The transport port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A network: the addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    network: IpAddr,
    len: u8,
}

impl Prefix {
    /// The network of `len` bits that `address` is in; `None` where the family has fewer bits.
    #[must_use]
    pub const fn new(address: IpAddr, len: u8) -> Option<Self> {
        let network = match address {
            IpAddr::V4(address) if len <= 32 => {
                let mask = if len == 0 { 0 } else { u32::MAX << (32 - len) };
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) if len <= 128 => {
                let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Self { network, len })
    }

    /// The first address: all bits behind the prefix are zero.
    #[must_use]
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// How many bits the addresses share.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a network is never empty")]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether it is a network of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    /// Whether this address is in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.len).is_some_and(|other| other == *self)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `ADDRESS/LENGTH`; bits behind the prefix are cleared.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = text.split_once('/').ok_or(PrefixError)?;
        let address = address.parse().map_err(|_| PrefixError)?;
        Self::new(address, len.parse().map_err(|_| PrefixError)?).ok_or(PrefixError)
    }
}

/// A text that is not `ADDRESS/LENGTH`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixError;

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network is written as ADDRESS/LENGTH, such as 10.77.4.0/24")
    }
}

impl core::error::Error for PrefixError {}

#[cfg(feature = "ipnet")]
impl From<ipnet::IpNet> for Prefix {
    fn from(net: ipnet::IpNet) -> Self {
        let net = net.trunc();
        Self { network: net.network(), len: net.prefix_len() }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_prefix_clears_what_is_behind_it_and_holds_what_it_says() {
        for (text, canonical, inside, outside) in [
            ("10.5.7.9/16", "10.5.0.0/16", "10.5.255.255", "10.6.0.0"),
            ("0.0.0.0/0", "0.0.0.0/0", "255.255.255.255", "::"),
            ("192.0.2.1/32", "192.0.2.1/32", "192.0.2.1", "192.0.2.0"),
            ("fd77::1:2/64", "fd77::/64", "fd77::ffff", "fd77:0:0:1::"),
            ("::/0", "::/0", "ff02::1", "10.0.0.1"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(
                (prefix.to_string(), std::format!("{prefix:?}")),
                (canonical.to_string(), canonical.to_string())
            );
            assert_eq!(std::format!("{}/{}", prefix.network(), prefix.len()), canonical);
            assert_eq!(prefix.is_ipv4(), !text.contains(':'));
            assert!(prefix.contains(inside.parse().unwrap()) && !prefix.contains(outside.parse().unwrap()), "{text}");
        }
        for wrong in ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0/8", "/8", "10.0.0.0/-1"] {
            assert_eq!(wrong.parse::<Prefix>(), Err(PrefixError), "{wrong}");
        }
    }

    #[test]
    fn link_addresses_are_read_in_colon_form_only() {
        assert_eq!(Mac::parse("0a:B5:b9:10:98:4c").map(|mac| mac.to_string()).as_deref(), Some("0a:b5:b9:10:98:4c"));
        for wrong in
            ["", "0a:b5:b9:10:98", "0a:b5:b9:10:98:4c:00", "0a-b5-b9-10-98-4c", "0a:b5:b9:10:98:4", "+a:b5:b9:10:98:4c"]
        {
            assert_eq!(Mac::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_address_of_one_receiver_can_be_somebodys() {
        for (text, is_unicast, is_assignable) in [
            ("02:00:00:00:00:01", true, true),
            ("00:00:00:00:00:00", true, false),
            ("01:00:5e:00:00:01", false, false),
            ("ff:ff:ff:ff:ff:ff", false, false),
        ] {
            let mac = Mac::parse(text).unwrap();
            assert_eq!((mac.is_unicast(), mac.is_assignable()), (is_unicast, is_assignable), "{text}");
            assert_eq!(std::format!("{mac:?}"), text);
        }
    }

    #[test]
    fn an_origin_is_a_sender_with_its_tag() {
        let tagged = Origin::new(Mac([2, 0, 0, 0, 0, 1]), [0, 7]);
        assert_eq!((tagged.mac(), tagged.vlan()), (Mac([2, 0, 0, 0, 0, 1]), [0, 7]));
        let untagged = Origin::untagged([2, 0, 0, 0, 0, 1, 8, 9]);
        assert_eq!((untagged.mac(), untagged.vlan()), (Mac([2, 0, 0, 0, 0, 1]), [0, 0]));
    }

    #[test]
    fn a_network_identifier_has_24_bits() {
        assert_eq!(Vni::new(0x12_3456).map(|vni| (vni.0, vni.get())), Some(([0x12, 0x34, 0x56], 0x12_3456)));
        assert_eq!((Vni::new(0xff_ffff).map(Vni::get), Vni::new(1 << 24)), (Some(0xff_ffff), None));
    }

    #[test]
    fn protocols_and_endpoints_are_written_as_operators_write_them() {
        for (protocol, text) in [
            (Protocol::ICMP, "icmp"),
            (Protocol::TCP, "tcp"),
            (Protocol::UDP, "udp"),
            (Protocol::ICMPV6, "icmpv6"),
            (Protocol::SCTP, "sctp"),
            (Protocol(47), "protocol-47"),
        ] {
            assert_eq!((protocol.to_string(), std::format!("{protocol:?}")), (text.to_string(), text.to_string()));
        }
        let numbers: std::vec::Vec<u8> = Protocol::named().map(|(protocol, _)| protocol.0).collect();
        assert_eq!(numbers, [1, 6, 17, 58, 132]);
        for text in ["192.0.2.1:80", "[fd77::1]:443"] {
            let at: core::net::SocketAddr = text.parse().unwrap();
            assert_eq!(Endpoint { address: at.ip(), port: at.port() }.to_string(), text);
        }
    }
}
