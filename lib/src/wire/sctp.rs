//! SCTP (RFC 9260 §3).
//!
//! ```text
//! | source port  | destination port |
//! | verification tag                |
//! | checksum: CRC32c, see `crc32c`  |
//! | type | flags | length           |  a chunk, padded to a multiple of four bytes,
//! | value                           |  and others behind it
//! ```

use super::{Layer, ParseError, crc32c, field};

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 8;
/// Bytes of a chunk before its value.
pub const CHUNK_HEADER_LEN: usize = 4;
/// As many chunks of a packet are looked at. More are bundled of the smallest messages alone (RFC 9260 §6.10),
/// and go along unseen, as those in later fragments do.
pub const CHUNKS_MAX: usize = 64;
/// The fewest bytes of an INIT or INIT ACK chunk (RFC 9260 §3.3.2).
pub const INIT_LEN: usize = 20;

/// Types of chunks that change what is known of an association (RFC 9260 §3.2).
pub mod kind {
    /// User data.
    pub const DATA: u8 = 0;
    /// Begins an association.
    pub const INIT: u8 = 1;
    /// Answers [`INIT`].
    pub const INIT_ACK: u8 = 2;
    /// Asks whether an address is reached.
    pub const HEARTBEAT: u8 = 4;
    /// Ends the association at once.
    pub const ABORT: u8 = 6;
    /// No more data from the sender.
    pub const SHUTDOWN: u8 = 7;
    /// Answers [`SHUTDOWN`].
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Something was wrong, such as a cookie that was too old.
    pub const ERROR: u8 = 9;
    /// Brings back the cookie of [`INIT_ACK`].
    pub const COOKIE_ECHO: u8 = 10;
    /// Answers [`COOKIE_ECHO`].
    pub const COOKIE_ACK: u8 = 11;
    /// Answers [`SHUTDOWN_ACK`].
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// A common header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Reads the header of a whole packet, and proves the lengths of its first [`CHUNKS_MAX`] chunks.
    ///
    /// - Work: a step for each of them.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] where a header or a chunk is not all there, or there is no chunk;
    /// [`ParseError::BadLength`] where a chunk is shorter than its own header. The last chunk's padding
    /// may be absent.
    pub fn parse(packet: &'a [u8]) -> Result<(Self, Chunks<'a>), ParseError> {
        let (header, chunks) = Self::parse_first(packet)?;
        let mut rest = chunks.rest;
        for _ in 0..CHUNKS_MAX {
            if rest.is_empty() {
                break;
            }
            let len = chunk_len(rest)?;
            if len > rest.len() {
                return Err(ParseError::truncated(Layer::SctpChunk, len, rest.len()));
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok((header, chunks))
    }

    /// Reads the header at the front of a first fragment, and the first chunk's; the chunks end where
    /// the fragment does, or where one of them has no length.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), for the first chunk's header alone.
    #[inline]
    pub fn parse_first(packet: &'a [u8]) -> Result<(Self, Chunks<'a>), ParseError> {
        let Some((head, rest)) = packet.split_first_chunk() else {
            return Err(ParseError::truncated(Layer::Sctp, HEADER_LEN, packet.len()));
        };
        chunk_len(rest)?;
        Ok((Self(head), Chunks { rest, left: CHUNKS_MAX }))
    }

    /// The sender's port, in wire order.
    #[inline]
    #[must_use]
    pub const fn source_port(&self) -> [u8; 2] {
        field::<0, 2, _>(self.0)
    }

    /// The receiver's port, in wire order.
    #[inline]
    #[must_use]
    pub const fn destination_port(&self) -> [u8; 2] {
        field::<2, 2, _>(self.0)
    }

    /// The verification tag: what the receiver asked to be called by, and zero with INIT.
    #[inline]
    #[must_use]
    pub const fn tag(&self) -> [u8; 4] {
        field::<4, 4, _>(self.0)
    }

    /// The checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> [u8; 4] {
        field::<8, 4, _>(self.0)
    }
}

/// Bytes of the first of these chunks, without its padding.
#[inline]
fn chunk_len(chunks: &[u8]) -> Result<usize, ParseError> {
    let Some(head) = chunks.first_chunk::<CHUNK_HEADER_LEN>() else {
        return Err(ParseError::truncated(Layer::SctpChunk, CHUNK_HEADER_LEN, chunks.len()));
    };
    let len = usize::from(u16::from_be_bytes(field::<2, 2, _>(head)));
    if len < CHUNK_HEADER_LEN { Err(ParseError::length(Layer::SctpChunk, len)) } else { Ok(len) }
}

/// One chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// Its type.
    pub kind: u8,
    /// Its flags, which mean something else for each type.
    pub flags: u8,
    /// Its value, without padding; of a first fragment's last one, as much as is there.
    pub value: &'a [u8],
}

impl Chunk<'_> {
    /// Whether the sender had no association and says so by the tag that it was sent: the T bit of
    /// ABORT and SHUTDOWN COMPLETE (RFC 9260 §8.5.1).
    #[must_use]
    pub const fn reflects_tag(&self) -> bool {
        self.flags & 1 == 1 && matches!(self.kind, kind::ABORT | kind::SHUTDOWN_COMPLETE)
    }

    /// The tag that the sender of INIT or INIT ACK asks to be called by (RFC 9260 §3.3.2); `None` for other
    /// chunks, where it is not all there, or is zero.
    #[must_use]
    pub fn initiate_tag(&self) -> Option<[u8; 4]> {
        let fixed = self.value.first_chunk::<{ INIT_LEN - CHUNK_HEADER_LEN }>()?;
        let tag = field::<0, 4, _>(fixed);
        (matches!(self.kind, kind::INIT | kind::INIT_ACK) && tag != [0; 4]).then_some(tag)
    }
}

/// The chunks of a packet, in their order, up to [`CHUNKS_MAX`].
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        self.left = self.left.checked_sub(1)?;
        let len = chunk_len(self.rest).ok()?;
        let (&[kind, flags, ..], value) = self.rest.split_first_chunk::<CHUNK_HEADER_LEN>()?;
        let value = value.get(..len - CHUNK_HEADER_LEN).unwrap_or(value);
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Chunk { kind, flags, value })
    }
}

/// A header, its checksum still zero. Ports in wire order.
#[must_use]
pub const fn emit(source_port: [u8; 2], destination_port: [u8; 2], tag: [u8; 4]) -> [u8; HEADER_LEN] {
    let [s0, s1] = source_port;
    let [d0, d1] = destination_port;
    let [t0, t1, t2, t3] = tag;
    [s0, s1, d0, d1, t0, t1, t2, t3, 0, 0, 0, 0]
}

/// The header of a chunk whose value has `len` bytes; its padding is not counted.
#[must_use]
pub const fn emit_chunk(kind: u8, flags: u8, len: u16) -> [u8; CHUNK_HEADER_LEN] {
    let [high, low] = len.saturating_add(CHUNK_HEADER_LEN as u16).to_be_bytes();
    [kind, flags, high, low]
}

/// The checksum that this packet should have; `None` where it is shorter than its header.
///
/// - Work: reads all of it.
#[must_use]
pub fn checksum(packet: &[u8]) -> Option<[u8; 4]> {
    let (head, rest) = packet.split_first_chunk::<HEADER_LEN>()?;
    let (before, _) = head.split_at(CHECKSUM_OFFSET);
    Some(crc32c::Crc::NONE.bytes(before).bytes(&[0; 4]).bytes(rest).finish())
}

/// Writes the checksum of a packet; `false` where it is shorter than its header.
pub fn seal(packet: &mut [u8]) -> bool {
    let Some(checksum) = checksum(packet) else { return false };
    match packet.get_mut(CHECKSUM_OFFSET..HEADER_LEN) {
        Some(place) => place.copy_from_slice(&checksum),
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests;
