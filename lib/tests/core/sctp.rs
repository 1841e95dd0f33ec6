//! SCTP: associations through the gateway, chunk by chunk.

use std::net::IpAddr;

use weirgate::flow::State;
use weirgate::net::{PortId, WorkerId};
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    Body, FROM_CLIENT, Packet, TO_CLIENT, chunk, framed, from_pod, init_chunk, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, SIGNAL, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

const CLIENT_TAG: [u8; 4] = [0xc1, 0, 0, 1];
const POD_TAG: [u8; 4] = [0xac, 0, 0, 1];
const WRONG_TAG: [u8; 4] = [6, 6, 6, 6];

const DATA: u8 = 0;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// One association: the INIT as the client sent it and as the pod sees it.
struct Association {
    gateway: Gateway,
    outside: Packet,
    inside: Packet,
    node: usize,
}

fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{packet:?}");
    let seen = tunnelled(&out.bytes);
    let node = (0..2).find(|node| seen.link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&seen.inner))
}

fn to_client(gateway: &mut Gateway, node: usize, packet: &Packet) -> Packet {
    let out = gateway.send(UNDERLAY, &from_pod(node, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{packet:?}");
    let (link, ip) = unframed(&out.bytes);
    assert_eq!(link, TO_CLIENT);
    Packet::read(&ip)
}

fn inits() -> [Packet; 2] {
    [Packet::init(40_000, CLIENT_TAG), Packet::init_v6(40_000, CLIENT_TAG)]
}

impl Association {
    fn begin(world: &World, init: &Packet) -> Self {
        let mut gateway = world.gateway();
        let (node, inside) = to_pod(&mut gateway, init);
        Self { gateway, outside: init.clone(), inside, node }
    }

    /// Opens it, up to COOKIE ACK.
    fn open(world: &World, init: &Packet) -> Self {
        let mut new = Self::begin(world, init);
        new.set_up();
        assert_eq!(new.state(), State::SctpEstablished);
        new
    }

    fn set_up(&mut self) {
        self.pods(CLIENT_TAG, &init_chunk(2, POD_TAG, &chunk(7, 0, b"cookie")));
        self.clients(POD_TAG, &[chunk(COOKIE_ECHO, 0, b"cookie"), chunk(DATA, 3, b"with the cookie")].concat());
        self.pods(CLIENT_TAG, &chunk(COOKIE_ACK, 0, b""));
    }

    /// The client sends these chunks with this tag, and they reach the pod.
    fn clients(&mut self, tag: [u8; 4], chunks: &[u8]) -> State {
        let body = Body::Sctp(tag, chunks.to_vec());
        let (node, seen) = to_pod(&mut self.gateway, &Packet { body: body.clone(), ..self.outside.clone() });
        assert_eq!((node, seen), (self.node, Packet { body, ..self.inside.clone() }));
        self.state()
    }

    fn packet_of_pod(&self, tag: [u8; 4], chunks: &[u8]) -> Packet {
        Packet::new(self.inside.destination, self.inside.source, Body::Sctp(tag, chunks.to_vec()))
    }

    /// The pod sends these chunks with this tag, and they reach the client.
    fn pods(&mut self, tag: [u8; 4], chunks: &[u8]) -> State {
        let packet = self.packet_of_pod(tag, chunks);
        let seen = to_client(&mut self.gateway, self.node, &packet);
        let expected = Packet { source: self.outside.destination, destination: self.outside.source, ..packet };
        assert_eq!(seen, expected.after_a_hop());
        self.state()
    }

    /// The verdict of these chunks from the client.
    fn verdict(&mut self, tag: [u8; 4], chunks: &[u8]) -> Verdict {
        let packet = Packet { body: Body::Sctp(tag, chunks.to_vec()), ..self.outside.clone() };
        self.gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes())).verdict
    }

    fn state(&self) -> State {
        let worker = &self.gateway.worker;
        let found = if self.outside.source.is_ipv4() {
            worker.flows().v4.get(0).and_then(weirgate::flow::Entry::state)
        } else {
            worker.flows().v6.get(0).and_then(weirgate::flow::Entry::state)
        };
        found.expect("a flow")
    }
}

fn worlds() -> [World; 2] {
    [World::new().with_sctp(), World::new().with_sctp().preserving(SIGNAL)]
}

#[test]
fn rfc9260_s5_an_association_is_set_up_used_and_shut_down() {
    for (world, init) in worlds().iter().flat_map(|world| inits().map(|init| (world, init))) {
        let mut association = Association::begin(world, &init);
        let inside = &association.inside;
        let preserves = world.policies.contains_key(&SIGNAL);
        let source = if preserves { init.source } else { inside.source };
        assert_eq!(*inside, Packet { source, destination: inside.destination, ..init.clone().after_a_hop() });
        assert_eq!(preserves, inside.source == init.source);
        assert_eq!(inside.destination.port(), 38_412);
        assert_eq!(association.state(), State::SctpCookieWait);

        let cookie = init_chunk(2, POD_TAG, &chunk(7, 0, &[9; 300]));
        assert_eq!(association.pods(CLIENT_TAG, &cookie), State::SctpCookieWait);
        let echo = [chunk(COOKIE_ECHO, 0, &[9; 300]), chunk(DATA, 3, b"first")].concat();
        assert_eq!(association.clients(POD_TAG, &echo), State::SctpCookieEchoed);
        assert_eq!(
            association.pods(CLIENT_TAG, &[chunk(COOKIE_ACK, 0, b""), chunk(SACK, 0, &[0; 12])].concat()),
            State::SctpEstablished
        );
        assert_eq!(association.pods(CLIENT_TAG, &chunk(DATA, 3, &[1; 1001])), State::SctpEstablished);
        assert_eq!(association.clients(POD_TAG, &chunk(HEARTBEAT, 0, b"?")), State::SctpEstablished);
        // The chunk that ends it may follow others.
        let last = [chunk(SACK, 0, &[0; 12]), chunk(SHUTDOWN, 0, &[0; 4])].concat();
        assert_eq!(association.clients(POD_TAG, &last), State::SctpShutdownSent);
        assert_eq!(association.pods(CLIENT_TAG, &chunk(SHUTDOWN_ACK, 0, b"")), State::SctpShutdownAckSent);
        assert_eq!(association.clients(POD_TAG, &chunk(SHUTDOWN_COMPLETE, 0, b"")), State::SctpClosed);
        association.gateway.assert_counted(&[
            ("flows-created", 1),
            ("port0-in", 5),
            ("port1-out", 5),
            ("port1-in", 4),
            ("port0-out", 4),
            ("service4-flows", 1),
            ("service4-original", 5),
            ("service4-reply", 4),
        ]);
    }
}

#[test]
fn the_pods_own_shutdown_and_an_abort_end_it_too() {
    for init in inits() {
        let world = World::new().with_sctp();
        let mut association = Association::open(&world, &init);
        assert_eq!(association.pods(CLIENT_TAG, &chunk(SHUTDOWN, 0, &[0; 4])), State::SctpShutdownReceived);
        assert_eq!(association.clients(POD_TAG, &chunk(SHUTDOWN_ACK, 0, b"")), State::SctpShutdownAckSent);
        assert_eq!(association.pods(CLIENT_TAG, &chunk(SHUTDOWN_COMPLETE, 0, b"")), State::SctpClosed);

        for from_client in [true, false] {
            let mut association = Association::open(&world, &init);
            let abort = [chunk(ERROR, 0, b"why?"), chunk(ABORT, 0, b"")].concat();
            let state =
                if from_client { association.clients(POD_TAG, &abort) } else { association.pods(CLIENT_TAG, &abort) };
            assert_eq!(state, State::SctpClosed);
        }
    }
}

#[test]
fn a_pods_abort_ends_an_association_in_setup() {
    let mut association = Association::begin(&World::new().with_sctp(), &inits()[0]);
    assert_eq!(association.pods(WRONG_TAG, &chunk(ABORT, 0, b"")), State::SctpCookieWait);
    assert_eq!(association.pods(CLIENT_TAG, &chunk(ABORT, 0, b"")), State::SctpClosed);
    // RFC 9260 §8.4: without an association the pod reflects the tag that it received.
    let mut association = Association::open(&World::new().with_sctp(), &inits()[0]);
    assert_eq!(association.pods(POD_TAG, &chunk(ABORT, 1, b"")), State::SctpClosed);
    // The client may ask again with another tag, which is the one that counts.
    let mut association = Association::begin(&World::new().with_sctp(), &inits()[0]);
    assert_eq!(association.clients([0; 4], &init_chunk(1, [0xc1, 0, 0, 2], b"")), State::SctpCookieWait);
    assert_eq!(association.pods(CLIENT_TAG, &chunk(ABORT, 0, b"")), State::SctpCookieWait);
    assert_eq!(association.pods([0xc1, 0, 0, 2], &chunk(ABORT, 0, b"")), State::SctpClosed);
}

#[test]
fn a_stale_cookie_ends_the_attempt_and_the_next_one_starts() {
    let mut association = Association::begin(&World::new().with_sctp(), &inits()[0]);
    association.pods(CLIENT_TAG, &init_chunk(2, POD_TAG, &chunk(7, 0, b"cookie")));
    association.clients(POD_TAG, &chunk(COOKIE_ECHO, 0, b"cookie"));
    assert_eq!(association.pods(CLIENT_TAG, &chunk(ERROR, 0, &[0, 3, 0, 8, 0, 0, 0, 1])), State::SctpClosed);
    let (node, inside) = to_pod(&mut association.gateway, &inits()[0]);
    (association.node, association.inside) = (node, inside);
    assert_eq!(association.state(), State::SctpCookieWait);
    association.set_up();
    assert_eq!(association.gateway.counters.flows_created.get(), 2);
}

#[test]
fn rfc9260_s8_5_a_wrong_tag_changes_no_state() {
    for init in inits() {
        let mut association = Association::open(&World::new().with_sctp(), &init);
        for chunks in [
            chunk(ABORT, 0, b""),
            chunk(SHUTDOWN, 0, &[0; 4]),
            chunk(SHUTDOWN_ACK, 0, b""),
            chunk(SHUTDOWN_COMPLETE, 0, b""),
            chunk(ERROR, 0, b""),
            // With the T bit the tag has to be the other side's (RFC 9260 §8.5.1 B, C).
            chunk(ABORT, 1, b""),
            chunk(SHUTDOWN_COMPLETE, 1, b""),
            [chunk(COOKIE_ECHO, 0, b"?"), chunk(ABORT, 0, b"")].concat(),
        ] {
            assert_eq!(association.clients(WRONG_TAG, &chunks), State::SctpEstablished, "{chunks:x?}");
            assert_eq!(association.pods(WRONG_TAG, &chunks), State::SctpEstablished, "{chunks:x?}");
        }
        // Nor does one that differs from the right one in a single bit.
        for bit in 0..32 {
            let tag = (u32::from_be_bytes(CLIENT_TAG) ^ (1 << bit)).to_be_bytes();
            assert_eq!(association.pods(tag, &chunk(ABORT, 0, b"")), State::SctpEstablished, "{tag:x?}");
        }
        // The wrong side's tag changes nothing, without and with the T bit.
        assert_eq!(association.clients(CLIENT_TAG, &chunk(ABORT, 0, b"")), State::SctpEstablished);
        assert_eq!(association.clients(POD_TAG, &chunk(ABORT, 1, b"")), State::SctpEstablished);
        // The pod answers an off-path INIT, and the flow does not change.
        let forged = Packet::init(40_000, WRONG_TAG).body;
        let Body::Sctp(tag, chunks) = forged else { unreachable!() };
        assert_eq!(association.clients(tag, &chunks), State::SctpEstablished);
        assert_eq!(association.clients(POD_TAG, &chunk(SHUTDOWN, 0, &[0; 4])), State::SctpShutdownSent);
    }
}

#[test]
fn rfc9260_s5_2_2_an_association_that_restarts_continues() {
    let mut association = Association::open(&World::new().with_sctp(), &inits()[0]);
    let [new, pods] = [[0xc1, 0, 0, 2], [0xac, 0, 0, 2]];
    let Body::Sctp(tag, init) = Packet::init(40_000, new).body else { unreachable!() };
    association.clients(tag, &init);
    association.pods(new, &init_chunk(2, pods, &chunk(7, 0, b"another")));
    association.clients(pods, &chunk(COOKIE_ECHO, 0, b"another"));
    association.pods(new, &chunk(COOKIE_ACK, 0, b""));
    for _ in 0..10 {
        association.gateway.advance(Span::from_secs(200));
        assert_eq!(association.clients(pods, &chunk(DATA, 3, b"on and on")), State::SctpEstablished);
    }
}

#[test]
fn rfc9260_s5_2_4_the_tags_of_a_restarted_association_become_its_flows() {
    let [new, pods] = [[0xc1, 0, 0, 2], [0xac, 0, 0, 2]];
    let shutdown = chunk(SHUTDOWN, 0, &[0; 4]);
    for (world, init) in worlds().iter().flat_map(|world| inits().map(|init| (world, init))) {
        let Body::Sctp(tag, again) = (Packet { body: Packet::init(40_000, new).body, ..init.clone() }).body else {
            unreachable!()
        };
        let another = init_chunk(2, pods, &chunk(7, 0, b"another"));
        let begin = |by_pod: bool| {
            let mut association = Association::open(world, &init);
            match by_pod {
                true => {
                    association.pods(tag, &init_chunk(1, pods, b""));
                    association.clients(pods, &init_chunk(2, new, &chunk(7, 0, b"another")));
                }
                false => {
                    association.clients(tag, &again);
                    association.pods(new, &another);
                }
            }
            association
        };
        for by_pod in [false, true] {
            let echo = chunk(COOKIE_ECHO, 0, b"another");
            let mut association = begin(by_pod);
            let say = |association: &mut Association, is_pod: bool, chunks: &[u8]| match is_pod {
                true => association.pods(new, chunks),
                false => association.clients(pods, chunks),
            };
            // The old tags hold until the new ones are confirmed.
            assert_eq!(say(&mut association, by_pod, &echo), State::SctpEstablished);
            assert_eq!(say(&mut association, false, &shutdown), State::SctpEstablished);
            assert_eq!(say(&mut association, !by_pod, &chunk(COOKIE_ACK, 0, b"")), State::SctpEstablished);
            assert_eq!(association.clients(POD_TAG, &shutdown), State::SctpEstablished);
            assert_eq!(association.pods(CLIENT_TAG, &chunk(ABORT, 0, b"")), State::SctpEstablished);
            assert_eq!(association.clients(pods, &chunk(DATA, 3, b"data")), State::SctpEstablished);
            assert_eq!(association.clients(pods, &shutdown), State::SctpShutdownSent);
            assert_eq!(association.pods(new, &chunk(SHUTDOWN_ACK, 0, b"")), State::SctpShutdownAckSent);

            // Not confirmed by a sender that did not see the answer, nor by one end alone.
            let mut association = begin(by_pod);
            for chunks in [&echo, &chunk(COOKIE_ACK, 0, b""), &echo] {
                association.clients(WRONG_TAG, chunks);
                say(&mut association, !by_pod, chunks);
            }
            association.pods(WRONG_TAG, &chunk(COOKIE_ACK, 0, b""));
            assert_eq!(association.clients(WRONG_TAG, &chunk(ABORT, 0, b"")), State::SctpEstablished);
            assert_eq!(association.clients(pods, &chunk(ABORT, 0, b"")), State::SctpEstablished);
            assert_eq!(association.clients(POD_TAG, &shutdown), State::SctpShutdownSent);

            // Nor, once the cookie has come back, by another tag or by the end that has sent it.
            let mut association = begin(by_pod);
            say(&mut association, by_pod, &echo);
            match by_pod {
                true => association.clients(WRONG_TAG, &chunk(COOKIE_ACK, 0, b"")),
                false => association.pods(WRONG_TAG, &chunk(COOKIE_ACK, 0, b"")),
            };
            say(&mut association, by_pod, &chunk(COOKIE_ACK, 0, b""));
            assert_eq!(association.clients(pods, &chunk(ABORT, 0, b"")), State::SctpEstablished);
            assert_eq!(association.clients(POD_TAG, &shutdown), State::SctpShutdownSent);
        }
        // The answer to an off-path INIT does not belong to the association.
        let mut association = Association::open(world, &init);
        let Body::Sctp(tag, forged) = Packet::init(40_000, WRONG_TAG).body else { unreachable!() };
        association.clients(tag, &forged);
        association.pods(WRONG_TAG, &another);
        for chunks in [chunk(COOKIE_ECHO, 0, b"guessed"), chunk(ABORT, 1, b""), chunk(ABORT, 0, b"")] {
            assert_eq!(association.clients(WRONG_TAG, &chunks), State::SctpEstablished);
        }
        assert_eq!(association.clients(POD_TAG, &shutdown), State::SctpShutdownSent);
    }
}

#[test]
fn an_ended_association_is_replaced_by_the_next() {
    let mut association = Association::open(&World::new().with_sctp(), &inits()[0]);
    association.clients(POD_TAG, &chunk(ABORT, 0, b""));
    let next = Packet::init(40_000, [0xc1, 0, 0, 9]);
    let (node, inside) = to_pod(&mut association.gateway, &next);
    assert_eq!(association.state(), State::SctpCookieWait);
    assert_eq!(association.gateway.counters.flows_created.get(), 2);
    assert_eq!(association.gateway.worker.flows().v4.len(), 1);
    (association.outside, association.inside, association.node) = (next, inside, node);
    assert_eq!(association.pods([0xc1, 0, 0, 9], &chunk(ABORT, 0, b"")), State::SctpClosed);
}

#[test]
fn rfc9260_s6_10_chunks_that_may_not_be_bundled_are_refused() {
    let mut association = Association::open(&World::new().with_sctp(), &inits()[0]);
    let init = init_chunk(1, CLIENT_TAG, b"");
    let data = chunk(DATA, 3, b"data");
    for (tag, chunks) in [
        ([0; 4], [&init[..], &data].concat()),
        ([0; 4], [&data[..], &init].concat()),
        (POD_TAG, init.clone()),
        ([0; 4], init_chunk(1, [0; 4], b"")),
        ([0; 4], chunk(1, 0, &CLIENT_TAG)),
        (POD_TAG, [init_chunk(2, CLIENT_TAG, b""), data.clone()].concat()),
        (POD_TAG, init_chunk(2, [0; 4], b"")),
        (POD_TAG, chunk(2, 0, &CLIENT_TAG)),
        ([0; 4], init_chunk(2, CLIENT_TAG, b"")),
        ([0; 4], chunk(ABORT, 0, b"")),
        ([0; 4], chunk(SHUTDOWN_COMPLETE, 0, b"")),
        (POD_TAG, [chunk(SHUTDOWN_COMPLETE, 0, b""), data.clone()].concat()),
        (POD_TAG, [&data[..], &chunk(COOKIE_ECHO, 0, b"cookie")].concat()),
        (POD_TAG, [&data[..], &chunk(COOKIE_ACK, 0, b"")].concat()),
        ([0; 4], data.clone()),
    ] {
        let verdict = association.verdict(tag, &chunks);
        assert_eq!(verdict, Verdict::Drop(DropReason::SctpChunks), "{tag:?} {chunks:x?}");
    }
    // RFC 9260 §8.4: what had no tag is answered with that.
    for kind in [ABORT, SHUTDOWN_COMPLETE] {
        assert_eq!(association.verdict([0; 4], &chunk(kind, 1, b"")), Verdict::Transmit(UNDERLAY));
    }
    for (chunks, reason) in [
        (&[][..], DropReason::Truncated),
        (&[DATA, 3, 0, 9, 0, 0, 0, 0][..], DropReason::Truncated),
        (&[DATA, 3, 0, 3][..], DropReason::Malformed),
        (&[SACK, 0, 0, 4, DATA, 3, 0, 0][..], DropReason::Malformed),
    ] {
        assert_eq!(association.verdict(POD_TAG, chunks), Verdict::Drop(reason), "{chunks:x?}");
    }
    assert_eq!(association.state(), State::SctpEstablished);
}

#[test]
fn only_an_init_creates_a_flow() {
    let mut gateway = World::new().with_sctp().gateway();
    for kind in (0..=255).filter(|kind| *kind != 1) {
        let body =
            Body::Sctp(POD_TAG, if kind == 2 { init_chunk(2, CLIENT_TAG, b"") } else { chunk(kind, 0, b"data") });
        let packet = Packet { body, ..inits()[0].clone() };
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
        assert_eq!(out.verdict, Verdict::Drop(DropReason::NotSyn), "chunk {kind}");
    }
    assert!(gateway.worker.flows().v4.is_empty());
}

#[test]
fn a_wrong_checksum_stays_wrong_by_the_same_amount() {
    for (world, init) in worlds().iter().flat_map(|world| inits().map(|init| (world, init))) {
        let mut gateway = world.gateway();
        let mut bytes = init.bytes();
        let checksum = if init.source.is_ipv4() { 28 } else { 48 };
        bytes[checksum + 2] ^= 0x40;
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &bytes));
        let mut inner = tunnelled(&out.bytes).inner;
        inner[checksum + 2] ^= 0x40;
        assert_eq!(Packet::read(&inner).body, init.body);
    }
}

#[test]
fn rfc9260_s9_states_have_their_own_time() {
    let mut association = Association::begin(&World::new().with_sctp(), &inits()[0]);
    association.gateway.advance(Span::from_secs(4));
    let late = association.packet_of_pod(CLIENT_TAG, &init_chunk(2, POD_TAG, b""));
    let out = association.gateway.send(UNDERLAY, &from_pod(association.node, &late.bytes()));
    assert_eq!(out.verdict, Verdict::Drop(DropReason::NoFlow));
    let mut association = Association::open(&World::new().with_sctp(), &inits()[0]);
    association.gateway.advance(Span::from_secs(209));
    association.clients(POD_TAG, &chunk(HEARTBEAT, 0, b"?"));
    association.gateway.advance(Span::from_secs(211));
    assert_eq!(association.verdict(POD_TAG, &chunk(HEARTBEAT, 0, b"?")), Verdict::Drop(DropReason::NotSyn));
}

#[test]
fn a_pods_own_association_is_masqueraded() {
    let own: [IpAddr; 2] = [[198, 51, 100, 7].into(), "2001:db8:7::7".parse().unwrap()];
    let world = World { masquerade: own.into(), ..World::new() };
    let [v4, v6]: [(IpAddr, IpAddr); 2] =
        [(world::pod(0, 10).into(), world::CLIENT.into()), (world::pod_v6(0, 10).into(), world::CLIENT_V6.into())];
    for ((pod, outside), own) in [v4, v6].into_iter().zip(own) {
        let mut gateway = world.gateway();
        let body = Body::Sctp([0; 4], init_chunk(1, POD_TAG, b""));
        let init = Packet::new((pod, 36_412).into(), (outside, 36_412).into(), body);
        let sent = |gateway: &mut Gateway, packet: &Packet| {
            let out = gateway.send(UNDERLAY, &from_pod(0, &packet.bytes()));
            assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
            Packet::read(&unframed(&out.bytes).1)
        };
        let seen = sent(&mut gateway, &init);
        assert_eq!(seen, Packet { source: (own, seen.source.port()).into(), ..init.clone().after_a_hop() });
        let returned = |gateway: &mut Gateway, packet: &Packet| {
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
            assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY));
            Packet::read(&tunnelled(&out.bytes).inner)
        };
        for body in [
            Body::Sctp(POD_TAG, init_chunk(2, CLIENT_TAG, &chunk(7, 0, b"cookie"))),
            Body::Sctp(POD_TAG, chunk(COOKIE_ACK, 0, b"")),
            Body::Sctp(POD_TAG, chunk(DATA, 3, b"data")),
        ] {
            let answer = Packet::new(seen.destination, seen.source, body);
            let back = returned(&mut gateway, &answer);
            assert_eq!(back, Packet { destination: init.source, ..answer.after_a_hop() });
            let echo = Packet { body: Body::Sctp(CLIENT_TAG, chunk(COOKIE_ECHO, 0, b"cookie")), ..init.clone() };
            assert_eq!(sent(&mut gateway, &echo).source, seen.source);
        }
        assert_eq!(gateway.counters.flows_created.get(), 1);
    }
}

#[test]
fn ports_name_the_worker_that_owns_the_association() {
    let world = World { workers: 4, ..World::new().with_sctp() };
    let mut workers: Vec<Gateway> =
        (0..4).map(|id| world.describe(|description| Gateway::with_worker(description, WorkerId(id), 64))).collect();
    for (id, port) in [0, 1, 2, 3].into_iter().zip(40_000..) {
        let (node, inside) = to_pod(&mut workers[id], &Packet::init(port, CLIENT_TAG));
        let answer = from_pod(node, &inside.answer(0, b"cookie").bytes());
        for (other, worker) in workers.iter_mut().enumerate() {
            let out = worker.send(UNDERLAY, &answer);
            let expected = if other == id { Verdict::Transmit(UPLINK) } else { Verdict::Handover(WorkerId(id as u8)) };
            assert_eq!(out.verdict, expected);
        }
    }
}

/// An ICMP error about a packet: unreachable, with the IP header and eight bytes (or all) quoted.
fn about(packet: &Packet, from: IpAddr, to: IpAddr, whole: bool) -> Packet {
    let bytes = packet.bytes();
    let len = if whole { bytes.len() } else { 8 + if from.is_ipv4() { 20 } else { 40 } };
    let (kind, code) = if from.is_ipv4() { (3, 1) } else { (1, 3) };
    Packet::new((from, 0).into(), (to, 0).into(), Body::Icmp(kind, code, [0; 4], bytes[..len].to_vec()))
}

#[test]
fn errors_about_either_direction_are_translated_with_their_quote() {
    for init in inits() {
        for whole in [false, true] {
            let mut association = Association::open(&World::new().with_sctp(), &init);
            let from = |text: [&str; 2]| text[usize::from(init.source.is_ipv6())].parse::<IpAddr>().unwrap();
            // From a router among the nodes, about what the pod was sent.
            let request = Packet { body: Body::Sctp(POD_TAG, chunk(DATA, 3, b"data")), ..association.inside.clone() };
            let error = about(&request, from(["10.77.74.1", "fd77:0:0:74::1"]), request.source.ip(), whole);
            let seen = to_client(&mut association.gateway, association.node, &error);
            assert_eq!((seen.source.ip(), seen.destination.ip()), (init.destination.ip(), init.source.ip()));
            let quoted = quote_of(&seen);
            assert_eq!(quoted[..8], head(init.source.port(), init.destination.port(), POD_TAG));

            // From a router outside, about what the client was sent.
            let answer = Packet::new(init.destination, init.source, Body::Sctp(CLIENT_TAG, chunk(DATA, 3, b"data")));
            let error = about(&answer, from(["198.51.100.9", "2001:db8:9::9"]), init.destination.ip(), whole);
            let (_, seen) = to_pod(&mut association.gateway, &error);
            assert_eq!((seen.source.ip(), seen.destination.ip()), (request.source.ip(), request.destination.ip()));
            let quoted = quote_of(&seen);
            assert_eq!(quoted[..8], head(request.destination.port(), request.source.port(), CLIENT_TAG));
            assert_eq!(association.state(), State::SctpEstablished);
            assert_eq!(association.gateway.counters.errors_translated.get(), 2);
        }
    }
}

fn quote_of(error: &Packet) -> Vec<u8> {
    let Body::Icmp(_, _, _, quote) = &error.body else { panic!("{error:?}") };
    quote[if error.source.is_ipv4() { 20 } else { 40 }..].to_vec()
}

fn head(source: u16, destination: u16, tag: [u8; 4]) -> [u8; 8] {
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &tag].concat().try_into().unwrap()
}

#[test]
fn without_backends_the_client_gets_the_error_of_a_closed_port() {
    let mut world = World::new().with_sctp();
    world.backends[3].clear();
    for init in inits() {
        let out = world.gateway().send(UPLINK, &framed(FROM_CLIENT, &init.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
        let error = Packet::read(&unframed(&out.bytes).1);
        assert!(matches!(error.body, Body::Icmp(3, 3, ..) | Body::Icmp(1, 4, ..)), "{error:?}");
        assert_eq!(quote_of(&error), init.bytes()[if init.source.is_ipv4() { 20 } else { 40 }..]);
    }
}

#[test]
fn every_chunk_is_forwarded_or_refused_by_name() {
    for kind in 0..=255 {
        let mut association = Association::open(&World::new().with_sctp(), &inits()[0]);
        for tag in [POD_TAG, WRONG_TAG, [0; 4]] {
            for flags in [0, 1] {
                for chunks in
                    [chunk(kind, flags, &[1; 20]), [chunk(SACK, 0, &[0; 12]), chunk(kind, flags, b"")].concat()]
                {
                    match association.verdict(tag, &chunks) {
                        Verdict::Transmit(PortId(1)) | Verdict::Drop(DropReason::SctpChunks) => {}
                        other => panic!("chunk {kind}: {other:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn the_same_port_over_another_protocol_is_another_service() {
    let mut gateway = World::new().with_sctp().gateway();
    let elsewhere = Packet { destination: Packet::web(1, 0, b"").destination, ..inits()[0].clone() };
    assert_eq!(gateway.send(UPLINK, &framed(FROM_CLIENT, &elsewhere.bytes())).verdict, Verdict::Host);
    let Out { verdict, .. } = gateway.send(UPLINK, &framed(FROM_CLIENT, &inits()[0].bytes()));
    assert_eq!(verdict, Verdict::Transmit(UNDERLAY));
}
