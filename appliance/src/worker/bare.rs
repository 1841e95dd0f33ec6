use weirgate::frame::Burst;
use weirgate::net::PortId;
use weirgate::time::Instant;
use weirgate::verdict::{DropReason, Verdict};

use super::Forward;

/// Sends every frame out of the other port unchanged, or with one port back where it came from with
/// the link addresses exchanged: the rate of the rings alone.
#[derive(Clone, Debug, Default)]
pub struct Bare {
    /// How many ports there are: 1 or 2.
    pub ports: u8,
    /// Frames for which a ring had no room.
    pub dropped: u64,
}

impl Forward for Bare {
    fn process(&mut self, _now: Instant, burst: &mut Burst<'_, '_>) {
        for frame in burst.frames.iter_mut() {
            if let Some((addresses, _)) = frame.bytes_mut().split_first_chunk_mut::<12>() {
                addresses.rotate_left(6);
            }
            let out = if self.ports > 1 { PortId(frame.port().0 ^ 1) } else { frame.port() };
            frame.decide(Verdict::Transmit(out));
        }
    }

    fn count_drop(&mut self, _reason: DropReason) {
        self.dropped += 1;
    }
}
