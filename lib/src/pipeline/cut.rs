//! Packets too large for their way, which may be cut: IPv4 without DF (RFC 791 §3.2, RFC 4787
//! REQ-13 a). A fragment can be cut again.

use super::act::{self, Leave};
use super::{Context, Item, Recorder, Sorted, Spares, Step, conclude};
use crate::flow::NO_ENTRY;
use crate::frame::Frame;
use crate::verdict::{DropReason, Verdict};
use crate::wire::Fragment;
use crate::wire::ipv4::{Header, PieceHeader};
use crate::wire::packet::Packet;

/// Sends in pieces what was dropped for its size alone; else the drop it is.
#[cold]
#[inline(never)]
pub(super) fn or_drop<R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Sorted,
    reason: DropReason,
    spares: &mut Spares<'_, '_>,
) -> Verdict {
    match (cx.cut.take(), item) {
        (Some(way), Sorted::V4(item)) => {
            let verdict = cut(cx, frame, item, way, spares).unwrap_or_else(Verdict::Drop);
            cx.spares_left = spares.frames.len();
            verdict
        }
        _ => Verdict::Drop(reason),
    }
}

/// Cuts a packet that has been translated: the first piece stays in its frame, the others go into
/// spare ones. Nothing leaves unless there are enough of them.
///
/// A whole datagram gets an identification of the gateway's own: it leaves from an address that it
/// shares with others, whose numbers nobody has kept apart (RFC 6864 §5.3.1).
fn cut<R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    item: &Item<[u8; 4]>,
    way: Leave<'_>,
    spares: &mut Spares<'_, '_>,
) -> Result<Verdict, DropReason> {
    let packet = &item.packet;
    let at = usize::from(item.at);
    let ip = frame.bytes().get(at..at + usize::from(packet.len)).ok_or(DropReason::Malformed)?;
    let (header, data) = Header::parse(ip)?;
    let data_at = at + header.header_len();
    let room = usize::from(way.mtu()).saturating_sub(header.header_len()) & !7;
    if room == 0 {
        return Err(DropReason::TooBig);
    }
    let workers = cx.snapshot.globals.workers;
    let whole = match header.fragment() {
        Some(fragment) => fragment,
        None => Fragment { id: cx.worker.next_part_number(workers).into(), offset: 0, more: false },
    };
    let pieces = data.len().div_ceil(room);
    if pieces - 1 > spares.frames.len() {
        return Err(DropReason::NoSpare);
    }
    let mut first = PieceHeader::copy(&header, whole.is_first()).ok_or(DropReason::Malformed)?;
    let mut later = PieceHeader::copy(&header, false).ok_or(DropReason::Malformed)?;
    cx.explain(Step::Cut(pieces));
    cx.worker.counters.pieces_cut.add(pieces as u64 - 1);
    let number = cx.frame_index;
    for (index, chunk) in data.chunks(room).enumerate().skip(1) {
        // There are as many, which was asked above.
        let Some((spare, spare_index)) = spares.take() else { return Err(DropReason::NoSpare) };
        cx.frame_index = spare_index;
        let part =
            Fragment { offset: whole.offset + (index * room) as u16, more: whole.more || index + 1 < pieces, ..whole };
        let verdict = write(spare, later.emit(chunk.len() as u16, part), chunk)
            .and_then(|len| send(cx, spare, item, (0, len), way))
            .unwrap_or_else(Verdict::Drop);
        conclude(cx, spare, verdict);
    }
    cx.frame_index = number;
    let header = first.emit(room as u16, Fragment { more: true, ..whole });
    let len = header.len() + room;
    // It may be shorter than the one before it, and stands where the data begins.
    let at = data_at.checked_sub(header.len()).ok_or(DropReason::NoRoom)?;
    let place = frame.bytes_mut().get_mut(at..data_at).ok_or(DropReason::Malformed)?;
    place.copy_from_slice(header);
    send(cx, frame, item, (at, len as u16), way)
}

/// Puts a piece into a spare frame.
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

fn send<R: Recorder>(
    cx: &mut Context<'_, '_, '_, R>,
    frame: &mut Frame<'_>,
    whole: &Item<[u8; 4]>,
    (at, len): (usize, u16),
    way: Leave<'_>,
) -> Result<Verdict, DropReason> {
    let &Item { packet, hash, way: from, station, vlan, .. } = whole;
    let piece =
        Item { packet: Packet { len, ..packet }, hash, likely: NO_ENTRY, at: at as u16, way: from, station, vlan };
    act::leave(cx, frame, &piece, way)
}
