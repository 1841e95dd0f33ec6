//! Numbers on which the steering program and the appliance must agree. The build script compiles
//! the program with these very constants, so there is no second place to change.

/// How far the steering program moves the start of each redirected frame forward, in bytes: by what
/// VXLAN over IPv4 puts in front of a frame. The descriptor's address is that many bytes in front of
/// the Ethernet header that came off the wire, and a frame that goes to a pod leaves from there.
pub const ADJUST: usize = 14 + 20 + 8 + 8;

/// The most queues of one port. The map of sockets has this many places a port.
pub const QUEUES_MAX: u32 = 64;

/// The most ports with the steering program.
pub const PORTS_MAX: u32 = 16;

/// The most (address, port, protocol) triples that are steered to the rings: frontends and VTEPs.
pub const ENDPOINTS_MAX: u32 = 262_144;

/// The most prefixes whose plain IP frames are steered to the rings.
pub const SUBNETS_MAX: u32 = 4096;

/// How many fragmented datagrams the program remembers, the host's among them; the oldest is forgotten first.
pub const FRAGMENTS_MAX: u32 = 8192;

/// Counter: frames redirected to a ring.
pub const COUNTER_STEERED: u32 = 0;
/// Counter: frames left to the kernel.
pub const COUNTER_PASSED: u32 = 1;
/// Counter: frames of the gateway's dropped because no worker was attached to their queue.
pub const COUNTER_NO_WORKER: u32 = 2;
/// Counter: frames of the gateway's dropped because the driver left no room in front.
pub const COUNTER_NO_HEADROOM: u32 = 3;
/// How many counters the program keeps.
pub const COUNTERS: u32 = 4;
