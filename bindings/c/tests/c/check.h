/* What the tests in C have in common. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(...) \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

#define CHECK(truth) ((truth) ? (void)0 : FAIL("not so: %s", #truth))

#define CHECK_STATUS(call, expected) check_status(__FILE__, __LINE__, #call, (call), (expected))

void check_status(const char *file, int line, const char *call, unsigned status, unsigned expected);

/* Opens a file of vectors. */
FILE *open_vectors(const char *vectors, const char *name);

/* The next line that is neither empty nor a comment, without its end; NULL after the last. Valid until the next call. */
char *next_line(FILE *file);

void test_layout(const char *vectors);
void test_fields(const char *vectors);
void test_gateway(const char *vectors);
void test_pieces(const char *vectors);
void test_arguments(void);

#endif
