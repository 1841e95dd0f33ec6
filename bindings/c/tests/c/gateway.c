/* A gateway in the world of the vectors answers every call as they say, byte by byte. */

#include "check.h"
#include "world.h"

#include <arpa/inet.h>
#include <inttypes.h>

enum { BUFFER_BYTES = 2048, FRAMES_MAX = 16 };

/* Reads hexadecimal digits and returns how many bytes they are. */
static uint32_t unhex(const char *text, uint8_t *bytes, size_t room) {
    uint32_t length = 0;
    for (; text[0] != 0; text += 2, length++) {
        unsigned byte;
        CHECK(length < room && sscanf(text, "%2x", &byte) == 1);
        bytes[length] = (uint8_t)byte;
    }
    return length;
}

/* One burst while its lines are being read. */
struct call {
    uint64_t now_ns;
    weirgate_frame frames[FRAMES_MAX], spares[FRAMES_MAX];
    uint8_t *buffers[2 * FRAMES_MAX];
    weirgate_burst burst;
    size_t compared;
    int is_done;
};

static void call_begin(struct call *call, uint64_t now_ns) {
    call->now_ns = now_ns;
    call->compared = 0;
    call->is_done = 0;
    call->burst = (weirgate_burst){.frames = call->frames, .spares = call->spares, .spare_count = FRAMES_MAX};
    for (size_t index = 0; index < FRAMES_MAX; index++) {
        call->spares[index] = (weirgate_frame){.buffer = call->buffers[FRAMES_MAX + index], .capacity = BUFFER_BYTES};
    }
}

static void call_add(struct call *call, uint8_t port, const char *text) {
    CHECK(call->burst.frame_count < FRAMES_MAX && !call->is_done);
    uint8_t *buffer = call->buffers[call->burst.frame_count];
    call->frames[call->burst.frame_count++] = (weirgate_frame){
        .buffer = buffer,
        .capacity = BUFFER_BYTES,
        .start = WEIRGATE_HEADROOM,
        .length = unhex(text, buffer + WEIRGATE_HEADROOM, BUFFER_BYTES - WEIRGATE_HEADROOM),
        .port = port,
    };
}

static void compare(const weirgate_frame *frame, const char *verdict, const char *detail, const char *text) {
    static const char *const NAMES[] = {"none", "transmit", "host", "drop", "handover", "held"};
    CHECK(frame->verdict < sizeof NAMES / sizeof *NAMES);
    if (strcmp(NAMES[frame->verdict], verdict) != 0) {
        FAIL("verdict %s, not %s", NAMES[frame->verdict], verdict);
    }
    if (frame->verdict == WEIRGATE_VERDICT_DROP) {
        CHECK(strcmp(weirgate_drop_reason_name(frame->detail), detail) == 0);
        return;
    }
    if (frame->verdict == WEIRGATE_VERDICT_HELD) {
        return;
    }
    if (frame->verdict == WEIRGATE_VERDICT_TRANSMIT || frame->verdict == WEIRGATE_VERDICT_HANDOVER) {
        CHECK(frame->detail == atoi(detail));
    }
    uint8_t expected[BUFFER_BYTES];
    uint32_t length = unhex(text, expected, sizeof expected);
    CHECK(frame->length == length && frame->start + length <= frame->capacity);
    for (uint32_t index = 0; index < length; index++) {
        if (frame->buffer[frame->start + index] != expected[index]) {
            FAIL("byte %u is %02x, not %02x", index, frame->buffer[frame->start + index], expected[index]);
        }
    }
}

/* The burst is processed when the first of its answers is read. */
static void call_compare(struct call *call, weirgate_worker *worker, const void *snapshot, size_t length,
                         const char *verdict, const char *detail, const char *text) {
    if (!call->is_done) {
        CHECK_STATUS(weirgate_worker_process(worker, snapshot, length, call->now_ns, &call->burst), WEIRGATE_STATUS_OK);
        call->is_done = 1;
    }
    size_t index = call->compared++;
    CHECK(index < call->burst.frame_count + call->burst.emitted);
    int is_spare = index >= call->burst.frame_count;
    compare(is_spare ? &call->spares[index - call->burst.frame_count] : &call->frames[index], verdict, detail, text);
}

static void check_traffic(const weirgate_traffic *traffic, uint64_t packets, uint64_t bytes) {
    CHECK(traffic->packets == packets && traffic->bytes == bytes);
}

static uint64_t counter(const weirgate_worker *worker, const char *name) {
    weirgate_counters counters;
    CHECK_STATUS(weirgate_worker_counters(worker, &counters), WEIRGATE_STATUS_OK);
    const struct {
        const char *name;
        uint64_t count;
    } list[] = {
        {"host", counters.host},
        {"handovers", counters.handovers},
        {"fragments-held", counters.fragments_held},
        {"fragments-created", counters.fragments_created},
        {"flows-created", counters.flows_created},
        {"flows-expired", counters.flows_expired},
        {"flows-reopened", counters.flows_reopened},
        {"flows-reset", counters.flows_reset},
        {"evicted-half-open", counters.evicted_half_open},
        {"evicted-one-way", counters.evicted_one_way},
        {"evicted-closing", counters.evicted_closing},
        {"evicted-unassured", counters.evicted_unassured},
        {"evicted-stream", counters.evicted_stream},
        {"forwarded-stateless", counters.forwarded_stateless},
        {"echoes-answered", counters.echoes_answered},
        {"errors-translated", counters.errors_translated},
        {"errors-sent", counters.errors_sent},
        {"resets-sent", counters.resets_sent},
    };
    for (size_t index = 0; index < sizeof list / sizeof *list; index++) {
        if (strcmp(list[index].name, name) == 0) {
            return list[index].count;
        }
    }
    FAIL("no counter %s", name);
}

static uint64_t drops(const weirgate_worker *worker, const char *name) {
    uint64_t list[256], sum = 0;
    size_t count = weirgate_drop_reason_count();
    CHECK(count <= 256);
    CHECK_STATUS(weirgate_worker_drops(worker, list, count), WEIRGATE_STATUS_OK);
    for (size_t index = 0; index < count; index++) {
        const char *reason = weirgate_drop_reason_name((uint8_t)index);
        CHECK(reason != NULL && weirgate_drop_reason_text((uint8_t)index) != NULL);
        sum += name == NULL || strcmp(reason, name) == 0 ? list[index] : 0;
    }
    return sum;
}

/* Memory for a worker. C11 asks for whole multiples of the alignment. */
static void *aligned(size_t bytes) {
    const size_t alignment = WEIRGATE_WORKER_ALIGNMENT;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    CHECK(memory != NULL);
    return memory;
}

/* The worker of the vectors, in memory to be freed. */
struct kept {
    weirgate_worker_config config;
    void *snapshot, *memory;
    size_t length, bytes;
    weirgate_worker *worker;
};

static void make_worker(struct kept *kept) {
    weirgate_description description;
    world_describe(&description);
    kept->snapshot = world_compile(&description, &kept->length);
    uint32_t generation;
    CHECK_STATUS(weirgate_snapshot_generation(kept->snapshot, kept->length, &generation), WEIRGATE_STATUS_OK);
    CHECK(generation == description.generation);

    CHECK_STATUS(weirgate_worker_bytes(&kept->config, &kept->bytes), WEIRGATE_STATUS_OK);
    kept->memory = aligned(kept->bytes);
    memset(kept->memory, 0xa5, kept->bytes);
    CHECK_STATUS(weirgate_worker_init(&kept->config, kept->memory, kept->bytes, &kept->worker), WEIRGATE_STATUS_OK);
    CHECK((void *)kept->worker == kept->memory);
}

/* The next worker adopts the flows that this one has in its memory. */
static void adopt(const struct kept *kept) {
    const void *snapshot = kept->snapshot;
    size_t length = kept->length, bytes = kept->bytes;
    uint32_t flows_v4, flows_v6, adopted_v4, adopted_v6;
    CHECK_STATUS(weirgate_worker_flows(kept->worker, &flows_v4, &flows_v6), WEIRGATE_STATUS_OK);
    CHECK(flows_v4 > 0 && flows_v6 > 0);
    void *copy = aligned(bytes);
    memcpy(copy, kept->memory, bytes);
    weirgate_worker *next;
    weirgate_adopted adopted;
    weirgate_worker_config other = kept->config;
    other.flows_v4 *= 2;
    CHECK_STATUS(weirgate_worker_attach(&other, snapshot, length, copy, bytes, &next, &adopted), WEIRGATE_STATUS_TOO_SHORT);
    other = kept->config;
    other.workers += 1;
    CHECK_STATUS(weirgate_worker_attach(&other, snapshot, length, copy, bytes, &next, &adopted), WEIRGATE_STATUS_NOT_ADOPTED);
    other = kept->config;
    other.id += 1;
    CHECK_STATUS(weirgate_worker_attach(&other, snapshot, length, copy, bytes, &next, &adopted), WEIRGATE_STATUS_NOT_ADOPTED);
    CHECK_STATUS(weirgate_worker_attach(&kept->config, snapshot, length, copy, bytes, &next, &adopted), WEIRGATE_STATUS_OK);
    CHECK((void *)next == copy && adopted.flows == flows_v4 + flows_v6 && adopted.damaged == 0 && adopted.strayed == 0);
    CHECK_STATUS(weirgate_worker_flows(next, &adopted_v4, &adopted_v6), WEIRGATE_STATUS_OK);
    CHECK(adopted_v4 == flows_v4 && adopted_v6 == flows_v6 && counter(next, "flows-created") == 0);

    /* Where the ports begin one higher, all of them are other workers'. */
    weirgate_description description;
    world_describe(&description);
    description.pool_port_first += 1;
    description.masquerade_port_first += 1;
    size_t other_length;
    void *other_snapshot = world_compile(&description, &other_length);
    memcpy(copy, kept->memory, bytes);
    CHECK_STATUS(weirgate_worker_attach(&kept->config, other_snapshot, other_length, copy, bytes, &next, &adopted), WEIRGATE_STATUS_OK);
    CHECK(adopted.flows == 0 && adopted.damaged == 0 && adopted.strayed == flows_v4 + flows_v6);
    free(other_snapshot);

    for (int byte = 0; byte < 0x100; byte += 0xa5) {
        memset(copy, byte, bytes);
        CHECK_STATUS(weirgate_worker_attach(&kept->config, snapshot, length, copy, bytes, &next, &adopted), WEIRGATE_STATUS_NOT_ADOPTED);
    }
    free(copy);
}

void test_gateway(const char *vectors) {
    struct call call;
    memset(&call, 0, sizeof call);
    for (size_t index = 0; index < 2 * FRAMES_MAX; index++) {
        call.buffers[index] = malloc(BUFFER_BYTES);
        CHECK(call.buffers[index] != NULL);
    }

    struct kept kept;
    memset(&kept, 0, sizeof kept);
    weirgate_worker *worker = NULL;
    FILE *file = open_vectors(vectors, "gateway.txt");
    char *line;
    size_t calls = 0, ages = 0;
    uint64_t drops_listed = 0;
    while ((line = next_line(file)) != NULL) {
        char name[64], detail[64], address[64];
        static char text[8192];
        uint64_t a, b;
        unsigned number;
        text[0] = 0;
        if (sscanf(line, "worker %63s %63s", name, detail) == 2) {
            CHECK(worker == NULL);
            set_worker(&kept.config, name, detail);
        } else if (sscanf(line, "snapshot %" SCNu64 " %" SCNx64, &a, &b) == 2) {
            make_worker(&kept);
            worker = kept.worker;
            CHECK(kept.length == a && fnv1a(kept.snapshot, kept.length) == b);
        } else if (sscanf(line, "call %" SCNu64, &a) == 1) {
            CHECK(call.compared == call.burst.frame_count + call.burst.emitted);
            call_begin(&call, a);
            calls++;
        } else if (sscanf(line, "in %u %8191s", &number, text) == 2) {
            call_add(&call, (uint8_t)number, text);
        } else if (sscanf(line, "out %63s %63s %8191s", name, detail, text) >= 2) {
            call_compare(&call, worker, kept.snapshot, kept.length, name, detail, text);
        } else if (sscanf(line, "flows %" SCNu64 " %" SCNu64, &a, &b) == 2) {
            uint32_t v4, v6;
            CHECK_STATUS(weirgate_worker_flows(worker, &v4, &v6), WEIRGATE_STATUS_OK);
            CHECK(v4 == a && v6 == b);
        } else if (sscanf(line, "age %" SCNu64 " %u", &a, &number) == 2) {
            if (ages++ == 0) {
                adopt(&kept);
            }
            CHECK_STATUS(weirgate_worker_age(worker, kept.snapshot, kept.length, a, number), WEIRGATE_STATUS_OK);
        } else if (sscanf(line, "unresolved %u %63s", &number, address) == 2) {
            weirgate_unresolved unresolved;
            CHECK_STATUS(weirgate_worker_next_unresolved(worker, &unresolved), WEIRGATE_STATUS_OK);
            int family = unresolved.address.family == WEIRGATE_FAMILY_V4 ? AF_INET : AF_INET6;
            char seen[64];
            CHECK(unresolved.port == number && inet_ntop(family, unresolved.address.bytes, seen, sizeof seen) != NULL);
            CHECK(strcmp(seen, address) == 0);
        } else if (sscanf(line, "drops %63s %" SCNu64, name, &a) == 2) {
            CHECK(drops(worker, name) == a);
            drops_listed += a;
        } else if (sscanf(line, "port %u %63s %" SCNu64 " %" SCNu64, &number, name, &a, &b) == 4) {
            weirgate_port_counters counters;
            CHECK_STATUS(weirgate_worker_port_counters(worker, (uint8_t)number, &counters), WEIRGATE_STATUS_OK);
            check_traffic(strcmp(name, "received") == 0 ? &counters.received : &counters.transmitted, a, b);
        } else if (sscanf(line, "service %u flows %" SCNu64, &number, &a) == 2) {
            weirgate_service_counters counters;
            CHECK_STATUS(weirgate_worker_service_counters(worker, number, &counters), WEIRGATE_STATUS_OK);
            CHECK(counters.flows == a);
        } else if (sscanf(line, "service %u %63s %" SCNu64 " %" SCNu64, &number, name, &a, &b) == 4) {
            weirgate_service_counters counters;
            CHECK_STATUS(weirgate_worker_service_counters(worker, number, &counters), WEIRGATE_STATUS_OK);
            check_traffic(strcmp(name, "original") == 0 ? &counters.original : &counters.reply, a, b);
        } else if (sscanf(line, "counter %63s %" SCNu64, name, &a) == 2) {
            CHECK(counter(worker, name) == a);
        } else {
            FAIL("a line of no kind: %.60s", line);
        }
    }
    fclose(file);
    CHECK(calls > 0 && ages > 0 && call.compared == call.burst.frame_count + call.burst.emitted);
    CHECK(drops(worker, NULL) == drops_listed);
    weirgate_unresolved unresolved;
    CHECK_STATUS(weirgate_worker_next_unresolved(worker, &unresolved), WEIRGATE_STATUS_EMPTY);

    /* A drop of the caller's own. */
    uint64_t before = drops(worker, "transmit-full");
    for (uint8_t reason = 0; reason < weirgate_drop_reason_count(); reason++) {
        if (strcmp(weirgate_drop_reason_name(reason), "transmit-full") == 0) {
            CHECK_STATUS(weirgate_worker_count_drop(worker, reason), WEIRGATE_STATUS_OK);
        }
    }
    CHECK(drops(worker, "transmit-full") == before + 1);

    for (size_t index = 0; index < 2 * FRAMES_MAX; index++) {
        free(call.buffers[index]);
    }
    free(kept.memory);
    free(kept.snapshot);
}
