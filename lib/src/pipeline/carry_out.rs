//! Carries out what was decided: hop count, size, fragmentation or an error, translation, egress, and what becomes
//! of the flow. No other file of the third pass rewrites a packet, or begins a flow or moves its state.

use super::context::{Context, Spares};
use super::decision::{
    Answer, Beginning, Counted, Decision, FlowChange, Forward, ForwardError, Hold, Onward, Rewrite, Update, endpoint,
};
use super::egress::{ClientLink, Egress};
use super::family::Wire;
use super::item::Item;
use super::observe::{Observer, Step};
use super::report::Report;
use super::transmit::{self, Ready};
use super::{admit, error, fragmentation, reset, stateless};
use crate::flow::{Age, Direction, Entry, FlowEnd, FlowEvent, FlowTraffic, Found, State, Tuple};
use crate::frame::Frame;
use crate::net::PortId;
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Transport;
use crate::wire::tcp;

/// Carries out any decision.
#[inline(always)]
pub(super) fn carry_out<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    decision: &Decision<'_, A>,
) -> Result<Verdict, DropReason> {
    match decision {
        Decision::Forward(onward) => forward(cx, frame, item, spares, onward),
        Decision::Answer(answer) => self::answer(cx, frame, item, answer),
        Decision::Report(report) => send_report(cx, frame, item, *report),
        Decision::Reset => send_reset(cx, frame, item),
        Decision::ForwardError(onward) => forward_error(cx, frame, item, onward),
        Decision::Handover(worker) => Ok(Verdict::Handover(*worker)),
        Decision::Host => Ok(Verdict::Host),
        Decision::Hold(hold) => self::hold(cx, frame, *hold),
    }
}

fn forward<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    onward: &Forward<'_, A>,
) -> Result<Verdict, DropReason> {
    let Forward { to, egress, rewrite, flow } = onward;
    let counted = match flow {
        FlowChange::Update(update) => Counted::Flow(*update),
        FlowChange::Begin(beginning) => match begin(cx, frame.port(), item, to, beginning) {
            Ok(found) => {
                cx.explain(Step::FlowFound(Direction::Original));
                Counted::Flow(Update { requeues: false, ..Update::to(found, beginning.state as u8) })
            }
            Err(full) => {
                let mut instead = stateless::instead_of(cx, frame, item, beginning).ok_or(full)??;
                instead.rewrite.identification = rewrite.identification;
                return forward(cx, frame, item, spares, &instead);
            }
        },
        FlowChange::Stateless { direction, ended } => {
            if let Some(ended) = *ended {
                cx.end_flow::<A>(ended, FlowEnd::Reopened);
            }
            Counted::Stateless(*direction)
        }
    };
    rewrite_packet(cx, frame, item, *rewrite);
    send_on(cx, frame, item, spares, Onward { to: *to, egress: *egress, whole_len: rewrite.whole_len, counted })
}

/// Translates the packet, counts it in its flow, and sends it on; or reports to its sender why not.
#[inline(always)]
pub(super) fn send_on<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    onward: Onward<'_, A>,
) -> Result<Verdict, DropReason> {
    // Taken apart first: if one field is passed by reference, the whole structure has to lie in memory.
    let Onward { to, egress, whole_len, counted } = onward;
    if item.packet.ttl <= 1 {
        return send_report(cx, frame, item, Report::TimeExceeded);
    }
    if item.packet.len > egress.mtu() {
        return send_fragmented(cx, frame, item, spares, Onward { to, egress, whole_len, counted });
    }
    translate(cx, frame, item, &to, whole_len)?;
    count(cx, frame, item, counted);
    transmit(cx, frame, item, egress)
}

/// A packet that is too large for its egress: it is fragmented, or reported where it may not be.
#[cold]
#[inline(never)]
fn send_fragmented<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    spares: &mut Spares<'_, '_>,
    onward: Onward<'_, A>,
) -> Result<Verdict, DropReason> {
    let Onward { to, egress, whole_len, counted } = onward;
    if item.packet.dont_fragment {
        return send_report(cx, frame, item, Report::TooBig { mtu: egress.mtu() });
    }
    translate(cx, frame, item, &to, whole_len)?;
    count(cx, frame, item, counted);
    fragmentation::send(cx, frame, item, egress, spares)
}

#[inline(always)]
fn translate<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    to: &Tuple<A>,
    whole_len: u16,
) -> Result<(), DropReason> {
    A::translate(item.ip(frame), &item.packet, to, whole_len)?;
    cx.explain(Step::Translated(
        endpoint(to.source.to_ip(), to.source_port),
        endpoint(to.destination.to_ip(), to.destination_port),
    ));
    Ok(())
}

#[inline(always)]
fn count<A: Wire, O: Observer>(cx: &mut Context<'_, '_, '_, O>, frame: &Frame<'_>, item: &Item<A>, counted: Counted) {
    match counted {
        Counted::Flow(update) => self::update(cx, frame.port(), item, update),
        Counted::Stateless(direction) => stateless::count(cx, item, direction),
    }
}

#[inline(always)]
fn transmit<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    egress: Egress<'_>,
) -> Result<Verdict, DropReason> {
    let ready = Ready { at: item.at, len: item.packet.len, tos: item.packet.tos, hash: item.hash };
    transmit::transmit::<A, O>(cx, frame, ready, egress)
}

/// What the packet changes in its flow, and the counts.
#[inline(always)]
fn update<A: Wire, O: Observer>(cx: &mut Context<'_, '_, '_, O>, port: PortId, item: &Item<A>, update: Update) {
    let (tick, bytes) = (cx.tick, u64::from(item.packet.len));
    let Update { found: Found { index, direction }, learnt, .. } = update;
    let Some(entry) = cx.worker.flows.of_mut::<A>().get_mut(index) else { return };
    if learnt.client {
        (entry.port, entry.origin) = (port.0, item.origin);
    }
    if let Some(next_hop) = learnt.next_hop {
        entry.hop = next_hop;
    }
    if let Some(neighbour) = learnt.neighbour {
        entry.neighbour = neighbour;
    }
    if update.refreshes {
        entry.seen = tick;
    }
    let before = core::mem::replace(&mut entry.state, update.state);
    if let Some(expected) = update.expected {
        entry.expected = expected;
    }
    let service = entry.service;
    // Of a table that was adopted they may begin anywhere.
    let FlowTraffic { packets, bytes: sum } = &mut entry.traffic;
    packets[direction as usize] = packets[direction as usize].wrapping_add(1);
    sum[direction as usize] = sum[direction as usize].wrapping_add(bytes);
    if let Some(service) = cx.worker.services.get(service as usize) {
        match direction {
            Direction::Original => service.original.count(1, bytes),
            Direction::Reply => service.reply.count(1, bytes),
        }
    }
    if update.requeues {
        cx.worker.flows.of_mut::<A>().requeue(index, before);
    }
    if let Some(spare) = update.spare
        && let Some(room) = cx.worker.flows.of_mut::<A>().get_mut(index).and_then(Entry::spare)
    {
        *room = spare;
    }
    if update.ends {
        cx.end_flow::<A>(index, FlowEnd::Reset);
    } else if before != update.state {
        observe_change::<A, O>(cx, index, before);
    }
}

/// Reports that a flow is not in the state of this byte any more.
#[inline(always)]
fn observe_change<A: Wire, O: Observer>(cx: &mut Context<'_, '_, '_, O>, index: u32, before: u8) {
    if let (Some(entry), Some(before)) = (cx.worker.flows.of::<A>().get(index), State::from_byte(before)) {
        cx.observer.flow(A::flow(entry), FlowEvent::Changed(before));
    }
}

/// Enters a flow whose tuples no other has than the one that has `ended`, which it takes the place of. In a full
/// table others are evicted.
fn begin<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    port: PortId,
    item: &Item<A>,
    to: &Tuple<A>,
    beginning: &Beginning,
) -> Result<Found, DropReason> {
    let (tick, generation) = (cx.tick, cx.snapshot.generation());
    let age = Age { tick, idle: &cx.snapshot.globals.idle_ticks };
    let Beginning { hash, state, mode, service, is_tunnelled, next_hop, tags, ended } = *beginning;
    let (original, reply) = (item.tuple(), to.inverted());
    let hashes = [item.hash, hash];
    let Context { worker, observer, .. } = cx;
    let counters = worker.counters;
    let mut ended_by = |entry: &Entry<A>, end| {
        counters.count_end(end, entry.worth());
        observer.flow(A::flow(entry), FlowEvent::Ended(end));
    };
    let flows = worker.flows.of_mut::<A>();
    let old = ended.and_then(|ended| flows.take(ended));
    let (tuples, protocol) = ([&original, &reply], item.packet.protocol);
    let entered = flows.enter_or_evict(tuples, hashes, protocol, state, (age, &mut ended_by), |entry| {
        (entry.mode, entry.service, entry.hop, entry.expected) = (mode as u8, service, next_hop, tags);
        let client = if is_tunnelled { ClientLink::NONE } else { ClientLink { port: port.0, origin: item.origin } };
        (entry.port, entry.origin) = (client.port, client.origin);
        (entry.seen, entry.generation) = (tick, generation);
    });
    match old {
        Some(old) if entered.is_err() => flows.put_back(old),
        Some(old) => ended_by(&old, FlowEnd::Reopened),
        None => {}
    }
    let limit = cx.snapshot.globals.half_open_per_client;
    if let Ok(index) = entered
        && limit != 0
        && state.is_half_open()
    {
        flows.hold_client(index, limit, age, &mut ended_by);
    }
    let index = entered.map_err(|_| DropReason::FlowTableFull)?;
    counters.flows_created.add(1);
    if let Some(entry) = flows.get(index) {
        observer.flow(A::flow(entry), FlowEvent::Begun);
    }
    if let Some(service) = cx.worker.services.get(service as usize) {
        service.flows.add(1);
    }
    admit::begun(cx);
    Ok(Found { index, direction: Direction::Original })
}

/// Rewrites what is rewritten beside addresses and ports.
fn rewrite_packet<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    rewrite: Rewrite,
) {
    let Rewrite { mss, dscp, identification, .. } = rewrite;
    if let Some(identification) = identification {
        A::set_identification(item.ip(frame), identification);
    }
    let transport = usize::from(item.packet.transport_offset)..usize::from(item.packet.len);
    if let Some(most) = mss
        && item.ip(frame).get_mut(transport).is_some_and(|segment| tcp::lower_mss(segment, most))
    {
        cx.explain(Step::MssLowered(most));
    }
    if let Some(dscp) = dscp
        && A::set_dscp(item.ip(frame), dscp).is_some()
    {
        item.packet.tos = dscp.mark(item.packet.tos);
        cx.explain(Step::Marked(dscp));
    }
}

/// Puts an error in the packet's place, or drops it.
#[cold]
#[inline(never)]
fn send_report<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    report: Report,
) -> Result<Verdict, DropReason> {
    let egress = error::write(cx, frame, item, report)?;
    transmit(cx, frame, item, egress)
}

/// Puts a TCP reset in the segment's place.
#[cold]
#[inline(never)]
fn send_reset<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    let egress = reset::write(cx, frame, item)?;
    transmit(cx, frame, item, egress)
}

fn answer<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    answer: &Answer<'_>,
) -> Result<Verdict, DropReason> {
    if let Some(identification) = answer.identification {
        A::set_identification(item.ip(frame), identification);
    }
    A::answer_echo(item.ip(frame), &item.packet).ok_or(DropReason::Malformed)?;
    let is_later = item.packet.transport == Transport::LaterFragment;
    cx.worker.counters.echoes_answered.add(u64::from(!is_later));
    cx.explain(Step::Answered);
    transmit(cx, frame, item, answer.egress)
}

fn forward_error<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    onward: &ForwardError<'_, A>,
) -> Result<Verdict, DropReason> {
    let ForwardError { quote, quoted, source, destination, egress } = onward;
    A::translate_error(item.ip(frame), &item.packet, quote, quoted, (*source, *destination))?;
    cx.worker.counters.errors_translated.add(1);
    transmit(cx, frame, item, *egress)
}

fn hold<O: Observer>(cx: &mut Context<'_, '_, '_, O>, frame: &Frame<'_>, hold: Hold) -> Result<Verdict, DropReason> {
    cx.explain(Step::Held);
    let (tick, fragments) = (cx.tick, &mut cx.worker.fragments);
    let (bytes, port, handovers) = (frame.bytes(), frame.port(), frame.handovers());
    let is_held = match hold {
        Hold::Later(index) => fragments.hold(index, bytes, port, handovers),
        Hold::Completing(index) => {
            let is_held = fragments.hold(index, bytes, port, handovers);
            fragments.complete(index, tick);
            is_held
        }
        Hold::First(index) => fragments.hold_first(index, bytes, port, handovers),
    };
    if is_held { Ok(Verdict::Held) } else { Err(DropReason::FragmentDisplaced) }
}
