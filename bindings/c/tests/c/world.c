#include "world.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Ports that have no bit in common, and one that has nothing but a route and a neighbour. */
enum { UPLINK = 9, UNDERLAY = 6, OTHER = 4 };

weirgate_address address(const char *text) {
    weirgate_address result;
    memset(&result, 0, sizeof result);
    if (inet_pton(AF_INET, text, result.bytes) == 1) {
        result.family = WEIRGATE_FAMILY_V4;
    } else if (inet_pton(AF_INET6, text, result.bytes) == 1) {
        result.family = WEIRGATE_FAMILY_V6;
    } else {
        fprintf(stderr, "%s is no address\n", text);
        exit(1);
    }
    return result;
}

weirgate_endpoint endpoint(const char *text, uint16_t port) {
    weirgate_endpoint result = {.address = address(text), .port = port};
    return result;
}

weirgate_prefix prefix(const char *text, uint8_t length) {
    weirgate_prefix result = {.address = address(text), .length = length};
    return result;
}

static void mac(uint8_t out[6], uint8_t group, uint8_t number) {
    const uint8_t bytes[6] = {2, 0, 0, 0, group, number};
    memcpy(out, bytes, sizeof bytes);
}

static weirgate_peer vxlan_peer(const char *subnet, uint8_t length, const char *public_address, uint8_t node) {
    weirgate_peer peer = {
        .subnet = prefix(subnet, length),
        .public_address = address(public_address),
        .encapsulation = WEIRGATE_ENCAPSULATION_VXLAN,
        .has_next_hop = 1,
        .next_hop_port = UNDERLAY,
    };
    mac(peer.vtep_mac, 3, node);
    mac(peer.next_hop_mac, 2, node);
    return peer;
}

static weirgate_backend backend(const char *text, uint16_t port, uint32_t weight) {
    weirgate_backend result = {.endpoint = endpoint(text, port), .weight = weight};
    return result;
}

static weirgate_neighbour neighbour(uint8_t port, const char *text, uint8_t number) {
    weirgate_neighbour result = {.address = address(text), .port = port};
    mac(result.mac, 1, number);
    return result;
}

void world_describe(weirgate_description *description) {
    static weirgate_port ports[11];
    static weirgate_peer peers[5];
    static weirgate_endpoint web_frontends[2], dns_frontends[2];
    static weirgate_backend web_backends[3], dns_backends[1];
    static weirgate_endpoint sctp_frontends[1];
    static weirgate_backend sctp_backends[1];
    static weirgate_service services[3];
    static weirgate_route routes[5];
    static weirgate_address masquerade[2], local[2];
    static weirgate_prefix non_masquerade[2];
    static weirgate_neighbour neighbours[3];
    static weirgate_prefix subnets[3];
    static weirgate_address pool[3];

    weirgate_description_defaults(description);
    description->generation = 7;
    description->workers = 3;
    description->vni = 0x012345;
    description->selector_seed = 0x0123456789abcdef;
    description->overlay_mtu = 1399;
    description->timeouts = (weirgate_timeouts){
        .tcp_syn_sent_seconds = 103,
        .tcp_syn_received_seconds = 107,
        .tcp_established_seconds = 7451,
        .tcp_fin_wait_seconds = 109,
        .tcp_close_wait_seconds = 113,
        .tcp_last_ack_seconds = 127,
        .tcp_time_wait_seconds = 131,
        .tcp_reset_seconds = 137,
        .tcp_syn_sent2_seconds = 139,
        .udp_seconds = 149,
        .udp_stream_seconds = 151,
        .icmp_seconds = 157,
        .sctp_cookie_wait_seconds = 163,
        .sctp_cookie_echoed_seconds = 167,
        .sctp_established_seconds = 173,
        .sctp_shutdown_sent_seconds = 179,
        .sctp_shutdown_received_seconds = 181,
        .sctp_shutdown_ack_sent_seconds = 191,
        .sctp_closed_seconds = 193,
    };
    description->pool_port_first = 1031;
    description->pool_port_last = 64997;
    description->node_port_first = 30011;
    description->node_port_last = 31013;
    description->masquerade_port_first = 2003;
    description->masquerade_port_last = 59999;
    description->mss = 1361;
    description->outer_dscp = 37;
    description->half_open_per_client = 101;
    description->new_flows_per_second = 2011;
    description->echoes_per_second = 53;
    description->echo_services = 1;
    description->past_limit = WEIRGATE_PAST_LIMIT_STATELESS;
    /* Not read. */
    memset(description->reserved, 0xa5, sizeof description->reserved);

    masquerade[0] = address("198.51.100.20");
    masquerade[1] = address("2001:db8:7::7");
    description->masquerade = masquerade;
    description->masquerade_count = COUNT(masquerade);
    non_masquerade[0] = prefix("10.77.0.0", 16);
    non_masquerade[1] = prefix("fd77::", 48);
    description->non_masquerade = non_masquerade;
    description->non_masquerade_count = COUNT(non_masquerade);
    local[0] = address("192.0.2.1");
    local[1] = address("2001:db8:1::1");
    description->local = local;
    description->local_count = COUNT(local);

    description->vtep_v4.public_address = address("10.99.0.50");
    mac(description->vtep_v4.mac, 4, 1);
    description->vtep_v6.public_address = address("fd99::50");
    mac(description->vtep_v6.mac, 4, 2);

    subnets[0] = prefix("10.77.200.0", 24);
    subnets[1] = prefix("fd77:0:0:200::", 64);
    subnets[2] = prefix("10.77.202.0", 24);
    description->subnets = subnets;
    description->subnet_count = COUNT(subnets);

    pool[0] = address("10.77.200.2");
    pool[1] = address("10.77.200.3");
    pool[2] = address("fd77:0:0:200::2");
    description->pool = pool;
    description->pool_count = COUNT(pool);

    static const uint16_t mtus[COUNT(ports)] = {1423, 1427, 1429, 1433, 1439, 1447, 1499, 1451, 1453, 1511, 1459};
    for (uint8_t index = 0; index < COUNT(ports); index++) {
        mac(ports[index].mac, 0, 10 + index);
        ports[index].mtu = mtus[index];
    }
    mac(ports[UPLINK].mac, 0, 1);
    mac(ports[UNDERLAY].mac, 0, 2);
    description->ports = ports;
    description->port_count = COUNT(ports);

    peers[0] = vxlan_peer("10.77.74.0", 24, "10.99.0.11", 1);
    peers[1] = vxlan_peer("10.77.4.0", 24, "fd99::12", 2);
    peers[2] = vxlan_peer("fd77:0:0:74::", 64, "fd99::11", 3);
    peers[3] = (weirgate_peer){
        .subnet = prefix("10.77.9.0", 24),
        .public_address = address("10.99.0.13"),
        .encapsulation = WEIRGATE_ENCAPSULATION_DIRECT,
    };
    peers[4] = (weirgate_peer){
        .subnet = prefix("10.77.10.0", 24),
        .public_address = address("10.99.0.14"),
        .encapsulation = WEIRGATE_ENCAPSULATION_DIRECT,
        .has_next_hop = 1,
        .next_hop_port = UNDERLAY,
    };
    mac(peers[4].next_hop_mac, 2, 5);
    description->peers = peers;
    description->peer_count = COUNT(peers);

    web_frontends[0] = endpoint("192.0.2.1", 30080);
    web_frontends[1] = endpoint("2001:db8:1::1", 30083);
    web_backends[0] = backend("10.77.74.10", 8081, 3);
    web_backends[1] = backend("10.77.4.10", 8083, 5);
    web_backends[2] = backend("fd77:0:0:74::a", 8087, 2);
    services[0] = (weirgate_service){
        .id = 11,
        .protocol = WEIRGATE_PROTOCOL_TCP,
        .table_size = 1009,
        .frontends = web_frontends,
        .frontend_count = COUNT(web_frontends),
        .backends = web_backends,
        .backend_count = COUNT(web_backends),
    };
    dns_frontends[0] = endpoint("192.0.2.1", 30053);
    dns_frontends[1] = endpoint("203.0.113.77", 5387);
    dns_backends[0] = backend("10.77.9.10", 5381, 7);
    services[1] = (weirgate_service){
        .id = 13,
        .protocol = WEIRGATE_PROTOCOL_UDP,
        .table_size = 251,
        .has_dscp = 1,
        .dscp = 46,
        .frontends = dns_frontends,
        .frontend_count = COUNT(dns_frontends),
        .backends = dns_backends,
        .backend_count = COUNT(dns_backends),
    };
    sctp_frontends[0] = endpoint("192.0.2.1", 30132);
    sctp_backends[0] = backend("10.77.74.10", 13203, 11);
    services[2] = (weirgate_service){
        .id = 17,
        .protocol = WEIRGATE_PROTOCOL_SCTP,
        .table_size = 19,
        .client_address = WEIRGATE_CLIENT_PRESERVED,
        .frontends = sctp_frontends,
        .frontend_count = COUNT(sctp_frontends),
        .backends = sctp_backends,
        .backend_count = COUNT(sctp_backends),
    };
    description->services = services;
    description->service_count = COUNT(services);

    routes[0] = (weirgate_route){.prefix = prefix("192.0.2.0", 24), .port = UPLINK};
    routes[1] = (weirgate_route){.prefix = prefix("0.0.0.0", 0), .via = address("192.0.2.254"), .port = UPLINK};
    routes[2] = (weirgate_route){.prefix = prefix("2001:db8:1::", 64), .port = UPLINK};
    routes[3] = (weirgate_route){.prefix = prefix("198.18.0.0", 15), .target = WEIRGATE_ROUTE_NOWHERE};
    routes[4] = (weirgate_route){.prefix = prefix("203.0.113.0", 24), .port = OTHER};
    description->routes = routes;
    description->route_count = COUNT(routes);

    neighbours[0] = neighbour(UPLINK, "192.0.2.10", 1);
    neighbours[1] = neighbour(UPLINK, "2001:db8:1::10", 3);
    neighbours[2] = neighbour(OTHER, "203.0.113.9", 5);
    description->neighbours = neighbours;
    description->neighbour_count = COUNT(neighbours);
}
