//! SCTP: an association is followed chunk by chunk, and by the tags that its two ends chose.
//!
//! Read RFC 9260 §5, §8.5 and §9 first. The ends check tags themselves; here they keep a stranger who
//! knows the ports from ending the flow of an association that goes on. So a packet with another tag
//! goes its way and moves nothing, and an association that begins anew under its flow's tuple, with
//! other tags, goes on as well (RFC 9260 §5.2.2). Those are its flow's once both ends have named them.

use super::bind::bind;
use super::context::Context;
use super::decision::{Decision, FlowChange, Forward, Update};
use super::family::Wire;
use super::follow::follow;
use super::item::Item;
use super::observe::Observer;
use super::revalidate::{self, Validity};
use super::track;
use crate::flow::{Direction, Entry, State, Step, step};
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::sctp::{Chunk, Chunks, Header, kind};
use crate::wire::tcp::Flags;

/// An SCTP packet, whole or the first fragment of one.
///
/// Work: as of a TCP segment, and two steps for each of the first [`CHUNKS_MAX`](crate::wire::sctp::CHUNKS_MAX)
/// chunks.
#[cold]
pub(super) fn decide<'s, A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, 's, O>,
    frame: &Frame<'_>,
    item: &Item<A>,
) -> Result<Decision<'s, A>, DropReason> {
    let ip = frame.bytes().get(usize::from(item.at)..).unwrap_or_default();
    let packet = ip.get(usize::from(item.packet.transport_offset)..usize::from(item.packet.len));
    let (header, chunks) = Header::parse_first(packet.unwrap_or_default())?;
    if !may_stand_together(&header, chunks.clone()) {
        return Err(DropReason::SctpChunks);
    }
    let first = chunks.clone().next();
    let initiate_tag = first.and_then(|chunk| chunk.initiate_tag());
    let mut ended = None;
    if let Some(found) = cx.worker.flows.of::<A>().lookup(item.hash, &item.tuple(), item.packet.protocol) {
        match revalidate::check(cx, found, item) {
            Validity::Valid | Validity::Doubted | Validity::Reset => {
                let mut entry = *cx.worker.flows.of::<A>().get(found.index).ok_or(DropReason::NoFlow)?;
                // Whether it begins an association anew, the pod's answer shows (RFC 9260 §5.2.2).
                let is_open = !matches!(entry.state(), Some(State::SctpCookieWait | State::SctpClosed));
                if is_open && first.is_some_and(|chunk| chunk.kind == kind::INIT) {
                    return track::pass(cx, frame, item, found);
                }
                match advance(entry.state, Known::of(&mut entry), found.direction, &header, chunks)? {
                    Next::Goes(state, known) => {
                        let (expected, spare) = known.numbers();
                        let update =
                            Update { expected: Some(expected), spare: Some(spare), ..Update::to(found, state) };
                        return follow(cx, frame, item, update);
                    }
                    Next::Reopens => ended = Some(found.index),
                }
            }
            Validity::Draining => return track::pass(cx, frame, item, found),
            Validity::Rebind => ended = Some(found.index),
            Validity::Gone => {}
        }
    }
    let mut decision = bind(cx, frame, item, ended)?;
    if let Decision::Forward(Forward { flow: FlowChange::Begin(beginning), .. }) = &mut decision {
        beginning.tags = proof_of([0, initiate_tag.map_or(0, fold)]);
    }
    Ok(decision)
}

/// Whether these chunks may be one packet's, with this tag: INIT, INIT ACK and SHUTDOWN COMPLETE stand
/// alone (RFC 9260 §6.10), COOKIE ECHO and COOKIE ACK come first (§5.1), INIT has a tag to tell and no
/// other (§3.3.2, §8.5.1 A), and nothing else has none (§8.5).
fn may_stand_together(header: &Header<'_>, chunks: Chunks<'_>) -> bool {
    let mut stands_alone = false;
    for (index, chunk) in chunks.enumerate() {
        let comes_first = matches!(chunk.kind, kind::COOKIE_ECHO | kind::COOKIE_ACK);
        stands_alone |= matches!(chunk.kind, kind::INIT | kind::INIT_ACK | kind::SHUTDOWN_COMPLETE);
        let has_its_tag = match chunk.kind {
            kind::INIT => header.tag() == [0; 4] && chunk.initiate_tag().is_some(),
            kind::INIT_ACK => header.tag() != [0; 4] && chunk.initiate_tag().is_some(),
            // One that answers to what had no tag may reflect that.
            kind::ABORT | kind::SHUTDOWN_COMPLETE => header.tag() != [0; 4] || chunk.reflects_tag(),
            _ => header.tag() != [0; 4],
        };
        if !has_its_tag || index != 0 && (comes_first || stands_alone) {
            return false;
        }
    }
    true
}

/// What a packet makes of its flow.
enum Next {
    /// It goes on, with this state's byte, and this is known of the association.
    Goes(u8, Known),
    /// The flow is over, and the packet begins another.
    Reopens,
}

/// Goes through the chunks of a packet for a flow in this state, of whose association this is known.
fn advance(
    mut state: u8,
    mut known: Known,
    direction: Direction,
    header: &Header<'_>,
    chunks: Chunks<'_>,
) -> Result<Next, DropReason> {
    let own = direction as usize;
    for chunk in chunks {
        if !is_of_the_association(&chunk, header, known.tags, direction) {
            continue;
        }
        let stage = State::from_byte(state);
        match step(state, direction, Flags::of_chunk(chunk.kind)) {
            Step::REOPEN => return Ok(Next::Reopens),
            step => state = step.state().ok_or(DropReason::OutOfState)?,
        }
        // While it is being set up, the tags are what the cookie's two chunks have: whoever sends one has
        // seen the other's choice (RFC 9260 §5.1).
        match (direction, chunk.kind, stage) {
            (Direction::Original, kind::INIT, Some(State::SctpCookieWait)) => {
                known.tags = [0, chunk.initiate_tag().map_or(0, fold)];
            }
            (Direction::Original, kind::COOKIE_ECHO, Some(State::SctpCookieWait | State::SctpCookieEchoed))
            | (Direction::Reply, kind::COOKIE_ACK, Some(State::SctpCookieEchoed)) => {
                if let Some(tag) = known.tags.get_mut(own) {
                    *tag = fold(header.tag());
                }
            }
            (_, _, Some(State::SctpEstablished)) => known.anew.take(&chunk, header, direction, &mut known.tags),
            _ => {}
        }
    }
    Ok(Next::Goes(state, known))
}

/// What is known of an association.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Known {
    tags: Tags,
    /// The one that begins in its place.
    anew: Anew,
}

/// An association that begins under an open one's tuple: whoever is asked names both tags in INIT ACK; who asks shows
/// with COOKIE ECHO that that has come to it, and the other end with COOKIE ACK that the cookie is its own (RFC
/// 9260 §5.2.4). What came of another INIT in between takes its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Anew {
    tags: Tags,
    stage: Stage,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// Nobody has answered an INIT.
    #[default]
    None,
    /// INIT ACK has come from here.
    Answered(Direction),
    /// And COOKIE ECHO from the other end.
    Echoed(Direction),
}

impl Anew {
    /// Takes a chunk in. With the last one its tags are the flow's.
    fn take(&mut self, chunk: &Chunk<'_>, header: &Header<'_>, direction: Direction, tags: &mut Tags) {
        let [original, reply] = self.tags;
        let own = if direction == Direction::Original { original } else { reply };
        let is_its = own == fold(header.tag());
        match (chunk.kind, self.stage) {
            (kind::INIT_ACK, _) => {
                let (own, other) = (fold(header.tag()), chunk.initiate_tag().map_or(0, fold));
                self.tags = if direction == Direction::Original { [own, other] } else { [other, own] };
                self.stage = Stage::Answered(direction);
            }
            (kind::COOKIE_ECHO, Stage::Answered(by)) if by != direction && is_its => self.stage = Stage::Echoed(by),
            (kind::COOKIE_ACK, Stage::Echoed(by)) if by == direction && is_its => {
                *tags = self.tags;
                *self = Self::default();
            }
            _ => {}
        }
    }
}

impl Known {
    /// What the flow's entry tells.
    fn of<A: Wire>(entry: &mut Entry<A>) -> Self {
        let tags = tags_of(entry.expected);
        let Some([anew, stage]) = entry.spare().copied() else { return Self { tags, anew: Anew::default() } };
        let stage = match stage {
            1 => Stage::Answered(Direction::Original),
            2 => Stage::Answered(Direction::Reply),
            3 => Stage::Echoed(Direction::Original),
            4 => Stage::Echoed(Direction::Reply),
            _ => Stage::None,
        };
        Self { tags, anew: Anew { tags: tags_of(anew), stage } }
    }

    /// The numbers that the entry keeps of it: always, and where it has [room](Entry::spare) for them.
    const fn numbers(self) -> (u32, [u32; 2]) {
        let stage = match self.anew.stage {
            Stage::None => 0,
            Stage::Answered(by) => 1 + by as u32,
            Stage::Echoed(by) => 3 + by as u32,
        };
        (proof_of(self.tags), [proof_of(self.anew.tags), stage])
    }
}

/// Whether the tag is known to be the association's; asked only of chunks that end something (RFC 9260 §8.5,
/// §8.5.1).
fn is_of_the_association(chunk: &Chunk<'_>, header: &Header<'_>, tags: Tags, direction: Direction) -> bool {
    if !matches!(chunk.kind, kind::ABORT | kind::ERROR | kind::SHUTDOWN | kind::SHUTDOWN_ACK | kind::SHUTDOWN_COMPLETE)
    {
        return true;
    }
    let [original, reply] = tags;
    let is_of_clients = (direction == Direction::Original) != chunk.reflects_tag();
    let expected = if is_of_clients { original } else { reply };
    fold(header.tag()) == expected
}

/// Verification tags, folded to sixteen bits: of packets of the original and of the reply direction. Zero
/// is not known.
type Tags = [u16; 2];

/// As an entry keeps them.
const fn proof_of([original, reply]: Tags) -> u32 {
    (original as u32) << 16 | reply as u32
}

const fn tags_of(numbers: u32) -> Tags {
    [(numbers >> 16) as u16, numbers as u16]
}

/// What an entry keeps of a tag; never zero.
const fn fold([a, b, c, d]: [u8; 4]) -> u16 {
    let folded = u16::from_be_bytes([a, b]) ^ u16::from_be_bytes([c, d]);
    if folded == 0 { 1 } else { folded }
}

#[cfg(test)]
mod tests;
