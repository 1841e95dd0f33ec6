//! What the pipeline reports: the steps of a frame on its way to a verdict, and what becomes of flows.

use core::net::IpAddr;

use crate::flow::{Direction, Flow, FlowEvent};
use crate::net::{Endpoint, Mac, PortId};
use crate::verdict::Verdict;
use crate::wire::Dscp;

/// One thing that the pipeline found or did with a frame.
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
    /// Sent to a neighbour on a link: the next hop, and its link address.
    ToLink(PortId, IpAddr, Mac),
    /// No flow may begin, and the packet goes on without one, as it would with one.
    Stateless(Direction),
    /// A ping was answered.
    Answered,
    /// An ICMP error of the gateway's own takes the packet's place.
    ErrorSent(&'static str),
    /// A TCP reset of the gateway's own takes the packet's place.
    ResetSent,
    /// A fragment waits: it came before the first one, or there were too few spare buffers to fragment it again.
    Held,
    /// Too large for its egress, it leaves in so many fragments.
    Fragmented(usize),
    /// The end.
    Decided(Verdict),
}

/// Observes the pipeline. The default of each method does nothing, and costs nothing.
///
/// Flows also end as they age: `Worker::age_observed` reports those. Flows that a worker adopts are in its tables from
/// the start, and are not reported as begun; which service they are of is known with their next packet. A flow that
/// `Worker::forget` forgets is not reported.
///
/// # Examples
///
/// ```
/// use weirgate::flow::{Direction, Flow, FlowEvent};
/// use weirgate::pipeline::Observer;
///
/// /// A log of the connections that have ended.
/// struct Log;
///
/// impl Observer for Log {
///     fn flow(&mut self, flow: Flow<'_>, event: FlowEvent) {
///         if let FlowEvent::Ended(why) = event {
///             let [client, frontend] = flow.endpoints(Direction::Original);
///             println!("{client} to {frontend} at {:?}: {why:?}, {:?}", flow.backend(), flow.traffic());
///         }
///     }
/// }
/// ```
pub trait Observer {
    /// One step of the frame with this place in the burst.
    #[inline(always)]
    fn step(&mut self, _frame: usize, _step: Step) {}

    /// A flow has begun, changed or ended.
    #[inline(always)]
    fn flow(&mut self, _flow: Flow<'_>, _event: FlowEvent) {}
}

/// Observes nothing.
impl Observer for () {}
