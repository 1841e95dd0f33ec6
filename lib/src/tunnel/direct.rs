//! Packets that cross the underlay as they are (flannel's host-gw and DirectRouting): Ethernet alone. There is nothing
//! to open.

use super::{Carrier, Headers, Link, Writer};
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, EtherType};

impl Headers {
    /// Ethernet alone.
    #[must_use]
    pub fn direct(link: Link, inner: EtherType) -> Self {
        let mut writer = Writer::new(Carrier::Direct);
        writer.ethernet(link, inner);
        writer.headers
    }

    /// Writes the headers to the front of `bytes`.
    #[inline(always)]
    pub(super) fn write_direct(&self, bytes: &mut [u8]) -> Result<(), DropReason> {
        const LEN: usize = ethernet::HEADER_LEN;
        let (Some(place), Some(own)) = (bytes.first_chunk_mut::<LEN>(), self.bytes.first_chunk()) else {
            return Err(DropReason::NoRoom);
        };
        *place = *own;
        Ok(())
    }
}
