// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Both ends of the bench. `generate` is run by BPF_PROG_TEST_RUN with live frames and sends UDP
// datagrams of many flows; `count` runs at the start of the underlay and takes the frames away.

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) typeof(value) *name
#define BE16(value) ((__be16)__builtin_bswap16(value))
#define BE32(value) ((__be32)__builtin_bswap32(value))

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "BE16 assumes a little-endian host"
#endif

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

enum {
	ETH_LEN = 14,
	IPV4_LEN = 20,
	UDP_LEN = 8,
	VXLAN_LEN = 8,
	HEADERS_LEN = ETH_LEN + IPV4_LEN + UDP_LEN,
	OUTER_LEN = HEADERS_LEN + VXLAN_LEN,
	PODS = 4,
	CHECK_EVERY = 64, // so many frames for each one that is checked to its last byte
	UDP_WORDS_MAX = 720,
};

// The indices of `counters`, as in traffic.rs.
enum counter { SENT, VXLAN, PLAIN, UNMOVED, PASSED, WRONG, CHECKED, COUNTERS };

// Set before loading. Addresses and ports are numbers of the host's order.
const volatile __u64 head[6] = {};    // the first 42 bytes of each frame, with zeroes where they vary
const volatile __u32 flows = 1;	      // how many
const volatile __u32 source = 0;      // the first client's address, a multiple of 8
const volatile __u32 ipv4_sum = 0;    // of the header as in `head`
const volatile __u32 udp_sum = 0;     // of pseudo header, header and data, with zeroes where they vary
const volatile __u32 destination = 0; // where the service listens
const volatile __u16 node_port = 0;
const volatile __u16 backend_port = 0;
const volatile __u32 pods[PODS] = {};
const volatile __u16 length = 0; // of a frame

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, COUNTERS);
	TYPE(key, __u32);
	TYPE(value, __u64);
} counters SEC(".maps");

INLINE __u64 count_one(__u32 which)
{
	__u64 *counter = map_lookup(&counters, &which);
	return counter ? (*counter)++ : 0;
}

// RFC 1071 §1.
INLINE __u16 fold(__u64 sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return sum;
}

// The frame's memory was used before and holds whatever a gateway wrote there, so all of the
// headers is written each time. Eight clients share the flows.
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	if (at + HEADERS_LEN > end)
		return XDP_ABORTED;
	__u32 flow = count_one(SENT) % flows;
	__u32 client = source + (flow & 7);
	__u16 port = 1024 + (flow >> 3);

#pragma unroll
	for (int i = 0; i < 5; i++)
		*(__u64 *)(at + 8 * i) = head[i];
	*(__u16 *)(at + 40) = head[5];
	__u32 varies = (client >> 16) + (client & 0xffff);
	__u16 sum = fold((__u64)udp_sum + varies + port);
	*(__be16 *)(at + 24) = BE16((__u16)~fold((__u64)ipv4_sum + varies));
	*(__be32 *)(at + 26) = BE32(client);
	*(__be16 *)(at + 34) = BE16(port);
	*(__be16 *)(at + 40) = BE16(sum == 0xffff ? 0xffff : (__u16)~sum); // RFC 768: zero is sent as all ones
	return XDP_TX;
}

// Whether the IPv4 header and the UDP datagram behind it have right lengths and checksums.
INLINE int is_sound(void *ip, void *end, __u32 udp_length)
{
	if (ip + IPV4_LEN + UDP_LEN > end || *(__u8 *)ip != 0x45)
		return 0;
	__u64 sum = 0;
#pragma unroll
	for (int i = 0; i < IPV4_LEN / 2; i++)
		sum += *(__u16 *)(ip + 2 * i);
	if (fold(sum) != 0xffff)
		return 0;
	if (*(__be16 *)(ip + 2) != BE16((__u16)(IPV4_LEN + udp_length)))
		return 0;
	void *udp = ip + IPV4_LEN;
	if (*(__be16 *)(udp + 4) != BE16((__u16)udp_length))
		return 0;
	if (*(__be16 *)(udp + 6) == 0)
		return 0;
	sum = (__u64)BE16((__u16)udp_length) + BE16(IPPROTO_UDP);
	for (int i = 0; i < 4; i++)
		sum += *(__u16 *)(ip + 12 + 2 * i);
	for (__u32 i = 0; i < UDP_WORDS_MAX; i++) {
		if (2 * i >= udp_length)
			break;
		if (udp + 2 * i + 2 > end)
			return 0;
		sum += *(__u16 *)(udp + 2 * i);
	}
	return fold(sum) == 0xffff;
}

INLINE int is_to_pod(__u32 address)
{
#pragma unroll
	for (int i = 0; i < PODS; i++) {
		if (address == pods[i])
			return 1;
	}
	return 0;
}

INLINE int take(__u32 kind, void *ip, void *end)
{
	if (count_one(kind) % CHECK_EVERY == 0) {
		count_one(is_sound(ip, end, length - ETH_LEN - IPV4_LEN) ? CHECKED : WRONG);
	}
	return TC_ACT_SHOT;
}

// Takes what a forwarder sends and passes the rest, such as ARP, to the host. A frame that is
// neither is counted too, so that nothing passes for forwarded that was not.
SEC("classifier")
int count(struct __sk_buff *skb)
{
	void *at = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	if (at + HEADERS_LEN > end)
		goto pass;
	__be16 ethertype = *(__be16 *)(at + 12);
	if (ethertype == BE16(0x88b5)) { // IEEE 802 local experiments: the bare forwarder's
		count_one(UNMOVED);
		return TC_ACT_SHOT;
	}
	void *ip = at + ETH_LEN;
	if (ethertype != BE16(0x0800) || *(__u8 *)ip != 0x45 || *(__u8 *)(ip + 9) != IPPROTO_UDP)
		goto pass;
	__be16 port = *(__be16 *)(ip + IPV4_LEN + 2);
	if (port == BE16(node_port) && *(__be32 *)(ip + 16) == BE32(destination))
		return take(PLAIN, ip, end);
	if (port != BE16(8472) || at + OUTER_LEN + HEADERS_LEN > end)
		goto pass;
	// RFC 7348 §5: the flag that the VNI is valid, and VNI 1.
	void *vxlan = at + HEADERS_LEN;
	if ((*(__u8 *)vxlan & 8) == 0 || *(__be32 *)(vxlan + 4) != BE32(1u << 8))
		goto pass;
	void *inner = at + OUTER_LEN + ETH_LEN;
	if (*(__be16 *)(inner - 2) == BE16(0x0800) && *(__u8 *)(inner + 9) == IPPROTO_UDP &&
	    is_to_pod(BE32(*(__be32 *)(inner + 16))) && *(__be16 *)(inner + IPV4_LEN + 2) == BE16(backend_port))
		return take(VXLAN, inner, end);
pass:
	count_one(PASSED);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "MIT";
