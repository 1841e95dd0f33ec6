//! Third pass: find the packet's flow, translate it, send it on.

use super::error::{self, Kind};
use super::standing::{self, Standing};
use super::{Context, Item, Recorder, Way, Wire, bind, explain, handshake, icmp, place, pods, policy};
use core::net::Ipv6Addr;

use crate::flow::{Direction, Entry, FlowTraffic, Found, Mode, Place, State, Step, Table, Tuple, are_legal, step};
use crate::frame::Frame;
use crate::net::{Endpoint, Mac, PortId, Protocol};
use crate::snapshot::{HopRecord, NeighbourRecord, PortRecord, RouteRecord, Snapshot};
use crate::tunnel::Passage;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet;
use crate::wire::packet::Transport;

/// The last step of a packet's way through the gateway.
#[derive(Clone, Copy)]
pub(super) enum Leave<'s> {
    /// Over the underlay to a peer.
    Peer(&'s HopRecord),
    /// Out of a port to a station on its link, in a VLAN or (zero) none.
    Station(PortId, &'s PortRecord, Mac, [u8; 2]),
}

impl<'s> Leave<'s> {
    /// The largest packet that this way takes.
    #[inline(always)]
    pub(super) const fn mtu(&self) -> u16 {
        match self {
            Self::Peer(hop) => hop.mtu,
            Self::Station(_, port, ..) => port.mtu,
        }
    }

    /// The same way to a station by this route, which may take less than the link.
    const fn by(self, route: &'s RouteRecord) -> Self {
        match self {
            Self::Station(port, _, mac, vlan) => Self::Station(port, &route.link, mac, vlan),
            peer @ Self::Peer(_) => peer,
        }
    }
}

#[inline(always)]
pub(super) fn act<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    match item.packet.transport {
        Transport::Tcp | Transport::Udp if item.packet.fragment.is_none() => {}
        _ => return icmp::act(cx, frame, item),
    }
    carry(cx, frame, item)
}

/// A packet with ports goes its flow's way, or begins a flow.
#[inline(always)]
pub(super) fn carry<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Verdict, DropReason> {
    let tuple = item.tuple();
    let found = A::flows(cx.worker).lookup_likely(item.likely, item.hash, &tuple, item.packet.protocol);
    let hit = match found {
        Some(found) => match judge(cx, found, item) {
            Judged::Goes(state) => Hit { found, state },
            Judged::Aside(step) => return aside(cx, frame, item, found, step),
            Judged::Over => return begin_again(cx, frame, item, found),
        },
        None => return begin(cx, frame, item, None),
    };
    follow(cx, frame, item, hit)
}

/// A flow that was found, and the state that the packet puts it in.
#[derive(Clone, Copy)]
pub(super) struct Hit {
    pub(super) found: Found,
    pub(super) state: u8,
}

/// What a packet's flow says to it.
enum Judged {
    /// It goes on, and this is the flow's next state.
    Goes(u8),
    /// There is more to do than to write a state.
    Aside(Step),
    /// The flow has idled too long.
    Over,
}

#[inline(always)]
fn judge<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, found: Found, item: &Item<A>) -> Judged {
    let (idle, tick) = (&cx.snapshot.globals.idle_ticks, cx.tick);
    match A::flows(cx.worker).get(found.index) {
        Some(entry) if !entry.is_idle(tick, idle) => {
            let step = step(entry.state, found.direction, item.packet.flags);
            step.plain().map_or(Judged::Aside(step), Judged::Goes)
        }
        _ => Judged::Over,
    }
}

/// A packet of a flow that has idled too long, or is over otherwise.
#[cold]
#[inline(never)]
pub(super) fn begin_again<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    over: Found,
) -> Result<Verdict, DropReason> {
    expire::<A, R>(cx, over.index);
    begin(cx, frame, item, None)
}

/// Forgets a flow that has idled too long, before ageing comes round to it, or cannot go on.
pub(super) fn expire<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, index: u32) {
    A::flows(cx.worker).remove(index);
    cx.worker.counters.flows_expired.add(1);
}

/// A packet of no flow, or of one that is `over`, as its connection or its backend is, and goes if another begins.
#[cold]
#[inline(never)]
pub(super) fn begin<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    over: Option<u32>,
) -> Result<Verdict, DropReason> {
    match bind::bind(cx, frame, item, over)? {
        bind::Bound::Flow(found) => {
            policy::lower_mss(cx, frame, item, found);
            let hit = unchanged(A::flows(cx.worker), found);
            follow(cx, frame, item, hit)
        }
        bind::Bound::Placed(placed) => {
            if let Some(over) = over {
                A::flows(cx.worker).remove(over);
                cx.worker.counters.flows_reopened.add(1);
            }
            place::follow(cx, frame, item, &placed)
        }
        bind::Bound::Verdict(verdict) => Ok(verdict),
    }
}

/// A packet of a handshake, or one that ends its flow, or changes nothing about it, or does not belong
/// to it.
#[cold]
#[inline(never)]
fn aside<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    found: Found,
    step: Step,
) -> Result<Verdict, DropReason> {
    match standing::look(cx, found, item) {
        Standing::GoesOn => {}
        Standing::Fades => return pass(cx, frame, item, found),
        Standing::Anew => return begin(cx, frame, item, Some(found.index)),
        Standing::Over => return begin_again(cx, frame, item, found),
    }
    let segment = handshake::Segment::read(frame, item);
    let step = match segment.zip(A::flows(cx.worker).get(found.index)) {
        Some((segment, entry)) => segment.judged(entry, found.direction, step),
        // The numbers of a segment without a whole header prove nothing.
        None if item.packet.protocol == Protocol::TCP && step != Step::INVALID => Step::IGNORE,
        None => step,
    };
    let verdict = match step {
        Step::REOPEN => return begin(cx, frame, item, Some(found.index)),
        Step::DELETE => {
            let verdict = pass(cx, frame, item, found)?;
            A::flows(cx.worker).remove(found.index);
            cx.worker.counters.flows_reset.add(1);
            return Ok(verdict);
        }
        Step::IGNORE => pass(cx, frame, item, found)?,
        _ if let Some(state) = step.state() => {
            policy::lower_mss(cx, frame, item, found);
            requeueing::<A, R>(cx, found, |cx| follow(cx, frame, item, Hit { found, state }))?
        }
        _ => match misfit(item, DropReason::OutOfState) {
            DropReason::OutOfState if place::began_without::<A, R>(cx, found) => pass(cx, frame, item, found)?,
            reason => return Err(reason),
        },
    };
    if let Some((segment, entry)) = segment.zip(A::flows(cx.worker).get_mut(found.index)) {
        segment.note(entry, found.direction);
    }
    Ok(verdict)
}

/// Lets a packet go on that changes nothing about its flow, not even how long it has idled.
pub(super) fn pass<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    found: Found,
) -> Result<Verdict, DropReason> {
    policy::lower_mss(cx, frame, item, found);
    unrefreshed::<A, R>(cx, found, |cx, hit| follow(cx, frame, item, hit))
}

/// Lets a packet go on by this way, and leaves its flow in its state and as long idle as before.
pub(super) fn unrefreshed<'c, 'm, 's, A: Wire, R>(
    cx: &mut Context<'c, 'm, 's, R>,
    found: Found,
    go_on: impl FnOnce(&mut Context<'c, 'm, 's, R>, Hit) -> Result<Verdict, DropReason>,
) -> Result<Verdict, DropReason> {
    let seen = A::flows(cx.worker).get(found.index).map(|entry| entry.seen);
    let hit = unchanged(A::flows(cx.worker), found);
    let verdict = go_on(cx, hit)?;
    if let Some((entry, seen)) = A::flows(cx.worker).get_mut(found.index).zip(seen) {
        entry.seen = seen;
    }
    Ok(verdict)
}

/// Lets a packet go on that may put its flow in a state in which it is worth more, or less, than before.
pub(super) fn requeueing<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    found: Found,
    go_on: impl FnOnce(&mut Context<'_, '_, '_, R>) -> Result<Verdict, DropReason>,
) -> Result<Verdict, DropReason> {
    let before = unchanged(A::flows(cx.worker), found).state;
    // Whether the state has been written depends on what became of the packet.
    let verdict = go_on(cx);
    A::flows(cx.worker).requeue(found.index, before);
    verdict
}

/// A packet of a flow that has not idled too long, of a protocol whose states allow everything. For
/// [`requeueing`].
pub(super) fn hit<A: Wire>(flows: &Table<'_, A>, found: Found, item: &Item<A>) -> Hit {
    let hit = unchanged(flows, found);
    Hit { state: step(hit.state, found.direction, item.packet.flags).state().unwrap_or(hit.state), ..hit }
}

/// Whether the flow has idled too long, or ended so that this packet begins another.
pub(super) fn is_over<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, found: Found, item: &Item<A>) -> bool {
    matches!(judge(cx, found, item), Judged::Over | Judged::Aside(Step::REOPEN))
}

/// A packet that leaves its flow in the state in which it is.
pub(super) fn unchanged<A: Wire>(flows: &Table<'_, A>, found: Found) -> Hit {
    Hit { found, state: flows.get(found.index).map_or(0, |entry| entry.state) }
}

/// Whether the flow at this place has idled too long.
pub(super) fn has_idled<A: Wire>(tick: u32, snapshot: &Snapshot<'_>, flows: &Table<'_, A>, index: u32) -> bool {
    flows.get(index).is_none_or(|entry| entry.is_idle(tick, &snapshot.globals.idle_ticks))
}

/// A packet of a flow goes on, as what it is on the other side.
#[inline(always)]
pub(super) fn follow<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    cx.explain(explain::Step::FlowFound(hit.found.direction));
    match hit.found.direction {
        Direction::Original => to_backend(cx, frame, item, hit),
        Direction::Reply => to_client(cx, frame, item, hit),
    }
}

/// From the client: to the backend, from the pool address. Looks the way up again where the flow's
/// is of another snapshot, and keeps the link address the client is seen at.
#[inline(always)]
fn to_backend<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    if item.way == Way::Overlay {
        return pods::follow(cx, frame, item, hit);
    }
    let snapshot = cx.snapshot;
    let entry = A::flows(cx.worker).get_mut(hit.found.index).ok_or(DropReason::NoFlow)?;
    let hop = match snapshot.hop_at(entry.hop) {
        Some(hop) if entry.generation == snapshot.generation() => hop,
        _ => return look_up_again(cx, frame, item, hit),
    };
    entry.port = frame.port().0;
    entry.link = item.station.0;
    entry.vlan = item.vlan;
    let to = entry.reply.inverted();
    let leave = over(hop)?;
    finish(cx, frame, item, hit, &to, leave)
}

/// As [`to_backend`], and makes what the flow remembers of a snapshot that of this one. A flow whose
/// packets are to be marked remembers no hop, so that all of them come by here.
#[cold]
#[inline(never)]
fn look_up_again<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    let snapshot = cx.snapshot;
    let entry = A::flows(cx.worker).get(hit.found.index).ok_or(DropReason::NoFlow)?;
    if entry.mode != Mode::Inward as u8 {
        return pods::follow(cx, frame, item, hit);
    }
    match standing::look(cx, hit.found, item) {
        Standing::GoesOn | Standing::Fades => {}
        Standing::Anew => return begin(cx, frame, item, Some(hit.found.index)),
        Standing::Over => return begin_again(cx, frame, item, hit.found),
    }
    let entry = A::flows(cx.worker).get_mut(hit.found.index).ok_or(DropReason::NoFlow)?;
    let to = entry.reply.inverted();
    let asked = entry.original;
    let selector = snapshot.selector(asked.destination.mapped(), asked.destination_port, Protocol(entry.protocol));
    let index = A::overlay_hop(snapshot, to.destination).ok_or(DropReason::NoRoute)?;
    let is_marked = selector.is_some_and(|selector| selector.dscp().is_some());
    // What is remembered is of the entry's generation.
    let is_remembered = standing::is_known(snapshot, entry) && !is_marked;
    entry.hop = if is_remembered { Place::at(index) } else { Place::NONE };
    (entry.port, entry.link, entry.vlan) = (frame.port().0, item.station.0, item.vlan);
    let way = to_peer(snapshot, index)?;
    policy::mark(cx, frame, item, selector, way);
    finish(cx, frame, item, hit, &to, way)
}

/// From the backend: to the client, from the address that it wrote to. Looks the way up again where the flow's
/// is of another snapshot.
#[inline(always)]
fn to_client<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    let snapshot = cx.snapshot;
    let entry = A::flows(cx.worker).get(hit.found.index).ok_or(DropReason::NoFlow)?;
    if item.way == Way::Link || entry.mode != Mode::Inward as u8 {
        return pods::follow(cx, frame, item, hit);
    }
    let station = match snapshot.neighbour_at(entry.station) {
        Some(station) if entry.generation == snapshot.generation() => station,
        _ => return find_station(cx, frame, item, hit),
    };
    let (to, seen) = (entry.original.inverted(), Seen::of(entry));
    let way = station_at(cx, station, seen)?;
    finish(cx, frame, item, hit, &to, way)
}

/// As [`to_client`], and makes what the flow remembers of a snapshot that of this one.
#[cold]
#[inline(never)]
fn find_station<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    let standing = standing::look(cx, hit.found, item);
    if standing == Standing::Over {
        return begin_again(cx, frame, item, hit.found);
    }
    let entry = A::flows(cx.worker).get(hit.found.index).ok_or(DropReason::NoFlow)?;
    let (to, seen) = (entry.original.inverted(), Seen::of(entry));
    let (way, station) = to_station(cx, to.destination, seen)?;
    if standing == Standing::Fades {
        return unrefreshed::<A, R>(cx, hit.found, |cx, hit| finish(cx, frame, item, hit, &to, way));
    }
    if let Some(entry) = A::flows(cx.worker).get_mut(hit.found.index)
        && standing::is_known(cx.snapshot, entry)
    {
        entry.station = station;
    }
    finish(cx, frame, item, hit, &to, way)
}

/// Where a client's packets come from.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) port: u8,
    pub(super) mac: Mac,
    pub(super) vlan: [u8; 2],
}

impl Seen {
    #[inline(always)]
    pub(super) const fn of<A: Wire>(entry: &Entry<A>) -> Self {
        Self { port: entry.port, mac: Mac(entry.link), vlan: entry.vlan }
    }
}

/// The way to a client, as the kernel routes it, and where its next station is known.
pub(super) fn to_station<'s, A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, 's, R>,
    client: A,
    seen: Seen,
) -> Result<(Leave<'s>, Place), DropReason> {
    let snapshot = cx.snapshot;
    let route = A::route(snapshot, client).ok_or(DropReason::NoRoute)?;
    let port = PortId(route.port);
    let next = if route.is_on_link == 0 { route.via } else { client.mapped() };
    if let Some((index, station)) = snapshot.neighbour(port, next) {
        // The next packet asks the route again where its link alone does not tell how large it may be.
        let is_narrow = snapshot.port(port).is_some_and(|link| route.link.mtu < link.mtu);
        let place = if is_narrow { Place::NONE } else { Place::at(index) };
        return Ok((station_at(cx, station, seen)?.by(route), place));
    }
    cx.worker.want_resolved(port, Ipv6Addr::from(next).to_canonical());
    // Until the kernel knows better, where the client's packets come from is where it is.
    if seen.port != route.port {
        return Err(DropReason::NeighbourUnresolved);
    }
    let station = NeighbourRecord { address: next, mac: seen.mac, port: route.port, reserved: 0 };
    Ok((station_at(cx, &station, seen)?.by(route), Place::NONE))
}

/// The way to this station.
#[inline(always)]
fn station_at<'s, R: Recorder>(
    cx: &mut Context<'_, '_, 's, R>,
    station: &NeighbourRecord,
    seen: Seen,
) -> Result<Leave<'s>, DropReason> {
    let port = PortId(station.port);
    cx.explain(explain::Step::ToLink(port, Ipv6Addr::from(station.address).to_canonical(), station.mac));
    let vlan = if seen.port == station.port { seen.vlan } else { [0; 2] };
    let record = cx.snapshot.port(port).ok_or(DropReason::UnknownPort)?;
    Ok(Leave::Station(port, record, station.mac, vlan))
}

/// Translates the packet, counts it in its flow, and sends it on; or tells its sender why not.
#[inline(always)]
pub(super) fn finish<'s, A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, 's, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
    to: &Tuple<A>,
    way: Leave<'s>,
) -> Result<Verdict, DropReason> {
    if item.packet.ttl <= 1 {
        return error::answer(cx, frame, item, Kind::TimeExceeded);
    }
    if item.packet.len > way.mtu() {
        return too_big(cx, frame, item, hit, to, way);
    }
    translate(cx, frame, item, hit, to)?;
    leave(cx, frame, item, way)
}

/// Tells the sender of a packet that may not be cut; else leaves it translated, with the way that its
/// pieces will go in `cx.cut` (RFC 791 §3.2).
#[cold]
fn too_big<'s, A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, 's, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    hit: Hit,
    to: &Tuple<A>,
    way: Leave<'s>,
) -> Result<Verdict, DropReason> {
    if item.packet.dont_fragment {
        return error::answer(cx, frame, item, Kind::TooBig { mtu: way.mtu() });
    }
    translate(cx, frame, item, hit, to)?;
    cx.cut = Some(way);
    Err(DropReason::TooBig)
}

#[inline(always)]
fn translate<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    hit: Hit,
    to: &Tuple<A>,
) -> Result<(), DropReason> {
    let ip = frame.bytes_mut().get_mut(usize::from(item.at)..).unwrap_or_default();
    A::translate(ip, &item.packet, to, &cx.whole_len)?;
    cx.explain(explain::Step::Translated(
        endpoint(to.source, to.source_port),
        endpoint(to.destination, to.destination_port),
    ));
    remember(cx, item, hit);
    Ok(())
}

/// What the packet changes in its flow, and the counts.
#[inline(always)]
fn remember<A: Wire, R>(cx: &mut Context<'_, '_, '_, R>, item: &Item<A>, hit: Hit) {
    let tick = cx.tick;
    let bytes = u64::from(item.packet.len);
    let Some(entry) = A::flows(cx.worker).get_mut(hit.found.index) else {
        return place::count(cx, item, hit.found.direction);
    };
    entry.seen = tick;
    entry.state = hit.state;
    let service = entry.service;
    let direction = hit.found.direction as usize;
    // Of a table that was adopted they may begin anywhere.
    let FlowTraffic { packets, bytes: sum } = &mut entry.traffic;
    packets[direction] = packets[direction].wrapping_add(1);
    sum[direction] = sum[direction].wrapping_add(bytes);
    if let Some(service) = cx.worker.services.get(service as usize) {
        match hit.found.direction {
            Direction::Original => service.original.count(1, bytes),
            Direction::Reply => service.reply.count(1, bytes),
        }
    }
}

/// The way to a peer, by the index of its hop.
#[inline(always)]
pub(super) fn to_peer<'s>(snapshot: &Snapshot<'s>, hop: u32) -> Result<Leave<'s>, DropReason> {
    over(snapshot.hop(hop).ok_or(DropReason::NoRoute)?)
}

/// The way over this hop, once the next station's link address is known.
#[inline(always)]
const fn over(hop: &HopRecord) -> Result<Leave<'_>, DropReason> {
    if hop.is_resolved == 0 { Err(DropReason::NeighbourUnresolved) } else { Ok(Leave::Peer(hop)) }
}

/// Sends the packet at `item.at` out of the gateway.
#[inline(always)]
pub(super) fn leave<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    way: Leave<'_>,
) -> Result<Verdict, DropReason> {
    // Ethernet's padding goes no further.
    let (at, len) = (usize::from(item.at), item.packet.len);
    match way {
        Leave::Peer(hop) => {
            cx.worker.identification = cx.worker.identification.wrapping_add(1);
            let passage =
                Passage { entropy: item.hash, identification: cx.worker.identification, tos: item.packet.tos };
            hop.headers.encapsulate(frame, at, len, passage)?;
            cx.explain(explain::Step::ToPeer(PortId(hop.port)));
            Ok(Verdict::Transmit(PortId(hop.port)))
        }
        Leave::Station(port, record, mac, vlan) => {
            let vlan = (vlan != [0; 2]).then_some(u16::from_be_bytes(vlan));
            let header = ethernet::Header { destination: mac, source: record.mac, vlan, ethertype: A::ETHERTYPE };
            let bytes = frame.rebuild(at, usize::from(len), header.len()).ok_or(DropReason::NoRoom)?;
            header.emit(bytes).ok_or(DropReason::NoRoom)?;
            Ok(Verdict::Transmit(port))
        }
    }
}

#[inline]
pub(super) fn endpoint<A: Wire>(address: A, port: [u8; 2]) -> Endpoint {
    Endpoint { address: address.to_ip(), port: u16::from_be_bytes(port) }
}

/// The worker that owns the flows at this port of the pool's addresses, if that is another one.
#[inline]
pub(super) fn owner_elsewhere<A: Wire, R>(cx: &Context<'_, '_, '_, R>, port: [u8; 2]) -> Option<Verdict> {
    let owner = A::pool(cx.snapshot).owner(port);
    (owner != cx.worker.id).then_some(Verdict::Handover(owner))
}

/// The state that the packet begins a flow in.
pub(super) fn first_state<A>(item: &Item<A>) -> Result<State, DropReason> {
    State::first(item.packet.protocol, item.packet.flags).ok_or_else(|| misfit(item, DropReason::NotSyn))
}

/// The drop of a packet that neither fits a flow nor begins one: `otherwise`, where its flags can be a
/// segment's at all.
fn misfit<A>(item: &Item<A>, otherwise: DropReason) -> DropReason {
    let are_legal = item.packet.protocol != Protocol::TCP || are_legal(item.packet.flags);
    if are_legal { otherwise } else { DropReason::TcpFlags }
}
