/* The world of the vectors, as `vectors.rs` describes it in the core's words. */
#ifndef WORLD_H
#define WORLD_H

#include <weirgate.h>

/* Fills in the description. Its arrays are static. */
void world_describe(weirgate_description *description);

/* Reads an address such as 192.0.2.1 or 2001:db8::1; ends the program where it is none. */
weirgate_address address(const char *text);

/* The same with a port behind it. */
weirgate_endpoint endpoint(const char *text, uint16_t port);

#endif
