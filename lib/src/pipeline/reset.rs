//! A TCP reset of the gateway's own: it takes the place of a segment whose connection has lost its backend.

use super::context::Context;
use super::egress::{self, Egress};
use super::family::Wire;
use super::handshake::Segment;
use super::item::Item;
use super::observe::{Observer, Step};
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::{ethernet, tcp};

/// Turns the segment into the reset that its receiver would send without the connection (RFC 9293 §3.10.7.1), and
/// returns the egress to whoever sent it. The reset comes from the address and port that the segment was for. It is as
/// many frames as came in, and no larger, so it has no limit of its own.
///
/// # Errors
/// [`DropReason::OutOfState`] of a reset, which is not answered, and of a segment that acknowledges nothing;
/// [`DropReason::Malformed`] of one whose checksum is wrong.
#[cold]
pub(super) fn write<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &mut Frame<'_>,
    item: &mut Item<A>,
) -> Result<Egress<'s>, DropReason> {
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    if A::is_intact(ip, &item.packet) == Some(false) {
        return Err(DropReason::Malformed);
    }
    let segment = Segment::read(frame, item).ok_or(DropReason::OutOfState)?;
    let sequence = segment.reset_sequence().ok_or(DropReason::OutOfState)?;
    let egress = egress::back(cx, frame, item)?;
    let to = item.tuple().inverted();
    let len = A::HEADER_LEN + tcp::HEADER_LEN;
    frame.rebuild(usize::from(item.at), 0, ethernet::HEADER_LEN + len).ok_or(DropReason::NoRoom)?;
    let ip = frame.bytes_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default();
    A::write_reset(ip, &to, sequence).ok_or(DropReason::NoRoom)?;
    cx.worker.counters.resets_sent.add(1);
    cx.explain(Step::ResetSent);
    item.replace(len as u16, 0);
    Ok(egress)
}
