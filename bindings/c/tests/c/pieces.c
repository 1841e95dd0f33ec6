/* The components that are useful by themselves: the selector's table and the VXLAN header. */

#include "check.h"
#include "world.h"

#include <inttypes.h>

static void maglev(const char *vectors) {
    uint64_t seed;
    size_t count;
    FILE *file = open_vectors(vectors, "maglev.txt");
    CHECK(sscanf(next_line(file), "maglev %" SCNu64 " %zu", &seed, &count) == 2 && count <= 64);

    const weirgate_backend backends[] = {
        {.endpoint = endpoint("10.77.74.10", 80), .weight = 1},
        {.endpoint = endpoint("10.77.74.11", 80), .weight = 2},
        {.endpoint = endpoint("10.77.74.12", 80), .weight = 0},
    };
    uint16_t slots[64];
    CHECK_STATUS(weirgate_maglev_fill(seed, backends, 3, slots, count), WEIRGATE_STATUS_OK);

    char *text = strtok(next_line(file), " ");
    CHECK(strcmp(text, "slots") == 0);
    for (size_t index = 0; index < count; index++) {
        text = strtok(NULL, " ");
        CHECK(text != NULL && slots[index] == atoi(text));
    }
    fclose(file);

    CHECK_STATUS(weirgate_maglev_fill(seed, backends, 3, slots, 32), WEIRGATE_STATUS_NOT_PRIME);
    CHECK_STATUS(weirgate_maglev_fill(seed, backends + 2, 1, slots, 31), WEIRGATE_STATUS_NO_WEIGHT);
    CHECK_STATUS(weirgate_maglev_fill(seed, NULL, 3, slots, 31), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_maglev_fill(seed, backends, 3, NULL, 31), WEIRGATE_STATUS_NULL_POINTER);
    CHECK_STATUS(weirgate_maglev_fill(seed, backends, 3, slots, SIZE_MAX), WEIRGATE_STATUS_NOT_PRIME);
}

static void vxlan(void) {
    /* RFC 7348 section 5; reserved bits are ignored. */
    const uint8_t expected[WEIRGATE_VXLAN_HEADER_BYTES] = {8, 0, 0, 0, 0x12, 0x34, 0x56, 0};
    uint8_t header[WEIRGATE_VXLAN_HEADER_BYTES];
    CHECK_STATUS(weirgate_vxlan_emit(0x123456, header), WEIRGATE_STATUS_OK);
    CHECK(memcmp(header, expected, sizeof header) == 0);
    CHECK_STATUS(weirgate_vxlan_emit(1 << 24, header), WEIRGATE_STATUS_VNI);

    uint32_t vni;
    header[7] = 0xff;
    CHECK_STATUS(weirgate_vxlan_parse(header, sizeof header, &vni), WEIRGATE_STATUS_OK);
    CHECK(vni == 0x123456);
    CHECK_STATUS(weirgate_vxlan_parse(header, sizeof header - 1, &vni), WEIRGATE_STATUS_TOO_SHORT);
    header[0] = 0xf7;
    CHECK_STATUS(weirgate_vxlan_parse(header, sizeof header, &vni), WEIRGATE_STATUS_VXLAN_FLAGS);
}

void test_pieces(const char *vectors) {
    maglev(vectors);
    vxlan();
}
