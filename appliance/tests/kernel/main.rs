//! The appliance against a real kernel, in network namespaces of its own. Needs root. One binary, since each costs a link.

mod conns;
mod follow;
mod namespace;
mod netlink;
mod offloads;
mod steering;
