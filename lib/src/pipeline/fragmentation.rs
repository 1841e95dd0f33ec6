//! Packets too large for their egress, which may be fragmented: IPv4 without DF (RFC 791 §3.2, RFC 4787
//! REQ-13 a). A fragment can be fragmented again.

use super::context::{Context, Spares};
use super::egress::Egress;
use super::family::{Wire, is_v4};
use super::item::Item;
use super::observe::{Observer, Step};
use super::transmit::{self, Ready};
use crate::frame::Frame;
use crate::verdict::{DropReason, Verdict};
use crate::wire::Fragment;
use crate::wire::ipv4::{FragmentHeader, Header};

/// Fragments a packet that has been translated: the first fragment stays in its frame, the others go into
/// spare ones. Nothing leaves unless there are enough of them.
///
/// A whole datagram gets an identification of the gateway's own: it leaves from an address that it
/// shares with others, whose numbers nobody has kept apart (RFC 6864 §5.3.1).
#[cold]
#[inline(never)]
pub(super) fn send<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    item: &Item<A>,
    egress: Egress<'_>,
    spares: &mut Spares<'_, '_>,
) -> Result<Verdict, DropReason> {
    if !is_v4::<A>() {
        return Err(DropReason::TooBig);
    }
    let at = usize::from(item.at);
    let ip = frame.bytes().get(at..at + usize::from(item.packet.len)).ok_or(DropReason::Malformed)?;
    let (header, data) = Header::parse(ip)?;
    let data_at = at + header.header_len();
    let room = usize::from(egress.mtu()).saturating_sub(header.header_len()) & !7;
    if room == 0 {
        return Err(DropReason::TooBig);
    }
    let workers = cx.snapshot.globals.workers;
    let whole = match header.fragment() {
        Some(fragment) => fragment,
        None => Fragment { id: cx.worker.next_identification(workers).into(), offset: 0, more: false },
    };
    let count = data.len().div_ceil(room);
    if count - 1 > spares.left() {
        return Err(DropReason::NoSpare);
    }
    let mut first = FragmentHeader::copy(&header, whole.is_first()).ok_or(DropReason::Malformed)?;
    let mut later = FragmentHeader::copy(&header, false).ok_or(DropReason::Malformed)?;
    cx.explain(Step::Fragmented(count));
    cx.worker.counters.fragments_created.add(count as u64 - 1);
    let number = cx.frame_index;
    let (tos, hash) = (item.packet.tos, item.hash);
    for (index, chunk) in data.chunks(room).enumerate().skip(1) {
        // There are as many, which was asked above.
        let Some((spare, spare_index)) = spares.take() else { return Err(DropReason::NoSpare) };
        cx.frame_index = spare_index;
        let more = whole.more || index + 1 < count;
        let fragment = Fragment { offset: whole.offset + (index * room) as u16, more, ..whole };
        let verdict = write(spare, later.emit(chunk.len() as u16, fragment), chunk)
            .and_then(|len| transmit::transmit::<A, O>(cx, spare, Ready { at: 0, len, tos, hash }, egress))
            .unwrap_or_else(Verdict::Drop);
        cx.conclude(spare, verdict);
    }
    cx.frame_index = number;
    let header = first.emit(room as u16, Fragment { more: true, ..whole });
    let len = header.len() + room;
    // It may be shorter than the one before it, and stands where the data begins.
    let at = data_at.checked_sub(header.len()).ok_or(DropReason::NoRoom)?;
    let target = frame.bytes_mut().get_mut(at..data_at).ok_or(DropReason::Malformed)?;
    target.copy_from_slice(header);
    transmit::transmit::<A, O>(cx, frame, Ready { at: at as u16, len: len as u16, tos, hash }, egress)
}

/// Puts a fragment into a spare frame.
fn write(spare: &mut Frame<'_>, header: &[u8], data: &[u8]) -> Result<u16, DropReason> {
    let len = header.len() + data.len();
    if !spare.set_len(len) {
        return Err(DropReason::NoRoom);
    }
    let (place, rest) = spare.bytes_mut().split_at_mut_checked(header.len()).ok_or(DropReason::NoRoom)?;
    place.copy_from_slice(header);
    rest.copy_from_slice(data);
    // No more than the datagram had.
    Ok(len as u16)
}
