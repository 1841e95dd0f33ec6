//! The client: its requests, and the times of their answers.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weirgate_world::{Host, World};

use crate::server::{ANSWER, BULK, GIVE, Servers, TAKE};
use crate::sys::{self, Poller};

/// How long a request and its answer are, in bytes.
const MESSAGE: usize = 64;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// A warm-up's share of the window.
const WARM_UP: u32 = 4;

/// Answers, and how long they took.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) nanoseconds: Histogram<u64>,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    /// Requests without an answer, or with another's.
    pub(crate) failed: u64,
}

impl Answers {
    fn new() -> Self {
        let nanoseconds = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order");
        Self { nanoseconds, elapsed: Duration::ZERO, failed: 0 }
    }

    fn record(&mut self, took: Duration) {
        self.nanoseconds.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.nanoseconds.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// In microseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        self.nanoseconds.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// The destinations, in turn: one address of the service, or several pods.
pub(crate) struct Servants {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) udp: u16,
    pub(crate) tcp: u16,
}

impl Servants {
    fn at(&self, number: usize, port: u16) -> SocketAddr {
        SocketAddrV4::new(self.addresses[number % self.addresses.len()], port).into()
    }
}

/// One datagram after the other, each sent when the one before has been answered.
pub(crate) fn alone(world: &World, servants: &Servants, window: Duration) -> io::Result<Answers> {
    world.inside(Host::Client, || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(servants.at(0, servants.udp))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut answers = Answers::new();
        let mut answer = [0; MESSAGE];
        let measured = Instant::now() + window / WARM_UP;
        let end = measured + window;
        let mut number = 0u64;
        loop {
            let mut request = [0x5a; MESSAGE];
            request[..8].copy_from_slice(&number.to_be_bytes());
            number += 1;
            let sent = Instant::now();
            socket.send(&request)?;
            let length = socket.recv(&mut answer);
            let now = Instant::now();
            if now > end {
                break;
            }
            match length {
                _ if sent < measured => {}
                Ok(length) if answer[..length] == request => answers.record(now - sent),
                _ => answers.failed += 1,
            }
        }
        answers.elapsed = window;
        Ok(answers)
    })
}

/// One of many connections.
struct Connection {
    stream: TcpStream,
    /// When each request that is not answered yet was due.
    asked: VecDeque<Instant>,
    /// How many bytes of an answer have come.
    partial: usize,
}

impl Connection {
    fn ask(&mut self, due: Instant) -> io::Result<()> {
        self.asked.push_back(due);
        match self.stream.write(&[0x5a; MESSAGE]) {
            Ok(MESSAGE) => Ok(()),
            Ok(_) => Err(ErrorKind::WriteZero.into()),
            Err(error) => Err(error),
        }
    }

    /// Reads what has come, and reports for each complete answer when its request was due.
    fn take(&mut self, mut each: impl FnMut(Instant)) -> io::Result<()> {
        let mut buffer = [0; 16 * MESSAGE];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.partial += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while self.partial >= MESSAGE {
            self.partial -= MESSAGE;
            each(self.asked.pop_front().ok_or(ErrorKind::InvalidData)?);
        }
        Ok(())
    }
}

fn connect(servants: &Servants, count: usize, poller: &Poller) -> io::Result<Vec<Connection>> {
    let connection = |number: usize| {
        let stream = TcpStream::connect_timeout(&servants.at(number, servants.tcp), PATIENCE)?;
        stream.set_nodelay(true)?;
        (&stream).write_all(&[ANSWER])?;
        stream.set_nonblocking(true)?;
        poller.add(stream.as_fd(), number as u64)?;
        Ok(Connection { stream, asked: VecDeque::new(), partial: 0 })
    };
    (0..count).map(connection).collect()
}

/// On each of `count` connections one request after the other: as many outstanding as there are connections.
pub(crate) fn together(world: &World, servants: &Servants, count: usize, window: Duration) -> io::Result<Answers> {
    world.inside(Host::Client, || {
        let poller = Poller::new()?;
        let mut connections = connect(servants, count, &poller)?;
        let mut answers = Answers::new();
        let mut ready = Vec::new();
        for connection in &mut connections {
            connection.ask(Instant::now())?;
        }
        let measured = Instant::now() + window / WARM_UP;
        let end = measured + window;
        let mut now = Instant::now();
        while now < end {
            poller.wait(PATIENCE, &mut ready)?;
            now = Instant::now();
            for &number in &ready {
                let connection = &mut connections[number as usize];
                connection.take(|due| {
                    if now >= measured && now < end {
                        answers.record(now - due);
                    }
                })?;
                if connection.asked.is_empty() {
                    connection.ask(Instant::now())?;
                }
            }
        }
        answers.failed = unanswered(&connections, now);
        answers.elapsed = window;
        Ok(answers)
    })
}

/// So many requests a second, whether answered or not, by turns on `count` connections. Times count from when a
/// request was due, so that one that has to wait for the client is not taken for a quick one.
pub(crate) fn paced(
    world: &World,
    servants: &Servants,
    count: usize,
    rate: f64,
    window: Duration,
) -> io::Result<Answers> {
    world.inside(Host::Client, || {
        sys::be_punctual()?;
        let poller = Poller::new()?;
        let mut connections = connect(servants, count, &poller)?;
        let mut answers = Answers::new();
        let mut ready = Vec::new();
        let pause = Duration::from_secs_f64(1.0 / rate);
        let begin = Instant::now();
        let measured = begin + window / WARM_UP;
        let end = measured + window;
        let mut due = begin;
        let mut turn = 0;
        let mut now = begin;
        while now < end {
            while due <= now {
                connections[turn % count].ask(due)?;
                turn += 1;
                due += pause;
            }
            poller.wait(due.saturating_duration_since(Instant::now()), &mut ready)?;
            now = Instant::now();
            for &number in &ready {
                connections[number as usize].take(|due| {
                    if due >= measured {
                        answers.record(now - due);
                    }
                })?;
            }
        }
        answers.failed = unanswered(&connections, now);
        answers.elapsed = window;
        Ok(answers)
    })
}

/// Requests whose answer is overdue.
fn unanswered(connections: &[Connection], now: Instant) -> u64 {
    connections.iter().flat_map(|connection| &connection.asked).filter(|&&due| now > due + PATIENCE).count() as u64
}

/// The direction of a bulk transfer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    Up,
    Down,
}

/// Sends as many bytes as one connection takes. Returns how many came while `meter` ran, and its result.
pub(crate) fn bulk<T>(
    world: &World,
    servants: &Servants,
    servers: &Servers,
    way: Way,
    window: Duration,
    meter: impl Fn() -> T + Sync,
) -> io::Result<(u64, Duration, [T; 2])>
where
    T: Send,
{
    world.inside(Host::Client, || {
        let mut stream = TcpStream::connect_timeout(&servants.at(0, servants.tcp), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&[if way == Way::Up { TAKE } else { GIVE }])?;
        let mut buffer = vec![0; BULK];
        let mut given = 0;
        let mut until = |end: Instant| {
            loop {
                match way {
                    Way::Up => stream.write_all(&buffer)?,
                    Way::Down => given += stream.read(&mut buffer)? as u64,
                }
                if Instant::now() >= end {
                    let bytes = if way == Way::Up { servers.taken() } else { given };
                    return Ok::<_, io::Error>((bytes, Instant::now(), meter()));
                }
            }
        };
        let (before, began, first) = until(Instant::now() + window / WARM_UP)?;
        let (after, ended, last) = until(began + window)?;
        stream.shutdown(Shutdown::Both)?;
        Ok((after - before, ended - began, [first, last]))
    })
}
