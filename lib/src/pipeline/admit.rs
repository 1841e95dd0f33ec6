//! Whether another flow may begin: how many half-open ones its client has, and how fast new ones come.

use super::{Context, Item, Way, Wire};
use crate::flow::State;
use crate::time::{Instant, Span};
use crate::verdict::DropReason;

/// How much of the time that passes a limit lends in advance.
const AT_ONCE: Span = Span::from_millis(100);

/// Keeps things apart by a span on average (the virtual scheduling of ITU-T I.371's generic cell rate
/// algorithm: a token bucket without division).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    /// When the next one would be due if all came evenly.
    next: Instant,
}

impl Pacer {
    pub(super) const fn new() -> Self {
        Self { next: Instant::ZERO }
    }

    /// Whether one may come now.
    fn may_come(&self, now: Instant) -> bool {
        self.next.max(now) - now <= AT_ONCE
    }

    /// One has come; the next is due `apart` later.
    fn come(&mut self, now: Instant, apart: Span) {
        self.next = self.next.max(now) + apart;
    }

    /// Whether one may come now; it has come then. `apart` of zero for no limit.
    pub(super) fn take(&mut self, now: Instant, apart: Span) -> bool {
        let may_come = apart == Span(0) || self.may_come(now);
        if may_come {
            self.come(now, apart);
        }
        may_come
    }
}

/// Whether what is for the gateway comes from a pod, where its source can be at all: one that belongs to this
/// side, and is nobody else's than its sender's.
#[inline(always)]
pub(super) fn comes_from_pod<A: Wire, R>(cx: &Context<'_, '_, '_, R>, item: &Item<A>) -> Result<bool, DropReason> {
    let source = item.packet.source;
    let is_pod = A::overlay_hop(cx.snapshot, source).is_some();
    let is_spoofed = match item.way {
        Way::Overlay => !is_pod,
        Way::Link => is_pod,
        Way::Underlay => false,
    };
    if is_spoofed || A::is_own(cx.snapshot, source) || A::is_local(cx.snapshot, source) {
        return Err(DropReason::SpoofedSource);
    }
    if A::may_send(source) { Ok(is_pod) } else { Err(DropReason::MartianAddress) }
}

/// The state, if a flow in it may begin that `client` asks for; `is_pod`: whether that is inside. Ask
/// this first: where flows may not begin, nothing is looked for that they would need.
pub(super) fn admit<A: Wire, R>(
    cx: &mut Context<'_, '_, '_, R>,
    client: A,
    is_pod: bool,
    state: State,
) -> Result<State, DropReason> {
    let globals = cx.snapshot.globals;
    let limit = globals.half_open_per_client;
    if limit != 0 && state.is_half_open() && !A::flows(cx.worker).may_begin_half_open(client, is_pod, limit) {
        return Err(DropReason::HalfOpenLimit);
    }
    if globals.new_flow_ns != 0 && !cx.worker.new_flows.may_come(cx.worker.now) {
        return Err(DropReason::NewFlowLimit);
    }
    Ok(state)
}

/// Counts a flow that has begun. One that was admitted and yet could not, as there was no backend for it, no
/// port or no room, leaves others their time.
pub(super) fn begun<R>(cx: &mut Context<'_, '_, '_, R>) {
    let apart = Span(cx.snapshot.globals.new_flow_ns.into());
    if apart != Span(0) {
        cx.worker.new_flows.come(cx.worker.now, apart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pacer_lends_a_tenth_of_a_second_and_then_keeps_the_pace() {
        for (start, apart) in [(Instant::ZERO, 1_000_000), (Instant::from_secs(77), 1_000_000), (Instant(5), 100)] {
            let mut pacer = Pacer::new();
            let mut take = |now| pacer.take(now, Span(apart));
            let at_once = (0..10_000_000).take_while(|_| take(start)).count() as u64;
            assert_eq!(at_once, AT_ONCE.0 / apart + 1);
            // Whatever is refused is not owed.
            let mut taken = 0;
            for step in 1..=1000 {
                let now = start + Span(step * apart / 2);
                taken += u64::from(take(now));
            }
            assert_eq!(taken, 500);
            let later = start + Span::from_secs(1000);
            let at_once = (0..10_000_000).take_while(|_| take(later)).count() as u64;
            assert_eq!(at_once, AT_ONCE.0 / apart + 1, "idle time is not saved up");
        }
    }
}
