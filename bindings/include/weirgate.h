/* The packet core of weirgate. Start reading at weirgate_worker_process.
 *
 * The caller allocates and frees: it asks for sizes first, and const means not modified. Every call
 * that can fail returns a weirgate_status; a null, misaligned or short argument is reported, and at
 * most memory that was to be written has lost its content then. Numbers are in the machine's byte
 * order, addresses in network byte order.
 */

#ifndef WEIRGATE_H
#define WEIRGATE_H

/* Generated from bindings/c: edit there, not here. */

#include <stddef.h>
#include <stdint.h>

// The version of this interface, and of the shared library's name. It changes whenever a structure, a constant, a
// call, or the meaning of one of them changes.
#define WEIRGATE_ABI_VERSION 6

// The most frames, and the most spares, of one burst.
#define WEIRGATE_BURST_FRAMES_MAX 64

// Room in front of a frame that lets every encapsulation succeed.
#define WEIRGATE_HEADROOM 74

// The most ports of a gateway.
#define WEIRGATE_PORTS_MAX 16

// The most workers of a gateway.
#define WEIRGATE_WORKERS_MAX 64

// The alignment of a worker's memory.
#define WEIRGATE_WORKER_ALIGNMENT 64

// The alignment of a snapshot.
#define WEIRGATE_SNAPSHOT_ALIGNMENT 8

// The usual number of slots of a selector's table.
#define WEIRGATE_TABLE_SIZE 65537

// Bytes of a VXLAN header; the inner Ethernet frame follows.
#define WEIRGATE_VXLAN_HEADER_BYTES 8

// The protocol number of TCP.
#define WEIRGATE_PROTOCOL_TCP 6

// The protocol number of UDP.
#define WEIRGATE_PROTOCOL_UDP 17

// The protocol number of SCTP.
#define WEIRGATE_PROTOCOL_SCTP 132

// `weirgate_service.client_address`: SNAT; backends see an address of the pool.
#define WEIRGATE_CLIENT_TRANSLATED 0

// `weirgate_service.client_address`: the client's address is preserved.
#define WEIRGATE_CLIENT_PRESERVED 1

// `weirgate_service.removed_backend`: open TCP connections to a backend that was removed go on.
#define WEIRGATE_REMOVED_BACKEND_CONTINUE 0

// `weirgate_service.removed_backend`: who sends a segment of such a connection is answered with a reset.
#define WEIRGATE_REMOVED_BACKEND_RESET 1

// `weirgate_route.target`: the destinations themselves where `via` is of no family, else that router.
#define WEIRGATE_ROUTE_PORT 0

// `weirgate_route.target`: through none of the gateway's ports; `via` and `port` are not read.
#define WEIRGATE_ROUTE_NOWHERE 1

// `weirgate_description.mss`: segment sizes are left as they are.
#define WEIRGATE_MSS_OFF 0

// `weirgate_description.mss`: to what fits the smaller MTU of the two paths. Other numbers are bytes: 536 or more.
#define WEIRGATE_MSS_OF_PATH 65535

// `weirgate_description.outer_dscp`: that of the packet inside. Other numbers are codepoints: at most 63.
#define WEIRGATE_OUTER_DSCP_COPY 255

// `weirgate_description.past_limit`: packets that would create a flow past the limit are dropped.
#define WEIRGATE_PAST_LIMIT_DROP 0

// `weirgate_description.past_limit`: stateless forwarding, where replies can be translated back without a flow.
#define WEIRGATE_PAST_LIMIT_STATELESS 1

// `weirgate_address.family` where there is no address.
#define WEIRGATE_FAMILY_NONE 0

// `weirgate_address.family` of an IPv4 address.
#define WEIRGATE_FAMILY_V4 4

// `weirgate_address.family` of an IPv6 address.
#define WEIRGATE_FAMILY_V6 6

// `weirgate_peer.encapsulation`: packets go to the next hop unencapsulated.
#define WEIRGATE_ENCAPSULATION_DIRECT 0

// `weirgate_peer.encapsulation`: packets go to the peer's VTEP in VXLAN.
#define WEIRGATE_ENCAPSULATION_VXLAN 1

// `weirgate_frame.verdict` before the frame has been processed.
#define WEIRGATE_VERDICT_NONE 0

// Transmit the frame, as it now is, on port `detail`.
#define WEIRGATE_VERDICT_TRANSMIT 1

// The frame belongs to the host: hand it to the kernel. Only TCP, UDP, SCTP and frames that are not IP get this verdict
// when they are not the gateway's; do not pass the host's ARP, ICMP and other protocols to the worker. A pod's packet to
// an address of the gateway's own is still in VXLAN: a kernel with a device for that network decapsulates it; for other
// kernels the caller has to.
#define WEIRGATE_VERDICT_HOST 2

// The frame is dropped, for reason `detail`, which has been counted.
#define WEIRGATE_VERDICT_DROP 3

// The frame belongs to a flow of worker `detail`.
#define WEIRGATE_VERDICT_HANDOVER 4

// The frame is a fragment that has to wait for its first one: the worker has a copy, the buffer
// is free.
#define WEIRGATE_VERDICT_HELD 5

// The result of a call. A number keeps its meaning for ever and is never reused.
enum weirgate_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    WEIRGATE_STATUS_OK = 0,
    // A pointer is null that may not be.
    WEIRGATE_STATUS_NULL_POINTER = 1,
    // A pointer is misaligned for its type.
    WEIRGATE_STATUS_MISALIGNED = 2,
    // The memory is shorter than the size that the library reports for it.
    WEIRGATE_STATUS_TOO_SHORT = 3,
    // The memory does not hold a worker.
    WEIRGATE_STATUS_NOT_A_WORKER = 4,
    // Another call is at work on this worker.
    WEIRGATE_STATUS_BUSY = 5,
    // More frames or spares than one burst may have.
    WEIRGATE_STATUS_BURST_TOO_LONG = 6,
    // A frame does not lie inside its buffer.
    WEIRGATE_STATUS_FRAME_OUTSIDE_BUFFER = 7,
    // There is no result. Not an error.
    WEIRGATE_STATUS_EMPTY = 8,
    // A number is past the end of what it counts.
    WEIRGATE_STATUS_OUT_OF_RANGE = 9,
    // The memory does not hold a snapshot.
    WEIRGATE_STATUS_NOT_A_SNAPSHOT = 10,
    // The snapshot has another version of the layout.
    WEIRGATE_STATUS_SNAPSHOT_VERSION = 11,
    // The snapshot's sections do not lie inside it.
    WEIRGATE_STATUS_SNAPSHOT_DAMAGED = 12,
    // A flow table cannot have this many flows.
    WEIRGATE_STATUS_FLOW_CAPACITY = 13,
    // A gateway cannot have this worker, or this many.
    WEIRGATE_STATUS_WORKERS = 14,
    // An address family other than 4 and 6, or one where none may be missing.
    WEIRGATE_STATUS_ADDRESS_FAMILY = 15,
    // A prefix longer than its address.
    WEIRGATE_STATUS_PREFIX_LENGTH = 16,
    // A VXLAN network identifier past 24 bits.
    WEIRGATE_STATUS_VNI = 17,
    // An encapsulation that is not known.
    WEIRGATE_STATUS_ENCAPSULATION = 18,
    // A flag that is neither 0 nor 1.
    WEIRGATE_STATUS_FLAG = 19,
    // More ports than a gateway can have.
    WEIRGATE_STATUS_TOO_MANY_PORTS = 20,
    // A port that is not among the ports.
    WEIRGATE_STATUS_UNKNOWN_PORT = 21,
    // The pool has too few ports for each worker to have one.
    WEIRGATE_STATUS_POOL_PORTS = 22,
    // A pool address that is in none of the gateway's subnets, or the first of one.
    WEIRGATE_STATUS_POOL_ADDRESS = 23,
    // A VXLAN peer at an address of a family in which the gateway has no VTEP.
    WEIRGATE_STATUS_NO_VTEP = 24,
    // A link too small for the encapsulation of a peer behind it.
    WEIRGATE_STATUS_MTU_TOO_SMALL = 25,
    // Two services listen at the same endpoint.
    WEIRGATE_STATUS_DUPLICATE_FRONTEND = 26,
    // A service that is neither TCP nor UDP.
    WEIRGATE_STATUS_UNKNOWN_PROTOCOL = 27,
    // No member of the selector has a weight above 0.
    WEIRGATE_STATUS_NO_WEIGHT = 28,
    // The selector's number of slots is not a prime that it may have.
    WEIRGATE_STATUS_NOT_PRIME = 29,
    // More members than a selector can distinguish.
    WEIRGATE_STATUS_TOO_MANY_MEMBERS = 30,
    // VXLAN without the flag that says its VNI is valid.
    WEIRGATE_STATUS_VXLAN_FLAGS = 31,
    // A maximum segment size below the default of hosts that announce none.
    WEIRGATE_STATUS_MSS_TOO_SMALL = 32,
    // A differentiated services codepoint past 63.
    WEIRGATE_STATUS_DSCP = 33,
    // The memory holds no worker of this configuration and version.
    WEIRGATE_STATUS_NOT_ADOPTED = 34,
    // An address of a service's in one of the gateway's own subnets.
    WEIRGATE_STATUS_FRONTEND_ADDRESS = 35,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum weirgate_status weirgate_status;
#else
typedef uint32_t weirgate_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A worker, at the beginning of the caller's memory. One call at a time changes it; another one
// returns `WEIRGATE_STATUS_BUSY`.
typedef struct weirgate_worker weirgate_worker;

// A network address. IPv4 uses the first four bytes.
typedef struct weirgate_address {
    // In network byte order.
    uint8_t bytes[16];
    // `WEIRGATE_FAMILY_V4`, `WEIRGATE_FAMILY_V6`, or `WEIRGATE_FAMILY_NONE` where there may be none.
    uint8_t family;
} weirgate_address;

// A transport address.
typedef struct weirgate_endpoint {
    // The network address.
    struct weirgate_address address;
    // Not read.
    uint8_t reserved;
    // The port.
    uint16_t port;
} weirgate_endpoint;

// A backend of a service.
typedef struct weirgate_backend {
    // Where it listens.
    struct weirgate_endpoint endpoint;
    // Its share relative to the others; with 0 it gets no new flow.
    uint32_t weight;
} weirgate_backend;

// One of the gateway's links. Its index in the description is the port's number.
typedef struct weirgate_port {
    // The port's own link address.
    uint8_t mac[6];
    // The largest IP packet that can be sent here.
    uint16_t mtu;
} weirgate_port;

// The addresses that begin with these bits.
typedef struct weirgate_prefix {
    // An address among them.
    struct weirgate_address address;
    // How many bits: at most 32 or 128.
    uint8_t length;
} weirgate_prefix;

// Another member of the overlay, and how to reach it.
typedef struct weirgate_peer {
    // The pods behind it.
    struct weirgate_prefix subnet;
    // The underlay address that packets for it go to.
    struct weirgate_address public_address;
    // `WEIRGATE_ENCAPSULATION_DIRECT` or `WEIRGATE_ENCAPSULATION_VXLAN`.
    uint8_t encapsulation;
    // With VXLAN: the inner link address of its VTEP.
    uint8_t vtep_mac[6];
    // 1 where the next hop to the public address is known, 0 where it is not yet.
    uint8_t has_next_hop;
    // With a next hop: the port that leads there.
    uint8_t next_hop_port;
    // With a next hop: its link address.
    uint8_t next_hop_mac[6];
    // With a next hop: the largest packet that the route there takes, where that is less than what the link takes; 0
    // where it is not.
    uint16_t next_hop_mtu;
} weirgate_peer;

// A service: its frontends and its backends.
typedef struct weirgate_service {
    // Where clients reach it.
    const struct weirgate_endpoint *frontends;
    // How many frontends.
    size_t frontend_count;
    // The backends, in any order.
    const struct weirgate_backend *backends;
    // How many backends.
    size_t backend_count;
    // A number that stays the same while the service exists, and identifies its counters.
    uint32_t id;
    // Slots of its selector's table: a prime, `WEIRGATE_TABLE_SIZE` unless there is a reason.
    uint32_t table_size;
    // `WEIRGATE_PROTOCOL_TCP`, `WEIRGATE_PROTOCOL_UDP` or `WEIRGATE_PROTOCOL_SCTP`.
    uint8_t protocol;
    // `WEIRGATE_CLIENT_TRANSLATED` or `WEIRGATE_CLIENT_PRESERVED`.
    uint8_t client_address;
    // 1 where its packets towards backends are marked with `dscp`, 0 where their codepoint is preserved.
    uint8_t has_dscp;
    // The differentiated services codepoint: at most 63.
    uint8_t dscp;
    // `WEIRGATE_REMOVED_BACKEND_CONTINUE` or `WEIRGATE_REMOVED_BACKEND_RESET`.
    uint8_t removed_backend;
    // Not read.
    uint8_t reserved[3];
} weirgate_service;

// A route to clients.
typedef struct weirgate_route {
    // The destinations.
    struct weirgate_prefix prefix;
    // The router; of no family where the destinations are on the link itself.
    struct weirgate_address via;
    // The port of the link.
    uint8_t port;
    // `WEIRGATE_ROUTE_PORT` or `WEIRGATE_ROUTE_NOWHERE`.
    uint8_t target;
    // The largest packet that it takes, where that is less than what its link takes; 0 where it is not. Less than 576
    // (IPv4) or 1280 (IPv6) counts as that.
    uint16_t mtu;
} weirgate_route;

// A neighbour on a link, whose link address is known.
typedef struct weirgate_neighbour {
    // Its network address.
    struct weirgate_address address;
    // Its link address.
    uint8_t mac[6];
    // The port of the link.
    uint8_t port;
} weirgate_neighbour;

// Idle timeouts of flows, in seconds.
typedef struct weirgate_timeouts {
    // TCP after the client's SYN.
    uint32_t tcp_syn_sent_seconds;
    // TCP after the server's answer to the SYN, until the client acknowledges that answer.
    uint32_t tcp_syn_received_seconds;
    // TCP while open.
    uint32_t tcp_established_seconds;
    // TCP after one side's FIN, until the other side acknowledges it; never longer than while open.
    uint32_t tcp_fin_wait_seconds;
    // TCP after one side's FIN was acknowledged: the other side may go on sending.
    uint32_t tcp_close_wait_seconds;
    // TCP after both sides' FINs.
    uint32_t tcp_last_ack_seconds;
    // TCP after the last acknowledgement.
    uint32_t tcp_time_wait_seconds;
    // TCP after a reset, until packets show that the connection is alive.
    uint32_t tcp_reset_seconds;
    // TCP after a SYN of both sides.
    uint32_t tcp_syn_sent2_seconds;
    // UDP until the client has sent again after a reply.
    uint32_t udp_seconds;
    // UDP from then on.
    uint32_t udp_stream_seconds;
    // Echo requests and their replies.
    uint32_t icmp_seconds;
    // SCTP after the client's INIT.
    uint32_t sctp_cookie_wait_seconds;
    // SCTP after the client's cookie.
    uint32_t sctp_cookie_echoed_seconds;
    // SCTP while open.
    uint32_t sctp_established_seconds;
    // SCTP that the client shuts down.
    uint32_t sctp_shutdown_sent_seconds;
    // SCTP that the server shuts down.
    uint32_t sctp_shutdown_received_seconds;
    // SCTP whose shutdown was acknowledged.
    uint32_t sctp_shutdown_ack_sent_seconds;
    // SCTP after its end.
    uint32_t sctp_closed_seconds;
} weirgate_timeouts;

// One end of a VXLAN overlay.
typedef struct weirgate_vtep {
    // The underlay address that peers send to; of no family where there is no such VTEP.
    struct weirgate_address public_address;
    // The inner link address that peers send to.
    uint8_t mac[6];
} weirgate_vtep;

// Everything that a snapshot is compiled from. Begin with `weirgate_description_defaults`.
//
// An array of no elements may be null. All arrays are only read, and only during the call.
typedef struct weirgate_description {
    // The gateway's links.
    const struct weirgate_port *ports;
    // How many ports: at most `WEIRGATE_PORTS_MAX`.
    size_t port_count;
    // The other members of the overlay.
    const struct weirgate_peer *peers;
    // How many peers.
    size_t peer_count;
    // The services, in any order.
    const struct weirgate_service *services;
    // How many services.
    size_t service_count;
    // The routes to clients, in any order.
    const struct weirgate_route *routes;
    // How many routes.
    size_t route_count;
    // Neighbours on the gateway's own links.
    const struct weirgate_neighbour *neighbours;
    // How many neighbours.
    size_t neighbour_count;
    // The gateway's own overlay subnets, whose addresses nobody else uses.
    const struct weirgate_prefix *subnets;
    // How many subnets.
    size_t subnet_count;
    // The SNAT pool: addresses inside the subnets, never their first, that backends see instead of clients'.
    const struct weirgate_address *pool;
    // How many pool addresses.
    size_t pool_count;
    // The masquerade addresses, which serve nothing else; without any, no pod's packet leaves.
    const struct weirgate_address *masquerade;
    // How many such addresses.
    size_t masquerade_count;
    // Destinations to which no pod's packet leaves.
    const struct weirgate_prefix *non_masquerade;
    // How many such destinations.
    size_t non_masquerade_count;
    // The gateway's own addresses on its links: nobody else sends from them.
    const struct weirgate_address *local;
    // How many own addresses.
    size_t local_count;
    // Seed of the selector: equal on all gateways that are to select the same backends.
    uint64_t selector_seed;
    // Grows with each snapshot of one gateway.
    uint32_t generation;
    // The VXLAN network: 24 bits.
    uint32_t vni;
    // Idle timeouts.
    struct weirgate_timeouts timeouts;
    // The UDP port of VXLAN.
    uint16_t vxlan_port;
    // The largest packet inside VXLAN; 0 for what fits the links' MTUs.
    uint16_t overlay_mtu;
    // The first port that SNAT may use on a pool address.
    uint16_t pool_port_first;
    // The last one.
    uint16_t pool_port_last;
    // The first port, or echo identifier, that masquerade may use.
    uint16_t masquerade_port_first;
    // The last one.
    uint16_t masquerade_port_last;
    // The first node port: not used for masquerade on addresses at which services listen.
    uint16_t node_port_first;
    // The last one.
    uint16_t node_port_last;
    // The most half-open flows of one client at a time, once the table fills; 0 for no limit.
    uint32_t half_open_per_client;
    // The most new flows in a second in each worker; 0 for no limit.
    uint32_t new_flows_per_second;
    // The most pings that each worker answers in a second; 0 for no limit.
    uint32_t echoes_per_second;
    // The limit on TCP's segment sizes: `WEIRGATE_MSS_OFF`, `WEIRGATE_MSS_OF_PATH`, or a number of bytes.
    uint16_t mss;
    // The codepoint of VXLAN's outer headers, or `WEIRGATE_OUTER_DSCP_COPY`.
    uint8_t outer_dscp;
    // The policy for packets past `new_flows_per_second`: one of `WEIRGATE_PAST_LIMIT_…`.
    uint8_t past_limit;
    // The gateway's VTEP over IPv4.
    struct weirgate_vtep vtep_v4;
    // The gateway's VTEP over IPv6.
    struct weirgate_vtep vtep_v6;
    // How many workers share the flows: 1 to `WEIRGATE_WORKERS_MAX`.
    uint8_t workers;
    // Whether pings of services' addresses are answered, except of those in `local` or of a VTEP: 0 or 1.
    uint8_t echo_services;
    // Not read.
    uint8_t reserved[4];
} weirgate_description;

// A worker's configuration.
typedef struct weirgate_worker_config {
    // Random bits that nobody outside knows.
    uint64_t secret[4];
    // The most IPv4 flows: 16 to 16777215.
    uint32_t flows_v4;
    // The most IPv6 flows: 16 to 16777215.
    uint32_t flows_v6;
    // How many services to count for: those with a number below this.
    uint32_t services;
    // The most fragmented datagrams that are tracked at a time; 0 for the usual number.
    uint32_t fragment_datagrams;
    // Bytes of fragments that wait for their first one; 0 for the usual number.
    uint32_t fragment_held_bytes;
    // Milliseconds that a fragment waits for its first one; 0 for the usual number.
    uint32_t fragment_wait_ms;
    // Which of the gateway's workers it is: below `WEIRGATE_WORKERS_MAX`.
    uint8_t id;
    // How many workers the gateway has, as in its snapshots; 0 where the memory is never to be adopted.
    uint8_t workers;
    // Not read.
    uint8_t reserved[6];
} weirgate_worker_config;

// The result of adopting an earlier worker's memory.
typedef struct weirgate_adopted {
    // Flows that were adopted.
    uint32_t flows;
    // Damaged entries of the tables, which were dropped.
    uint32_t damaged;
    // Flows that were dropped because their replies do not arrive at this worker under the snapshot.
    uint32_t strayed;
} weirgate_adopted;

// One frame in a buffer of the caller's, from its Ethernet header on, without check sequence.
typedef struct weirgate_frame {
    // The buffer's first byte. No two frames or spares of a burst may share a byte.
    uint8_t *buffer;
    // Bytes of the buffer.
    uint32_t capacity;
    // The frame's offset in the buffer. The call moves it.
    uint32_t start;
    // Bytes of the frame. The call changes it.
    uint32_t length;
    // The ingress port.
    uint8_t port;
    // Out: one of `WEIRGATE_VERDICT_…`.
    uint8_t verdict;
    // Out: the verdict's port, drop reason or worker.
    uint8_t detail;
    // How often workers have handed the frame over: 0 for a received one. The call increments it with
    // `WEIRGATE_VERDICT_HANDOVER`; pass the new number to the worker that gets the frame.
    uint8_t handovers;
} weirgate_frame;

// What one call processes.
typedef struct weirgate_burst {
    // The frames received.
    struct weirgate_frame *frames;
    // How many: at most `WEIRGATE_BURST_FRAMES_MAX`.
    size_t frame_count;
    // Buffers for frames of the gateway's own; of each, `buffer` and `capacity` are read.
    struct weirgate_frame *spares;
    // How many: at most `WEIRGATE_BURST_FRAMES_MAX`.
    size_t spare_count;
    // Out: how many of the spares have been filled, from the front.
    size_t emitted;
} weirgate_burst;

// A neighbour whose link address packets wait for.
typedef struct weirgate_unresolved {
    // Its network address.
    struct weirgate_address address;
    // Its port.
    uint8_t port;
} weirgate_unresolved;

// A worker's counters, except those of its ports, services and drops.
typedef struct weirgate_counters {
    // Frames that went to the host.
    uint64_t host;
    // Frames that went to the worker that owns their flow.
    uint64_t handovers;
    // Fragments that were held, for their first one or for buffers to be fragmented into.
    uint64_t fragments_held;
    // Fragments made of packets too large for their egress, without the first of each packet.
    uint64_t fragments_created;
    // Flows that were created.
    uint64_t flows_created;
    // Flows that were removed after their idle timeout.
    uint64_t flows_expired;
    // Flows whose connection had ended, and that a new one of the same tuple reopened.
    uint64_t flows_reopened;
    // Flows that ended with a reset before any reply.
    uint64_t flows_reset;
    // Flows evicted while half-open: by new ones in a full table, or by flows of the same client in one
    // that fills.
    uint64_t evicted_half_open;
    // Flows evicted by new ones in a full table: UDP and echo requests without a reply.
    uint64_t evicted_one_way;
    // As before: connections that had ended or were about to.
    uint64_t evicted_closing;
    // As before: answered, but never assured.
    uint64_t evicted_unassured;
    // As before: UDP that went back and forth.
    uint64_t evicted_stream;
    // Packets forwarded statelessly, in a full table or past the limit on new flows.
    uint64_t forwarded_stateless;
    // Pings that were answered.
    uint64_t echoes_answered;
    // ICMP errors from others about packets of flows, translated and forwarded.
    uint64_t errors_translated;
    // ICMP errors that the gateway itself sent.
    uint64_t errors_sent;
    // TCP resets that the gateway itself sent.
    uint64_t resets_sent;
} weirgate_counters;

// Packets and their bytes.
typedef struct weirgate_traffic {
    // How many packets.
    uint64_t packets;
    // How many bytes they had.
    uint64_t bytes;
} weirgate_traffic;

// The traffic of one port, as frames with their Ethernet headers.
typedef struct weirgate_port_counters {
    // Received frames.
    struct weirgate_traffic received;
    // Frames with the verdict transmit.
    struct weirgate_traffic transmitted;
} weirgate_port_counters;

// The traffic of one service, as IP packets on the client's side.
typedef struct weirgate_service_counters {
    // From clients.
    struct weirgate_traffic original;
    // To clients.
    struct weirgate_traffic reply;
    // Flows that were created.
    uint64_t flows;
} weirgate_service_counters;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface that the library was built with. Compare it with
// `WEIRGATE_ABI_VERSION` before any other call: this one never changes.
uint32_t weirgate_abi_version(void);

// A few words about a status, for a log. Never null; lives as long as the library.
const char *weirgate_status_text(uint32_t status);

// How many drop reasons there are. Their numbers are valid for one build of the library; their names
// never change.
size_t weirgate_drop_reason_count(void);

// The name by which counters and logs call the drop reason with this number; null past the last.
// Lives as long as the library.
const char *weirgate_drop_reason_name(uint8_t reason);

// One sentence for an operator about the drop reason with this number; null past the last. Lives
// as long as the library.
const char *weirgate_drop_reason_text(uint8_t reason);

// Fills a Maglev lookup table: each of `slot_count` slots receives the index of one backend in
// `backends`, in proportion to the weights. A backend of weight 0 gets no slot.
//
// Gateways with the same `seed` and the same order of backends get the same table; the order decides
// contested slots. A snapshot sorts them by ascending address (IPv4 as mapped IPv6) and port.
//
// - `slot_count`: a prime, such as `WEIRGATE_TABLE_SIZE`.
// - On any status but `WEIRGATE_STATUS_OK` the slots' earlier content is lost.
//
// # Safety
// `backends` points to `backend_count` of them, `slots` to room for `slot_count` results.
weirgate_status weirgate_maglev_fill(uint64_t seed,
                                     const struct weirgate_backend *backends,
                                     size_t backend_count,
                                     uint16_t *slots,
                                     size_t slot_count);

// Reads the VXLAN header at the front of a UDP datagram's data and returns its network. The inner
// Ethernet frame follows after `WEIRGATE_VXLAN_HEADER_BYTES`. Reserved bits are ignored (RFC 7348
// section 5).
//
// # Safety
// `data` points to `length` bytes, `vni` to room for the result.
weirgate_status weirgate_vxlan_parse(const uint8_t *data, size_t length, uint32_t *vni);

// Writes a VXLAN header of this network to the `WEIRGATE_VXLAN_HEADER_BYTES` bytes at `header`.
//
// # Safety
// `header` points to as many bytes.
weirgate_status weirgate_vxlan_emit(uint32_t vni, uint8_t *header);

// Fills in a description with nothing but defaults: one worker, VXLAN network 1 at UDP port 8472,
// pool ports 1024 to 65535, Kubernetes' node ports, and the usual timeouts and limits.
//
// # Safety
// `description` points to room for one.
weirgate_status weirgate_description_defaults(struct weirgate_description *description);

// Reports how many bytes of memory compiling this description needs.
//
// - `problem`: room for `problem_length` bytes of text, or null. It receives a sentence with the
//   offending value, cut where it is too long and ended by a zero byte; an empty one on success.
//
// # Safety
// `description` points to one whose arrays are as long as it says, `bytes` to room for the
// result, `problem` is as above.
weirgate_status weirgate_snapshot_bytes(const struct weirgate_description *description,
                                        size_t *bytes,
                                        char *problem,
                                        size_t problem_length);

// Writes the snapshot of a description to the front of `memory`, which begins at a multiple of
// `WEIRGATE_SNAPSHOT_ALIGNMENT` and has as many bytes as `weirgate_snapshot_bytes` reports. Returns
// in `used` how long the snapshot is; the memory after it is free again.
//
// A snapshot is bytes with offsets: it can be copied, stored and shared. Equal descriptions compile to
// equal bytes. On any status but `WEIRGATE_STATUS_OK` the memory's earlier content is lost.
//
// - `problem`: as for `weirgate_snapshot_bytes`.
//
// # Safety
// `description` points to one whose arrays are as long as it says, `memory` to `length` bytes that
// nobody else uses meanwhile, `used` to room for the result, `problem` is as above.
weirgate_status weirgate_snapshot_compile(const struct weirgate_description *description,
                                          void *memory,
                                          size_t length,
                                          size_t *used,
                                          char *problem,
                                          size_t problem_length);

// Returns the generation of a snapshot, and thereby checks that the bytes are one of this version.
//
// # Safety
// `snapshot` points to `length` bytes that nobody changes meanwhile, `generation` to room for
// the result.
weirgate_status weirgate_snapshot_generation(const void *snapshot, size_t length, uint32_t *generation);

// Reports how many bytes of memory a worker needs.
//
// # Safety
// `config` points to a configuration, `bytes` to room for the result.
weirgate_status weirgate_worker_bytes(const struct weirgate_worker_config *config, size_t *bytes);

// Makes a worker without flows in `memory`, touching every byte that it uses, and returns its address
// in `worker`: the memory's beginning, which must be a multiple of
// `WEIRGATE_WORKER_ALIGNMENT`. The memory need not have been written before.
//
// The worker stays in that memory and must not be moved. It needs no destructor: the memory may be freed
// whenever no call is at work on it.
//
// # Safety
// `config` points to a configuration, `memory` to `length` bytes that nothing else uses from now
// on, `worker` to room for the result.
weirgate_status weirgate_worker_init(const struct weirgate_worker_config *config,
                                     void *memory,
                                     size_t length,
                                     struct weirgate_worker **worker);

// Makes a worker that adopts the flows that an earlier one left in `memory`, even if that one or its
// process ended in the middle of a call; counters begin at zero. Nobody else may use the memory any
// more. A control plane that keeps it in shared memory can so hand a gateway over to its next process.
//
// - `config`: as the earlier worker's, with the same number of `workers`. The tables keep their own
//   `secret`.
// - `snapshot`: the current one. Its ports or the selector's seed may have changed, so that replies of a flow
//   lead to another worker. Such flows are dropped: that worker may use their ports for other
//   flows.
// - `adopted`: receives how many flows were adopted.
// - Work: linear in the capacities.
//
// On `WEIRGATE_STATUS_NOT_ADOPTED` the memory holds no worker of this configuration and version; no
// flow was touched, and `weirgate_worker_init` starts without any.
//
// # Safety
// As `weirgate_worker_init`, and the memory's bytes have been written. `snapshot` points to
// `snapshot_length` bytes that nobody changes meanwhile, `adopted` to room for the result.
weirgate_status weirgate_worker_attach(const struct weirgate_worker_config *config,
                                       const void *snapshot,
                                       size_t snapshot_length,
                                       void *memory,
                                       size_t length,
                                       struct weirgate_worker **worker,
                                       struct weirgate_adopted *adopted);

// Sets the verdict of every frame of the burst.
//
// On any status but `WEIRGATE_STATUS_OK` nothing has been processed or changed.
//
// - `now_ns`: nanoseconds on the caller's monotonic clock; must not go backwards.
// - Work: bounded for each frame, no allocation.
//
// # Safety
// `worker` comes from `weirgate_worker_init`. `snapshot` points to `snapshot_length` bytes that
// nobody changes meanwhile. `burst`, its arrays and all their buffers are as it says, used by
// nobody else meanwhile, and no two buffers share a byte.
weirgate_status weirgate_worker_process(struct weirgate_worker *worker,
                                        const void *snapshot,
                                        size_t snapshot_length,
                                        uint64_t now_ns,
                                        struct weirgate_burst *burst);

// Removes flows past their idle timeout, and fragmented datagrams that have been silent too long, among
// the next `budget` of each kind. Call it once in each turn of the loop.
//
// # Safety
// `worker` comes from `weirgate_worker_init`. `snapshot` points to `snapshot_length` bytes that
// nobody changes meanwhile.
weirgate_status weirgate_worker_age(struct weirgate_worker *worker,
                                    const void *snapshot,
                                    size_t snapshot_length,
                                    uint64_t now_ns,
                                    uint32_t budget);

// Reports how many flows there are in each family.
//
// # Safety
// `worker` comes from `weirgate_worker_init`; `flows_v4` and `flows_v6` point to room for the
// results.
weirgate_status weirgate_worker_flows(struct weirgate_worker *worker, uint32_t *flows_v4, uint32_t *flows_v6);

// Returns the next neighbour whose link address packets wait for: ask the kernel to resolve it.
// `WEIRGATE_STATUS_EMPTY` where there is none.
//
// # Safety
// `worker` comes from `weirgate_worker_init`; `unresolved` points to room for the result.
weirgate_status weirgate_worker_next_unresolved(struct weirgate_worker *worker,
                                                struct weirgate_unresolved *unresolved);

// Counts a drop of the caller's own, such as a ring without room.
//
// # Safety
// `worker` comes from `weirgate_worker_init`.
weirgate_status weirgate_worker_count_drop(struct weirgate_worker *worker, uint8_t reason);

// Reads the counters that are neither a port's, a service's nor a drop's. From any thread, also
// while another call is at work.
//
// # Safety
// `worker` comes from `weirgate_worker_init`; `counters` points to room for the result.
weirgate_status weirgate_worker_counters(const struct weirgate_worker *worker,
                                         struct weirgate_counters *counters);

// Reads how many frames were dropped for each of the first `count` reasons, by number. From any
// thread, also while another call is at work.
//
// # Safety
// `worker` comes from `weirgate_worker_init`; `drops` points to room for `count` results.
weirgate_status weirgate_worker_drops(const struct weirgate_worker *worker, uint64_t *drops, size_t count);

// Reads the counters of a port. From any thread, also while another call is at work.
//
// # Safety
// `worker` comes from `weirgate_worker_init`; `counters` points to room for the result.
weirgate_status weirgate_worker_port_counters(const struct weirgate_worker *worker,
                                              uint8_t port,
                                              struct weirgate_port_counters *counters);

// Reads the counters of a service by its number, which is below the configuration's `services`.
// From any thread, also while another call is at work.
//
// # Safety
// `worker` comes from `weirgate_worker_init`; `counters` points to room for the result.
weirgate_status weirgate_worker_service_counters(const struct weirgate_worker *worker,
                                                 uint32_t service,
                                                 struct weirgate_service_counters *counters);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WEIRGATE_H */
