//! Fragments that came before the first one of their datagram, to an address that a service and the host share: the
//! kernel has them, and these are copies.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use aya::maps::{Map, MapData, MapError, RingBuf};
use weirgate::net::PortId;

/// The reading end of the steering program's ring of copies. There is one reader at a time.
pub(crate) struct EarlyFragments(RingBuf<MapData>);

impl fmt::Debug for EarlyFragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EarlyFragments").finish_non_exhaustive()
    }
}

/// A copy, and the frame's ingress.
pub(crate) struct EarlyFragment<'a> {
    pub(crate) port: PortId,
    pub(crate) queue: u32,
    /// From the Ethernet header on.
    pub(crate) frame: &'a [u8],
}

impl EarlyFragments {
    /// Reads the ring of this map, from where the last reader stopped.
    pub(super) fn of(map: &MapData) -> Result<Self, MapError> {
        let descriptor = map.fd().as_fd().try_clone_to_owned()?;
        RingBuf::try_from(Map::RingBuf(MapData::from_fd(descriptor)?)).map(Self)
    }

    /// The descriptor that is readable while a copy waits.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Passes the next copy to `take`; `None` where none waits. A malformed record is skipped.
    pub(crate) fn next<T>(&mut self, take: impl FnOnce(EarlyFragment<'_>) -> T) -> Option<T> {
        loop {
            let record = self.0.next()?;
            if let Some(part) = read(&record) {
                return Some(take(part));
            }
        }
    }
}

/// `struct early` of the steering program.
fn read(record: &[u8]) -> Option<EarlyFragment<'_>> {
    let (head, bytes) = record.split_first_chunk::<16>()?;
    let (words, _) = head.as_chunks::<4>();
    let [port, queue, length, _] = [0, 1, 2, 3].map(|word| u32::from_ne_bytes(words[word]));
    let frame = bytes.get(..length as usize).filter(|frame| !frame.is_empty())?;
    Some(EarlyFragment { port: PortId(u8::try_from(port).ok()?), queue, frame })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_whole_or_not_at_all() {
        let record = |port: u32, length: u32| {
            let head = [port, 3, length, 0].map(u32::to_ne_bytes).concat();
            [head, vec![7; 20]].concat()
        };
        let whole = record(1, 5);
        let part = read(&whole).unwrap();
        assert_eq!((part.port, part.queue, part.frame), (PortId(1), 3, &[7; 5][..]));
        for (port, length) in [(1, 0), (1, 21), (1, u32::MAX), (256, 5)] {
            assert!(read(&record(port, length)).is_none(), "{port} {length}");
        }
        assert!(read(&whole[..15]).is_none());
    }
}
