//! Two hosts behind one address: the flow table and port allocation by themselves, without the pipeline.
//! `cargo run -p weirgate --example nat_two_hosts`

use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use weirgate::flow::{Age, State, Table, Timeouts, Tracked, Tuple, idle_ticks};
use weirgate::hash::Stream;
use weirgate::nat::{self, Client, Peer, Pool};
use weirgate::net::{PortRange, Protocol, WorkerId};
use weirgate::time::Instant;
use weirgate::wire::tcp::Flags;

/// How many flows there can be.
const CAPACITY: u32 = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    tell(&mut io::stdout())
}

pub(crate) fn tell(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut memory = vec![0_u8; Table::<[u8; 4]>::memory_bytes(CAPACITY) + 64];
    let start = memory.as_ptr().align_offset(64);
    let mut flows = Table::<[u8; 4]>::new(CAPACITY, [1, 2, 3, 4], &mut memory[start..])?;
    let idle = idle_ticks(&Timeouts::default());
    let at = |seconds| Age::new(Instant::from_secs(seconds), &idle);
    let addresses = [[192, 0, 2, 1]];
    let pool = Pool::new(&addresses, PortRange { first: 1024, last: 65_535 }, 1);
    let mut random = Stream::new([5, 6, 7, 8]);

    writeln!(out, "both hosts open a connection from port 40000 to the same server:")?;
    let server = Peer::new([203, 0, 113, 9], 443_u16.to_be_bytes(), Protocol::TCP);
    let port = 40_000_u16.to_be_bytes();
    let mut replies = Vec::new();
    for host in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        let asked = Tuple {
            source: host,
            destination: server.address,
            source_port: port,
            destination_port: 443_u16.to_be_bytes(),
        };
        let who = (WorkerId(0), Client);
        let reply = nat::allocate(&flows, &(), pool, who, server, &mut random).ok_or("no free port")?;
        let state = State::first(Protocol::TCP, Flags::SYN).ok_or("a SYN begins a flow")?;
        flows.begin(asked, reply, Protocol::TCP, state, at(0))?;
        writeln!(out, "  {}  is sent on as  {}", shown(&asked), shown(&reply.inverted()))?;
        replies.push(reply);
    }

    writeln!(out, "\nthe server answers one address, and each answer finds its host:")?;
    for reply in &replies {
        let found = flows.lookup(flows.hash(reply, Protocol::TCP), reply, Protocol::TCP).ok_or("no flow")?;
        let syn_ack = Flags(Flags::SYN.0 | Flags::ACK.0);
        let tracked = flows.track(found, syn_ack, at(1));
        let entry = flows.get(found.index).ok_or("no flow")?;
        writeln!(out, "  {}  is for  {}  ({})", shown(reply), shown(&entry.original.inverted()), told(tracked))?;
    }

    let stranger = Tuple { source: [198, 51, 100, 66], ..replies[0] };
    let found = flows.lookup(flows.hash(&stranger, Protocol::TCP), &stranger, Protocol::TCP);
    writeln!(out, "\nfrom a stranger to the same port: {}", if found.is_none() { "no flow" } else { "a flow" })?;

    let first = replies[0];
    let found = flows.lookup(flows.hash(&first, Protocol::TCP), &first, Protocol::TCP).ok_or("no flow")?;
    let reset = flows.track(found, Flags(Flags::RST.0 | Flags::ACK.0), at(2));
    writeln!(
        out,
        "a reset, which anybody may have forged, ends nothing at once: {}, {} flows",
        told(reset),
        flows.len()
    )?;
    let forgotten = flows.forget_idle(at(63), CAPACITY);
    writeln!(
        out,
        "neither host finishes its handshake: after a minute {forgotten} flows are forgotten, {} left",
        flows.len()
    )?;
    Ok(())
}

fn told(tracked: Tracked) -> String {
    match tracked {
        Tracked::Follows(state) => state.name().to_owned(),
        other => format!("{other:?}"),
    }
}

fn shown(tuple: &Tuple<[u8; 4]>) -> String {
    let end = |address, port| format!("{}:{}", Ipv4Addr::from(address), u16::from_be_bytes(port));
    format!("{} > {}", end(tuple.source, tuple.source_port), end(tuple.destination, tuple.destination_port))
}
