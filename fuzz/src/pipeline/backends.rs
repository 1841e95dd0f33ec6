//! What may be sent to pods under the snapshot in force, as far as frames tell it.

use std::net::IpAddr;

use weirgate::flow::{Address, State, Table, Tables};
use weirgate::net::{Endpoint, Protocol};
use weirgate::snapshot::{Backend, Encapsulation};
use weirgate::wire::packet::{Ip, Packet, Transport};

use super::frames;
use super::world::{Moment, World};

fn end<A: Address>(address: A, port: [u8; 2]) -> Endpoint {
    Endpoint { address: address.to_ip(), port: u16::from_be_bytes(port) }
}

/// A packet with ports.
struct Seen {
    protocol: Protocol,
    is_syn: bool,
    source: Endpoint,
    destination: Endpoint,
}

fn seen<A: Address>(packet: &Packet<A>) -> Option<Seen> {
    if !matches!(packet.transport, Transport::Tcp | Transport::Udp | Transport::Sctp) {
        return None;
    }
    let source = end(packet.source, packet.source_port);
    let destination = end(packet.destination, packet.destination_port);
    let is_syn = packet.protocol == Protocol::TCP && State::first(packet.protocol, packet.flags).is_some();
    Some(Seen { protocol: packet.protocol, is_syn, source, destination })
}

/// A frame's packet, or the one in its VXLAN, and the underlay address that this was sent to.
fn read(frame: &[u8]) -> Option<(Seen, Option<IpAddr>)> {
    let (packet, outer) = frames::innermost(frame)?;
    let seen = match packet {
        Ip::V4(packet) => seen(&packet),
        Ip::V6(packet) => seen(&packet),
    };
    Some((seen?, outer))
}

/// What a worker has to say of a frame that it was given alone.
pub(crate) struct Alone<'a> {
    pub(crate) flows: &'a Tables<'a>,
    /// Whether a flow has begun.
    pub(crate) has_begun: bool,
}

/// Asserts that what a client or a pod has sent to a service has gone to one of its backends, at the node that has its
/// address, from an address of the gateway's or the sender's own. Only what belongs to an open TCP connection may go
/// to a backend that is gone.
///
/// - `alone`: where no other frame was given with this one.
pub(crate) fn check(moment: &Moment, received: &[u8], sent: &[u8], alone: Option<&Alone<'_>>) {
    let (Some((asked, _)), Some((at_pod, outer))) = (read(received), read(sent)) else { return };
    let may_listen = World::get().may_listen(asked.protocol, asked.destination);
    // Errors are of another protocol, and a pod's packet to the outside keeps its destination.
    if asked.protocol != at_pod.protocol || !may_listen || at_pod.destination == asked.destination {
        return;
    }
    let (client, backend) = (asked.source, at_pod.destination);
    let node = moment.peers.iter().find(|peer| peer.subnet.contains(backend.address)).expect("a node with the address");
    let is_tunnelled = matches!(node.encapsulation, Encapsulation::Vxlan { .. });
    assert_eq!(outer, is_tunnelled.then_some(node.public), "at another node than that of {backend}");
    let is_own = moment.subnets.iter().any(|subnet| subnet.contains(at_pod.source.address));
    assert!(is_own || at_pod.source == client, "{} stands for {client}", at_pod.source);
    let listens = |(protocol, frontends, _): &&(Protocol, Vec<Endpoint>, Vec<Backend>)| {
        *protocol == asked.protocol && frontends.contains(&asked.destination)
    };
    let backends = moment.services.iter().find(listens).map_or(&[][..], |(_, _, backends)| backends);
    let found = backends.iter().find(|it| it.endpoint == backend);
    if let (Some(found), Some(alone)) = (found, alone) {
        assert!(found.weight > 0 || !alone.has_begun, "{client} gets {backend}, which takes no new flows");
    }
    if found.is_some() {
        return;
    }
    assert_eq!(asked.protocol, Protocol::TCP, "{client} follows {backend}, which is gone");
    if let Some(alone) = alone {
        assert!(!alone.has_begun, "{client} gets {backend}, which is gone");
        let is_open = is_open(&alone.flows.v4, &asked, backend) || is_open(&alone.flows.v6, &asked, backend);
        assert!(is_open || !asked.is_syn, "a SYN of {client} follows {backend}, which is gone");
    }
}

/// Whether there is an assured connection of this packet's with this backend.
fn is_open<A: Address>(table: &Table<'_, A>, asked: &Seen, backend: Endpoint) -> bool {
    table.iter().any(|entry| {
        let original = &entry.original;
        entry.is_assured()
            && Protocol(entry.protocol) == asked.protocol
            && end(original.source, original.source_port) == asked.source
            && end(original.destination, original.destination_port) == asked.destination
            && entry.backend() == Some(backend)
    })
}
