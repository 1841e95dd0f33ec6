//! Conversations through a gateway of the fixture.

use std::net::IpAddr;

use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::net::PortId;
use weirgate::pipeline::process;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, Tunnelled, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{UNDERLAY, UPLINK};
use weirgate_fixture::{Gateway, Out};

pub(crate) fn transmitted(out: &Out, port: PortId) -> &[u8] {
    assert_eq!(out.verdict, Verdict::Transmit(port));
    &out.bytes
}

pub(crate) fn dropped(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

pub(crate) fn from_client(gateway: &mut Gateway, ip: &[u8]) -> Out {
    gateway.send(UPLINK, &framed(FROM_CLIENT, ip))
}

/// A client's packet as the pod sees it, and the pod's node.
pub(crate) fn ip_to_pod(gateway: &mut Gateway, ip: &[u8]) -> (usize, Vec<u8>) {
    let out = from_client(gateway, ip);
    let Tunnelled { link, inner, .. } = tunnelled(transmitted(&out, UNDERLAY));
    let node = (0..2).find(|node| link == to_node(*node)).expect("one of the nodes");
    (node, inner)
}

/// As [`ip_to_pod`], for a [`Packet`].
pub(crate) fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let (node, inner) = ip_to_pod(gateway, &packet.bytes());
    (node, Packet::read(&inner))
}

/// A pod's reply as the client sees it.
pub(crate) fn to_client(gateway: &mut Gateway, node: usize, answer: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    let (link, ip) = unframed(transmitted(&out, UPLINK));
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

/// Sends the first packets of a conversation in both directions: the node, and the client's packet as
/// the pod sees it.
pub(crate) fn converse(gateway: &mut Gateway, request: &Packet) -> (usize, Packet) {
    let (node, inner) = to_pod(gateway, request);
    to_client(gateway, node, &inner.answer(SYN | ACK, b""));
    if let Body::Tcp(..) = request.body {
        let ack = Packet { body: Body::Tcp(ACK, vec![]), ..request.clone() };
        to_pod(gateway, &ack);
    }
    (node, inner)
}

/// An ICMP error about `about`, as sent by `reporter` to the packet's sender.
pub(crate) fn error_about(about: &Packet, reporter: IpAddr, (kind, code): (u8, u8), rest: [u8; 4]) -> Packet {
    error_quoting(&about.bytes(), (about.source.ip(), reporter), (kind, code), rest)
}

/// An ICMP error to `destination` from `reporter` that quotes these bytes.
pub(crate) fn error_quoting(
    quote: &[u8],
    (destination, reporter): (IpAddr, IpAddr),
    (kind, code): (u8, u8),
    rest: [u8; 4],
) -> Packet {
    Packet::new((reporter, 0).into(), (destination, 0).into(), Body::Icmp(kind, code, rest, quote.to_vec()))
}

/// Computes the header checksum of an IPv4 packet again.
pub(crate) fn seal_v4(ip: &mut [u8]) {
    ip[10..12].fill(0);
    let header_len = usize::from(ip[0] & 0x0f) * 4;
    let mut sum: u32 = ip[..header_len].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Puts options into the header of an IPv4 packet that has none; their length is a multiple of four.
pub(crate) fn with_options(ip: &[u8], options: &[u8]) -> Vec<u8> {
    let mut ip = [&ip[..20], options, &ip[20..]].concat();
    ip[0] += (options.len() / 4) as u8;
    let len = (ip.len() as u16).to_be_bytes();
    ip[2..4].copy_from_slice(&len);
    seal_v4(&mut ip);
    ip
}

/// Puts extension headers, of which the first is of kind `first` and the last names the upper layer,
/// into an IPv6 packet that has none.
pub(crate) fn with_extensions(ip: &[u8], first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut ip = [&ip[..40], extensions, &ip[40..]].concat();
    ip[6] = first;
    let len = ((ip.len() - 40) as u16).to_be_bytes();
    ip[4..6].copy_from_slice(&len);
    ip
}

/// One frame in, whatever its size.
pub(crate) fn send_large(gateway: &mut Gateway, port: PortId, bytes: &[u8]) -> Out {
    let mut buffer = vec![0; HEADROOM_MAX + bytes.len()];
    buffer[HEADROOM_MAX..].copy_from_slice(bytes);
    let mut frames = [Frame::new(&mut buffer, HEADROOM_MAX, bytes.len(), port).expect("the buffer is large enough")];
    let (snapshot, now) = (gateway.snapshot(), gateway.now);
    let mut burst = Burst::new(&mut frames, &mut []);
    process(&mut gateway.worker, &snapshot, now, &mut burst);
    assert_eq!(burst.emitted, 0);
    let [frame] = &frames;
    Out { verdict: frame.verdict().expect("a verdict"), bytes: frame.bytes().to_vec() }
}
