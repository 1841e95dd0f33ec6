//! A frame after the first pass: a packet, and what its frame said around it.

use crate::flow::Tuple;
use crate::frame::Frame;
use crate::net::Origin;
use crate::verdict::Verdict;
use crate::wire::ethernet;
use crate::wire::packet::Packet;

/// A frame after the first pass. Written in place and never moved: copying what was written field
/// by field a moment ago stalls the processor. Its kind is a byte of its own, quicker to read than a niche.
#[repr(u8)]
pub(super) enum Sorted {
    V4(Item<[u8; 4]>),
    V6(Item<[u8; 16]>),
    Decided(Verdict),
}

/// A packet to act on, and what its frame said around it.
pub(super) struct Item<A> {
    pub(super) packet: Packet<A>,
    pub(super) hash: u64,
    /// The entry in which its flow most likely is, or where it is kept what was foreseen of it; before the second
    /// pass, the bucket.
    pub(super) likely: u32,
    /// Where the packet begins in the frame.
    pub(super) at: u16,
    pub(super) ingress: Ingress,
    /// Where on its link the frame came from.
    pub(super) origin: Origin,
}

impl<A: Copy> Item<A> {
    pub(super) fn tuple(&self) -> Tuple<A> {
        tuple_of(&self.packet)
    }
}

impl<A> Item<A> {
    /// A packet of the gateway's own has taken this one's place, right behind the Ethernet header: what sending it
    /// reads is that packet's.
    pub(super) const fn replace(&mut self, len: u16, tos: u8) {
        self.at = ethernet::HEADER_LEN as u16;
        (self.packet.len, self.packet.tos, self.packet.fragment) = (len, tos, None);
    }

    /// The packet's bytes, and what the frame has behind them.
    #[inline(always)]
    pub(super) fn ip<'f>(&self, frame: &'f mut Frame<'_>) -> &'f mut [u8] {
        frame.bytes_from_mut(self.at.into())
    }
}

pub(super) const fn tuple_of<A: Copy>(packet: &Packet<A>) -> Tuple<A> {
    Tuple {
        source: packet.source,
        destination: packet.destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
    }
}

/// From where a packet reached the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ingress {
    /// From a link, as it is.
    Link,
    /// From a link that leads to peers, as it is: from a client, or from a pod of a peer that is
    /// reached without encapsulation.
    Underlay,
    /// Out of VXLAN.
    Overlay,
}
