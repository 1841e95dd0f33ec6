//! Cuts datagrams into fragments, and reassembles them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use etherparse::{IpFragOffset, Ipv4Header, Ipv6Header};
use weirgate::net::{PortId, WorkerId};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{FROM_CLIENT, Packet, TO_CLIENT, framed, from_pod, to_node, tunnelled, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

/// Cuts a packet into fragments with these many bytes of data, each a multiple of eight; the rest goes into
/// one more.
pub(crate) fn fragments(ip: &[u8], id: u16, lens: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let header = if ip[0] >> 4 == 4 { 20 } else { 40 };
    let data = &ip[header..];
    let mut fragments = vec![];
    let mut at = 0;
    let mut lens = lens.into_iter();
    while at < data.len() {
        let end = lens.next().map_or(data.len(), |len| (at + len).min(data.len()));
        fragments.push(fragment(ip, id, at, end, end < data.len()));
        at = end;
    }
    fragments
}

/// One fragment of a packet: its data from `at` up to `end`.
pub(crate) fn fragment(ip: &[u8], id: u16, at: usize, end: usize, more: bool) -> Vec<u8> {
    assert!(at.is_multiple_of(8));
    if ip[0] >> 4 == 4 {
        let (mut header, data) = Ipv4Header::from_slice(ip).unwrap();
        let data = &data[at..end];
        header.total_len = 20 + data.len() as u16;
        header.identification = id;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new((at / 8) as u16).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], data].concat()
    } else {
        let (mut header, data) = Ipv6Header::from_slice(ip).unwrap();
        let data = &data[at..end];
        let upper = header.next_header.0;
        header.next_header = 44.into();
        header.payload_length = 8 + data.len() as u16;
        let [o0, o1] = (at as u16 | u16::from(more)).to_be_bytes();
        let fragment = [upper, 0, o0, o1, 0, 0, (id >> 8) as u8, id as u8];
        [&header.to_bytes()[..], &fragment, data].concat()
    }
}

/// Reassembles fragments as a host does: every byte once, one identification and one header.
/// `None` where something is missing.
pub(crate) fn reassembled(fragments: &[Vec<u8>]) -> Option<(Vec<u8>, u32)> {
    let mut data = BTreeMap::new();
    let mut total = None;
    let mut common = None;
    for fragment in fragments {
        let (head, id, offset, more, bytes) = if fragment[0] >> 4 == 4 {
            let (header, rest) = Ipv4Header::from_slice(fragment).expect("an IPv4 header");
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert!(!header.dont_fragment);
            let bytes = &rest[..usize::from(header.total_len) - header.header_len()];
            let offset = usize::from(header.fragment_offset.value()) * 8;
            let whole = Ipv4Header {
                fragment_offset: IpFragOffset::ZERO,
                more_fragments: false,
                total_len: 0,
                options: etherparse::Ipv4Options::default(),
                header_checksum: 0,
                ..header.clone()
            };
            (whole.to_bytes().to_vec(), u32::from(header.identification), offset, header.more_fragments, bytes)
        } else {
            let (header, rest) = Ipv6Header::from_slice(fragment).expect("an IPv6 header");
            assert_eq!(header.next_header.0, 44, "a fragment header");
            let bytes = &rest[8..usize::from(header.payload_length)];
            let word = u16::from_be_bytes([rest[2], rest[3]]);
            let whole = Ipv6Header { next_header: rest[0].into(), payload_length: 0, ..header };
            let id = u32::from_be_bytes(rest[4..8].try_into().unwrap());
            (whole.to_bytes().to_vec(), id, usize::from(word & !7), word & 1 == 1, bytes)
        };
        let common = common.get_or_insert((head.clone(), id));
        assert_eq!((&common.0, common.1), (&head, id), "fragments of one datagram");
        assert!(!more || bytes.len().is_multiple_of(8));
        if !more {
            assert_eq!(total.replace(offset + bytes.len()), None, "one last fragment");
        }
        assert_eq!(data.insert(offset, bytes.to_vec()), None, "every fragment once");
    }
    let (mut ip, id) = common?;
    let mut whole = vec![];
    for (offset, bytes) in data {
        if offset != whole.len() {
            assert!(offset > whole.len(), "fragments overlap");
            return None;
        }
        whole.extend(bytes);
    }
    if total != Some(whole.len()) {
        return None;
    }
    if ip[0] >> 4 == 4 {
        let mut header = Ipv4Header::from_slice(&ip).unwrap().0;
        header.total_len = (20 + whole.len()) as u16;
        header.header_checksum = header.calc_header_checksum();
        ip = header.to_bytes().to_vec();
    } else {
        ip[4..6].copy_from_slice(&(whole.len() as u16).to_be_bytes());
    }
    Some(([ip, whole].concat(), id))
}

pub(crate) fn dropped(out: &Out) -> DropReason {
    match out.verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

pub(crate) fn all_sent(outs: &[Out], port: PortId) -> Vec<&[u8]> {
    outs.iter()
        .filter(|out| out.verdict != Verdict::Held)
        .map(|out| {
            assert_eq!(out.verdict, Verdict::Transmit(port));
            &out.bytes[..]
        })
        .collect()
}

pub(crate) fn query(client_port: u16, len: usize) -> Packet {
    let data: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
    Packet { dont_fragment: false, ..Packet::dns(client_port, &data) }
}

pub(crate) fn query_v6(client_port: u16, len: usize) -> Packet {
    let [from, to] = [(world::CLIENT_V6, client_port), (world::NODE_PORT_ADDRESS_V6, 30_053)].map(SocketAddr::from);
    Packet { dont_fragment: true, source: from, destination: to, ..query(client_port, len) }
}

/// Sends fragments from the client, each in a burst of its own. Returns what reaches the underlay.
pub(crate) fn from_client(gateway: &mut Gateway, fragments: &[Vec<u8>]) -> Vec<Out> {
    fragments.iter().flat_map(|fragment| gateway.send_burst(&[(UPLINK, framed(FROM_CLIENT, fragment))])).collect()
}

/// The packet that a pod reassembles from these, and its identification.
pub(crate) fn at_pod(outs: &[Out]) -> Option<(Packet, u32)> {
    let mut entropies = vec![];
    let inner: Vec<Vec<u8>> = all_sent(outs, UNDERLAY)
        .iter()
        .map(|frame| {
            let seen = tunnelled(frame);
            assert!((0..2).any(|node| seen.link == to_node(node)));
            entropies.push((seen.outer.source, seen.outer.destination));
            seen.inner
        })
        .collect();
    entropies.dedup();
    assert!(entropies.len() <= 1, "all fragments take one path: {entropies:?}");
    reassembled(&inner).map(|(ip, id)| (Packet::read(&ip), id))
}

pub(crate) fn at_client(outs: &[Out]) -> Option<(Packet, u32)> {
    let ips: Vec<Vec<u8>> = all_sent(outs, UPLINK)
        .iter()
        .map(|frame| {
            let (link, ip) = unframed(frame);
            assert_eq!(link, TO_CLIENT);
            ip
        })
        .collect();
    reassembled(&ips).map(|(ip, id)| (Packet::read(&ip), id))
}

pub(crate) fn node_of(pod: IpAddr) -> usize {
    (0..2)
        .find(|node| {
            [10, 11].iter().any(|n| pod == IpAddr::from(world::pod(*node, *n)) || pod == world::pod_v6(*node, *n))
        })
        .expect("a pod")
}

/// Sends a pod's fragmented reply through the overlay.
pub(crate) fn from_pods(gateway: &mut Gateway, answer: &Packet, fragments: &[Vec<u8>]) -> Vec<Out> {
    let node = node_of(answer.source.ip());
    fragments.iter().flat_map(|fragment| gateway.send_burst(&[(UNDERLAY, from_pod(node, fragment))])).collect()
}

pub(crate) fn is_pool(address: IpAddr) -> bool {
    World::new().pool.contains(&address)
}

/// Several workers; each frame comes to one worker's queue, and hand-overs are carried between them.
pub(crate) struct Cluster {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) handed: u64,
}

impl Cluster {
    pub(crate) fn new(workers: u8) -> Self {
        Self::of(&World { workers, ..World::new().with_sctp() })
    }

    pub(crate) fn of(world: &World) -> Self {
        let gateways = (0..world.workers)
            .map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 1024)))
            .collect();
        Self { gateways, handed: 0 }
    }

    pub(crate) fn send(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Vec<Out> {
        let mut waiting = VecDeque::from([(worker, port, frame.to_vec(), 0)]);
        let mut outs = vec![];
        while let Some((worker, port, frame, handovers)) = waiting.pop_front() {
            let gateway = &mut self.gateways[worker];
            let mut called = gateway.call(&[(port, frame, handovers)]);
            while gateway.worker.has_waiting_frames() {
                called.extend(gateway.call(&[]));
            }
            for (out, port, handovers) in called {
                match out.verdict {
                    Verdict::Handover(next) => {
                        self.handed += 1;
                        assert!(handovers < self.gateways.len() as u8, "handed over for ever");
                        waiting.push_back((usize::from(next.0), port, out.bytes, handovers + 1));
                    }
                    _ => outs.push(out),
                }
            }
        }
        outs
    }
}
