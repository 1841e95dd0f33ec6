/* Tests libweirgate through its header: main VECTORS, where VECTORS is the directory of the vector files. */

#include "check.h"

#include <weirgate.h>

void check_status(const char *file, int line, const char *call, unsigned status, unsigned expected) {
    if (status != expected) {
        fprintf(stderr, "%s:%d: %s: status %u (%s), not %u (%s)\n", file, line, call, status,
                weirgate_status_text(status), expected, weirgate_status_text(expected));
        exit(1);
    }
}

FILE *open_vectors(const char *vectors, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", vectors, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        FAIL("%s cannot be read", path);
    }
    return file;
}

char *next_line(FILE *file) {
    static char line[16384];
    while (fgets(line, sizeof line, file) != NULL) {
        size_t length = strcspn(line, "\n");
        CHECK(line[length] == '\n');
        line[length] = 0;
        if (length > 0 && line[0] != '#') {
            return line;
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s VECTORS\n", argv[0]);
        return 2;
    }
    CHECK(weirgate_abi_version() == WEIRGATE_ABI_VERSION);
    test_layout(argv[1]);
    puts("C layout ... ok");
    test_fields(argv[1]);
    puts("C fields ... ok");
    test_gateway(argv[1]);
    puts("C gateway ... ok");
    test_pieces(argv[1]);
    puts("C components ... ok");
    test_arguments();
    puts("C arguments ... ok");
    return 0;
}
