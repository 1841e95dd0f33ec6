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

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use super::*;
    use crate::net::{Mac, Vni};
    use crate::tunnel::{Headers, Link, OuterDscp, Passage, Tunnel, Vtep};
    use crate::verdict::DropReason;
    use crate::wire::ethernet::{EtherType, HEADER_LEN};

    const PORT: PortId = PortId(3);

    /// A frame of `len` bytes at `start` in ten, each of which says its place.
    fn with_frame<T>(start: usize, len: usize, test: impl FnOnce(&mut Frame<'_>) -> T) -> T {
        let mut buffer: [u8; 10] = core::array::from_fn(|place| place as u8);
        test(&mut Frame::new(&mut buffer, start, len, PORT).unwrap())
    }

    /// What a call returned, and where the frame is then.
    fn after<T>(start: usize, len: usize, change: impl FnOnce(&mut Frame<'_>) -> T) -> (T, usize, usize) {
        with_frame(start, len, |frame| (change(frame), frame.start(), frame.len()))
    }

    #[test]
    fn a_frame_is_where_it_was_said_to_be() {
        with_frame(4, 3, |frame| {
            assert_eq!((frame.start(), frame.len(), frame.is_empty(), frame.port()), (4, 3, false, PORT));
            assert_eq!((frame.bytes(), frame.handovers(), frame.verdict()), (&[4, 5, 6][..], 0, None));
            frame.bytes_mut()[0] = 9;
            frame.bytes_from_mut(1)[1] = 8;
            assert_eq!(frame.bytes(), [9, 5, 8]);
            assert!(frame.bytes_from_mut(4).is_empty());
            frame.decide(Verdict::Drop(DropReason::NoRoute));
            assert_eq!(frame.verdict(), Some(Verdict::Drop(DropReason::NoRoute)));
        });
        with_frame(10, 0, |frame| assert!(frame.is_empty() && frame.bytes().is_empty()));
        for (start, len, end) in [(4, 7, 11), (11, 0, 11), (usize::MAX, 1, usize::MAX)] {
            let outside = Frame::new(&mut [0; 10], start, len, PORT).map(|_| ());
            assert_eq!(outside, Err(OutsideBuffer { end, buffer: 10 }));
        }
    }

    #[test]
    fn both_ends_move_as_far_as_the_buffer_goes() {
        for count in [0, 1, 4] {
            assert_eq!(after(4, 3, |frame| frame.grow_front(count)), (true, 4 - count, 3 + count));
        }
        assert_eq!(after(4, 3, |frame| frame.grow_front(5)), (false, 4, 3));
        for count in [0, 1, 3] {
            assert_eq!(after(4, 3, |frame| frame.cut_front(count)), (true, 4 + count, 3 - count));
        }
        assert_eq!(after(4, 3, |frame| frame.cut_front(4)), (false, 4, 3));
        for len in [0, 2, 6] {
            assert_eq!(after(4, 3, |frame| frame.set_len(len)), (true, 4, len));
        }
        assert_eq!(after(4, 3, |frame| frame.set_len(7)), (false, 4, 3));
    }

    #[test]
    fn a_packet_gets_room_before_it_and_loses_what_is_behind_it() {
        // The packet of `len` bytes that begins at 4 + `at`, and the room before it.
        for (at, len, room) in [(0, 3, 4), (1, 2, 5), (2, 1, 0), (3, 3, 7), (0, 6, 1)] {
            let place = (4 + at - room, room + len);
            let given = |bytes: Option<&mut [u8]>| bytes.map(|bytes| (bytes.first().copied(), bytes.len()));
            let all = Some((Some(place.0 as u8), place.1));
            assert_eq!(after(4, 3, |frame| given(frame.rebuild(at, len, room))), (all, place.0, place.1));
        }
        for (at, len, room) in [(0, 3, 5), (1, 6, 0), (7, 0, 0), (usize::MAX, 0, 0), (0, usize::MAX, 0)] {
            assert_eq!(after(4, 3, |frame| frame.rebuild(at, len, room).is_some()), (false, 4, 3));
        }
        for (at, len, fits) in [(0, 3, true), (1, 5, true), (0, 6, true), (0, 7, false), (1, 6, false), (7, 0, false)] {
            let (found, start, now) = after(4, 3, |frame| frame.rebuild_behind::<4>(at, len).copied());
            if fits {
                let first = at as u8;
                assert_eq!((found, start, now), (Some([first, first + 1, first + 2, first + 3]), at, 4 + len));
            } else {
                assert_eq!((found, start, now), (None, 4, 3), "{len} bytes at {at}");
            }
        }
        assert_eq!(after(4, 3, |frame| frame.rebuild_behind::<5>(0, 3).is_some()), (false, 4, 3));
    }

    #[test]
    fn a_spare_frame_has_headroom_where_its_buffer_does_and_takes_what_fits_behind() {
        let mut short = [0; 10];
        let mut frame = Frame::spare(&mut short);
        assert_eq!((frame.start(), frame.len(), frame.verdict()), (10, 0, None));
        assert!(!frame.refill(&[1], PORT, 2));
        assert!(frame.is_empty());

        let mut buffer = [0; HEADROOM_MAX + 4];
        let mut frame = Frame::spare(&mut buffer);
        assert!(!frame.refill(&[7; 5], PORT, 2));
        assert!(frame.refill(&[7; 4], PORT, 2));
        assert_eq!(
            (frame.start(), frame.bytes(), frame.port(), frame.handovers()),
            (HEADROOM_MAX, &[7; 4][..], PORT, 2)
        );
        assert_eq!(frame.handed_over(5).handovers(), 5);
    }

    #[test]
    fn headroom_lets_the_largest_encapsulation_and_a_tag_before_it_succeed_and_is_no_larger() {
        let own = Vtep { public: Ipv6Addr::LOCALHOST, mac: Mac::ZERO };
        let link = Link { destination: Mac::ZERO, source: Mac::ZERO };
        let tunnel = Tunnel { vni: Vni::default(), port: 8472, inner: EtherType::IPV6, dscp: OuterDscp::default() };
        let headers = Headers::vxlan_v6(link, own, own, tunnel);
        let passage = Passage { entropy: 0, identification: 0, tos: 0 };
        let mut buffer = [0; 256];
        for (tag, fits) in [(4, Ok(())), (5, Err(DropReason::NoRoom))] {
            let mut frame = Frame::new(&mut buffer, HEADROOM_MAX - tag, HEADER_LEN + 40, PORT).unwrap();
            assert_eq!(headers.encapsulate(&mut frame, HEADER_LEN, 40, passage), fits);
        }
    }

    #[test]
    fn the_first_two_cache_lines_are_looked_at_where_the_buffer_has_them() {
        let mut buffer: [u8; 70] = core::array::from_fn(|place| place as u8);
        for (start, lines) in [(0, &[0, 64][..]), (5, &[5, 69]), (6, &[])] {
            let frame = Frame::new(&mut buffer, start, 64, PORT).unwrap();
            assert!(frame.lines().eq(lines), "from {start}");
        }
    }
}
