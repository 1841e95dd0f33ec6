//! The last step: a packet that is ready is encapsulated for a peer, or framed for a neighbour.

use super::context::Context;
use super::egress::Egress;
use super::family::Wire;
use super::observe::{Observer, Step};
use crate::frame::Frame;
use crate::net::PortId;
use crate::tunnel::Passage;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet;

/// Where a ready packet lies in its frame, and what its outer headers take from it.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) at: u16,
    pub(super) len: u16,
    pub(super) tos: u8,
    /// A hash of its flow.
    pub(super) hash: u64,
}

/// Puts the headers before the packet that `egress` asks for.
#[inline(always)]
pub(super) fn transmit<A: Wire, O: Observer>(
    cx: &mut Context<'_, '_, '_, O>,
    frame: &mut Frame<'_>,
    ready: Ready,
    egress: Egress<'_>,
) -> Result<Verdict, DropReason> {
    // Ethernet's padding goes no further.
    let (at, len) = (usize::from(ready.at), ready.len);
    match egress {
        Egress::Peer(hop) => {
            cx.worker.identification = cx.worker.identification.wrapping_add(1);
            let passage = Passage { entropy: ready.hash, identification: cx.worker.identification, tos: ready.tos };
            hop.headers.encapsulate(frame, at, len, passage)?;
            cx.explain(Step::ToPeer(PortId(hop.port)));
            Ok(Verdict::Transmit(PortId(hop.port)))
        }
        Egress::Neighbour(port, record, mac, vlan) => {
            let vlan = (vlan != [0; 2]).then_some(u16::from_be_bytes(vlan));
            let header = ethernet::Header { destination: mac, source: record.mac, vlan, ethertype: A::ETHERTYPE };
            put_before(&header, frame, at, len).ok_or(DropReason::NoRoom)?;
            Ok(Verdict::Transmit(port))
        }
    }
}

/// Puts a link header before the `len` bytes that begin `at` bytes into the frame, in place of what is there, and takes
/// off what is behind them. `None`, and nothing changed, where the buffer is too short.
#[inline(always)]
fn put_before(header: &ethernet::Header, frame: &mut Frame<'_>, at: usize, len: u16) -> Option<()> {
    if header.vlan.is_some() {
        return put_tagged(header, frame, at, len);
    }
    header.write(frame.rebuild_behind(at, len.into())?, header.ethertype);
    Some(())
}

#[cold]
#[inline(never)]
fn put_tagged(header: &ethernet::Header, frame: &mut Frame<'_>, at: usize, len: u16) -> Option<()> {
    header.emit(frame.rebuild(at, len.into(), header.len())?).map(|_| ())
}
