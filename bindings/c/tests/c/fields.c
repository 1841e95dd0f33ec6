/* Every field that the caller fills in has the effect that tests/data/vectors/fields.txt says, and that one alone. */

#include "check.h"
#include "world.h"

#include <inttypes.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum kind { U8, U16, U32, U64, MAC, ADDRESS, PREFIX, ENDPOINT };

#define KIND(place)                    \
    _Generic((place),                  \
        uint8_t *: U8,                 \
        uint16_t *: U16,               \
        uint32_t *: U32,               \
        uint64_t *: U64,               \
        uint8_t(*)[6]: MAC,            \
        weirgate_address *: ADDRESS,   \
        weirgate_prefix *: PREFIX,     \
        weirgate_endpoint *: ENDPOINT)

struct field {
    const char *name;
    enum kind kind;
    void *place;
};

#define FIELD(of, path) {#path, KIND(&(of)->path), &(of)->path}
#define PLACE(name, place) {name, KIND(place), place}

static uint64_t number(const char *text, uint64_t most) {
    char *end;
    uint64_t result = strtoull(text, &end, 10);
    CHECK(end != text && *end == 0 && result <= most);
    return result;
}

/* Cuts a text at its last separator; returns what stands behind that. */
static char *cut(char *text, char separator) {
    char *at = strrchr(text, separator);
    CHECK(at != NULL);
    *at = 0;
    return at + 1;
}

static void set(const struct field *field, const char *value) {
    char text[128];
    CHECK(strlen(value) < sizeof text);
    strcpy(text, value);
    switch (field->kind) {
    case U8:
        *(uint8_t *)field->place = (uint8_t)number(text, UINT8_MAX);
        break;
    case U16:
        *(uint16_t *)field->place = (uint16_t)number(text, UINT16_MAX);
        break;
    case U32:
        *(uint32_t *)field->place = (uint32_t)number(text, UINT32_MAX);
        break;
    case U64:
        *(uint64_t *)field->place = number(text, UINT64_MAX);
        break;
    case MAC: {
        uint8_t *mac = field->place;
        CHECK(sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6);
        break;
    }
    case ADDRESS:
        *(weirgate_address *)field->place = address(text);
        break;
    case PREFIX: {
        uint8_t length = (uint8_t)number(cut(text, '/'), 128);
        *(weirgate_prefix *)field->place = prefix(text, length);
        break;
    }
    case ENDPOINT: {
        uint16_t port = (uint16_t)number(cut(text, ':'), UINT16_MAX);
        int is_v6 = text[0] == '[';
        if (is_v6) {
            text[strlen(text) - 1] = 0;
        }
        *(weirgate_endpoint *)field->place = endpoint(text + is_v6, port);
        break;
    }
    }
}

static void set_one(const struct field *fields, size_t count, const char *name, const char *value) {
    for (size_t index = 0; index < count; index++) {
        if (strcmp(fields[index].name, name) == 0) {
            set(&fields[index], value);
            return;
        }
    }
    FAIL("no field %s", name);
}

void set_description(weirgate_description *d, const char *name, const char *value) {
    weirgate_port *ports = (weirgate_port *)d->ports;
    weirgate_peer *peers = (weirgate_peer *)d->peers;
    weirgate_service *services = (weirgate_service *)d->services;
    weirgate_endpoint *frontends = (weirgate_endpoint *)services[0].frontends;
    weirgate_backend *backends = (weirgate_backend *)services[0].backends;
    weirgate_route *routes = (weirgate_route *)d->routes;
    weirgate_neighbour *neighbours = (weirgate_neighbour *)d->neighbours;
    const struct field fields[] = {
        FIELD(d, port_count),
        PLACE("ports[9].mac", &ports[9].mac),
        PLACE("ports[9].mtu", &ports[9].mtu),
        FIELD(d, peer_count),
        PLACE("peers[0].subnet", &peers[0].subnet),
        PLACE("peers[2].subnet", &peers[2].subnet),
        PLACE("peers[0].public_address", &peers[0].public_address),
        PLACE("peers[1].public_address", &peers[1].public_address),
        PLACE("peers[0].encapsulation", &peers[0].encapsulation),
        PLACE("peers[0].vtep_mac", &peers[0].vtep_mac),
        PLACE("peers[0].has_next_hop", &peers[0].has_next_hop),
        PLACE("peers[0].next_hop_port", &peers[0].next_hop_port),
        PLACE("peers[0].next_hop_mac", &peers[0].next_hop_mac),
        PLACE("peers[0].next_hop_mtu", &peers[0].next_hop_mtu),
        FIELD(d, service_count),
        PLACE("services[0].frontends[0]", &frontends[0]),
        PLACE("services[0].frontends[1]", &frontends[1]),
        PLACE("services[0].frontend_count", &services[0].frontend_count),
        PLACE("services[0].backends[0].endpoint", &backends[0].endpoint),
        PLACE("services[0].backends[0].weight", &backends[0].weight),
        PLACE("services[0].backend_count", &services[0].backend_count),
        PLACE("services[0].id", &services[0].id),
        PLACE("services[0].table_size", &services[0].table_size),
        PLACE("services[0].protocol", &services[0].protocol),
        PLACE("services[0].client_address", &services[0].client_address),
        PLACE("services[0].removed_backend", &services[0].removed_backend),
        PLACE("services[1].has_dscp", &services[1].has_dscp),
        PLACE("services[1].dscp", &services[1].dscp),
        FIELD(d, route_count),
        PLACE("routes[0].prefix", &routes[0].prefix),
        PLACE("routes[0].via", &routes[0].via),
        PLACE("routes[0].port", &routes[0].port),
        PLACE("routes[0].target", &routes[0].target),
        PLACE("routes[0].mtu", &routes[0].mtu),
        FIELD(d, neighbour_count),
        PLACE("neighbours[0].address", &neighbours[0].address),
        PLACE("neighbours[0].mac", &neighbours[0].mac),
        PLACE("neighbours[0].port", &neighbours[0].port),
        FIELD(d, subnet_count),
        PLACE("subnets[0]", (weirgate_prefix *)d->subnets),
        FIELD(d, pool_count),
        PLACE("pool[0]", (weirgate_address *)d->pool),
        FIELD(d, masquerade_count),
        PLACE("masquerade[0]", (weirgate_address *)d->masquerade),
        FIELD(d, non_masquerade_count),
        PLACE("non_masquerade[0]", (weirgate_prefix *)d->non_masquerade),
        FIELD(d, local_count),
        PLACE("local[0]", (weirgate_address *)d->local),
        FIELD(d, selector_seed),
        FIELD(d, generation),
        FIELD(d, vni),
        FIELD(d, timeouts.tcp_syn_sent_seconds),
        FIELD(d, timeouts.tcp_syn_received_seconds),
        FIELD(d, timeouts.tcp_established_seconds),
        FIELD(d, timeouts.tcp_fin_wait_seconds),
        FIELD(d, timeouts.tcp_close_wait_seconds),
        FIELD(d, timeouts.tcp_last_ack_seconds),
        FIELD(d, timeouts.tcp_time_wait_seconds),
        FIELD(d, timeouts.tcp_reset_seconds),
        FIELD(d, timeouts.tcp_syn_sent2_seconds),
        FIELD(d, timeouts.udp_seconds),
        FIELD(d, timeouts.udp_stream_seconds),
        FIELD(d, timeouts.icmp_seconds),
        FIELD(d, timeouts.sctp_cookie_wait_seconds),
        FIELD(d, timeouts.sctp_cookie_echoed_seconds),
        FIELD(d, timeouts.sctp_established_seconds),
        FIELD(d, timeouts.sctp_shutdown_sent_seconds),
        FIELD(d, timeouts.sctp_shutdown_received_seconds),
        FIELD(d, timeouts.sctp_shutdown_ack_sent_seconds),
        FIELD(d, timeouts.sctp_closed_seconds),
        FIELD(d, vxlan_port),
        FIELD(d, overlay_mtu),
        FIELD(d, pool_port_first),
        FIELD(d, pool_port_last),
        FIELD(d, masquerade_port_first),
        FIELD(d, masquerade_port_last),
        FIELD(d, node_port_first),
        FIELD(d, node_port_last),
        FIELD(d, half_open_per_client),
        FIELD(d, new_flows_per_second),
        FIELD(d, echoes_per_second),
        FIELD(d, mss),
        FIELD(d, outer_dscp),
        FIELD(d, past_limit),
        FIELD(d, vtep_v4.public_address),
        FIELD(d, vtep_v4.mac),
        FIELD(d, vtep_v6.public_address),
        FIELD(d, vtep_v6.mac),
        FIELD(d, workers),
        FIELD(d, echo_services),
    };
    set_one(fields, COUNT(fields), name, value);
}

void set_worker(weirgate_worker_config *config, const char *name, const char *value) {
    const struct field fields[] = {
        FIELD(config, secret[0]),
        FIELD(config, secret[1]),
        FIELD(config, secret[2]),
        FIELD(config, secret[3]),
        FIELD(config, flows_v4),
        FIELD(config, flows_v6),
        FIELD(config, services),
        FIELD(config, fragment_datagrams),
        FIELD(config, fragment_held_bytes),
        FIELD(config, fragment_wait_ms),
        FIELD(config, id),
        FIELD(config, workers),
    };
    memset(config->reserved, 0xa5, sizeof config->reserved);
    set_one(fields, COUNT(fields), name, value);
}

uint64_t fnv1a(const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t index = 0; index < length; index++) {
        hash = (hash ^ bytes[index]) * 0x100000001b3;
    }
    return hash;
}

void *world_compile(const weirgate_description *description, size_t *length) {
    char problem[256];
    size_t room;
    if (weirgate_snapshot_bytes(description, &room, problem, sizeof problem) != WEIRGATE_STATUS_OK) {
        FAIL("%s", problem);
    }
    CHECK(problem[0] == 0);
    void *memory = malloc(room);
    CHECK(memory != NULL);
    weirgate_status status = weirgate_snapshot_compile(description, memory, room, length, problem, sizeof problem);
    if (status != WEIRGATE_STATUS_OK) {
        FAIL("%s", problem);
    }
    return memory;
}

/* The worker of the vectors. */
static weirgate_worker_config worker_of(const char *vectors) {
    weirgate_worker_config config;
    memset(&config, 0, sizeof config);
    FILE *file = open_vectors(vectors, "gateway.txt");
    char *line, name[64], value[64];
    while ((line = next_line(file)) != NULL) {
        if (sscanf(line, "worker %63s %63s", name, value) == 2) {
            set_worker(&config, name, value);
        }
    }
    fclose(file);
    return config;
}

static size_t worker_bytes(const weirgate_worker_config *config) {
    size_t bytes;
    CHECK_STATUS(weirgate_worker_bytes(config, &bytes), WEIRGATE_STATUS_OK);
    return bytes;
}

void test_fields(const char *vectors) {
    const weirgate_worker_config worker = worker_of(vectors);
    FILE *file = open_vectors(vectors, "fields.txt");
    char *line, name[64], value[64];
    uint64_t expected;
    size_t rows = 0;
    while ((line = next_line(file)) != NULL) {
        rows++;
        if (sscanf(line, "description %63s %63s %" SCNx64, name, value, &expected) == 3) {
            weirgate_description description;
            world_describe(&description);
            set_description(&description, name, value);
            size_t length;
            void *snapshot = world_compile(&description, &length);
            if (fnv1a(snapshot, length) != expected) {
                FAIL("%s of %s is something else in the core's words", name, value);
            }
            free(snapshot);
        } else if (sscanf(line, "worker %63s %63s %" SCNu64, name, value, &expected) == 3) {
            weirgate_worker_config config = worker;
            set_worker(&config, name, value);
            size_t more = worker_bytes(&config) - worker_bytes(&worker);
            if (more != expected) {
                FAIL("%s of %s takes %zu bytes more, not %" PRIu64, name, value, more, expected);
            }
        } else {
            FAIL("a line of no kind: %.60s", line);
        }
    }
    fclose(file);
    CHECK(rows > 0);
}
