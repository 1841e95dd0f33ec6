//! Numbers on which the steering program and the appliance must agree. The build script compiles
//! the program with these very constants, so there is no second place to change.

/// How far the steering program moves the start of each redirected frame forward, in bytes: by the
/// headers that VXLAN over IPv4 adds. The descriptor's address is that many bytes in front of
/// the received Ethernet header, and a frame to a pod is sent from there.
pub const ADJUST: usize = 14 + 20 + 8 + 8;

/// The most queues of one port. The map of sockets has this many entries for each port.
pub const QUEUES_MAX: u32 = 64;

/// The most ports with the steering program.
pub const PORTS_MAX: u32 = 16;

/// The most (address, port, protocol) triples that are steered to the rings: frontends and VTEPs.
pub const ENDPOINTS_MAX: u32 = 262_144;

/// The most prefixes whose plain IP frames are steered to the rings.
pub const SUBNETS_MAX: u32 = 65_536;

/// How many fragmented datagrams the program tracks, the host's among them; the oldest is evicted first.
pub const FRAGMENTS_MAX: u32 = 8192;

/// An endpoint with protocol 0 and this port marks an address at which services listen and that the
/// host itself does not have.
pub const ADDRESS_ALONE: u16 = 0;
/// The same for an address that services and the host share.
pub const ADDRESS_SHARED: u16 = 1;

/// The longest frame that is copied for a worker, in bytes: a page with the copy's header.
pub const EARLY_FRAME_MAX: u32 = 4096 - 16 - 8;
/// How many bytes of copies can wait for a worker, each counted with the longest size. A power of two.
pub const EARLY_RING_BYTES: u32 = 1 << 19;

/// Counter: frames redirected to a ring.
pub const COUNTER_STEERED: u32 = 0;
/// Counter: frames passed to the kernel.
pub const COUNTER_PASSED: u32 = 1;
/// Counter: the gateway's frames dropped because no worker was attached to their queue.
pub const COUNTER_NO_WORKER: u32 = 2;
/// Counter: the gateway's frames dropped because the driver left no headroom.
pub const COUNTER_NO_HEADROOM: u32 = 3;
/// Counter: frames passed to the kernel of which a worker got a copy.
pub const COUNTER_EARLY: u32 = 4;
/// Counter: frames passed to the kernel that could not be copied.
pub const COUNTER_EARLY_LOST: u32 = 5;
/// How many counters the program keeps.
pub const COUNTERS: u32 = 6;
