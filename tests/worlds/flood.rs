//! A flood of SYNs from spoofed addresses, while downloads continue and genuine clients connect.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{get, random_file, sha256, start_weirgate, status, world};
use weirgate_fixture::frames::{Packet, SYN};
use weirgate_world::{Host, Options};

/// The smallest table that a configuration may have.
const FLOWS: u32 = 1024;
const DOWNLOADS: usize = 8;
const MEGABYTES: usize = 4;

/// A socket for whole IPv4 packets.
fn raw_socket() -> OwnedFd {
    // SAFETY: no pointers are passed.
    let descriptor = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    assert!(descriptor >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor was opened just now, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Sends an IPv4 packet to where it is for.
fn send(socket: &OwnedFd, packet: &Packet) {
    let std::net::IpAddr::V4(to) = packet.destination.ip() else { panic!("{packet:?} is not IPv4") };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
        sin_zero: [0; 8],
    };
    let bytes = packet.bytes();
    // SAFETY: `bytes` and `address` are as long as is said, and live until the call returns.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        )
    };
    // The queue of the link may be full: that SYN is lost.
    assert!(sent >= 0 || io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS));
}

/// The SYN number `number`, of one of a hundred addresses that nobody has.
fn forged(number: u32) -> Packet {
    let source = Ipv4Addr::new(192, 0, 2, 100 + (number % 100) as u8);
    Packet { source: (source, 1024 + (number / 100 % 60_000) as u16).into(), ..Packet::web(1, SYN, b"") }
}

#[test]
fn downloads_and_honest_clients_go_on_while_forged_syns_fill_the_table() {
    let world = world(Options { alone: true, ..Options::default() });
    let config = world.gateway_config().replace("[flows]\n", &format!("[flows]\ncapacity_v4 = {FLOWS}\n"));
    let _gateway = start_weirgate(&world, &config);
    let file = random_file(&world, "big", MEGABYTES);
    let expected = sha256(&world, &file);
    let over = AtomicBool::new(false);
    let sent = AtomicU32::new(0);
    thread::scope(|scope| {
        let (world, over, sent) = (&world, &over, &sent);
        scope.spawn(move || {
            world.inside(Host::Client, || {
                let socket = raw_socket();
                while !over.load(SeqCst) {
                    (0..100).for_each(|_| send(&socket, &forged(sent.fetch_add(1, SeqCst))));
                    thread::sleep(Duration::from_millis(20));
                }
            });
        });
        // Downloads last for several tables full of forged flows; each is an open connection that is to stay.
        let slowly = "curl -gsSf --max-time 120 --limit-rate 600K http://192.0.2.1:30080/files/big | sha256sum";
        let downloads: Vec<_> =
            (0..DOWNLOADS).map(|_| scope.spawn(move || world.shell(Host::Client, slowly))).collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut answered = 0;
        while !downloads.iter().all(|download| download.is_finished()) && Instant::now() < deadline {
            // A new connection, whose SYN or its acknowledgement may be lost on a busy machine, but not for ever.
            assert!(get(world, "http://192.0.2.1:30080/").starts_with('n'));
            answered += 1;
        }
        let hashes: Vec<String> = downloads.into_iter().map(|download| download.join().expect("a hash")).collect();
        over.store(true, SeqCst);
        assert!(hashes.iter().all(|hash| *hash == expected), "{hashes:?}, and the file has {expected}");
        assert!(answered > 0);
    });
    let status = status(&world);
    let count = |name: &str| status["counters"][name].as_u64().expect("a counter");
    let sent = u64::from(sent.into_inner());
    assert!(sent > 4 * u64::from(FLOWS), "too few SYNs for a flood: {sent}");
    assert!(count("evicted-half-open") > 2 * u64::from(FLOWS), "{}", status["counters"]);
    assert_eq!(status["drops"]["flow-table-full"], 0);
    let table = &status["flows"][0];
    assert_eq!((&table["family"], &table["capacity"]), (&"ipv4".into(), &FLOWS.into()));
    assert!(table["used"].as_u64() <= Some(FLOWS.into()), "{table}");
}
