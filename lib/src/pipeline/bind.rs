//! A packet of no flow yet: which service, which backend, which pool address and port.

use super::error::{self, Kind};
use super::{Context, Item, Recorder, Step, Way, Wire, act};
use crate::flow::{Direction, Found};
use crate::frame::Frame;
use crate::nat;
use crate::verdict::{DropReason, Verdict};

/// What came of it.
pub(super) enum Bound {
    /// A flow that did not exist before.
    Flow(Found),
    /// None; this is the frame's end.
    Verdict(Verdict),
}

/// Makes a flow for the first packet from a client to a service.
#[cold]
pub(super) fn bind<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Bound, DropReason> {
    let packet = &item.packet;
    if A::is_own(cx.snapshot, packet.destination) {
        if item.way == Way::Link {
            return Err(DropReason::NoFlow);
        }
        let elsewhere = act::owner_elsewhere(cx, packet.destination_port);
        return elsewhere.map(Bound::Verdict).ok_or(DropReason::NoFlow);
    }
    if item.way == Way::Overlay {
        return Err(DropReason::NoFlow);
    }
    let Some(selector) = cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol)
    else {
        return Ok(Bound::Verdict(Verdict::Host));
    };
    cx.explain(Step::Service(selector.service));
    if A::is_own(cx.snapshot, packet.source) {
        return Err(DropReason::SpoofedSource);
    }
    if !A::may_send(packet.source) {
        return Err(DropReason::MartianAddress);
    }
    let state = act::first_state(item)?;
    let original = item.tuple();
    let hash = A::hash(&cx.snapshot.globals.selector, &original, packet.protocol);
    let Some(backend) = cx.snapshot.select(selector, hash) else {
        return error::answer(cx, frame, item, Kind::NoBackend).map(Bound::Verdict);
    };
    let address = A::unmapped(backend.address);
    let hop = A::overlay_hop(cx.snapshot, address).ok_or(DropReason::NoRoute)?;
    cx.explain(Step::Selected(act::endpoint(address, backend.port)));

    let worker = &mut *cx.worker;
    let (id, mut random) = (worker.id, worker.random);
    let reply = nat::allocate(A::flows(worker), cx.snapshot, id, (address, backend.port), packet.protocol, &mut random);
    worker.random = random;
    let reply = reply.ok_or(DropReason::PortsExhausted)?;
    cx.explain(Step::Bound(act::endpoint(reply.destination, reply.destination_port)));

    let (tick, generation, port) = (cx.tick, cx.snapshot.generation(), frame.port().0);
    let inserted = A::flows(cx.worker).insert(original, reply, packet.protocol, state, |entry| {
        entry.port = port;
        entry.seen = tick;
        entry.service = selector.service;
        entry.hop = hop;
        entry.generation = generation;
    });
    // The tuples were looked up just now, so only a want of room remains.
    let index = inserted.map_err(|_| DropReason::FlowTableFull)?;
    cx.worker.counters.flows_created.add(1);
    if let Some(service) = cx.worker.services.get(selector.service as usize) {
        service.flows.add(1);
    }
    Ok(Bound::Flow(Found { index, direction: Direction::Original }))
}
