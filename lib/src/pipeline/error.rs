//! ICMP errors of the gateway's own: they take the place of the packet that they are about.

use super::act::{self, Leave};
use super::{Context, Item, Recorder, Step, Way, Wire};
use crate::frame::Frame;
use crate::time::{Instant, Span};
use crate::verdict::{DropReason, Verdict};
use crate::wire::packet::Packet;
use crate::wire::{ethernet, icmpv4, tcp};

/// What is wrong with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Its time to live or hop limit ran out here (RFC 1812 §5.3.1, RFC 4443 §3.3).
    TimeExceeded,
    /// It is larger than the way onward takes, and may not be cut (RFC 1191 §4, RFC 4443 §3.2).
    TooBig {
        /// What the way onward takes.
        mtu: u16,
    },
    /// Nobody answers for the service that it is for: as from a port where nobody listens.
    NoBackend,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::TimeExceeded => "time exceeded",
            Self::TooBig { .. } => "too big",
            Self::NoBackend => "port unreachable",
        }
    }

    /// The drop that this is where no error may be sent.
    const fn reason(self) -> DropReason {
        match self {
            Self::TimeExceeded => DropReason::TtlExpired,
            Self::TooBig { .. } => DropReason::TooBig,
            Self::NoBackend => DropReason::NoBackend,
        }
    }
}

/// Tokens for what may be done only so often: some a second, and some at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    tokens: u64,
    burst: u64,
    /// Nanoseconds that bring one token.
    token: u64,
    refilled: Instant,
}

impl Budget {
    pub(crate) const fn new(per_second: u64, burst: u64) -> Self {
        Self { tokens: burst, burst, token: Span::from_secs(1).0 / per_second, refilled: Instant::ZERO }
    }

    /// For what the gateway says of its own accord, as Linux has it (`icmp_msgs_per_sec`,
    /// `icmp_msgs_burst`).
    pub(super) const fn icmp() -> Self {
        Self::new(1000, 50)
    }

    /// For what path MTU discovery hangs on. Linux does not limit it; RFC 4443 §2.4 f asks for a limit.
    pub(super) const fn too_big() -> Self {
        Self::new(10_000, 1000)
    }

    fn refill(&mut self, now: Instant) {
        if self.tokens == self.burst {
            self.refilled = now;
            return;
        }
        // What has passed of the next token's time goes on counting.
        let tokens = (now - self.refilled).0 / self.token;
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
        self.refilled = self.refilled + Span(tokens * self.token);
    }

    // Subtracting the `bool` that is returned is what rustc 1.95.0 gets wrong: see docs/decisions.md, Compilers.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let Some(left) = self.tokens.checked_sub(1) else { return false };
        self.tokens = left;
        true
    }
}

/// The way back to who sent the packet: over the overlay what came out of it, any other to the station
/// that its frame came from.
pub(super) fn way_back<'s, A: Wire, R>(
    cx: &Context<'_, '_, 's, R>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<Leave<'s>, DropReason> {
    if item.way == Way::Overlay {
        let hop = A::overlay_hop(cx.snapshot, item.packet.source).ok_or(DropReason::NoRoute)?;
        return act::to_peer(cx.snapshot, hop);
    }
    let port = cx.snapshot.port(frame.port()).ok_or(DropReason::UnknownPort)?;
    Ok(Leave::Station(frame.port(), port, item.station, item.vlan))
}

/// Turns the packet into an error about it, back to whoever sent it.
///
/// The error comes from the address that the packet was for, so that its sender recognises it.
#[cold]
pub(super) fn answer<A: Wire, R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    kind: Kind,
) -> Result<Verdict, DropReason> {
    // RFC 1812 §4.3.2.7 and RFC 4443 §2.4 e: never about errors, later fragments, or to a group.
    let is_later = item.packet.fragment.is_some_and(|fragment| !fragment.is_first());
    if is_later || !A::may_send(item.packet.source) {
        return Err(kind.reason());
    }
    let way = way_back(cx, frame, item).map_err(|_| kind.reason())?;
    let is_inside = match item.way {
        Way::Overlay => true,
        Way::Underlay => A::overlay_hop(cx.snapshot, item.packet.source).is_some(),
        Way::Link => false,
    };
    let (now, [outside, inside]) = (cx.worker.now, &mut cx.worker.too_big);
    let budget = match kind {
        Kind::TooBig { .. } if is_inside => inside,
        Kind::TooBig { .. } => outside,
        _ => &mut cx.worker.errors,
    };
    if !budget.take(now) {
        return Err(DropReason::ErrorRateLimited);
    }
    let headers = A::HEADER_LEN + icmpv4::HEADER_LEN;
    let quoted = usize::from(item.packet.len).min(A::ERROR_LEN_MAX - headers);
    let at = usize::from(item.at);
    let room = ethernet::HEADER_LEN + headers;
    frame.rebuild(at, quoted, room).ok_or(DropReason::NoRoom)?;
    // Towards the outside a gateway is a router on the pod's way, and has a name of its own there.
    let packet = &item.packet;
    let listens =
        || cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol).is_some();
    let is_router = item.way == Way::Overlay && !A::is_own(cx.snapshot, packet.destination) && !listens();
    let source = if is_router { A::own(cx.snapshot) } else { item.packet.destination };
    let destination = item.packet.source;
    let ip = frame.bytes_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default();
    A::write_error(ip, kind, source, destination).ok_or(DropReason::NoRoom)?;
    cx.worker.counters.errors_sent.add(1);
    cx.explain(Step::ErrorSent(kind.name()));
    item.at = ethernet::HEADER_LEN as u16;
    let len = (headers + quoted) as u16;
    item.packet =
        Packet { len, tos: A::ERROR_TOS, flags: tcp::Flags(0), source, destination, fragment: None, ..item.packet };
    act::leave(cx, frame, item, way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_at_once_and_then_comes_at_its_pace_however_often_it_is_asked() {
        for microseconds in [1, 7, 999, 1000, 1001, 1400, 1900, 40_000] {
            let mut budget = Budget::new(1000, 50);
            let mut now = Instant::from_secs(1000);
            let mut spend = |now| (0..1000).take_while(|_| budget.take(now)).count() as u64;
            assert_eq!(spend(now), 50);
            let steps = 1_000_000 / microseconds;
            let spent: u64 = (0..steps)
                .map(|_| {
                    now = now + Span(microseconds * 1000);
                    spend(now)
                })
                .sum();
            assert_eq!(spent, steps * microseconds / 1000, "asked each {microseconds} µs for a second");
            assert_eq!(spend(now + Span::from_secs(3600)), 50, "no more is saved up");
        }
    }
}
