/* The structures are laid out as tests/data/vectors/layout.txt says, every field of them. */

#include "check.h"

#include <stddef.h>
#include <weirgate.h>

#define TYPE(type) {#type, sizeof(type)}
#define FIELD(type, field) {#type "." #field, offsetof(type, field)}

static const struct {
    const char *name;
    size_t bytes;
} LAYOUT[] = {
    TYPE(weirgate_address),
    FIELD(weirgate_address, bytes),
    FIELD(weirgate_address, family),
    TYPE(weirgate_prefix),
    FIELD(weirgate_prefix, address),
    FIELD(weirgate_prefix, length),
    TYPE(weirgate_endpoint),
    FIELD(weirgate_endpoint, address),
    FIELD(weirgate_endpoint, reserved),
    FIELD(weirgate_endpoint, port),
    TYPE(weirgate_vtep),
    FIELD(weirgate_vtep, public_address),
    FIELD(weirgate_vtep, mac),
    TYPE(weirgate_timeouts),
    FIELD(weirgate_timeouts, tcp_opening_seconds),
    FIELD(weirgate_timeouts, tcp_established_seconds),
    FIELD(weirgate_timeouts, tcp_closing_seconds),
    FIELD(weirgate_timeouts, udp_seconds),
    FIELD(weirgate_timeouts, udp_stream_seconds),
    TYPE(weirgate_port),
    FIELD(weirgate_port, mac),
    FIELD(weirgate_port, mtu),
    TYPE(weirgate_peer),
    FIELD(weirgate_peer, subnet),
    FIELD(weirgate_peer, public_address),
    FIELD(weirgate_peer, encapsulation),
    FIELD(weirgate_peer, vtep_mac),
    FIELD(weirgate_peer, has_next_hop),
    FIELD(weirgate_peer, next_hop_port),
    FIELD(weirgate_peer, next_hop_mac),
    TYPE(weirgate_backend),
    FIELD(weirgate_backend, endpoint),
    FIELD(weirgate_backend, weight),
    TYPE(weirgate_service),
    FIELD(weirgate_service, frontends),
    FIELD(weirgate_service, frontend_count),
    FIELD(weirgate_service, backends),
    FIELD(weirgate_service, backend_count),
    FIELD(weirgate_service, id),
    FIELD(weirgate_service, table_size),
    FIELD(weirgate_service, protocol),
    FIELD(weirgate_service, reserved),
    TYPE(weirgate_route),
    FIELD(weirgate_route, prefix),
    FIELD(weirgate_route, via),
    FIELD(weirgate_route, port),
    TYPE(weirgate_neighbour),
    FIELD(weirgate_neighbour, address),
    FIELD(weirgate_neighbour, mac),
    FIELD(weirgate_neighbour, port),
    TYPE(weirgate_description),
    FIELD(weirgate_description, ports),
    FIELD(weirgate_description, port_count),
    FIELD(weirgate_description, peers),
    FIELD(weirgate_description, peer_count),
    FIELD(weirgate_description, services),
    FIELD(weirgate_description, service_count),
    FIELD(weirgate_description, routes),
    FIELD(weirgate_description, route_count),
    FIELD(weirgate_description, neighbours),
    FIELD(weirgate_description, neighbour_count),
    FIELD(weirgate_description, subnets),
    FIELD(weirgate_description, subnet_count),
    FIELD(weirgate_description, pool),
    FIELD(weirgate_description, pool_count),
    FIELD(weirgate_description, selector_seed),
    FIELD(weirgate_description, generation),
    FIELD(weirgate_description, vni),
    FIELD(weirgate_description, timeouts),
    FIELD(weirgate_description, vxlan_port),
    FIELD(weirgate_description, overlay_mtu),
    FIELD(weirgate_description, pool_port_first),
    FIELD(weirgate_description, pool_port_last),
    FIELD(weirgate_description, vtep_v4),
    FIELD(weirgate_description, vtep_v6),
    FIELD(weirgate_description, workers),
    FIELD(weirgate_description, reserved),
    TYPE(weirgate_worker_config),
    FIELD(weirgate_worker_config, secret),
    FIELD(weirgate_worker_config, flows_v4),
    FIELD(weirgate_worker_config, flows_v6),
    FIELD(weirgate_worker_config, services),
    FIELD(weirgate_worker_config, id),
    FIELD(weirgate_worker_config, reserved),
    TYPE(weirgate_frame),
    FIELD(weirgate_frame, buffer),
    FIELD(weirgate_frame, capacity),
    FIELD(weirgate_frame, start),
    FIELD(weirgate_frame, length),
    FIELD(weirgate_frame, port),
    FIELD(weirgate_frame, verdict),
    FIELD(weirgate_frame, detail),
    FIELD(weirgate_frame, handovers),
    TYPE(weirgate_burst),
    FIELD(weirgate_burst, frames),
    FIELD(weirgate_burst, frame_count),
    FIELD(weirgate_burst, spares),
    FIELD(weirgate_burst, spare_count),
    FIELD(weirgate_burst, emitted),
    TYPE(weirgate_unresolved),
    FIELD(weirgate_unresolved, address),
    FIELD(weirgate_unresolved, port),
    TYPE(weirgate_traffic),
    FIELD(weirgate_traffic, packets),
    FIELD(weirgate_traffic, bytes),
    TYPE(weirgate_port_counters),
    FIELD(weirgate_port_counters, received),
    FIELD(weirgate_port_counters, transmitted),
    TYPE(weirgate_service_counters),
    FIELD(weirgate_service_counters, original),
    FIELD(weirgate_service_counters, reply),
    FIELD(weirgate_service_counters, flows),
    TYPE(weirgate_counters),
    FIELD(weirgate_counters, host),
    FIELD(weirgate_counters, handovers),
    FIELD(weirgate_counters, flows_created),
    FIELD(weirgate_counters, flows_expired),
    FIELD(weirgate_counters, echoes_answered),
    FIELD(weirgate_counters, errors_sent),
};

void test_layout(const char *vectors) {
    char name[128];
    size_t bytes;
    size_t index = 0;
    FILE *file = open_vectors(vectors, "layout.txt");
    char *line;
    while ((line = next_line(file)) != NULL) {
        CHECK(sscanf(line, "%127s %zu", name, &bytes) == 2);
        CHECK(index < sizeof LAYOUT / sizeof *LAYOUT);
        if (strcmp(name, LAYOUT[index].name) != 0 || bytes != LAYOUT[index].bytes) {
            FAIL("%s is %zu in the vectors, %s is %zu here", name, bytes, LAYOUT[index].name, LAYOUT[index].bytes);
        }
        index++;
    }
    fclose(file);
    CHECK(index == sizeof LAYOUT / sizeof *LAYOUT);
}
