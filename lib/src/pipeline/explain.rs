//! What the pipeline tells about its way to a verdict.

use core::net::IpAddr;

use crate::flow::Direction;
use crate::net::{Endpoint, Mac, PortId};
use crate::verdict::Verdict;
use crate::wire::Dscp;

/// One thing that the pipeline found or did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step {
    /// The packet belongs to a flow.
    FlowFound(Direction),
    /// The packet belongs to no flow; this service listens where it goes.
    Service(u32),
    /// The client is inside the overlay: a pool address stands for it, whatever the service's policy.
    Hairpin,
    /// The service's selector gave this backend.
    Selected(Endpoint),
    /// Towards the backend the client shall have this address and port.
    Bound(Endpoint),
    /// The maximum segment size that a handshake announces was lowered to this.
    MssLowered(u16),
    /// The packet was given this differentiated services codepoint, as its service has it.
    Marked(Dscp),
    /// Addresses and ports were replaced: the source and destination now.
    Translated(Endpoint, Endpoint),
    /// Sent to a peer's node, through this port.
    ToPeer(PortId),
    /// Sent to a station on a link: the next hop, and the link address it is known by.
    ToLink(PortId, IpAddr, Mac),
    /// No flow may begin, and the packet goes on without one, as it would with one.
    Placed(Direction),
    /// A ping was answered.
    Answered,
    /// An ICMP error of the gateway's own takes the packet's place.
    ErrorSent(&'static str),
    /// A part of a datagram waits: it came before the first one, or there were no buffers to cut it into.
    Held,
    /// Too large for its way, it goes in so many pieces.
    Cut(usize),
    /// The end.
    Decided(Verdict),
}

/// Listens to the pipeline.
pub trait Recorder {
    /// Hears one step of the frame with this place in the burst.
    fn step(&mut self, frame: usize, step: Step);
}

/// Nobody listens.
impl Recorder for () {
    #[inline(always)]
    fn step(&mut self, _: usize, _: Step) {}
}
