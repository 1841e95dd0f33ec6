//! What a control plane says of the world, before it is compiled.
//!
//! Plain borrowed data: a control plane in any language can fill these in. [`compile`](super::compile)
//! checks them and writes the snapshot.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::flow::Timeouts;
use crate::maglev::TABLE_SIZE;
use crate::net::{Endpoint, Mac, PortId, Prefix, Protocol, Vni};
use crate::tunnel::{OuterDscp, Vtep};
use crate::wire::Dscp;

/// Everything that a snapshot is compiled from.
///
/// Of [`Default`], everything is empty: write `Description { ports, peers, ..Description::default() }`, so that a field
/// that comes later changes nothing of yours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Description<'a> {
    /// Grows with each snapshot of one gateway.
    pub generation: u32,
    /// The gateway itself, as a member of the overlay.
    pub gateway: Gateway<'a>,
    /// The gateway's links; their order gives the [`PortId`]s.
    pub ports: &'a [Port],
    /// The other members of the overlay.
    pub peers: &'a [Peer],
    /// The services, in any order.
    pub services: &'a [Service<'a>],
    /// The way back to clients, in any order; the longest prefix wins, and the last of equal ones.
    pub routes: &'a [Route],
    /// Link addresses of neighbours on the gateway's own links, as far as they are known.
    pub neighbours: &'a [Neighbour],
}

/// The node ports of a Kubernetes cluster that says nothing else.
pub const NODE_PORTS: (u16, u16) = (30_000, 32_767);

/// The gateway's own membership.
#[derive(Clone, Copy, Debug)]
pub struct Gateway<'a> {
    /// How many workers share the flows. The ports from the first of `pool_ports` and of the masquerade's on are
    /// dealt to them in turn, and endpoints outside whose addresses are preserved by the hash of `selector_seed`: while flows live,
    /// all four stay, or the flows are attached anew (`pipeline::Worker::attach`).
    pub workers: u8,
    /// The VXLAN network, where the backend is VXLAN.
    pub vni: Vni,
    /// The UDP port of VXLAN; flannel's is 8472.
    pub vxlan_port: u16,
    /// Own end of the overlay over IPv4, where there is one.
    pub v4: Option<Vtep<Ipv4Addr>>,
    /// Own end of the overlay over IPv6, where there is one.
    pub v6: Option<Vtep<Ipv6Addr>>,
    /// The largest packet inside VXLAN, where it is smaller than what the links leave.
    pub overlay_mtu: Option<u16>,
    /// Own overlay subnets, whose addresses nobody else uses.
    pub subnets: &'a [Prefix],
    /// The addresses that stand for clients towards backends: inside `subnets`, never their first.
    pub pool: &'a [IpAddr],
    /// The first and last port that a translation may use on a pool address.
    pub pool_ports: (u16, u16),
    /// The first and last node port: kept out of masquerade on addresses at which a
    /// service listens, whose clients could not be told from answers. Kubernetes has [`NODE_PORTS`].
    pub node_ports: (u16, u16),
    /// Pods' own connections to the outside.
    pub masquerade: Masquerade<'a>,
    /// The gateway's own addresses on its links, beside those above: nobody else sends from them.
    pub local: &'a [IpAddr],
    /// How far the maximum segment sizes that TCP's ends announce are lowered.
    pub mss: MssLimit,
    /// What the outer headers of VXLAN are marked with.
    pub outer_dscp: OuterDscp,
    /// Seed of the selector: equal on all gateways that shall pick the same backends.
    pub selector_seed: u64,
    /// Idle times after which a flow is forgotten.
    pub timeouts: Timeouts,
    /// How flows may begin.
    pub admission: Admission,
    /// Pings that the gateway answers itself.
    pub echo: Echo,
}

impl Default for Gateway<'_> {
    /// One worker, flannel's VXLAN network and port, and neither VTEPs, subnets nor addresses.
    fn default() -> Self {
        Self {
            workers: 1,
            vni: Vni([0, 0, 1]),
            vxlan_port: 8472,
            v4: None,
            v6: None,
            overlay_mtu: None,
            subnets: &[],
            pool: &[],
            pool_ports: (1024, 65_535),
            node_ports: NODE_PORTS,
            masquerade: Masquerade::NONE,
            local: &[],
            mss: MssLimit::default(),
            outer_dscp: OuterDscp::default(),
            selector_seed: 0,
            timeouts: Timeouts::default(),
            admission: Admission::default(),
            echo: Echo::default(),
        }
    }
}

impl Default for Masquerade<'_> {
    /// [`Masquerade::NONE`].
    fn default() -> Self {
        Self::NONE
    }
}

/// How pods' own connections to the outside leave: from addresses that stand for the pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Masquerade<'a> {
    /// The addresses, outside the overlay and for nothing else; without any, no pod's packet leaves.
    pub addresses: &'a [IpAddr],
    /// The first and last port, or echo identifier, that a translation may use on them.
    pub ports: (u16, u16),
    /// Destinations to which no pod's packet leaves.
    pub exempt: &'a [Prefix],
}

impl Masquerade<'_> {
    /// No pod's packet leaves.
    pub const NONE: Self = Self { addresses: &[], ports: (1024, 65_535), exempt: &[] };
}

/// Limits on how flows begin, for each worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The most half-open flows (TCP and SCTP whose handshake is not finished) of one client at a
    /// time: of an IPv4 address, of an IPv6 /64, of a pod. 0 for no limit. It holds once half-open flows
    /// take a quarter of the table, or all flows three quarters; then a further one takes the place of its
    /// client's oldest, where no other client has an older one. Clients share counters, so that one may be
    /// held for having a few more than it has; never fewer.
    pub half_open_per_client: u32,
    /// The most new flows in a second, with a tenth of that at once; 0 for no limit.
    pub new_flows_per_second: u32,
    /// What becomes of a packet that would begin a flow past that limit, or in a table in which
    /// nothing is evicted.
    pub past_limit: PastLimit,
}

/// What becomes of a packet for which no flow may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PastLimit {
    /// It is dropped.
    #[default]
    Drop,
    /// It is forwarded statelessly where that can be undone: if its service preserves clients' addresses
    /// ([`ClientAddress::Preserve`]), is TCP's or UDP's, and has one frontend in the packet's family, and the backend that the
    /// hash gives is no other service's. So is every TCP segment for such a service that has no flow and
    /// is no SYN; and whatever such a backend sends from its port that belongs to no flow and begins no TCP
    /// connection is taken for an answer. Everything else is dropped.
    Stateless,
}

impl Admission {
    /// The highest limit on new flows; a higher one is this.
    pub const NEW_FLOWS_MAX: u32 = 10_000_000;

    /// Nanoseconds from one new flow to the next; 0 for no limit.
    pub(super) const fn new_flow_ns(&self) -> u32 {
        apart(self.new_flows_per_second, Self::NEW_FLOWS_MAX)
    }
}

/// Nanoseconds from one to the next, of so many a second and at the most of `most`; 0 for no limit.
const fn apart(per_second: u32, most: u32) -> u32 {
    match per_second {
        0 => 0,
        per_second if per_second > most => 1_000_000_000 / most,
        per_second => 1_000_000_000 / per_second,
    }
}

/// Which pings each worker answers itself, beside those of the gateway's overlay addresses and of
/// masquerade addresses (RFC 1122 §3.2.2.6, RFC 4443 §4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Those of services' addresses, but for addresses that are the host's as well ([`Gateway::local`], or a
    /// [`Vtep`]'s): what answers those is the host.
    pub services: bool,
    /// The most pings that are answered in a second, with a tenth of that at once; 0 for no limit. Those of
    /// overlay addresses are counted by themselves, so that a flood from outside leaves nodes theirs.
    pub per_second: u32,
}

impl Echo {
    /// The highest limit; a higher one is this.
    pub const PER_SECOND_MAX: u32 = 10_000_000;

    /// Nanoseconds from one answer to the next; 0 for no limit.
    pub(super) const fn answer_ns(&self) -> u32 {
        apart(self.per_second, Self::PER_SECOND_MAX)
    }
}

impl Default for Echo {
    /// All, a thousand a second.
    fn default() -> Self {
        Self { services: true, per_second: 1000 }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self { half_open_per_client: 4096, new_flows_per_second: 0, past_limit: PastLimit::Drop }
    }
}

/// How far the maximum segment size that either end of a TCP connection announces is lowered (RFC 9293
/// §3.7.1). It is never raised, and none is put where there was none: its absence stands for 536 bytes
/// over IPv4 and 1220 over IPv6, which every way takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MssLimit {
    /// Not at all.
    #[default]
    Off,
    /// To what the smaller of the two ways takes: that to the segment's receiver, and that back.
    Path,
    /// To this many bytes: 536 or more.
    Bytes(u16),
}

/// One of the gateway's links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// The port's own link address.
    pub mac: Mac,
    /// The largest IP packet that leaves here.
    pub mtu: u16,
}

/// Another member of the overlay, and how to reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The pods behind it.
    pub subnet: Prefix,
    /// The underlay address packets for it go to.
    pub public: IpAddr,
    /// How packets for it are carried.
    pub encapsulation: Encapsulation,
    /// The link and neighbour that lead to `public`; `None` while unknown.
    pub next_hop: Option<NextHop>,
}

/// How a packet crosses the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encapsulation {
    /// In VXLAN, to this inner link address (RFC 7348).
    Vxlan {
        /// The peer's VTEP.
        mac: Mac,
    },
    /// As it is, straight to the next hop (flannel's host-gw and DirectRouting).
    Direct,
}

/// A neighbour on one of the gateway's links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// The link.
    pub port: PortId,
    /// Its link address.
    pub mac: Mac,
    /// The largest packet that the route to the peer takes, where that is less than what the link takes.
    pub mtu: Option<u16>,
}

/// A service: where clients reach it and who answers.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// A number that stays the same while the service exists; its counters are found by it.
    pub id: u32,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where clients reach it: node addresses with the node port, external addresses with the port.
    ///
    /// None of them is in the gateway's own subnets.
    pub frontends: &'a [Endpoint],
    /// Who answers. Order does not matter.
    pub backends: &'a [Backend],
    /// Slots of the lookup table: a prime, at most 655 373 (65 537 unless there is a reason).
    pub table_size: u32,
    /// What is done to its packets.
    pub policy: Policy,
}

impl Default for Service<'_> {
    /// TCP, without frontends and backends, with [`TABLE_SIZE`] slots.
    fn default() -> Self {
        Self {
            id: 0,
            protocol: Protocol::TCP,
            frontends: &[],
            backends: &[],
            table_size: TABLE_SIZE,
            policy: Policy::default(),
        }
    }
}

/// What is done to a service's packets beyond sending them to a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Whom backends see.
    pub client_address: ClientAddress,
    /// What becomes of open TCP connections to a backend that the service has no longer.
    pub removed_backend: RemovedBackend,
    /// What its packets towards backends are marked with; `None`: as the client has it.
    pub dscp: Option<Dscp>,
}

/// Whom backends see as the sender of a client's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAddress {
    /// A pool address of the gateway's: answers come back to it from any node as it is.
    #[default]
    Translate,
    /// The client itself. The backends' nodes need a route to clients that leads over the overlay to
    /// this gateway, or answers go past it with the backend's own address on them.
    Preserve,
}

/// What becomes of open TCP connections to a backend that their service has no longer. One with a weight of 0 is no
/// such backend: it drains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RemovedBackend {
    /// They go on for as long as the backend answers.
    #[default]
    Continue,
    /// Whoever sends a segment of one is answered with a reset (RFC 9293 §3.10.7.1). Connections of a service that is
    /// removed as a whole go on.
    Reset,
}

/// One who answers for a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its share against the others; 0 gives it no new flow.
    pub weight: u32,
}

/// A route to clients, as the kernel's forwarding table has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The destinations.
    pub prefix: Prefix,
    /// Where it leads.
    pub target: RouteTarget,
    /// The largest packet that it takes, where that is less than what its link takes.
    pub mtu: Option<u16>,
}

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteTarget {
    /// To the destinations themselves, on this link.
    Link(PortId),
    /// To a router on this link.
    Router(PortId, IpAddr),
    /// Nowhere that the gateway can send to, as a route that refuses its packets, or one through an
    /// interface that is none of its ports. Shorter prefixes around it do not count.
    Nowhere,
}

/// A resolved neighbour, as the kernel's table has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The link.
    pub port: PortId,
    /// Its network address.
    pub address: IpAddr,
    /// Its link address.
    pub mac: Mac,
}
