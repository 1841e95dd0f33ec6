//! The core neither allocates nor needs the standard library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use weirgate::flow::Table;
use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::net::PortId;
use weirgate::pipeline::process;
use weirgate::snapshot::{bytes_required, compile};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{ACK, FIN, FROM_CLIENT, Packet, SYN, framed, from_pod};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{BUFFER_BYTES, Gateway, leak_aligned};

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, but it ends the process where this thread has forbidden allocation.
struct Guarded;

// SAFETY: every call is passed to the system's allocator unchanged, or does not return.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if FORBIDDEN.get() {
            FORBIDDEN.set(false);
            eprintln!("{} bytes were allocated where allocation is forbidden", layout.size());
            std::process::abort();
        }
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

fn without_allocation<T>(work: impl FnOnce() -> T) -> T {
    FORBIDDEN.set(true);
    let result = work();
    FORBIDDEN.set(false);
    result
}

/// One call with these frames; their verdicts are counted.
fn forward(gateway: &mut Gateway, frames: &[(PortId, Vec<u8>)]) -> Vec<Verdict> {
    let mut buffers = vec![[0; BUFFER_BYTES]; frames.len()];
    let mut burst: Vec<Frame<'_>> = buffers
        .iter_mut()
        .zip(frames)
        .map(|(buffer, (port, bytes))| {
            buffer[HEADROOM_MAX..HEADROOM_MAX + bytes.len()].copy_from_slice(bytes);
            Frame::new(buffer, HEADROOM_MAX, bytes.len(), *port).expect("inside the buffer")
        })
        .collect();
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    without_allocation(|| process(&mut gateway.worker, &snapshot, now, &mut Burst::new(&mut burst, &mut [])));
    burst.iter().filter_map(Frame::verdict).collect()
}

#[test]
fn forwarding_of_every_kind_allocates_nothing() {
    let mut gateway = World::new().gateway();
    let client = |packet: Packet| (UPLINK, framed(FROM_CLIENT, &packet.bytes()));
    let mut refused = Packet::web(9, SYN, b"");
    refused.destination.set_port(30_099);
    let frames = vec![
        client(Packet::web(1, SYN, b"")),
        client(Packet::web(1, SYN, b"data")),
        client(Packet::web(1, SYN, &[0; 1460])),
        client(Packet::web_v6(1, SYN, b"")),
        client(Packet::web_v6(1, SYN, &[0; 1430])),
        client(Packet::dns(1, b"query")),
        client(Packet { ttl: 1, ..Packet::dns(1, b"query") }),
        client(Packet::web(1, SYN, b"")),
        client(Packet::web(1, SYN, b"")),
        client(Packet::web(2, ACK, b"")),
        client(refused),
        (UNDERLAY, from_pod(0, &Packet::ping(world::pod(0, 10).into(), [10, 77, 200, 2].into(), b"x").bytes())),
        (
            UNDERLAY,
            from_pod(0, &Packet::ping(world::pod_v6(0, 10).into(), "fd77:0:0:200::2".parse().unwrap(), b"x").bytes()),
        ),
        (UNDERLAY, vec![0xff; 90]),
        (UPLINK, vec![]),
    ];
    let verdicts = forward(&mut gateway, &frames);
    let forwarded = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Transmit(_))).count();
    assert_eq!((verdicts.len(), forwarded), (15, 12), "{verdicts:?}");

    let replies: Vec<_> = gateway
        .worker
        .flows()
        .v4
        .iter()
        .map(|entry| {
            let (from, to) = (entry.reply.source, entry.reply.destination);
            let ports = [entry.reply.source_port, entry.reply.destination_port].map(u16::from_be_bytes);
            let body = match entry.protocol {
                6 => weirgate_fixture::frames::Body::Tcp(SYN | ACK, vec![]),
                _ => weirgate_fixture::frames::Body::Udp(vec![]),
            };
            (UNDERLAY, from_pod(0, &Packet::new((from, ports[0]).into(), (to, ports[1]).into(), body).bytes()))
        })
        .collect();
    assert_eq!(replies.len(), 2);
    assert_eq!(forward(&mut gateway, &replies), [Verdict::Transmit(UPLINK); 2]);
    let established = [ACK, ACK, FIN | ACK, SYN].map(|flags| client(Packet::web(1, flags, b"")));
    assert_eq!(forward(&mut gateway, &established), [Verdict::Transmit(UNDERLAY); 4]);
    let out_of_state = [client(Packet::web(1, SYN | ACK, b""))];
    assert_eq!(forward(&mut gateway, &out_of_state), [Verdict::Drop(DropReason::OutOfState)]);

    gateway.advance(Span::from_secs(100_000));
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    without_allocation(|| gateway.worker.age(&snapshot, now, 5000));
    assert!(gateway.worker.flows().v4.is_empty());
}

#[test]
fn compiling_a_snapshot_allocates_nothing() {
    World::new().describe(|description| {
        let memory = leak_aligned(bytes_required(description));
        assert!(without_allocation(|| compile(description, memory)).is_ok());
    });
    let memory = leak_aligned(Table::<[u8; 4]>::memory_bytes(64));
    assert!(without_allocation(|| Table::<[u8; 4]>::new(64, [0; 4], memory)).is_ok());
}

#[test]
fn the_core_links_without_the_standard_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--manifest-path"])
        .arg(root.join("tests/no_std/Cargo.toml"))
        .arg("--target-dir")
        .arg(root.join("target/no_std"))
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}
