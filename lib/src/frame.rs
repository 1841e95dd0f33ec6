//! Frames as the pipeline sees them: bytes with room in front and behind, lent by the caller.

use crate::net::PortId;
use crate::verdict::Verdict;

/// The most frames in one call of the pipeline.
pub const BURST_FRAMES_MAX: usize = 64;

/// The room in front of a frame that lets every encapsulation succeed: outer Ethernet with one tag,
/// IPv6, UDP and VXLAN, less nothing (the inner Ethernet header takes the place of the old one).
pub const HEADROOM_MAX: usize = 18 + 40 + 8 + 8;

/// One frame in a buffer of the caller's, and in the end its verdict.
///
/// The bytes are the `len` from `start` on in `buffer`, beginning with the Ethernet header and ending without the
/// frame check sequence. The pipeline moves both ends.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    len: usize,
    port: PortId,
    handovers: u8,
    verdict: Option<Verdict>,
}

/// The part of the buffer named does not lie inside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsideBuffer {
    /// Where the frame was said to end.
    pub end: usize,
    /// How long the buffer is.
    pub buffer: usize,
}

impl core::fmt::Display for OutsideBuffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a frame that ends at {} in a buffer of {} bytes", self.end, self.buffer)
    }
}

impl core::error::Error for OutsideBuffer {}

impl<'a> Frame<'a> {
    /// A frame of `len` bytes at `start` in `buffer`, received on `port`.
    ///
    /// # Errors
    /// [`OutsideBuffer`] where the buffer is shorter than that.
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize, port: PortId) -> Result<Self, OutsideBuffer> {
        match start.checked_add(len) {
            Some(end) if end <= buffer.len() => Ok(Self { buffer, start, len, port, handovers: 0, verdict: None }),
            end => Err(OutsideBuffer { end: end.unwrap_or(usize::MAX), buffer: buffer.len() }),
        }
    }

    /// An empty frame in `buffer` for the pipeline to write into, with [`HEADROOM_MAX`] in front
    /// where the buffer has it.
    #[must_use]
    pub fn spare(buffer: &'a mut [u8]) -> Self {
        let start = HEADROOM_MAX.min(buffer.len());
        Self { buffer, start, len: 0, port: PortId(0), handovers: 0, verdict: None }
    }

    /// The same frame, said to have been handed over by so many workers before. Say it of every
    /// frame that another worker's verdict sent here: a datagram in parts is handed on until its
    /// owner is found, and no further than the count allows.
    #[must_use]
    pub const fn handed_over(mut self, handovers: u8) -> Self {
        self.handovers = handovers;
        self
    }

    /// Makes a spare frame one that has come in before. `false` where the buffer is too short.
    pub(crate) fn refill(&mut self, bytes: &[u8], port: PortId, handovers: u8) -> bool {
        (self.port, self.handovers) = (port, handovers);
        let fits = self.set_len(bytes.len());
        if fits {
            self.bytes_mut().copy_from_slice(bytes);
        }
        fits
    }

    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self.buffer.get(self.start..).and_then(|from| from.get(..self.len)) {
            Some(bytes) => bytes,
            None => nothing(),
        }
    }

    /// The frame's bytes, to change in place.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self.buffer.get_mut(self.start..).and_then(|from| from.get_mut(..self.len)) {
            Some(bytes) => bytes,
            None => nothing(),
        }
    }

    /// The bytes that begin `at` bytes into the frame, to change in place; none where it is shorter.
    #[inline(always)]
    pub(crate) fn bytes_from_mut(&mut self, at: usize) -> &mut [u8] {
        match self.bytes_mut().get_mut(at..) {
            Some(bytes) => bytes,
            None => nothing(),
        }
    }

    /// Bytes of the first two cache lines that the frame has, where its headers lie. The second may be the
    /// buffer's alone; of a buffer that ends before it, none.
    #[inline(always)]
    pub(crate) fn lines(&self) -> impl Iterator<Item = &u8> {
        let lines = self.buffer.get(self.start..).and_then(<[u8]>::first_chunk::<65>);
        lines.map(|lines| [&lines[0], &lines[64]]).into_iter().flatten()
    }

    /// Where the bytes begin in the buffer.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// How many bytes the frame has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The port on which the frame came in.
    #[must_use]
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// How many workers have handed it over.
    #[must_use]
    pub const fn handovers(&self) -> u8 {
        self.handovers
    }

    /// The pipeline's answer; `None` before it has run, or for a spare buffer that stayed unused.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Gives the frame its verdict.
    pub fn decide(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }

    /// Grows the frame by `count` bytes in front, whose content is undefined. `false`, and nothing
    /// changed, where the headroom is shorter.
    #[must_use]
    pub fn grow_front(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
            self.len += count;
        }
        fits
    }

    /// Cuts `count` bytes off the front. `false`, and nothing changed, where the frame is shorter.
    #[must_use]
    pub fn cut_front(&mut self, count: usize) -> bool {
        let fits = count <= self.len();
        if fits {
            self.start += count;
            self.len -= count;
        }
        fits
    }

    /// Makes the frame `room` bytes of undefined content and behind them `len` of those that begin `at` bytes
    /// into it now, and gives them all. `None`, and nothing changed, where the buffer is shorter.
    #[must_use]
    #[inline]
    pub fn rebuild(&mut self, at: usize, len: usize, room: usize) -> Option<&mut [u8]> {
        let packet = self.start.checked_add(at)?;
        let (start, end) = (packet.checked_sub(room)?, packet.checked_add(len)?);
        let bytes = self.buffer.get_mut(start..end)?;
        (self.start, self.len) = (start, end - start);
        Some(bytes)
    }

    /// As [`rebuild`](Self::rebuild) with room for `ROOM` bytes, and gives those alone.
    #[must_use]
    #[inline(always)]
    pub(crate) fn rebuild_behind<const ROOM: usize>(&mut self, at: usize, len: usize) -> Option<&mut [u8; ROOM]> {
        let packet = self.start + at;
        let (before, from) = self.buffer.split_at_mut_checked(packet)?;
        let room = before.last_chunk_mut::<ROOM>()?;
        if len > from.len() {
            return None;
        }
        (self.start, self.len) = (packet - ROOM, ROOM + len);
        Some(room)
    }

    /// Sets the length by moving the end. `false`, and nothing changed, where the buffer is shorter.
    #[must_use]
    pub fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= self.buffer.len() - self.start;
        if fits {
            self.len = len;
        }
        fits
    }
}

/// The bytes of a frame that does not lie in its buffer, which none does not. As a call it is jumped over;
/// as a value it would be picked from two, each time.
#[cold]
fn nothing<'a>() -> &'a mut [u8] {
    &mut []
}

/// What one call of the pipeline works on.
///
/// Each frame of `frames` comes back with a verdict. Frames of the pipeline's own making lie in the
/// first `emitted` of `spares`, each with a verdict too; no spare left is a counted drop.
#[derive(Debug)]
pub struct Burst<'b, 'a> {
    /// The frames received, at most [`BURST_FRAMES_MAX`].
    pub frames: &'b mut [Frame<'a>],
    /// Empty frames for the pipeline to fill.
    pub spares: &'b mut [Frame<'a>],
    /// How many of `spares` have been filled, from the front.
    pub emitted: usize,
}

impl<'b, 'a> Burst<'b, 'a> {
    /// A burst over these frames, with these buffers to lend.
    #[must_use]
    pub fn new(frames: &'b mut [Frame<'a>], spares: &'b mut [Frame<'a>]) -> Self {
        Self { frames, spares, emitted: 0 }
    }
}
