//! Servers in the pods: they answer requests and take or give bytes in bulk.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use weirgate_world::{Host, World};

use crate::sys::Poller;

/// Where the pods of a world's services `echo` and `web` listen.
pub(crate) const UDP_PORT: u16 = 7;
pub(crate) const TCP_PORT: u16 = 80;

/// What a client says first on a TCP connection.
pub(crate) const ANSWER: u8 = b'a';
pub(crate) const TAKE: u8 = b't';
pub(crate) const GIVE: u8 = b'g';

/// How much is read or written at once in bulk.
pub(crate) const BULK: usize = 128 << 10;

/// The servers of all pods, until this is dropped.
pub(crate) struct Servers {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    pub(crate) fn start(world: &World) -> io::Result<Self> {
        let mut servers = Self { stop: Arc::default(), taken: Arc::default(), threads: Vec::new() };
        for pod in Host::pods() {
            let (udp, tcp) = world.inside(pod, || {
                Ok::<_, io::Error>((UdpSocket::bind(("0.0.0.0", UDP_PORT))?, TcpListener::bind(("0.0.0.0", TCP_PORT))?))
            })?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            let poller = Poller::new()?;
            poller.add(udp.as_fd(), DATAGRAMS)?;
            poller.add(tcp.as_fd(), CONNECTIONS)?;
            let (stop, taken) = (Arc::clone(&servers.stop), Arc::clone(&servers.taken));
            let server = Server { udp, tcp, poller, connections: HashMap::new(), next: FIRST, stop, taken };
            servers.threads.push(thread::spawn(move || server.run()));
        }
        Ok(servers)
    }

    /// How many bytes have come in bulk.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Numbers in the poller.
const DATAGRAMS: u64 = 0;
const CONNECTIONS: u64 = 1;
const FIRST: u64 = 2;

/// One pod's server.
struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    poller: Poller,
    /// Each with whether its first byte has come.
    connections: HashMap<u64, (TcpStream, bool)>,
    next: u64,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
}

impl Server {
    fn run(mut self) {
        let mut ready = Vec::new();
        while !self.stop.load(Relaxed) {
            self.poller.wait(Duration::from_millis(100), &mut ready).expect("epoll works");
            for &number in &ready {
                match number {
                    DATAGRAMS => self.answer_datagrams(),
                    CONNECTIONS => self.accept(),
                    number => self.answer(number),
                }
            }
        }
    }

    fn answer_datagrams(&self) {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = self.udp.recv_from(&mut buffer) {
            let _ = self.udp.send_to(&buffer[..length], peer);
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.tcp.accept() {
            let usable = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| self.poller.add(stream.as_fd(), self.next));
            if usable.is_ok() {
                self.connections.insert(self.next, (stream, false));
                self.next += 1;
            }
        }
    }

    fn answer(&mut self, number: u64) {
        let Some((stream, has_begun)) = self.connections.get_mut(&number) else { return };
        let mut buffer = [0; 4096];
        let room = if *has_begun { buffer.len() } else { 1 };
        let ended = match stream.read(&mut buffer[..room]) {
            Ok(0) => true,
            Ok(_) if !*has_begun => {
                *has_begun = true;
                match buffer[0] {
                    ANSWER => false,
                    what => return self.hand_off(number, what),
                }
            }
            // A client that lets answers pile up gets no further ones.
            Ok(length) => stream.write_all(&buffer[..length]).is_err(),
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        if ended {
            self.connections.remove(&number);
        }
    }

    /// Gives a connection for bulk a thread of its own, which ends with it.
    fn hand_off(&mut self, number: u64, what: u8) {
        let Some((mut stream, _)) = self.connections.remove(&number) else { return };
        let removed = self.poller.remove(stream.as_fd()).and_then(|()| stream.set_nonblocking(false));
        removed.expect("the connection was waited for");
        let taken = Arc::clone(&self.taken);
        thread::spawn(move || {
            let mut buffer = vec![0; BULK];
            if what == TAKE {
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    taken.fetch_add(length as u64, Relaxed);
                }
            } else {
                while stream.write_all(&buffer).is_ok() {}
            }
        });
    }
}
