//! What is wrong with bytes that are not what they were read as, in words.

use core::fmt;

use super::{Layer, ParseError};

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ethernet => "Ethernet",
            Self::Vlan => "802.1Q",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Ipv6Extension => "IPv6 extension",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::SctpChunk => "SCTP chunk",
            Self::Icmpv4 => "ICMP",
            Self::Icmpv6 => "ICMPv6",
            Self::Vxlan => "VXLAN",
        })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { layer, need, have } => write!(f, "{layer} header: {need} bytes asked for, {have} there"),
            Self::BadVersion { version } => write!(f, "IP version {version}"),
            Self::BadLength { layer, len } => write!(f, "{layer} header: a length of {len} bytes cannot be"),
            Self::BadIpChecksum => f.write_str("the IPv4 header checksum is wrong"),
            Self::NestedVlan => f.write_str("a second VLAN tag behind the first"),
            Self::BadFragment { offset } => write!(f, "the fragment at {offset} cannot lie in a datagram"),
            Self::TinyFragment { have } => {
                write!(f, "the first fragment ends before its transport header: {have} bytes there")
            }
            Self::ExtensionHeader { header } => write!(f, "IPv6 extension header {header} is not carried"),
            Self::RoutingHeader { kind } => write!(f, "a routing header of type {kind} with segments left"),
            Self::UdpChecksumMissing { port } => write!(f, "UDP over IPv6 to port {port} without a checksum"),
            Self::VniFlagClear => f.write_str("VXLAN whose VNI is not marked valid"),
        }
    }
}

impl core::error::Error for ParseError {}
