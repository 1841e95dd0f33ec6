//! What becomes of a frame, and the names of everything that can be wrong with one.

use core::fmt;

use crate::net::{PortId, WorkerId};
use crate::wire::ParseError;

/// The pipeline's answer for one frame.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Leaves on this port, as the frame now stands.
    Transmit(PortId),
    /// Belongs to the host: hand it to the kernel unchanged. Only of what the gateway is to see can this be said,
    /// see `pipeline::process`: TCP, UDP and SCTP to where no service listens, and other
    /// protocols than IP in frames to the port's own link address. What a pod sends to an address of the gateway's
    /// own, unanswered pings among it, is still in VXLAN: a kernel with a device for that network opens it, for others the caller has to.
    Host,
    /// Goes no further; the reason has been counted.
    Drop(DropReason),
    /// Belongs to a flow of this worker: hand over the descriptor, the frame is unchanged.
    Handover(WorkerId),
    /// A fragment that has to wait: the worker keeps a copy, the buffer is free.
    Held,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame was dropped. Every drop has exactly one of these, and every one is counted.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// Every reason, in the order of its counter.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name by which counters, logs and documents call this reason.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for an operator.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The frame ends before a header that it announces.
    Truncated = "truncated",
    /// A length or version field contradicts the frame that carries it.
    Malformed = "malformed",
    /// An IPv6 extension header that the gateway does not carry, or one out of place.
    ExtensionHeader = "extension-header",
    /// The IPv4 header checksum is wrong.
    BadIpChecksum = "bad-ip-checksum",
    /// Neither IPv4 nor IPv6 inside the Ethernet frame.
    NotIp = "not-ip",
    /// The frame came in on a port that the snapshot does not describe.
    UnknownPort = "unknown-port",
    /// The link-layer destination is not the port's own address.
    NotForThisLink = "not-for-this-link",
    /// A source or destination address that may not be forwarded: multicast, broadcast, loopback, unspecified; or the
    /// link address of a group as a source.
    MartianAddress = "martian-address",
    /// A source address of the gateway or its overlay arriving from outside.
    SpoofedSource = "spoofed-source",
    /// A transport protocol that the gateway does not carry.
    UnknownProtocol = "unknown-protocol",
    /// A fragment of what must not be fragmented: an ICMP error, or VXLAN (RFC 7348 §4.3).
    Fragment = "fragment",
    /// A first fragment that is too short for its transport header (RFC 1858 §3).
    FragmentTiny = "fragment-tiny",
    /// A fragment that overlaps another one of its datagram (RFC 5722 §4).
    FragmentOverlap = "fragment-overlap",
    /// A fragment that has come before.
    FragmentRepeated = "fragment-repeated",
    /// A fragment that contradicts the length of its datagram, or would make it longer than 65535 bytes.
    FragmentLength = "fragment-length",
    /// A fragment of a datagram of which another fragment was refused.
    FragmentRefused = "fragment-refused",
    /// A fragment that waited too long for the first one of its datagram.
    FragmentExpired = "fragment-expired",
    /// A fragment that waited, and was evicted for others.
    FragmentDisplaced = "fragment-displaced",
    /// VXLAN without the flag that says its VNI is valid (RFC 7348 §5).
    VxlanFlags = "vxlan-flags",
    /// VXLAN from a link that leads to no peer.
    VxlanLink = "vxlan-link",
    /// VXLAN of another network.
    VxlanVni = "vxlan-vni",
    /// VXLAN over IPv6 without a UDP checksum, or with a wrong one (RFC 8200 §8.1).
    VxlanChecksum = "vxlan-checksum",
    /// An inner frame that is not addressed to the gateway's VTEP.
    VxlanInnerAddress = "vxlan-inner-address",
    /// Congestion was marked outside an inner packet that cannot carry the mark (RFC 6040 §4.2).
    EcnNotCapable = "ecn-not-capable",
    /// The service has no backend.
    NoBackend = "no-backend",
    /// No route: over the overlay to the backend, or out of a port to the client.
    NoRoute = "no-route",
    /// The next hop's link address is not known yet.
    NeighbourUnresolved = "neighbour-unresolved",
    /// Belongs to none of the gateway's flows.
    NoFlow = "no-flow",
    /// A new flow that does not begin as its protocol does: TCP with SYN, SCTP with INIT.
    NotSyn = "not-syn",
    /// TCP flags that no segment has together.
    TcpFlags = "tcp-flags",
    /// SCTP chunks that no packet has together, or whose packet cannot have its tag (RFC 9260 §6.10, §8.5.1).
    SctpChunks = "sctp-chunks",
    /// A packet that the state of its flow does not allow.
    OutOfState = "out-of-state",
    /// The flow table has no room for another flow.
    FlowTableFull = "flow-table-full",
    /// The table fills, the client has as many half-open flows as one may have, and others' are older than its own.
    HalfOpenLimit = "half-open-limit",
    /// More flows began than the limit on new ones allows.
    NewFlowLimit = "new-flow-limit",
    /// No free port towards the backend on any pool address.
    PortsExhausted = "ports-exhausted",
    /// The service preserves the client's address and port, and another flow has them towards every backend that was
    /// tried.
    ReplyTaken = "reply-taken",
    /// From a pod to a destination outside that no pod's packet is to leave to.
    NotMasqueraded = "not-masqueraded",
    /// The packet's time to live or hop limit ran out.
    TtlExpired = "ttl-expired",
    /// Larger than its egress takes: neither may it be fragmented, nor its sender be told.
    TooBig = "too-big",
    /// No headroom or tailroom for the headers to add.
    NoRoom = "no-room",
    /// Too few spare buffers for the fragments that a packet has to be sent in.
    NoSpare = "no-spare",
    /// An error of the gateway's own was due, and its rate limit is used up.
    ErrorRateLimited = "error-rate-limited",
    /// A ping that the gateway would have answered, past the limit on such answers.
    EchoLimit = "echo-limit",
    /// A ping of the gateway itself with a source route, whose way back it would have to take (RFC 1122 §3.2.2.6).
    SourceRoute = "source-route",
    /// An ICMP message that answers to nothing the gateway carries.
    IcmpUnmatched = "icmp-unmatched",
    /// The owning worker's hand-over ring is full.
    HandoverFull = "handover-full",
    /// The transmit ring had no place left, or its interface was down.
    TransmitFull = "transmit-full",
    /// The host's way in had no place left.
    HostFull = "host-full",
}

impl fmt::Display for DropReason {
    /// Its [name](Self::name).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl core::error::Error for DropReason {}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Truncated { .. } => Self::Truncated,
            ParseError::BadVersion { .. }
            | ParseError::BadLength { .. }
            | ParseError::BadFragment { .. }
            | ParseError::UdpChecksumMissing { .. } => Self::Malformed,
            ParseError::TinyFragment { .. } => Self::FragmentTiny,
            ParseError::BadIpChecksum => Self::BadIpChecksum,
            ParseError::NestedVlan => Self::NotIp,
            ParseError::ExtensionHeader { .. } | ParseError::RoutingHeader { .. } => Self::ExtensionHeader,
            ParseError::VniFlagClear => Self::VxlanFlags,
        }
    }
}
