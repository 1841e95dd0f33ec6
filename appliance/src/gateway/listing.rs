//! Listing flows while they are in use: the control side asks a worker for a few entries of a table at a
//! time, and the worker copies them between two bursts. Neither waits for the other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::Timer;
use rtrb::{Consumer, Producer, RingBuffer};
use weirgate::flow::{Address, FlowTraffic, State, Table, Tuple};
use weirgate::net::Protocol;
use weirgate::pipeline::Worker;
use weirgate::snapshot::Snapshot;
use weirgate::time::Instant as Time;

use crate::control::follow::Control;
use crate::status::{Client, Conn, ConnTuple, ConnsEnd, Filter, push_line};

/// How many entries a worker looks at in one turn. About ten microseconds of its time.
const SLICE: u32 = 256;
/// How long to wait for a worker's slice before the list is abandoned.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to check for an answer.
const LOOK: Duration = Duration::from_micros(100);
/// How many bytes of lines are collected before they are sent, and for how long at most.
const LINES: usize = 64 << 10;
const SILENCE: Duration = Duration::from_secs(1);

/// A slice of a table to copy.
#[derive(Clone, Copy, Debug)]
struct Ask {
    is_v6: bool,
    from: u32,
}

/// A flow as it was copied.
#[derive(Clone, Copy, Debug)]
struct Record {
    protocol: u8,
    state: State,
    is_assured: bool,
    timeout_seconds: u32,
    original: Sides,
    reply: Sides,
    traffic: FlowTraffic,
}

#[derive(Clone, Copy, Debug)]
struct Sides {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

impl Sides {
    fn of<A: Address>(tuple: &Tuple<A>) -> Self {
        Self {
            source: (tuple.source.to_ip(), u16::from_be_bytes(tuple.source_port)),
            destination: (tuple.destination.to_ip(), u16::from_be_bytes(tuple.destination_port)),
        }
    }
}

/// A worker's answer: flows, and then where the next slice begins, if there is more.
#[derive(Clone, Copy, Debug)]
enum Item {
    Flow(Record),
    End(Option<u32>),
}

/// The control side's ends of the rings to and from one worker.
#[derive(Debug)]
pub(super) struct Lister {
    asks: Producer<Ask>,
    items: Consumer<Item>,
    /// Who has asked for the slice that is not fully answered yet; there is one request at a time.
    asker: Option<Weak<()>>,
}

/// Access to the listers.
pub(super) trait Listers {
    /// The worker's; none while another process tries to take over.
    fn lister(&mut self, worker: usize) -> Option<&mut Lister>;

    /// Wakes the worker to handle a request.
    fn wake(&self, worker: usize);
}

impl Lister {
    /// Asks for a slice; `false` where the worker still handles another one.
    fn ask(&mut self, asker: &Rc<()>, ask: Ask) -> bool {
        let is_asked = self.is_idle() && self.asks.push(ask).is_ok();
        if is_asked {
            self.asker = Some(Rc::downgrade(asker));
        }
        is_asked
    }

    /// Whether the worker has answered the request. An answer to a client that has gone away is
    /// discarded when it comes, so that nobody takes it for another.
    fn is_idle(&mut self) -> bool {
        match &self.asker {
            None => return true,
            Some(asker) if asker.strong_count() > 0 => return false,
            Some(_) => {}
        }
        while let Ok(item) = self.items.pop() {
            if matches!(item, Item::End(_)) {
                self.asker = None;
                return true;
            }
        }
        false
    }

    /// Takes what the worker has copied so far; ready once that is all, with where the next slice begins.
    ///
    /// # Errors
    /// The worker has another client's request: it is not the worker that was asked, but its successor
    /// after a takeover that failed.
    fn collect(&mut self, asker: &Rc<()>, records: &mut Vec<Record>) -> io::Result<Poll<Option<u32>>> {
        if !self.asker.as_ref().is_some_and(|of| of.ptr_eq(&Rc::downgrade(asker))) {
            return Err(gone());
        }
        while let Ok(item) = self.items.pop() {
            match item {
                Item::Flow(record) => records.push(record),
                Item::End(next) => {
                    self.asker = None;
                    return Ok(Poll::Ready(next));
                }
            }
        }
        Ok(Poll::Pending)
    }
}

/// The worker's ends.
#[derive(Debug)]
pub(super) struct Listed {
    asks: Consumer<Ask>,
    items: Producer<Item>,
}

/// The rings between the control side and one worker, which hold one slice.
pub(super) fn connect() -> (Lister, Listed) {
    let (asks_to, asks) = RingBuffer::new(1);
    let (items, items_from) = RingBuffer::new(SLICE as usize + 1);
    (Lister { asks: asks_to, items: items_from, asker: None }, Listed { asks, items })
}

impl Listed {
    /// Answers the pending request, if any. Between bursts; allocates nothing, and looks at no more
    /// than [`SLICE`] entries.
    #[inline]
    pub(super) fn answer(&mut self, worker: &Worker<'_>, snapshot: &Snapshot<'_>, now: Time) {
        if let Ok(ask) = self.asks.pop() {
            self.copy(worker, snapshot, now, ask);
        }
    }

    #[cold]
    fn copy(&mut self, worker: &Worker<'_>, snapshot: &Snapshot<'_>, now: Time, Ask { is_v6, from }: Ask) {
        let next = if is_v6 {
            self.slice(&worker.flows().v6, snapshot, now, from)
        } else {
            self.slice(&worker.flows().v4, snapshot, now, from)
        };
        let end = self.items.push(Item::End(next));
        debug_assert!(end.is_ok(), "the ring holds a slice, and there is one request at a time");
    }

    fn slice<A: Address>(
        &mut self,
        table: &Table<'_, A>,
        snapshot: &Snapshot<'_>,
        now: Time,
        from: u32,
    ) -> Option<u32> {
        let end = from.saturating_add(SLICE).min(table.capacity());
        for index in from..end {
            let Some(entry) = table.get(index) else { continue };
            let Some(state) = entry.state() else { continue };
            let record = Record {
                protocol: entry.protocol,
                state,
                is_assured: entry.is_assured(),
                timeout_seconds: u32::try_from(entry.idle_left(snapshot.idle_ticks(), now).as_secs())
                    .unwrap_or(u32::MAX),
                original: Sides::of(&entry.original),
                reply: Sides::of(&entry.reply),
                traffic: entry.traffic,
            };
            let copied = self.items.push(Item::Flow(record));
            debug_assert!(copied.is_ok(), "the ring holds a slice, and there is one request at a time");
        }
        (end < table.capacity()).then_some(end)
    }
}

/// Sends the flows that match the filter, one line of JSON each, and at last how many there were. Where
/// nothing matches for a while an empty line shows whether the client is still there.
///
/// Flows come and go meanwhile: each that lives throughout is listed once.
///
/// # Errors
/// A client that has gone away, or workers that do not answer.
pub(super) async fn stream(
    client: &mut Client,
    filter: &Filter,
    workers: u8,
    services: &Services,
    listers: &RefCell<impl Listers>,
) -> io::Result<()> {
    let mut lines = Vec::with_capacity(LINES + 4096);
    let mut records = Vec::with_capacity(SLICE as usize);
    let mut listed = 0;
    let mut sent = Instant::now();
    for worker in 0..usize::from(workers) {
        for is_v6 in [false, true] {
            let mut next = Some(0);
            while let Some(from) = next {
                next = slice(listers, worker, Ask { is_v6, from }, &mut records).await?;
                for record in &records {
                    let conn = conn(record, worker, services);
                    if filter.picks(&conn) {
                        listed += 1;
                        push_line(&mut lines, &conn);
                    }
                }
                if lines.len() >= LINES || sent.elapsed() >= SILENCE {
                    if lines.is_empty() {
                        lines.push(b'\n');
                    }
                    client.send(&lines).await?;
                    lines.clear();
                    sent = Instant::now();
                }
            }
        }
    }
    push_line(&mut lines, &ConnsEnd { listed });
    client.send(&lines).await
}

/// Has a worker copy a slice into `records`; where the next one begins, if there is more.
async fn slice(
    listers: &RefCell<impl Listers>,
    worker: usize,
    ask: Ask,
    records: &mut Vec<Record>,
) -> io::Result<Option<u32>> {
    // Identifies the client for as long as it waits.
    let asker = Rc::new(());
    let deadline = Instant::now() + PATIENCE;
    records.clear();
    // Another client may be waiting for a slice of its own.
    while !listers.borrow_mut().lister(worker).ok_or_else(gone)?.ask(&asker, ask) {
        wait(deadline).await?;
    }
    listers.borrow().wake(worker);
    loop {
        if let Poll::Ready(next) = listers.borrow_mut().lister(worker).ok_or_else(gone)?.collect(&asker, records)? {
            return Ok(next);
        }
        wait(deadline).await?;
    }
}

/// There is no worker, or it is not the one that was asked.
fn gone() -> io::Error {
    ErrorKind::BrokenPipe.into()
}

async fn wait(deadline: Instant) -> io::Result<()> {
    if Instant::now() > deadline {
        return Err(ErrorKind::TimedOut.into());
    }
    Timer::after(LOOK).await;
    Ok(())
}

/// The services' names by where clients reach them.
pub(super) type Services = HashMap<(IpAddr, u16, u8), String>;

pub(super) fn services(control: &Control) -> Services {
    let state = control.state.borrow();
    let services = control.config.services.iter().enumerate();
    let of_service = |(index, service): (usize, &crate::config::Service)| {
        let (name, protocol) = (service.name.clone(), service.protocol.0);
        let frontends = state.world.frontends(index).iter();
        frontends.map(move |at| ((at.address, at.port, protocol), name.clone())).collect::<Vec<_>>()
    };
    services.flat_map(of_service).collect()
}

fn conn(record: &Record, worker: usize, services: &Services) -> Conn {
    let Record { protocol, state, is_assured, timeout_seconds, original, reply, traffic } = record;
    let tuple = |sides: &Sides, direction: usize| ConnTuple {
        source: sides.source.0,
        destination: sides.destination.0,
        source_port: sides.source.1,
        destination_port: sides.destination.1,
        packets: traffic.packets[direction],
        bytes: traffic.bytes[direction],
    };
    let (address, port) = original.destination;
    Conn {
        protocol: Protocol(*protocol).to_string(),
        protocol_number: *protocol,
        state: state.name().to_owned(),
        timeout_seconds: *timeout_seconds,
        assured: *is_assured,
        replied: traffic.packets[1] > 0,
        service: services.get(&(address, port, *protocol)).cloned().unwrap_or_default(),
        worker: worker as u32,
        original: tuple(original, 0),
        reply: tuple(reply, 1),
    }
}

#[cfg(test)]
mod tests;
