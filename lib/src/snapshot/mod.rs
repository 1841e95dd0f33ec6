//! What the control side knows, compiled for the workers.

mod description;

pub use description::{
    Backend, Description, Encapsulation, Gateway, Neighbour, NextHop, Peer, Port, Route, Service, Timeouts, Vtep,
};
