//! Packets in and out, as both sides see them.

use std::net::IpAddr;

use weirgate::net::PortId;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, Tunnelled, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

pub(crate) fn transmitted(out: &Out, port: PortId) -> &[u8] {
    assert_eq!(out.verdict, Verdict::Transmit(port));
    &out.bytes
}

pub(crate) fn from_client(gateway: &mut Gateway, packet: &Packet) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()))
}

pub(crate) fn dropped(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

/// A client's packet as the pod sees it, and the pod's node.
pub(crate) fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = from_client(gateway, packet);
    let Tunnelled { link, inner, .. } = tunnelled(transmitted(&out, UNDERLAY));
    let node = (0..2).find(|node| link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&inner))
}

/// A pod's reply as the client sees it.
pub(crate) fn to_client(gateway: &mut Gateway, node: usize, answer: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    let (link, ip) = unframed(transmitted(&out, UPLINK));
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

/// Opens a connection with packets from both sides: its node, and the client's last packet there.
pub(crate) fn established(gateway: &mut Gateway, request: &Packet) -> (usize, Packet) {
    let (node, inner) = to_pod(gateway, request);
    to_client(gateway, node, &inner.answer(SYN | ACK, b""));
    to_pod(gateway, &Packet { body: Body::Tcp(ACK, vec![]), ..request.clone() })
}

pub(crate) fn is_pool(address: IpAddr) -> bool {
    World::new().pool.contains(&address)
}
