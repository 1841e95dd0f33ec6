// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Decides for each received frame whether it belongs to the gateway. The gateway's frames go to the
// AF_XDP socket of their port and queue, or are dropped where none is attached, so that the kernel
// never answers for the gateway. All others pass to the kernel unchanged.
//
//   the gateway's                                        recognised by
//   TCP, UDP, SCTP to a frontend, VXLAN to the own VTEP  `endpoints` (address, port, protocol)
//   plain IP into the own overlay subnets                `subnets`
//   plain IP of pods to the outside                      its source in `masqueraded`, its destination not in `exempt`
//   later fragments of either                            `fragments`, written by the first one
//   fragments that come before their first one           the address, where the host does not have it
//   ICMP errors about what a frontend sent               the quoted packet's source in `endpoints`
//   pings of a service's address                         `endpoints` (address, port 0, ICMP)
//
// A fragment that comes before its first one, to an address that a service and the host share, may be
// either's. It passes to the kernel, and a worker gets a copy of it through `early`. Both hold it until
// the first fragment comes, which goes to one of them; the other drops its own.
//
// The numbers in capitals come from src/xdp/layout.rs by way of the build script.

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) typeof(value) *name
#define BE16(value) ((__be16)__builtin_bswap16(value))

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "BE16 assumes a little-endian host"
#endif

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const map_update)(void *map, const void *key, const void *value,
				__u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*const redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;
static void *(*const ring_reserve)(void *ring, __u64 size, __u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*const ring_submit)(void *record, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static void (*const ring_discard)(void *record, __u64 flags) = (void *)BPF_FUNC_ringbuf_discard;
static long (*const adjust_head)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_head;
static __u64 (*const buff_len)(struct xdp_md *ctx) = (void *)BPF_FUNC_xdp_get_buff_len;
static long (*const load_bytes)(struct xdp_md *ctx, __u32 offset, void *to,
				__u32 length) = (void *)BPF_FUNC_xdp_load_bytes;

enum {
	ETH_LEN = 14,
	VLAN_LEN = 4,
	IPV4_LEN_MIN = 20,
	IPV6_LEN = 40,
	ICMP_LEN = 8,
	EXTENSIONS_MAX = 6, // RFC 8200 §4.1 lists as many that may precede the upper layer
};

#define ETHERTYPE_IPV4 BE16(0x0800)
#define ETHERTYPE_IPV6 BE16(0x86dd)
#define ETHERTYPE_VLAN BE16(0x8100)
#define IPV4_MORE_FRAGMENTS BE16(0x2000)
#define IPV4_OFFSET_MASK BE16(0x1fff)
#define IPV6_OFFSET_MASK BE16(0xfff8)
#define IPV6_MORE_FRAGMENTS BE16(0x0001)

enum protocol {
	HOP_BY_HOP = 0,
	ICMPV4 = 1,
	TCP = 6,
	UDP = 17,
	ROUTING = 43,
	FRAGMENT = 44,
	ICMPV6 = 58,
	DESTINATION_OPTIONS = 60,
	SCTP = 132,
};

// IPv4 addresses are kept as IPv4-mapped IPv6 ones (RFC 4291 §2.5.5.2).
struct address {
	__u32 word[4];
};

struct endpoint {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct fragment {
	struct address source;
	struct address destination;
	__u32 identification;
	__u32 protocol; // 0 for IPv6, whose datagrams are identified without it (RFC 8200 §4.5)
};

// Whose a frame is, also as `fragments` records it for a datagram.
enum owner {
	GATEWAY = 1,
	KERNEL = 2,
	EITHER = 3, // not known yet, so in no map
};

// A copy of a frame, as src/xdp/early.rs reads it.
struct early {
	__u32 port;
	__u32 queue;
	__u32 length;
	__u32 zero;
	__u8 frame[EARLY_FRAME_MAX];
};

struct subnet {
	__u32 bits;
	struct address address;
};

struct {
	UINT(type, BPF_MAP_TYPE_XSKMAP);
	UINT(max_entries, PORTS_MAX *QUEUES_MAX);
	TYPE(key, __u32);
	TYPE(value, __u32);
} sockets SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	UINT(max_entries, ENDPOINTS_MAX);
	TYPE(key, struct endpoint);
	TYPE(value, __u8);
} endpoints SEC(".maps");

struct subnets {
	UINT(type, BPF_MAP_TYPE_LPM_TRIE);
	UINT(map_flags, BPF_F_NO_PREALLOC);
	UINT(max_entries, SUBNETS_MAX);
	TYPE(key, struct subnet);
	TYPE(value, __u8);
};

struct subnets subnets SEC(".maps");

// The pods of peers that are reached by a plain route, where their packets to the outside are masqueraded.
struct subnets masqueraded SEC(".maps");

// What is not outside: destinations to which such packets are the kernel's.
struct subnets exempt SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, FRAGMENTS_MAX);
	TYPE(key, struct fragment);
	TYPE(value, __u8);
} fragments SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, COUNTERS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} counters SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_RINGBUF);
	UINT(max_entries, EARLY_RING_BYTES);
} early SEC(".maps");

// Set before loading: the interface index of each port.
const volatile __u32 port_interfaces[PORTS_MAX] = {};

// One parsed IP packet: the received one, or one that an ICMP error quotes.
struct packet {
	struct fragment fragment; // holds both addresses
	void *transport;	  // where the layer above begins
	__u8 protocol;
	__u8 is_fragment;   // first or later
	__u8 is_later_fragment; // so that it has no transport header
};

// `at` may be anywhere: true where `length` bytes lie between it and the frame's end.
#define HAS(at, length, end) ((void *)(at) + (length) <= (end))

INLINE void count(__u32 which)
{
	__u64 *counter = map_lookup(&counters, &which);
	if (counter)
		*counter += 1;
}

INLINE void map_ipv4(struct address *address, __u32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = __builtin_bswap32(0xffff);
	address->word[3] = ipv4;
}

// RFC 791 §3.1. False where the kernel should handle it.
INLINE int parse_ipv4(void *at, void *end, struct packet *packet)
{
	if (!HAS(at, IPV4_LEN_MIN, end))
		return 0;
	__u8 first = *(__u8 *)at;
	__u32 length = (first & 0x0f) * 4;
	if (first >> 4 != 4 || length < IPV4_LEN_MIN)
		return 0;
	__be16 offset = *(__be16 *)(at + 6);
	packet->protocol = *(__u8 *)(at + 9);
	packet->is_fragment = (offset & (IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS)) != 0;
	packet->is_later_fragment = (offset & IPV4_OFFSET_MASK) != 0;
	packet->fragment.identification = *(__be16 *)(at + 4);
	packet->fragment.protocol = packet->protocol;
	map_ipv4(&packet->fragment.source, *(__u32 *)(at + 12));
	map_ipv4(&packet->fragment.destination, *(__u32 *)(at + 16));
	packet->transport = at + length;
	return 1;
}

// RFC 8200 §3 and §4. A longer chain of extension headers than `EXTENSIONS_MAX` is the kernel's.
INLINE int parse_ipv6(void *at, void *end, struct packet *packet)
{
	if (!HAS(at, IPV6_LEN, end))
		return 0;
	if (*(__u8 *)at >> 4 != 6)
		return 0;
	packet->protocol = *(__u8 *)(at + 6);
	__builtin_memcpy(&packet->fragment.source, at + 8, sizeof(struct address));
	__builtin_memcpy(&packet->fragment.destination, at + 24, sizeof(struct address));
	at += IPV6_LEN;

#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		__u8 kind = packet->protocol;
		if (kind == FRAGMENT) {
			if (!HAS(at, 8, end))
				return 0;
			__be16 offset = *(__be16 *)(at + 2);
			packet->protocol = *(__u8 *)at;
			packet->is_fragment = (offset & (IPV6_OFFSET_MASK | IPV6_MORE_FRAGMENTS)) != 0;
			packet->is_later_fragment = (offset & IPV6_OFFSET_MASK) != 0;
			packet->fragment.identification = *(__u32 *)(at + 4);
			at += 8;
			if (packet->is_later_fragment)
				break; // a later fragment has no further headers
		} else if (kind == HOP_BY_HOP || kind == ROUTING || kind == DESTINATION_OPTIONS) {
			if (!HAS(at, 2, end))
				return 0;
			packet->protocol = *(__u8 *)at;
			at += (*(__u8 *)(at + 1) + 1) * 8;
		} else {
			break;
		}
	}
	packet->transport = at;
	return 1;
}

INLINE int is_endpoint(struct address *address, __be16 port, __u8 protocol)
{
	struct endpoint key = { .address = *address, .port = port, .protocol = protocol };
	return map_lookup(&endpoints, &key) != 0;
}

// Protocols whose header begins with a source and a destination port.
INLINE int has_ports(__u8 protocol)
{
	return protocol == TCP || protocol == UDP || protocol == SCTP;
}

INLINE int is_ours_by_port(struct packet *packet, void *end)
{
	if (!HAS(packet->transport, 4, end))
		return 0;
	__be16 port = *(__be16 *)(packet->transport + 2);
	return is_endpoint(&packet->fragment.destination, port, packet->protocol);
}

// An error about a packet that a frontend sent: the client's side could not receive a reply.
INLINE int is_error_about_ours(struct packet *error, void *end)
{
	void *icmp = error->transport;
	if (error->is_fragment || !HAS(icmp, ICMP_LEN, end))
		return 0;
	__u8 type = *(__u8 *)icmp;
	struct packet quoted = {};
	if (error->protocol == ICMPV4) {
		// Destination unreachable, time exceeded, parameter problem: RFC 792.
		if (type != 3 && type != 11 && type != 12)
			return 0;
		if (!parse_ipv4(icmp + ICMP_LEN, end, &quoted))
			return 0;
	} else {
		// The same three and packet too big: RFC 4443 §2.1.
		if (type < 1 || type > 4)
			return 0;
		if (!parse_ipv6(icmp + ICMP_LEN, end, &quoted))
			return 0;
	}
	if (!has_ports(quoted.protocol))
		return 0;
	if (quoted.is_later_fragment || !HAS(quoted.transport, 4, end))
		return 0;
	__be16 port = *(__be16 *)quoted.transport;
	return is_endpoint(&quoted.fragment.source, port, quoted.protocol);
}

// An echo request that the gateway answers (RFC 792, RFC 4443 §4.1).
INLINE int is_ping_of_ours(struct packet *packet, void *end)
{
	if (!HAS(packet->transport, 1, end))
		return 0;
	if (*(__u8 *)packet->transport != (packet->protocol == ICMPV4 ? 8 : 128))
		return 0;
	return is_endpoint(&packet->fragment.destination, 0, packet->protocol);
}

INLINE int is_in_subnet(struct packet *packet)
{
	struct subnet key = { .bits = 128, .address = packet->fragment.destination };
	return map_lookup(&subnets, &key) != 0;
}

// What a pod that is reached by a plain route sends to the outside: what has ports, echoes, and errors. Neighbour
// discovery (RFC 4861) and all else stays the kernel's. A later fragment goes where its first one went; before that
// one, by addresses alone.
INLINE int is_outward(struct packet *packet, void *end)
{
	struct subnet key = { .bits = 128, .address = packet->fragment.source };
	if (!map_lookup(&masqueraded, &key))
		return 0;
	key.address = packet->fragment.destination;
	if (map_lookup(&exempt, &key))
		return 0;
	if (packet->is_later_fragment || has_ports(packet->protocol))
		return 1;
	if (!HAS(packet->transport, 1, end))
		return 0;
	__u8 type = *(__u8 *)packet->transport;
	if (packet->protocol == ICMPV4)
		return type == 0 || type == 8 || type == 3 || type == 11 || type == 12;
	return packet->protocol == ICMPV6 && ((type >= 1 && type <= 4) || type == 128 || type == 129);
}

// A later fragment whose first one has not come, by its address.
INLINE enum owner owner_of_early_fragment(struct packet *packet)
{
	struct address *destination = &packet->fragment.destination;
	if (is_endpoint(destination, BE16(ADDRESS_ALONE), 0))
		return GATEWAY;
	// Pings of an address that the host has are the host's.
	if (packet->protocol == ICMPV4 || packet->protocol == ICMPV6)
		return KERNEL;
	return is_endpoint(destination, BE16(ADDRESS_SHARED), 0) ? EITHER : KERNEL;
}

// Also for the kernel's datagrams: their later fragments must not follow a datagram of the gateway's that
// began in between, nor an earlier one with the same number.
INLINE void remember_first_fragment(struct packet *packet, __u8 owner)
{
	map_update(&fragments, &packet->fragment, &owner, BPF_ANY);
}

INLINE enum owner owner_of(struct packet *packet, void *end)
{
	if (packet->is_later_fragment) {
		__u8 *first = map_lookup(&fragments, &packet->fragment);
		if (first)
			return *first == GATEWAY || is_in_subnet(packet) ? GATEWAY : KERNEL;
		enum owner owner = owner_of_early_fragment(packet);
		if (owner != KERNEL)
			return owner;
	} else if (has_ports(packet->protocol)) {
		if (is_ours_by_port(packet, end)) {
			if (packet->is_fragment)
				remember_first_fragment(packet, GATEWAY);
			return GATEWAY;
		}
	} else if (packet->protocol == ICMPV4 || packet->protocol == ICMPV6) {
		if (is_error_about_ours(packet, end))
			return GATEWAY;
		if (is_ping_of_ours(packet, end)) {
			if (packet->is_fragment)
				remember_first_fragment(packet, GATEWAY);
			return GATEWAY;
		}
	}
	if (is_outward(packet, end)) {
		if (packet->is_fragment && !packet->is_later_fragment)
			remember_first_fragment(packet, GATEWAY);
		return GATEWAY;
	}
	if (packet->is_fragment && !packet->is_later_fragment)
		remember_first_fragment(packet, KERNEL);
	return is_in_subnet(packet) ? GATEWAY : KERNEL;
}

// The number of the frame's ingress port, PORTS_MAX for none.
INLINE __u32 port_of(struct xdp_md *ctx)
{
	__u32 port = PORTS_MAX;
#pragma unroll
	for (int i = 0; i < PORTS_MAX; i++) {
		if (port == PORTS_MAX && port_interfaces[i] == ctx->ingress_ifindex)
			port = i;
	}
	return port;
}

// Copies the frame for a worker, if there is room. Not inlined and not static, so that the kernel verifies
// it once and not for every path that leads here.
__attribute__((noinline)) int copy_early(struct xdp_md *ctx)
{
	__u32 port = port_of(ctx);
	__u64 length = buff_len(ctx);
	struct early *copy = length <= EARLY_FRAME_MAX ? ring_reserve(&early, sizeof(struct early), 0) : 0;
	if (!copy) {
		count(COUNTER_EARLY_LOST);
		return 0;
	}
	// The verifier of Linux 6.1 needs a lower bound, and clang would merge two comparisons and hide it.
	if (length < ETH_LEN || load_bytes(ctx, 0, copy->frame, length)) {
		ring_discard(copy, 0);
		count(COUNTER_EARLY_LOST);
		return 0;
	}
	copy->port = port;
	copy->queue = ctx->rx_queue_index;
	copy->length = length;
	copy->zero = 0;
	ring_submit(copy, 0);
	count(COUNTER_EARLY);
	return 0;
}

INLINE int steer(struct xdp_md *ctx)
{
	__u32 port = port_of(ctx);
	// The kernel ends the program if the driver cannot make room; the frame is the gateway's, so
	// it is not the kernel's either.
	if (adjust_head(ctx, -ADJUST)) {
		count(COUNTER_NO_HEADROOM);
		return XDP_DROP;
	}
	int action = XDP_DROP;
	if (port < PORTS_MAX && ctx->rx_queue_index < QUEUES_MAX)
		action = redirect_map(&sockets, port * QUEUES_MAX + ctx->rx_queue_index, XDP_DROP);
	count(action == XDP_REDIRECT ? COUNTER_STEERED : COUNTER_NO_WORKER);
	return action;
}

SEC("xdp")
int weirgate_steer(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet packet = {};
	int known = 0;

	if (HAS(at, ETH_LEN, end)) {
		__be16 ethertype = *(__be16 *)(at + 12);
		at += ETH_LEN;
		if (ethertype == ETHERTYPE_VLAN && HAS(at, VLAN_LEN, end)) {
			ethertype = *(__be16 *)(at + 2);
			at += VLAN_LEN;
		}
		if (ethertype == ETHERTYPE_IPV4)
			known = parse_ipv4(at, end, &packet);
		else if (ethertype == ETHERTYPE_IPV6)
			known = parse_ipv6(at, end, &packet);
	}
	enum owner owner = known ? owner_of(&packet, end) : KERNEL;
	if (owner == GATEWAY)
		return steer(ctx);
	if (owner == EITHER)
		copy_early(ctx);
	count(COUNTER_PASSED);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "MIT";
