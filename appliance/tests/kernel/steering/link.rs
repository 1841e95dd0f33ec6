//! Three namespaces in a row, `client (c0) — (g0) gateway (g1) — (s0) server`, and raw sockets on
//! the interfaces. The calling thread enters the gateway's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use weirgate_world::{Entered, Namespaces};

use super::frames::Receiver;

pub(crate) struct Link {
    pub(crate) client: Tap,
    /// What the gateway's kernel sees on g0.
    kernel: Tap,
    pub(crate) server: Tap,
    // The order matters: a process that is still in a namespace ends with it.
    _entered: Entered,
    pub(crate) namespaces: Namespaces,
}

impl Link {
    /// With `queues` queues on every interface.
    pub(crate) fn new(queues: u32) -> Self {
        let namespaces = Namespaces::new(&["client", "gateway", "server"], |prefix| vec![object(prefix)]);
        let namespaces = namespaces.unwrap_or_else(|error| panic!("{error}"));
        let [client, gateway, server] = ["client", "gateway", "server"].map(|name| namespaces.name(name));
        for namespace in [&client, &gateway, &server] {
            sh(&format!("ip -n {namespace} link set lo up"));
        }
        for (outer, outside, inner, addresses) in [
            (&client, "c0", "g0", ["10.1.0.2/24 10.1.0.1/24", "2001:db8:1::2/64 2001:db8:1::1/64"]),
            (&server, "s0", "g1", ["10.2.0.2/24 10.2.0.1/24", "2001:db8:2::2/64 2001:db8:2::1/64"]),
        ] {
            let count = format!("numrxqueues {queues} numtxqueues {queues}");
            sh(&format!(
                "ip link add {outside} netns {outer} {count} type veth peer name {inner} netns {gateway} {count}"
            ));
            for (namespace, interface, side) in [(outer, outside, 0), (&gateway, inner, 1)] {
                sh(&format!("ip netns exec {namespace} ethtool -K {interface} tx off gro on"));
                for pair in addresses {
                    let address = pair.split(' ').nth(side).unwrap();
                    let nodad = if address.contains(':') { "nodad" } else { "" };
                    sh(&format!("ip -n {namespace} addr add {address} dev {interface} {nodad}"));
                }
                sh(&format!("ip -n {namespace} link set {interface} up"));
            }
        }
        Self {
            client: Tap::open(&namespaces, "client", "c0"),
            kernel: Tap::open(&namespaces, "gateway", "g0"),
            server: Tap::open(&namespaces, "server", "s0"),
            _entered: namespaces.enter("gateway"),
            namespaces,
        }
    }

    /// Who gets the frame that was just sent: the kernel unchanged, the server as `forwarded`, or both. If that is
    /// not `wanted`, who has got it when `patience` is over. `None` if anyone got it more than once.
    pub(crate) fn who_gets(
        &self,
        sent: &[u8],
        forwarded: &[u8],
        wanted: Receiver,
        patience: Duration,
    ) -> Option<Receiver> {
        let (sent, forwarded) = (untagged(sent), untagged(forwarded));
        let until = Instant::now() + patience;
        let (mut kernel, mut server) = (0, 0);
        // Wait a little longer after the wanted frames: a further one would be wrong.
        let mut settle = None::<Instant>;
        loop {
            kernel += self.kernel.receive_all().iter().filter(|frame| **frame == sent).count();
            server += self.server.receive_all().iter().filter(|frame| **frame == forwarded).count();
            let got = match (kernel, server) {
                (0, 0) => Receiver::Nobody,
                (1, 0) => Receiver::Kernel,
                (0, 1) => Receiver::Ring,
                (1, 1) => Receiver::Both,
                _ => return None,
            };
            let now = Instant::now();
            if got == wanted && got != Receiver::Nobody && now > *settle.get_or_insert(now + Duration::from_millis(10))
                || now > until
            {
                return Some(got);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// How often the gateway's kernel has got this frame since it was last asked.
    pub(crate) fn kernel_got(&self, sent: &[u8]) -> usize {
        std::thread::sleep(Duration::from_millis(50));
        self.kernel.receive_all().iter().filter(|frame| frame.as_slice() == sent).count()
    }

    /// How many of the gateway's interfaces have an XDP program.
    pub(crate) fn programs(&self) -> usize {
        self.namespaces.shell("gateway", "ip link").matches("prog/xdp").count()
    }

    /// Compiles a foreign program and returns the path of its object file.
    pub(crate) fn foreign_program(&self) -> String {
        let path = object(self.namespaces.prefix()).display().to_string();
        let source = r#"__attribute__((section("xdp"), used)) int other(void *context) { return 2; }
                        char name[] __attribute__((section("license"), used)) = "MIT";"#;
        sh(&format!("printf '%s' '{source}' | clang -target bpf -O2 -g -c -x c - -o {path}"));
        path
    }
}

/// A frame as a socket sees it, after the kernel has taken a tag off.
fn untagged(frame: &[u8]) -> Vec<u8> {
    let mut seen = frame.to_vec();
    if frame[12..14] == [0x81, 0x00] {
        seen.drain(12..16);
    }
    seen
}

/// The path of a foreign program.
fn object(prefix: &str) -> PathBuf {
    format!("/tmp/{prefix}.o").into()
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A raw socket on one interface: sends frames, and sees those that the kernel gets there.
pub(crate) struct Tap(File);

impl Tap {
    fn open(namespaces: &Namespaces, namespace: &str, interface: &str) -> Self {
        namespaces.inside(namespace, || Self::here(interface))
    }

    fn here(interface: &str) -> Self {
        let name = std::ffi::CString::new(interface).unwrap();
        let all = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: the name is a C string that outlives the call; the address is a whole sockaddr_ll
        // and its size goes with it; the descriptor is new and nobody else's.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, all);
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = all as u16;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let size = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0);
            Self(File::from(OwnedFd::from_raw_fd(fd)))
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        (&self.0).write_all(frame).unwrap();
    }

    /// Everything that has come in or gone out here since the last call.
    pub(crate) fn receive_all(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = (&self.0).read(&mut buffer) {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }
}
