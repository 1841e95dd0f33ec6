//! Listing flows while they are used: the control side asks a worker for a few entries of a table at a
//! time, the worker copies them between two bursts, and nobody waits for anybody.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_io::Timer;
use rtrb::{Consumer, Producer, RingBuffer};
use weirgate::flow::{Address, FlowTraffic, State, Table, Tuple};
use weirgate::net::Protocol;
use weirgate::pipeline::Worker;
use weirgate::snapshot::Snapshot;
use weirgate::time::Instant as Time;

use super::forwarding::Forwarding;
use crate::control::follow::Control;
use crate::status::{Client, Conn, ConnTuple, ConnsEnd, Filter, push_line};

/// How many entries a worker looks at in one turn. About ten microseconds of its time.
const SLICE: u32 = 256;
/// How long a worker is given for a slice before its list is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a slice is looked for.
const LOOK: Duration = Duration::from_micros(100);
/// How many bytes of lines are collected before they are sent.
const LINES: usize = 64 << 10;

/// A part of a table to copy.
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

/// What a worker answers: flows, and then where the next slice begins, if there is more.
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
    /// One slice at a time is asked for; its place in the table, once it has been answered.
    is_busy: bool,
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
    (Lister { asks: asks_to, items: items_from, is_busy: false }, Listed { asks, items })
}

impl Listed {
    /// Answers what has been asked, if anything. Between bursts; allocates nothing, and looks at no more
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
            self.slice(worker.flows_v6(), snapshot, now, from)
        } else {
            self.slice(worker.flows_v4(), snapshot, now, from)
        };
        let end = self.items.push(Item::End(next));
        debug_assert!(end.is_ok(), "the ring holds a slice, and one at a time is asked for");
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
            let Some((entry, traffic)) = table.get(index).zip(table.traffic(index)) else { continue };
            let Some(state) = entry.state() else { continue };
            let record = Record {
                protocol: entry.protocol,
                state,
                is_assured: entry.is_assured(),
                timeout_seconds: u32::try_from(entry.idle_left(snapshot, now).as_secs()).unwrap_or(u32::MAX),
                original: Sides::of(&entry.original),
                reply: Sides::of(&entry.reply),
                traffic: *traffic,
            };
            let copied = self.items.push(Item::Flow(record));
            debug_assert!(copied.is_ok(), "the ring holds a slice, and one at a time is asked for");
        }
        (end < table.capacity()).then_some(end)
    }
}

/// Sends the flows that the filter picks, a line of JSON each, and at last how many there were.
///
/// Flows come and go meanwhile: each that lives all the time is listed once.
///
/// # Errors
/// A client that has gone away, or workers that do not answer.
pub(super) async fn stream(
    client: &mut Client,
    filter: &Filter,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> io::Result<()> {
    let services = services(control);
    let mut lines = Vec::with_capacity(LINES + 4096);
    let mut records = Vec::with_capacity(SLICE as usize);
    let mut listed = 0;
    for worker in 0..usize::from(control.workers) {
        for is_v6 in [false, true] {
            let mut next = Some(0);
            while let Some(from) = next {
                next = slice(forwarding, worker, Ask { is_v6, from }, &mut records).await?;
                for record in &records {
                    let conn = conn(record, worker, &services);
                    if filter.picks(&conn) {
                        listed += 1;
                        push_line(&mut lines, &conn);
                    }
                }
                if lines.len() >= LINES {
                    client.send(&lines).await?;
                    lines.clear();
                }
            }
        }
    }
    push_line(&mut lines, &ConnsEnd { listed });
    client.send(&lines).await
}

/// Has a worker copy a slice into `records`; where the next one begins, if there is more.
async fn slice(
    forwarding: &RefCell<Forwarding>,
    worker: usize,
    ask: Ask,
    records: &mut Vec<Record>,
) -> io::Result<Option<u32>> {
    let gone = || io::Error::from(ErrorKind::BrokenPipe);
    let deadline = Instant::now() + PATIENCE;
    records.clear();
    // Another client may be waiting for a slice of its own.
    while !begin(forwarding, worker, ask).ok_or_else(gone)? {
        wait(deadline).await?;
    }
    loop {
        if let Some(next) = collect(forwarding, worker, records).ok_or_else(gone)? {
            return Ok(next);
        }
        wait(deadline).await?;
    }
}

async fn wait(deadline: Instant) -> io::Result<()> {
    if Instant::now() > deadline {
        return Err(ErrorKind::TimedOut.into());
    }
    Timer::after(LOOK).await;
    Ok(())
}

/// Asks a worker for a slice; `false` where it is at another one, `None` where there is no worker.
fn begin(forwarding: &RefCell<Forwarding>, worker: usize, ask: Ask) -> Option<bool> {
    let mut forwarding = forwarding.borrow_mut();
    let lister = forwarding.lister(worker)?;
    if lister.is_busy || lister.asks.push(ask).is_err() {
        return Some(false);
    }
    lister.is_busy = true;
    forwarding.workers()?.wake(worker);
    Some(true)
}

/// Takes what the worker has copied so far; `Some(Some(next))` once that is all.
fn collect(forwarding: &RefCell<Forwarding>, worker: usize, records: &mut Vec<Record>) -> Option<Option<Option<u32>>> {
    let mut forwarding = forwarding.borrow_mut();
    let lister = forwarding.lister(worker)?;
    while let Ok(item) = lister.items.pop() {
        match item {
            Item::Flow(record) => records.push(record),
            Item::End(next) => {
                lister.is_busy = false;
                return Some(Some(next));
            }
        }
    }
    Some(None)
}

/// The services' names by where clients reach them.
type Services = HashMap<(IpAddr, u16, u8), String>;

fn services(control: &Control) -> Services {
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
