/* Invalid arguments are reported by a status, and nothing has been changed then. */

#include "check.h"
#include "world.h"

enum { BUFFER_BYTES = 256 };

static void statuses(void) {
    CHECK(strcmp(weirgate_status_text(WEIRGATE_STATUS_OK), "done") == 0);
    CHECK(strcmp(weirgate_status_text(4000000000u), "a status of another version") == 0);
    CHECK(weirgate_drop_reason_name((uint8_t)weirgate_drop_reason_count()) == NULL);
    CHECK(weirgate_drop_reason_text(255) == NULL);
}

static void worker_memory(void) {
    weirgate_worker_config config = {.flows_v4 = 16, .flows_v6 = 16, .services = 2};
    size_t bytes;
    CHECK_STATUS(weirgate_worker_bytes(NULL, &bytes), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_bytes(&config, NULL), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_bytes((void *)((char *)&config + 1), &bytes), WEIRGATE_STATUS_MISALIGNED);
    config.id = WEIRGATE_WORKERS_MAX;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_WORKERS);
    config.id = 2;
    config.workers = 2;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_WORKERS);
    config.id = 0;
    config.workers = WEIRGATE_WORKERS_MAX + 1;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_WORKERS);
    config.workers = 0;
    config.flows_v4 = 1 << 24;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_FLOW_CAPACITY);
    config.flows_v4 = 16;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_OK);

    char *memory = aligned_alloc(WEIRGATE_WORKER_ALIGNMENT, bytes);
    memset(memory, 0, bytes);
    weirgate_worker *worker = NULL;
    weirgate_counters counters;
    CHECK_STATUS(weirgate_worker_init(&config, NULL, bytes, &worker), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_init(&config, memory + 8, bytes, &worker), WEIRGATE_STATUS_MISALIGNED);
    CHECK_STATUS(weirgate_worker_init(&config, memory, bytes - 1, &worker), WEIRGATE_STATUS_TOO_SHORT);
    CHECK(worker == NULL);
    CHECK_STATUS(weirgate_worker_counters((weirgate_worker *)memory, &counters), WEIRGATE_STATUS_NOT_A_WORKER);
    weirgate_adopted adopted;
    CHECK_STATUS(weirgate_worker_attach(&config, NULL, 0, NULL, bytes, &worker, &adopted), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_attach(&config, NULL, 0, memory + 8, bytes, &worker, &adopted), WEIRGATE_STATUS_MISALIGNED);
    CHECK_STATUS(weirgate_worker_attach(&config, NULL, 0, memory, bytes - 1, &worker, &adopted), WEIRGATE_STATUS_TOO_SHORT);
    CHECK_STATUS(weirgate_worker_attach(&config, NULL, 0, memory, bytes, &worker, NULL), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_attach(&config, NULL, 0, memory, bytes, &worker, &adopted), WEIRGATE_STATUS_NULL_POINTER);
    config.fragment_datagrams = 1;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_OK);
    CHECK_STATUS(weirgate_worker_init(&config, memory, bytes, &worker), WEIRGATE_STATUS_OUT_OF_RANGE);
    config.fragment_datagrams = 0;
    CHECK_STATUS(weirgate_worker_bytes(&config, &bytes), WEIRGATE_STATUS_OK);
    CHECK(worker == NULL);
    config.flows_v4 = 15;
    CHECK_STATUS(weirgate_worker_init(&config, memory, bytes, &worker), WEIRGATE_STATUS_FLOW_CAPACITY);
    CHECK_STATUS(weirgate_worker_counters((weirgate_worker *)memory, &counters), WEIRGATE_STATUS_NOT_A_WORKER);
    config.flows_v4 = 16;
    CHECK_STATUS(weirgate_worker_init(&config, memory, bytes, &worker), WEIRGATE_STATUS_OK);

    uint64_t drops[1];
    weirgate_port_counters port;
    weirgate_service_counters service;
    CHECK_STATUS(weirgate_worker_counters(worker, NULL), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_counters(NULL, &counters), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_drops(worker, drops, 1), WEIRGATE_STATUS_OK);
    CHECK_STATUS(weirgate_worker_drops(worker, drops, 300), WEIRGATE_STATUS_OUT_OF_RANGE);
    CHECK_STATUS(weirgate_worker_count_drop(worker, 255), WEIRGATE_STATUS_OUT_OF_RANGE);
    CHECK_STATUS(weirgate_worker_port_counters(worker, WEIRGATE_PORTS_MAX, &port), WEIRGATE_STATUS_OUT_OF_RANGE);
    CHECK_STATUS(weirgate_worker_service_counters(worker, 1, &service), WEIRGATE_STATUS_OK);
    CHECK_STATUS(weirgate_worker_service_counters(worker, 2, &service), WEIRGATE_STATUS_OUT_OF_RANGE);
    free(memory);
}

/* Compiles an invalid description, and looks for the offending value in the sentence. */
static void refused(const weirgate_description *description, weirgate_status expected, const char *words) {
    static uint64_t memory[16384];
    char problem[256];
    size_t used;
    weirgate_status status =
        weirgate_snapshot_compile(description, memory, sizeof memory, &used, problem, sizeof problem);
    CHECK_STATUS(status, expected);
    if (strstr(problem, words) == NULL) {
        FAIL("\"%s\" does not say \"%s\"", problem, words);
    }
}

static void descriptions(void) {
    weirgate_description description;
    weirgate_peer peer;
    weirgate_service service;
    weirgate_address pool;
#define AFRESH() \
    (world_describe(&description), peer = description.peers[0], service = description.services[0], \
     pool = description.pool[0])

    AFRESH();
    description.vni = 1 << 24;
    refused(&description, WEIRGATE_STATUS_VNI, "16777216");
    AFRESH();
    description.ports = NULL;
    refused(&description, WEIRGATE_STATUS_NULL_POINTER, "ports");
    AFRESH();
    description.peers = (const weirgate_peer *)16;
    description.peer_count = SIZE_MAX;
    refused(&description, WEIRGATE_STATUS_OUT_OF_RANGE, "peers");
    AFRESH();
    description.vtep_v4.public_address.family = 5;
    refused(&description, WEIRGATE_STATUS_ADDRESS_FAMILY, "vtep_v4: address family 5");
    AFRESH();
    description.vtep_v4.public_address = address("fd99::50");
    refused(&description, WEIRGATE_STATUS_ADDRESS_FAMILY, "fd99::50");
    AFRESH();
    memset(&description.vtep_v6, 0, sizeof description.vtep_v6);
    refused(&description, WEIRGATE_STATUS_NO_VTEP, "fd99::12");
    AFRESH();
    description.workers = 0;
    refused(&description, WEIRGATE_STATUS_WORKERS, "0 workers");
    AFRESH();
    description.pool_port_first = 0;
    refused(&description, WEIRGATE_STATUS_POOL_PORTS, "0 to 64997");
    AFRESH();
    pool.bytes[3] = 0;
    description.pool = &pool;
    description.pool_count = 1;
    refused(&description, WEIRGATE_STATUS_POOL_ADDRESS, "10.77.200.0");
    AFRESH();
    description.port_count = 1;
    refused(&description, WEIRGATE_STATUS_UNKNOWN_PORT, "port 6");

    AFRESH();
    description.peers = &peer;
    description.peer_count = 1;
    peer.subnet.length = 33;
    refused(&description, WEIRGATE_STATUS_PREFIX_LENGTH, "peers[0]: subnet: 10.77.74.0 has no prefix of 33 bits");
    peer.subnet.length = 24;
    peer.encapsulation = 9;
    refused(&description, WEIRGATE_STATUS_ENCAPSULATION, "encapsulation 9");
    peer.encapsulation = WEIRGATE_ENCAPSULATION_VXLAN;
    peer.has_next_hop = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "has_next_hop is 2");
    peer.has_next_hop = 1;
    peer.public_address.family = WEIRGATE_FAMILY_NONE;
    refused(&description, WEIRGATE_STATUS_ADDRESS_FAMILY, "public_address: there is no address");

    AFRESH();
    description.services = &service;
    description.service_count = 1;
    service.table_size = UINT32_MAX;
    refused(&description, WEIRGATE_STATUS_NOT_PRIME, "services[0]: 4294967295 slots");
    service.table_size = 1009;
    service.protocol = 47;
    refused(&description, WEIRGATE_STATUS_UNKNOWN_PROTOCOL, "protocol-47");
    service.protocol = WEIRGATE_PROTOCOL_TCP;
    service.client_address = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "services[0]: client_address is 2");
    service.client_address = WEIRGATE_CLIENT_PRESERVED;
    service.removed_backend = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "services[0]: removed_backend is 2");
    service.removed_backend = WEIRGATE_REMOVED_BACKEND_RESET;
    service.has_dscp = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "has_dscp is 2");
    service.has_dscp = 1;
    service.dscp = 64;
    refused(&description, WEIRGATE_STATUS_DSCP, "services[0]: codepoint 64");
    service.dscp = 63;
    weirgate_service twice[] = {service, service};
    description.services = twice;
    description.service_count = 2;
    refused(&description, WEIRGATE_STATUS_DUPLICATE_FRONTEND, "192.0.2.1:30080");

    AFRESH();
    weirgate_route route = description.routes[0];
    description.routes = &route;
    description.route_count = 1;
    route.target = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "routes[0]: target is 2");
    AFRESH();
    description.outer_dscp = 64;
    refused(&description, WEIRGATE_STATUS_DSCP, "outer_dscp: codepoint 64");
    AFRESH();
    description.past_limit = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "past_limit is 2");
    AFRESH();
    description.echo_services = 2;
    refused(&description, WEIRGATE_STATUS_FLAG, "echo_services is 2");
    AFRESH();
    description.mss = 535;
    refused(&description, WEIRGATE_STATUS_MSS_TOO_SMALL, "535");
    AFRESH();
    description.masquerade = NULL;
    refused(&description, WEIRGATE_STATUS_NULL_POINTER, "masquerade");

    AFRESH();
    uint64_t memory[16];
    size_t used, bytes;
    char problem[8];
    CHECK_STATUS(weirgate_description_defaults(NULL), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_snapshot_bytes(NULL, &bytes, NULL, 0), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_snapshot_bytes(&description, NULL, NULL, 0), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_snapshot_compile(&description, memory, sizeof memory, &used, problem, sizeof problem),
                 WEIRGATE_STATUS_TOO_SHORT);
    CHECK(strcmp(problem, "the mem") == 0);
    CHECK_STATUS(weirgate_snapshot_compile(&description, NULL, 0, &used, NULL, 0), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_snapshot_compile(&description, (char *)memory + 4, 64, &used, NULL, 0),
                 WEIRGATE_STATUS_MISALIGNED);
}

static void bursts(void) {
    weirgate_description description;
    world_describe(&description);
    size_t bytes, used;
    CHECK_STATUS(weirgate_snapshot_bytes(&description, &bytes, NULL, 0), WEIRGATE_STATUS_OK);
    char *snapshot = malloc(bytes);
    CHECK_STATUS(weirgate_snapshot_compile(&description, snapshot, bytes, &used, NULL, 0), WEIRGATE_STATUS_OK);
    weirgate_worker_config config = {.flows_v4 = 16, .flows_v6 = 16};
    size_t room;
    CHECK_STATUS(weirgate_worker_bytes(&config, &room), WEIRGATE_STATUS_OK);
    void *memory = aligned_alloc(WEIRGATE_WORKER_ALIGNMENT, room);
    weirgate_worker *worker;
    CHECK_STATUS(weirgate_worker_init(&config, memory, room, &worker), WEIRGATE_STATUS_OK);

    uint8_t buffer[BUFFER_BYTES] = {0};
    weirgate_frame frame = {.buffer = buffer, .capacity = BUFFER_BYTES, .start = 200, .length = 57, .verdict = 99};
    weirgate_burst burst = {.frames = &frame, .frame_count = 1};
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_FRAME_OUTSIDE_BUFFER);
    frame.start = UINT32_MAX;
    frame.length = UINT32_MAX;
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_FRAME_OUTSIDE_BUFFER);
    CHECK(frame.verdict == 99);
    frame.buffer = NULL;
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_NULL_POINTER);
    burst.frame_count = WEIRGATE_BURST_FRAMES_MAX + 1;
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_BURST_TOO_LONG);
    burst.frame_count = 1;
    burst.frames = NULL;
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, NULL), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_process(NULL, snapshot, used, 1, &burst), WEIRGATE_STATUS_NULL_POINTER);

    /* The snapshot: absent, cut short at every length, of another kind or version, or with a section outside. */
    burst.frame_count = 0;
    CHECK_STATUS(weirgate_worker_process(worker, NULL, used, 1, &burst), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_OK);
    for (size_t length = 0; length < used; length += 8) {
        char *cut = malloc(length + 1);
        memcpy(cut, snapshot, length);
        CHECK_STATUS(weirgate_worker_process(worker, cut, length, 1, &burst), WEIRGATE_STATUS_TOO_SHORT);
        free(cut);
    }
    uint32_t generation;
    CHECK_STATUS(weirgate_snapshot_generation(snapshot + 1, used - 1, &generation), WEIRGATE_STATUS_MISALIGNED);
    snapshot[8] ^= 0x40;
    CHECK_STATUS(weirgate_snapshot_generation(snapshot, used, &generation), WEIRGATE_STATUS_SNAPSHOT_VERSION);
    snapshot[0] ^= 1;
    CHECK_STATUS(weirgate_snapshot_generation(snapshot, used, &generation), WEIRGATE_STATUS_NOT_A_SNAPSHOT);

    /* A frame without bytes is dropped, not refused. */
    snapshot[0] ^= 1;
    snapshot[8] ^= 0x40;
    frame = (weirgate_frame){.buffer = buffer, .capacity = BUFFER_BYTES};
    burst = (weirgate_burst){.frames = &frame, .frame_count = 1};
    CHECK_STATUS(weirgate_worker_process(worker, snapshot, used, 1, &burst), WEIRGATE_STATUS_OK);
    CHECK(frame.verdict == WEIRGATE_VERDICT_DROP);
    CHECK(strcmp(weirgate_drop_reason_name(frame.detail), "truncated") == 0);
    free(memory);
    free(snapshot);
}

void test_arguments(void) {
    statuses();
    worker_memory();
    descriptions();
    bursts();
}
