//! What the control side knows, compiled for the workers: bytes with offsets, immutable, swapped
//! whole between bursts.

mod compile;
mod description;
mod layout;
mod ranges;
mod sections;
mod view;

pub use crate::flow::Timeouts;
pub use crate::tunnel::{OuterDscp, Vtep};
pub use compile::{CompileError, bytes_required, compile};
pub use description::{
    Admission, Backend, ClientAddress, Description, Echo, Encapsulation, Gateway, Masquerade, MssLimit, NODE_PORTS,
    Neighbour, NextHop, PastLimit, Peer, Policy, Port, RemovedBackend, Route, RouteTarget, Service,
};
pub(crate) use layout::{BackendRecord, HopRecord, NeighbourRecord, PortRecord, RouteRecord, SelectorRecord};
pub use view::{AttachError, Snapshot};
pub(crate) use view::{Family, Selection};
