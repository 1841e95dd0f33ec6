//! ICMP errors of the gateway's own: they take the place of the packet that they are about.

use super::context::Context;
use super::egress::{self, Egress};
use super::family::Wire;
use super::item::{Ingress, Item};
use super::observe::{Observer, Step};
use super::report::Report;
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::{ethernet, icmpv4};

/// Turns the packet into an error about it, and returns the egress to whoever sent it.
///
/// The error comes from the address that the packet was for, so that its sender recognises it.
///
/// # Errors
/// The report's own reason where no error may be sent, or the limit on them.
#[cold]
pub(super) fn write<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
    report: Report,
) -> Result<Egress<'s>, DropReason> {
    // RFC 1812 §4.3.2.7 and RFC 4443 §2.4 e: never about errors, later fragments, or to a group.
    let is_later = item.packet.fragment.is_some_and(|fragment| !fragment.is_first());
    if is_later || !A::may_send(item.packet.source) {
        return Err(report.reason());
    }
    let egress = egress::back(cx, frame, item).map_err(|_| report.reason())?;
    let is_inside = match item.ingress {
        Ingress::Overlay => true,
        Ingress::Underlay => A::overlay_hop(cx.snapshot, item.packet.source).is_some(),
        Ingress::Link => false,
    };
    let (now, [outside, inside]) = (cx.worker.now, &mut cx.worker.too_big);
    let budget = match report {
        Report::TooBig { .. } if is_inside => inside,
        Report::TooBig { .. } => outside,
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
    // Towards the outside a gateway is a router on the pod's path, and has a name of its own there.
    let packet = &item.packet;
    let listens =
        || cx.snapshot.selector(packet.destination.mapped(), packet.destination_port, packet.protocol).is_some();
    let is_router = is_inside && !A::is_own(cx.snapshot, packet.destination) && !listens();
    // Without a subnet of this family there is no such name.
    let own = A::own(cx.snapshot);
    let source = if is_router && A::may_send(own) { own } else { item.packet.destination };
    let ip = frame.bytes_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default();
    A::write_error(ip, report, source, item.packet.source).ok_or(DropReason::NoRoom)?;
    cx.worker.counters.errors_sent.add(1);
    cx.explain(Step::ErrorSent(report.name()));
    item.replace((headers + quoted) as u16, A::ERROR_TOS);
    Ok(egress)
}
