//! The structures that callers fill in and read. Plain numbers throughout: any bytes are a value,
//! and each number is checked when it is used.

/// The version of this interface, and of the shared library's name. It changes whenever a structure, a constant, a
/// call, or the meaning of one of them changes.
pub const WEIRGATE_ABI_VERSION: u32 = 6;

/// The most frames, and the most spares, of one burst.
pub const WEIRGATE_BURST_FRAMES_MAX: usize = 64;

/// Room in front of a frame that lets every encapsulation succeed.
pub const WEIRGATE_HEADROOM: usize = 74;

/// The most ports of a gateway.
pub const WEIRGATE_PORTS_MAX: usize = 16;

/// The most workers of a gateway.
pub const WEIRGATE_WORKERS_MAX: usize = 64;

/// The alignment of a worker's memory.
pub const WEIRGATE_WORKER_ALIGNMENT: usize = 64;

/// The alignment of a snapshot.
pub const WEIRGATE_SNAPSHOT_ALIGNMENT: usize = 8;

/// The usual number of slots of a selector's table.
pub const WEIRGATE_TABLE_SIZE: u32 = 65537;

/// Bytes of a VXLAN header; the inner Ethernet frame follows.
pub const WEIRGATE_VXLAN_HEADER_BYTES: usize = 8;

/// The protocol number of TCP.
pub const WEIRGATE_PROTOCOL_TCP: u8 = 6;

/// The protocol number of UDP.
pub const WEIRGATE_PROTOCOL_UDP: u8 = 17;

/// The protocol number of SCTP.
pub const WEIRGATE_PROTOCOL_SCTP: u8 = 132;

/// `weirgate_service.client_address`: SNAT; backends see an address of the pool.
pub const WEIRGATE_CLIENT_TRANSLATED: u8 = 0;

/// `weirgate_service.client_address`: the client's address is preserved.
pub const WEIRGATE_CLIENT_PRESERVED: u8 = 1;

/// `weirgate_service.removed_backend`: open TCP connections to a backend that was removed go on.
pub const WEIRGATE_REMOVED_BACKEND_CONTINUE: u8 = 0;

/// `weirgate_service.removed_backend`: who sends a segment of such a connection is answered with a reset.
pub const WEIRGATE_REMOVED_BACKEND_RESET: u8 = 1;

/// `weirgate_route.target`: the destinations themselves where `via` is of no family, else that router.
pub const WEIRGATE_ROUTE_PORT: u8 = 0;

/// `weirgate_route.target`: through none of the gateway's ports; `via` and `port` are not read.
pub const WEIRGATE_ROUTE_NOWHERE: u8 = 1;

/// `weirgate_description.mss`: segment sizes are left as they are.
pub const WEIRGATE_MSS_OFF: u16 = 0;

/// `weirgate_description.mss`: to what fits the smaller MTU of the two paths. Other numbers are bytes: 536 or more.
pub const WEIRGATE_MSS_OF_PATH: u16 = 65535;

/// `weirgate_description.outer_dscp`: that of the packet inside. Other numbers are codepoints: at most 63.
pub const WEIRGATE_OUTER_DSCP_COPY: u8 = 255;

/// `weirgate_description.past_limit`: packets that would create a flow past the limit are dropped.
pub const WEIRGATE_PAST_LIMIT_DROP: u8 = 0;

/// `weirgate_description.past_limit`: stateless forwarding, where replies can be translated back without a flow.
pub const WEIRGATE_PAST_LIMIT_STATELESS: u8 = 1;

/// `weirgate_address.family` where there is no address.
pub const WEIRGATE_FAMILY_NONE: u8 = 0;

/// `weirgate_address.family` of an IPv4 address.
pub const WEIRGATE_FAMILY_V4: u8 = 4;

/// `weirgate_address.family` of an IPv6 address.
pub const WEIRGATE_FAMILY_V6: u8 = 6;

/// `weirgate_peer.encapsulation`: packets go to the next hop unencapsulated.
pub const WEIRGATE_ENCAPSULATION_DIRECT: u8 = 0;

/// `weirgate_peer.encapsulation`: packets go to the peer's VTEP in VXLAN.
pub const WEIRGATE_ENCAPSULATION_VXLAN: u8 = 1;

/// `weirgate_frame.verdict` before the frame has been processed.
pub const WEIRGATE_VERDICT_NONE: u8 = 0;

/// Transmit the frame, as it now is, on port `detail`.
pub const WEIRGATE_VERDICT_TRANSMIT: u8 = 1;

/// The frame belongs to the host: hand it to the kernel. Only TCP, UDP, SCTP and frames that are not IP get this verdict
/// when they are not the gateway's; do not pass the host's ARP, ICMP and other protocols to the worker. A pod's packet to
/// an address of the gateway's own is still in VXLAN: a kernel with a device for that network decapsulates it; for other
/// kernels the caller has to.
pub const WEIRGATE_VERDICT_HOST: u8 = 2;

/// The frame is dropped, for reason `detail`, which has been counted.
pub const WEIRGATE_VERDICT_DROP: u8 = 3;

/// The frame belongs to a flow of worker `detail`.
pub const WEIRGATE_VERDICT_HANDOVER: u8 = 4;

/// The frame is a fragment that has to wait for its first one: the worker has a copy, the buffer
/// is free.
pub const WEIRGATE_VERDICT_HELD: u8 = 5;

const _: () = {
    use weirgate::{frame, maglev, net, wire};
    assert!(WEIRGATE_BURST_FRAMES_MAX == frame::BURST_FRAMES_MAX);
    assert!(WEIRGATE_HEADROOM == frame::HEADROOM_MAX);
    assert!(WEIRGATE_PORTS_MAX == net::PORTS_MAX);
    assert!(WEIRGATE_WORKERS_MAX == net::WORKERS_MAX);
    assert!(WEIRGATE_TABLE_SIZE == maglev::TABLE_SIZE);
    assert!(WEIRGATE_VXLAN_HEADER_BYTES == wire::vxlan::HEADER_LEN);
    assert!(WEIRGATE_PROTOCOL_TCP == net::Protocol::TCP.0 && WEIRGATE_PROTOCOL_UDP == net::Protocol::UDP.0);
    assert!(WEIRGATE_PROTOCOL_SCTP == net::Protocol::SCTP.0);
};

/// A network address. IPv4 uses the first four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Address {
    /// In network byte order.
    pub bytes: [u8; 16],
    /// `WEIRGATE_FAMILY_V4`, `WEIRGATE_FAMILY_V6`, or `WEIRGATE_FAMILY_NONE` where there may be none.
    pub family: u8,
}

/// The addresses that begin with these bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Prefix {
    /// An address among them.
    pub address: Address,
    /// How many bits: at most 32 or 128.
    pub length: u8,
}

/// A transport address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Endpoint {
    /// The network address.
    pub address: Address,
    /// Not read.
    pub reserved: u8,
    /// The port.
    pub port: u16,
}

/// One end of a VXLAN overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Vtep {
    /// The underlay address that peers send to; of no family where there is no such VTEP.
    pub public_address: Address,
    /// The inner link address that peers send to.
    pub mac: [u8; 6],
}

/// Idle timeouts of flows, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Timeouts {
    /// TCP after the client's SYN.
    pub tcp_syn_sent_seconds: u32,
    /// TCP after the server's answer to the SYN, until the client acknowledges that answer.
    pub tcp_syn_received_seconds: u32,
    /// TCP while open.
    pub tcp_established_seconds: u32,
    /// TCP after one side's FIN, until the other side acknowledges it; never longer than while open.
    pub tcp_fin_wait_seconds: u32,
    /// TCP after one side's FIN was acknowledged: the other side may go on sending.
    pub tcp_close_wait_seconds: u32,
    /// TCP after both sides' FINs.
    pub tcp_last_ack_seconds: u32,
    /// TCP after the last acknowledgement.
    pub tcp_time_wait_seconds: u32,
    /// TCP after a reset, until packets show that the connection is alive.
    pub tcp_reset_seconds: u32,
    /// TCP after a SYN of both sides.
    pub tcp_syn_sent2_seconds: u32,
    /// UDP until the client has sent again after a reply.
    pub udp_seconds: u32,
    /// UDP from then on.
    pub udp_stream_seconds: u32,
    /// Echo requests and their replies.
    pub icmp_seconds: u32,
    /// SCTP after the client's INIT.
    pub sctp_cookie_wait_seconds: u32,
    /// SCTP after the client's cookie.
    pub sctp_cookie_echoed_seconds: u32,
    /// SCTP while open.
    pub sctp_established_seconds: u32,
    /// SCTP that the client shuts down.
    pub sctp_shutdown_sent_seconds: u32,
    /// SCTP that the server shuts down.
    pub sctp_shutdown_received_seconds: u32,
    /// SCTP whose shutdown was acknowledged.
    pub sctp_shutdown_ack_sent_seconds: u32,
    /// SCTP after its end.
    pub sctp_closed_seconds: u32,
}

/// One of the gateway's links. Its index in the description is the port's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Port {
    /// The port's own link address.
    pub mac: [u8; 6],
    /// The largest IP packet that can be sent here.
    pub mtu: u16,
}

/// Another member of the overlay, and how to reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Peer {
    /// The pods behind it.
    pub subnet: Prefix,
    /// The underlay address that packets for it go to.
    pub public_address: Address,
    /// `WEIRGATE_ENCAPSULATION_DIRECT` or `WEIRGATE_ENCAPSULATION_VXLAN`.
    pub encapsulation: u8,
    /// With VXLAN: the inner link address of its VTEP.
    pub vtep_mac: [u8; 6],
    /// 1 where the next hop to the public address is known, 0 where it is not yet.
    pub has_next_hop: u8,
    /// With a next hop: the port that leads there.
    pub next_hop_port: u8,
    /// With a next hop: its link address.
    pub next_hop_mac: [u8; 6],
    /// With a next hop: the largest packet that the route there takes, where that is less than what the link takes; 0
    /// where it is not.
    pub next_hop_mtu: u16,
}

/// A backend of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Backend {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its share relative to the others; with 0 it gets no new flow.
    pub weight: u32,
}

/// A service: its frontends and its backends.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Service {
    /// Where clients reach it.
    pub frontends: *const Endpoint,
    /// How many frontends.
    pub frontend_count: usize,
    /// The backends, in any order.
    pub backends: *const Backend,
    /// How many backends.
    pub backend_count: usize,
    /// A number that stays the same while the service exists, and identifies its counters.
    pub id: u32,
    /// Slots of its selector's table: a prime, `WEIRGATE_TABLE_SIZE` unless there is a reason.
    pub table_size: u32,
    /// `WEIRGATE_PROTOCOL_TCP`, `WEIRGATE_PROTOCOL_UDP` or `WEIRGATE_PROTOCOL_SCTP`.
    pub protocol: u8,
    /// `WEIRGATE_CLIENT_TRANSLATED` or `WEIRGATE_CLIENT_PRESERVED`.
    pub client_address: u8,
    /// 1 where its packets towards backends are marked with `dscp`, 0 where their codepoint is preserved.
    pub has_dscp: u8,
    /// The differentiated services codepoint: at most 63.
    pub dscp: u8,
    /// `WEIRGATE_REMOVED_BACKEND_CONTINUE` or `WEIRGATE_REMOVED_BACKEND_RESET`.
    pub removed_backend: u8,
    /// Not read.
    pub reserved: [u8; 3],
}

/// A route to clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Route {
    /// The destinations.
    pub prefix: Prefix,
    /// The router; of no family where the destinations are on the link itself.
    pub via: Address,
    /// The port of the link.
    pub port: u8,
    /// `WEIRGATE_ROUTE_PORT` or `WEIRGATE_ROUTE_NOWHERE`.
    pub target: u8,
    /// The largest packet that it takes, where that is less than what its link takes; 0 where it is not. Less than 576
    /// (IPv4) or 1280 (IPv6) counts as that.
    pub mtu: u16,
}

/// A neighbour on a link, whose link address is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Neighbour {
    /// Its network address.
    pub address: Address,
    /// Its link address.
    pub mac: [u8; 6],
    /// The port of the link.
    pub port: u8,
}

/// Everything that a snapshot is compiled from. Begin with `weirgate_description_defaults`.
///
/// An array of no elements may be null. All arrays are only read, and only during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Description {
    /// The gateway's links.
    pub ports: *const Port,
    /// How many ports: at most `WEIRGATE_PORTS_MAX`.
    pub port_count: usize,
    /// The other members of the overlay.
    pub peers: *const Peer,
    /// How many peers.
    pub peer_count: usize,
    /// The services, in any order.
    pub services: *const Service,
    /// How many services.
    pub service_count: usize,
    /// The routes to clients, in any order.
    pub routes: *const Route,
    /// How many routes.
    pub route_count: usize,
    /// Neighbours on the gateway's own links.
    pub neighbours: *const Neighbour,
    /// How many neighbours.
    pub neighbour_count: usize,
    /// The gateway's own overlay subnets, whose addresses nobody else uses.
    pub subnets: *const Prefix,
    /// How many subnets.
    pub subnet_count: usize,
    /// The SNAT pool: addresses inside the subnets, never their first, that backends see instead of clients'.
    pub pool: *const Address,
    /// How many pool addresses.
    pub pool_count: usize,
    /// The masquerade addresses, which serve nothing else; without any, no pod's packet leaves.
    pub masquerade: *const Address,
    /// How many such addresses.
    pub masquerade_count: usize,
    /// Destinations to which no pod's packet leaves.
    pub non_masquerade: *const Prefix,
    /// How many such destinations.
    pub non_masquerade_count: usize,
    /// The gateway's own addresses on its links: nobody else sends from them.
    pub local: *const Address,
    /// How many own addresses.
    pub local_count: usize,
    /// Seed of the selector: equal on all gateways that are to select the same backends.
    pub selector_seed: u64,
    /// Grows with each snapshot of one gateway.
    pub generation: u32,
    /// The VXLAN network: 24 bits.
    pub vni: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// The largest packet inside VXLAN; 0 for what fits the links' MTUs.
    pub overlay_mtu: u16,
    /// The first port that SNAT may use on a pool address.
    pub pool_port_first: u16,
    /// The last one.
    pub pool_port_last: u16,
    /// The first port, or echo identifier, that masquerade may use.
    pub masquerade_port_first: u16,
    /// The last one.
    pub masquerade_port_last: u16,
    /// The first node port: not used for masquerade on addresses at which services listen.
    pub node_port_first: u16,
    /// The last one.
    pub node_port_last: u16,
    /// The most half-open flows of one client at a time, once the table fills; 0 for no limit.
    pub half_open_per_client: u32,
    /// The most new flows in a second in each worker; 0 for no limit.
    pub new_flows_per_second: u32,
    /// The most pings that each worker answers in a second; 0 for no limit.
    pub echoes_per_second: u32,
    /// The limit on TCP's segment sizes: `WEIRGATE_MSS_OFF`, `WEIRGATE_MSS_OF_PATH`, or a number of bytes.
    pub mss: u16,
    /// The codepoint of VXLAN's outer headers, or `WEIRGATE_OUTER_DSCP_COPY`.
    pub outer_dscp: u8,
    /// The policy for packets past `new_flows_per_second`: one of `WEIRGATE_PAST_LIMIT_…`.
    pub past_limit: u8,
    /// The gateway's VTEP over IPv4.
    pub vtep_v4: Vtep,
    /// The gateway's VTEP over IPv6.
    pub vtep_v6: Vtep,
    /// How many workers share the flows: 1 to `WEIRGATE_WORKERS_MAX`.
    pub workers: u8,
    /// Whether pings of services' addresses are answered, except of those in `local` or of a VTEP: 0 or 1.
    pub echo_services: u8,
    /// Not read.
    pub reserved: [u8; 4],
}

/// A worker's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct WorkerConfig {
    /// Random bits that nobody outside knows.
    pub secret: [u64; 4],
    /// The most IPv4 flows: 16 to 16777215.
    pub flows_v4: u32,
    /// The most IPv6 flows: 16 to 16777215.
    pub flows_v6: u32,
    /// How many services to count for: those with a number below this.
    pub services: u32,
    /// The most fragmented datagrams that are tracked at a time; 0 for the usual number.
    pub fragment_datagrams: u32,
    /// Bytes of fragments that wait for their first one; 0 for the usual number.
    pub fragment_held_bytes: u32,
    /// Milliseconds that a fragment waits for its first one; 0 for the usual number.
    pub fragment_wait_ms: u32,
    /// Which of the gateway's workers it is: below `WEIRGATE_WORKERS_MAX`.
    pub id: u8,
    /// How many workers the gateway has, as in its snapshots; 0 where the memory is never to be adopted.
    pub workers: u8,
    /// Not read.
    pub reserved: [u8; 6],
}

/// The result of adopting an earlier worker's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Adopted {
    /// Flows that were adopted.
    pub flows: u32,
    /// Damaged entries of the tables, which were dropped.
    pub damaged: u32,
    /// Flows that were dropped because their replies do not arrive at this worker under the snapshot.
    pub strayed: u32,
}

/// One frame in a buffer of the caller's, from its Ethernet header on, without check sequence.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    /// The buffer's first byte. No two frames or spares of a burst may share a byte.
    pub buffer: *mut u8,
    /// Bytes of the buffer.
    pub capacity: u32,
    /// The frame's offset in the buffer. The call moves it.
    pub start: u32,
    /// Bytes of the frame. The call changes it.
    pub length: u32,
    /// The ingress port.
    pub port: u8,
    /// Out: one of `WEIRGATE_VERDICT_…`.
    pub verdict: u8,
    /// Out: the verdict's port, drop reason or worker.
    pub detail: u8,
    /// How often workers have handed the frame over: 0 for a received one. The call increments it with
    /// `WEIRGATE_VERDICT_HANDOVER`; pass the new number to the worker that gets the frame.
    pub handovers: u8,
}

/// What one call processes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Burst {
    /// The frames received.
    pub frames: *mut Frame,
    /// How many: at most `WEIRGATE_BURST_FRAMES_MAX`.
    pub frame_count: usize,
    /// Buffers for frames of the gateway's own; of each, `buffer` and `capacity` are read.
    pub spares: *mut Frame,
    /// How many: at most `WEIRGATE_BURST_FRAMES_MAX`.
    pub spare_count: usize,
    /// Out: how many of the spares have been filled, from the front.
    pub emitted: usize,
}

/// A neighbour whose link address packets wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Unresolved {
    /// Its network address.
    pub address: Address,
    /// Its port.
    pub port: u8,
}

/// Packets and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Traffic {
    /// How many packets.
    pub packets: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

/// The traffic of one port, as frames with their Ethernet headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct PortCounters {
    /// Received frames.
    pub received: Traffic,
    /// Frames with the verdict transmit.
    pub transmitted: Traffic,
}

/// The traffic of one service, as IP packets on the client's side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ServiceCounters {
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Flows that were created.
    pub flows: u64,
}

/// A worker's counters, except those of its ports, services and drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Frames that went to the host.
    pub host: u64,
    /// Frames that went to the worker that owns their flow.
    pub handovers: u64,
    /// Fragments that were held, for their first one or for buffers to be fragmented into.
    pub fragments_held: u64,
    /// Fragments made of packets too large for their egress, without the first of each packet.
    pub fragments_created: u64,
    /// Flows that were created.
    pub flows_created: u64,
    /// Flows that were removed after their idle timeout.
    pub flows_expired: u64,
    /// Flows whose connection had ended, and that a new one of the same tuple reopened.
    pub flows_reopened: u64,
    /// Flows that ended with a reset before any reply.
    pub flows_reset: u64,
    /// Flows evicted while half-open: by new ones in a full table, or by flows of the same client in one
    /// that fills.
    pub evicted_half_open: u64,
    /// Flows evicted by new ones in a full table: UDP and echo requests without a reply.
    pub evicted_one_way: u64,
    /// As before: connections that had ended or were about to.
    pub evicted_closing: u64,
    /// As before: answered, but never assured.
    pub evicted_unassured: u64,
    /// As before: UDP that went back and forth.
    pub evicted_stream: u64,
    /// Packets forwarded statelessly, in a full table or past the limit on new flows.
    pub forwarded_stateless: u64,
    /// Pings that were answered.
    pub echoes_answered: u64,
    /// ICMP errors from others about packets of flows, translated and forwarded.
    pub errors_translated: u64,
    /// ICMP errors that the gateway itself sent.
    pub errors_sent: u64,
    /// TCP resets that the gateway itself sent.
    pub resets_sent: u64,
}
