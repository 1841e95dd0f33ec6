/* The world of the vectors, as `vectors/world.rs` describes it in the core's words. */
#ifndef WORLD_H
#define WORLD_H

#include <weirgate.h>

/* Fills in the description. Its arrays are static. */
void world_describe(weirgate_description *description);

/* Reads an address such as 192.0.2.1 or 2001:db8::1; ends the program where it is none. */
weirgate_address address(const char *text);

/* The same with a length in bits behind it. */
weirgate_prefix prefix(const char *text, uint8_t length);

/* The same with a port behind it. */
weirgate_endpoint endpoint(const char *text, uint16_t port);

/* Compiles a description into memory to be freed; ends the program where it cannot be. */
void *world_compile(const weirgate_description *description, size_t *length);

/* The hash by which the vectors know a snapshot. */
uint64_t fnv1a(const uint8_t *bytes, size_t length);

/* Sets a field of a description or of a worker's configuration by its name; ends the program where there is none. */
void set_description(weirgate_description *description, const char *field, const char *value);
void set_worker(weirgate_worker_config *config, const char *field, const char *value);

#endif
