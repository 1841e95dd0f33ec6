//! Packets that cross the underlay as they are (flannel's host-gw and DirectRouting): Ethernet alone. There is nothing
//! to open.

use super::{Carrier, Headers, Link, Writer};
use crate::frame::Frame;
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

    /// Puts the headers before the packet.
    #[inline(always)]
    pub(super) fn write_direct(&self, frame: &mut Frame<'_>, at: usize, len: u16) -> Result<(), DropReason> {
        self.put::<{ ethernet::HEADER_LEN }>(frame, at, len)?;
        Ok(())
    }
}
