//! Blind attackers: whoever knows a connection's addresses and ports, but does not see it, cannot change its state.

use weirgate::flow::State::{
    self, TcpCloseWaitOriginal, TcpCloseWaitReply, TcpEstablished, TcpFinWaitOriginal, TcpFinWaitReply, TcpLastAck,
    TcpReset, TcpResetOriginal, TcpResetReply, TcpSynReceived, TcpTimeWait,
};
use weirgate::flow::{Address, Entry, Table};
use weirgate::net::WorkerId;
use weirgate::pipeline::Worker;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FIN, FROM_CLIENT, Packet, RST, SYN, chunk, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{SIGNAL, UNDERLAY, UPLINK, WEB, World};
use weirgate_fixture::{Gateway, leak_aligned, worker_config};

/// The sequence number of the pod's SYN.
const POD: u32 = 0xffff_fff0;

/// A connection as its client and its pod see it.
struct Connection {
    client: Packet,
    node: usize,
    pod: Packet,
}

impl Connection {
    /// Opens it, up to the client's first SYN.
    fn begin(gateway: &mut Gateway, request: &Packet) -> Self {
        let (node, inner) = to_pod(gateway, request);
        Self { client: request.clone(), node, pod: inner.answer(ACK, b"") }
    }

    fn client(&self, flags: u8, numbers: [u32; 2], data: &[u8]) -> Packet {
        Packet { numbers, body: Body::Tcp(flags, data.to_vec()), ..self.client.clone() }
    }

    /// Opens it, up to the end of the handshake.
    fn open(gateway: &mut Gateway, request: &Packet) -> Self {
        let connection = Self::begin(gateway, request);
        connection.to_client(gateway, SYN | ACK, [POD, 1001], b"");
        connection.to_pod(gateway, ACK, [1001, POD + 1]);
        assert_eq!(state(gateway), (TcpEstablished, true));
        connection
    }

    /// A segment from the client, or with its address, that the pod receives.
    fn to_pod(&self, gateway: &mut Gateway, flags: u8, numbers: [u32; 2]) {
        let (node, heard) = to_pod(gateway, &self.client(flags, numbers, b""));
        assert_eq!((node, heard.source, heard.destination), (self.node, self.pod.destination, self.pod.source));
        assert_eq!(heard.numbers, numbers);
    }

    /// A segment from the pod that the client receives.
    fn to_client(&self, gateway: &mut Gateway, flags: u8, numbers: [u32; 2], data: &[u8]) {
        let answer = Packet { numbers, body: Body::Tcp(flags, data.to_vec()), ..self.pod.clone() };
        let out = gateway.send(UNDERLAY, &from_pod(self.node, &answer.bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK), "{answer:?}");
        let heard = Packet::read(&unframed(&out.bytes).1);
        assert_eq!((heard.source, heard.destination), (self.client.destination, self.client.source));
    }
}

/// A client's packet as the pod sees it, and the pod's node.
fn to_pod(gateway: &mut Gateway, packet: &Packet) -> (usize, Packet) {
    let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
    assert_eq!(out.verdict, Verdict::Transmit(UNDERLAY), "{packet:?}");
    let seen = tunnelled(&out.bytes);
    let node = (0..2).find(|node| seen.link == to_node(*node)).expect("one of the nodes");
    (node, Packet::read(&seen.inner))
}

/// The state of the only flow, whether it is assured, and the seconds that remain of its idle timeout.
fn look(gateway: &Gateway) -> (State, bool, u64) {
    fn only<A: Address>(gateway: &Gateway, flows: &Table<'_, A>) -> Option<(State, bool, u64)> {
        assert!(flows.len() <= 1);
        let tell = |entry: &Entry<A>| {
            let left = entry.idle_left(gateway.snapshot().idle_ticks(), gateway.now);
            (entry.state().expect("a state"), entry.is_assured(), (left.0 + 500_000_000) / 1_000_000_000)
        };
        flows.iter().next().map(tell)
    }
    let (v4, v6) = (only(gateway, &gateway.worker.flows().v4), only(gateway, &gateway.worker.flows().v6));
    v4.xor(v6).expect("one flow")
}

fn state(gateway: &Gateway) -> (State, bool) {
    let (state, assured, _) = look(gateway);
    (state, assured)
}

/// Runs with requests over both families in every world.
fn everywhere(mut check: impl FnMut(&World, &Packet)) {
    for world in [World::new(), World::new().preserving(WEB)] {
        for request in [Packet::web(7, SYN, b""), Packet::web_v6(7, SYN, b"")] {
            check(&world, &request);
        }
    }
}

#[test]
fn rfc9293_s3_10_7_4_only_the_expected_acknowledgement_comes_from_the_client() {
    everywhere(|world, request| {
        for (ahead, flags, expected) in [
            (0, ACK, TcpEstablished),
            (1460, ACK, TcpEstablished),
            (65_535, ACK, TcpEstablished),
            (0, FIN | ACK, TcpFinWaitOriginal),
        ] {
            let mut gateway = world.gateway();
            let connection = Connection::begin(&mut gateway, request);
            // The sequence numbers wrap during the connection.
            connection.to_client(&mut gateway, SYN | ACK, [POD, 1001], b"");
            gateway.advance(Span::from_secs(20));
            let before = look(&gateway);
            assert_eq!(before, (TcpSynReceived, false, 40));
            for blind in [POD, 0xffff_0000, 65_521, 70_000, 1 << 31] {
                for flags in [ACK, FIN | ACK] {
                    connection.to_pod(&mut gateway, flags, [1001, blind]);
                    assert_eq!(look(&gateway), before, "{blind:#x} changes nothing");
                }
            }
            connection.to_pod(&mut gateway, flags, [1001, (POD + 1).wrapping_add(ahead)]);
            assert_eq!(state(&gateway), (expected, true), "{ahead} further");
        }
    });
}

#[test]
fn a_pods_answer_to_a_forged_acknowledgement_does_not_confirm_it() {
    let mut gateway = World::new().gateway();
    let connection = Connection::begin(&mut gateway, &Packet::web(7, SYN, b""));
    connection.to_client(&mut gateway, SYN | ACK, [POD, 1001], b"");
    for blind in [POD, 77_777, 1 << 30] {
        connection.to_pod(&mut gateway, ACK, [1001, blind]);
        // The pod answers with the number after its SYN (RFC 9293 §3.10.7.4).
        connection.to_client(&mut gateway, ACK, [POD + 1, 1001], b"");
        connection.to_pod(&mut gateway, ACK, [1001, blind]);
        assert_eq!(state(&gateway), (TcpSynReceived, false));
    }
}

#[test]
fn of_repeated_syn_acks_with_different_numbers_the_last_one_counts() {
    everywhere(|world, request| {
        for again in [5010, 900_000] {
            let mut gateway = world.gateway();
            let connection = Connection::begin(&mut gateway, request);
            connection.to_client(&mut gateway, SYN | ACK, [5000, 1001], b"");
            connection.to_client(&mut gateway, SYN | ACK, [5000, 1001], b"");
            // The pod's server has restarted, and the client's SYN was retransmitted.
            to_pod(&mut gateway, request);
            connection.to_client(&mut gateway, SYN | ACK, [again, 1001], b"");
            connection.to_pod(&mut gateway, ACK, [1001, 5001]);
            assert_eq!(state(&gateway), (TcpSynReceived, false));
            connection.to_pod(&mut gateway, ACK, [1001, again + 1]);
            assert_eq!(state(&gateway), (TcpEstablished, true));
        }
    });
}

#[test]
fn a_syn_ack_from_another_side_than_the_pods_sets_no_expected_acknowledgement() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::begin(&mut gateway, request);
        connection.to_client(&mut gateway, SYN | ACK, [5000, 1001], b"");
        for (flags, number) in [(SYN | ACK, 900_000), (ACK, 900_001)] {
            let forged = Packet { numbers: [number, 1001], body: Body::Tcp(flags, vec![]), ..connection.pod.clone() };
            let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &forged.bytes()));
            assert_eq!(out.verdict, Verdict::Drop(DropReason::SpoofedSource));
            connection.to_pod(&mut gateway, ACK, [1001, 900_001]);
            assert_eq!(state(&gateway), (TcpSynReceived, false));
        }
        connection.to_pod(&mut gateway, ACK, [1001, 5001]);
        assert_eq!(state(&gateway), (TcpEstablished, true));
    });
}

#[test]
fn the_pods_next_segment_decides_which_of_two_numbers_counts() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::begin(&mut gateway, request);
        connection.to_client(&mut gateway, SYN | ACK, [5000, 1001], b"");
        // Either of two SYN cookies is valid.
        connection.to_client(&mut gateway, SYN | ACK, [900_000, 1001], b"");
        connection.to_pod(&mut gateway, ACK, [1001, 5001]);
        assert_eq!(state(&gateway), (TcpSynReceived, false));
        connection.to_client(&mut gateway, ACK, [5001, 1001], b"data");
        connection.to_client(&mut gateway, ACK, [5005, 1001], b"and more");
        connection.to_pod(&mut gateway, ACK, [1001, 5005]);
        assert_eq!(state(&gateway), (TcpEstablished, true));
    });
}

#[test]
fn data_may_come_with_both_syns() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let request = Packet { body: Body::Tcp(SYN, b"GET".to_vec()), ..request.clone() };
        let connection = Connection::begin(&mut gateway, &request);
        connection.to_client(&mut gateway, SYN | ACK, [POD, 1004], b"HTTP");
        // And more data, before the client's next segment.
        connection.to_client(&mut gateway, ACK, [POD + 5, 1004], &[0; 1400]);
        connection.to_client(&mut gateway, ACK, [(POD + 5).wrapping_add(1400), 1004], &[0; 1400]);
        connection.to_pod(&mut gateway, ACK, [1004, POD + 5]);
        assert_eq!(state(&gateway), (TcpEstablished, true));
    });
}

#[test]
fn in_a_simultaneous_open_the_other_ends_syn_is_acknowledged() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::begin(&mut gateway, request);
        connection.to_client(&mut gateway, SYN, [POD, 0], b"");
        connection.to_pod(&mut gateway, SYN | ACK, [1000, POD + 1]);
        connection.to_pod(&mut gateway, ACK, [1001, 70_000]);
        assert_eq!(state(&gateway), (TcpSynReceived, false));
        connection.to_client(&mut gateway, SYN | ACK, [POD, 1001], b"");
        connection.to_pod(&mut gateway, ACK, [1001, POD + 1]);
        assert_eq!(state(&gateway), (TcpEstablished, true));
    });
}

#[test]
fn a_flow_adopted_before_the_acknowledgement_still_expects_it() {
    everywhere(|world, request| {
        let config = world.describe(|description| worker_config(description, WorkerId(0), 64));
        let memory = leak_aligned(Worker::memory_bytes(&config));
        let (base, len) = (memory.as_mut_ptr(), memory.len());
        let mut first = world.describe(|description| Gateway::with_memory(description, &config, memory));
        let connection = Connection::begin(&mut first, request);
        connection.to_client(&mut first, SYN | ACK, [POD, 1001], b"");
        // SAFETY: nothing uses the first gateway after this, so this is the only live reference.
        let memory = unsafe { std::slice::from_raw_parts_mut(base, len) };
        let (mut second, adopted) = world.describe(|description| Gateway::adopt(description, &config, memory));
        assert_eq!((adopted.flows, adopted.damaged), (1, 0));
        connection.to_pod(&mut second, ACK, [1001, 70_000]);
        assert_eq!(state(&second), (TcpSynReceived, false));
        connection.to_pod(&mut second, ACK, [1001, POD + 1]);
        assert_eq!(state(&second), (TcpEstablished, true));
    });
}

#[test]
fn rfc5961_s3_a_blind_reset_and_a_syn_after_it_break_no_connection() {
    everywhere(|world, request| {
        // The segments before the blind reset, and the state that they lead to.
        for (before, was) in
            [(None, TcpEstablished), (Some(FIN | ACK), TcpFinWaitReply), (Some(ACK), TcpCloseWaitReply)]
        {
            for pod_speaks in [true, false] {
                let mut gateway = world.gateway();
                let connection = Connection::open(&mut gateway, request);
                if let Some(flags) = before {
                    connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1001], b"");
                    if flags == ACK {
                        connection.to_pod(&mut gateway, ACK, [1001, POD + 2]);
                    }
                }
                assert_eq!(state(&gateway), (was, true));
                gateway.advance(Span::from_secs(20));
                connection.to_pod(&mut gateway, RST, [77_777, 0]);
                assert_eq!(look(&gateway), (TcpReset, true, 240));
                gateway.advance(Span::from_secs(40));
                // The SYN belongs to no connection: the pod challenges it (RFC 5961 §4).
                connection.to_pod(&mut gateway, SYN, [88_888, 0]);
                connection.to_pod(&mut gateway, RST | ACK, [99_999, 88_888]);
                assert_eq!(look(&gateway), (TcpReset, true, 200));
                // One side may not have seen the reset yet; traffic from both shows that neither accepted it.
                for (pod_speaks, expected) in [
                    (pod_speaks, (if pod_speaks { TcpResetReply } else { TcpResetOriginal }, true, 240)),
                    (!pod_speaks, (TcpEstablished, true, 86_400)),
                ] {
                    for _ in 0..2 {
                        match pod_speaks {
                            true => connection.to_client(&mut gateway, ACK, [POD + 2, 1001], b"challenge"),
                            false => connection.to_pod(&mut gateway, ACK, [1001, POD + 2]),
                        }
                        assert_eq!(look(&gateway), expected);
                    }
                }
                assert_eq!(gateway.counters.flows_created.get(), 1);
            }
        }
    });
}

#[test]
fn segments_in_flight_at_a_reset_do_not_revive_the_connection() {
    everywhere(|world, request| {
        for from_pod in [true, false] {
            let mut gateway = world.gateway();
            let connection = Connection::open(&mut gateway, request);
            match from_pod {
                true => connection.to_client(&mut gateway, RST, [POD + 1, 1001], b""),
                false => connection.to_pod(&mut gateway, RST, [1001, 0]),
            }
            // The other side's data and its FIN, to which there is no answer any more.
            for flags in [ACK, FIN | ACK, ACK] {
                match from_pod {
                    true => connection.to_pod(&mut gateway, flags, [1001, POD + 1]),
                    false => connection.to_client(&mut gateway, flags, [POD + 1, 1001], b""),
                }
                assert_eq!(look(&gateway), (if from_pod { TcpResetOriginal } else { TcpResetReply }, true, 240));
            }
            gateway.advance(Span::from_secs(241));
            gateway.worker.age(&gateway.snapshot(), gateway.now, 4096);
            assert_eq!(gateway.worker.flows().len(), 0);
        }
    });
}

#[test]
fn rfc7857_s2_1_blind_fins_do_not_shorten_the_idle_timeout_below_the_minimum() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::open(&mut gateway, request);
        for turn in 0..10 {
            for number in [77_777, 88_888] {
                connection.to_pod(&mut gateway, FIN | ACK, [number, 5]);
                // The pod answers with the number that it expects, as it does to any wrong number.
                connection.to_client(&mut gateway, ACK, [POD + 1, 1001], b"");
                connection.to_client(&mut gateway, ACK, [POD + 1, 1001], b"data");
            }
            connection.to_pod(&mut gateway, ACK, [1001, POD + 5]);
            assert_eq!(look(&gateway), (TcpFinWaitOriginal, true, 7440), "{turn}");
            // Two keep-alives.
            gateway.advance(Span::from_secs(7200));
            connection.to_pod(&mut gateway, ACK, [1000, POD + 5]);
            connection.to_client(&mut gateway, ACK, [POD + 5, 1001], b"");
        }
        // Now the genuine FIN.
        connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 5]);
        connection.to_client(&mut gateway, ACK, [POD + 5, 1002], b"");
        assert_eq!(look(&gateway), (TcpCloseWaitOriginal, true, 3600));
    });
}

#[test]
fn blind_fins_and_a_syn_behind_them_move_no_connection() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::open(&mut gateway, request);
        for number in [77_777, 77_777, 99_999] {
            connection.to_pod(&mut gateway, FIN | ACK, [number, 5]);
        }
        connection.to_pod(&mut gateway, SYN, [88_888, 0]);
        connection.to_pod(&mut gateway, ACK, [88_889, 5]);
        connection.to_pod(&mut gateway, SYN, [88_888, 0]);
        connection.to_client(&mut gateway, ACK, [POD + 1, 1001], b"data");
        connection.to_pod(&mut gateway, ACK, [1001, POD + 5]);
        assert_eq!(look(&gateway), (TcpFinWaitOriginal, true, 7440));
        let counters = gateway.counters;
        assert_eq!((counters.flows_created.get(), counters.flows_reopened.get()), (1, 0));
    });
}

#[test]
fn a_half_closed_connection_may_idle_for_an_hour_whatever_is_retransmitted() {
    everywhere(|world, request| {
        for pod_closes in [true, false] {
            let mut gateway = world.gateway();
            let connection = Connection::open(&mut gateway, request);
            let close = |gateway: &mut Gateway| match pod_closes {
                true => connection.to_client(gateway, FIN | ACK, [POD + 1, 1001], b"bye"),
                false => connection.to_pod(gateway, FIN | ACK, [1001, POD + 1]),
            };
            let go_on = |gateway: &mut Gateway| match pod_closes {
                true => connection.to_pod(gateway, ACK, [1001, POD + 5]),
                false => connection.to_client(gateway, ACK, [POD + 1, 1002], b""),
            };
            close(&mut gateway);
            // Sent before the FIN was seen.
            match pod_closes {
                true => connection.to_pod(&mut gateway, ACK, [1001, POD + 1]),
                false => connection.to_client(&mut gateway, ACK, [POD + 1, 1001], b""),
            }
            close(&mut gateway);
            assert_eq!(look(&gateway), (if pod_closes { TcpFinWaitReply } else { TcpFinWaitOriginal }, true, 7440));
            let expected = (if pod_closes { TcpCloseWaitReply } else { TcpCloseWaitOriginal }, true, 3600);
            for _ in 0..3 {
                go_on(&mut gateway);
                assert_eq!(look(&gateway), expected);
                gateway.advance(Span::from_secs(3599));
                gateway.worker.age(&gateway.snapshot(), gateway.now, 4096);
                close(&mut gateway);
                assert_eq!(look(&gateway), expected);
            }
            match pod_closes {
                true => connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 5]),
                false => connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1002], b""),
            }
            assert_eq!(look(&gateway), (TcpLastAck, true, 30));
        }
    });
}

#[test]
fn rfc7857_s2_1_a_blind_fin_ends_no_connection_that_is_half_closed() {
    everywhere(|world, request| {
        for acknowledged in [false, true] {
            let mut gateway = world.gateway();
            let connection = Connection::open(&mut gateway, request);
            connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1001], b"bye");
            if acknowledged {
                connection.to_pod(&mut gateway, ACK, [1001, POD + 5]);
            }
            let expected = if acknowledged { (TcpCloseWaitReply, 3600) } else { (TcpFinWaitReply, 7440) };
            for number in [77_777, 1001, 88_888] {
                for acknowledgement in [5, POD + 4, POD + 6, (POD + 5) ^ 1 << 31] {
                    connection.to_pod(&mut gateway, FIN | ACK, [number, acknowledgement]);
                    assert_eq!(look(&gateway), (expected.0, true, expected.1), "{number} {acknowledgement:#x}");
                }
            }
            // After both FINs this SYN would reopen the connection.
            connection.to_pod(&mut gateway, SYN, [88_888, 0]);
            connection.to_client(&mut gateway, ACK, [POD + 5, 1001], b"");
            // The client continues, and closes with data; the segment is lost once behind the gateway.
            connection.to_pod(&mut gateway, ACK, [1001, POD + 5]);
            assert_eq!(look(&gateway), (TcpCloseWaitReply, true, 3600));
            for _ in 0..2 {
                connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 5]);
                assert_eq!(look(&gateway), (TcpLastAck, true, 30));
            }
            connection.to_client(&mut gateway, ACK, [POD + 5, 1002], b"");
            assert_eq!(look(&gateway), (TcpTimeWait, true, 120));
            assert_eq!(gateway.counters.flows_created.get(), 1);
        }
    });
}

#[test]
fn rfc9293_s3_6_a_pod_that_has_seen_the_clients_fin_closes_the_connection() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::open(&mut gateway, request);
        connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 1]);
        // The pod's last data and its FIN in one segment, which acknowledges the client's FIN.
        connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1002], b"bye");
        assert_eq!(look(&gateway), (TcpLastAck, true, 30));
        connection.to_pod(&mut gateway, ACK, [1002, POD + 5]);
        assert_eq!(look(&gateway), (TcpTimeWait, true, 120));
    });
}

#[test]
fn rfc9293_s3_6_both_ends_that_close_at_once_are_half_closed_for_an_hour_at_most() {
    everywhere(|world, request| {
        for pod_is_first in [false, true] {
            let mut gateway = world.gateway();
            let connection = Connection::open(&mut gateway, request);
            // Neither FIN has seen the other.
            for is_pod in [pod_is_first, !pod_is_first] {
                match is_pod {
                    true => connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1001], b""),
                    false => connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 1]),
                }
            }
            connection.to_pod(&mut gateway, ACK, [1002, POD + 2]);
            connection.to_client(&mut gateway, ACK, [POD + 2, 1002], b"");
            let expected = if pod_is_first { TcpCloseWaitReply } else { TcpCloseWaitOriginal };
            assert_eq!(look(&gateway), (expected, true, 3600));
            // One of the acknowledgements was lost, and the FIN comes again.
            match pod_is_first {
                true => connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 2]),
                false => connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1002], b""),
            }
            assert_eq!(look(&gateway), (TcpLastAck, true, 30));
        }
    });
}

#[test]
fn a_server_that_closes_before_its_client_is_assured_is_closed_like_any_other() {
    everywhere(|world, request| {
        let begin = || {
            let mut gateway = world.gateway();
            let connection = Connection::begin(&mut gateway, request);
            connection.to_client(&mut gateway, SYN | ACK, [POD, 1001], b"");
            // The server answers a SYN that carries data at once (RFC 7413 §4.2).
            connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1001], b"bye");
            (gateway, connection)
        };
        let (mut gateway, connection) = begin();
        for blind in [POD + 6, POD - 65_531, 70_000] {
            for flags in [ACK, FIN | ACK] {
                connection.to_pod(&mut gateway, flags, [1001, blind]);
                assert_eq!(state(&gateway), (TcpFinWaitReply, false), "{blind:#x}");
            }
        }
        // The client has received the server's SYN, but not its FIN.
        connection.to_client(&mut gateway, SYN | ACK, [POD, 1001], b"");
        connection.to_pod(&mut gateway, ACK, [1001, POD + 1]);
        assert_eq!(look(&gateway), (TcpFinWaitReply, true, 7440));
        connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1001], b"bye");
        connection.to_pod(&mut gateway, ACK, [1001, POD + 5]);
        assert_eq!(look(&gateway), (TcpCloseWaitReply, true, 3600));
        connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 5]);
        assert_eq!(look(&gateway), (TcpLastAck, true, 30));

        let (mut gateway, connection) = begin();
        connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 5]);
        assert_eq!(look(&gateway), (TcpLastAck, true, 30));
    });
}

#[test]
fn after_a_genuine_reset_the_next_connection_takes_the_same_path() {
    everywhere(|world, request| {
        for from_pod in [true, false] {
            let mut gateway = world.gateway();
            let first = Connection::open(&mut gateway, request);
            match from_pod {
                true => first.to_client(&mut gateway, RST, [POD + 1, 1001], b""),
                false => first.to_pod(&mut gateway, RST, [1001, 0]),
            }
            // At once, from the same port.
            let second = Connection::begin(&mut gateway, &Packet { numbers: [555_555, 0], ..request.clone() });
            assert_eq!((second.node, &second.pod.source), (first.node, &first.pod.source));
            second.to_client(&mut gateway, SYN | ACK, [666_666, 555_556], b"");
            second.to_pod(&mut gateway, ACK, [555_556, 666_667]);
            assert_eq!(look(&gateway), (TcpEstablished, true, 86_400));
            second.to_client(&mut gateway, ACK, [666_667, 555_556], b"data");
            assert_eq!(gateway.counters.flows_created.get(), 1);
        }
    });
}

#[test]
fn a_reset_changes_nothing_of_what_is_half_open_or_closed_on_both_sides() {
    everywhere(|world, request| {
        let mut gateway = world.gateway();
        let connection = Connection::begin(&mut gateway, request);
        let check = |gateway: &mut Gateway, expected: State| {
            let before = look(gateway);
            assert_eq!(before.0, expected);
            for flags in [RST, RST | ACK] {
                connection.to_pod(gateway, flags, [77_777, 5]);
                connection.to_client(gateway, flags, [77_777, 5], b"");
            }
            assert_eq!(look(gateway), before);
        };
        connection.to_client(&mut gateway, SYN | ACK, [POD, 1001], b"");
        check(&mut gateway, TcpSynReceived);
        connection.to_pod(&mut gateway, ACK, [1001, POD + 1]);
        connection.to_pod(&mut gateway, FIN | ACK, [1001, POD + 1]);
        connection.to_client(&mut gateway, FIN | ACK, [POD + 1, 1002], b"");
        check(&mut gateway, TcpLastAck);
        connection.to_pod(&mut gateway, ACK, [1002, POD + 2]);
        check(&mut gateway, TcpTimeWait);
    });
}

#[test]
fn rfc9260_s8_5_a_blind_shutdown_ends_no_association() {
    const COOKIE_ECHO: u8 = 10;
    const COOKIE_ACK: u8 = 11;
    const SHUTDOWN: u8 = 7;
    // With every chunk that ends an association.
    const ENDS: [(&str, u8); 5] =
        [("SHUTDOWN", SHUTDOWN), ("SHUTDOWN ACK", 8), ("ABORT", 6), ("ERROR", 9), ("SHUTDOWN COMPLETE", 14)];
    const POD_TAG: [u8; 4] = [0xac, 0, 0, 1];
    for world in [World::new().with_sctp(), World::new().with_sctp().preserving(SIGNAL)] {
        for init in [Packet::init(40_000, [0xc1, 0, 0, 1]), Packet::init_v6(40_000, [0xc1, 0, 0, 1])] {
            let mut gateway = world.gateway();
            let (node, inner) = to_pod(&mut gateway, &init);
            let says =
                |tag, kind, value: &[u8]| Packet { body: Body::Sctp(tag, chunk(kind, 0, value)), ..init.clone() };
            let answers = |gateway: &mut Gateway, answer: Packet| {
                let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
                assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
            };
            answers(&mut gateway, inner.answer(0, b"cookie"));
            to_pod(&mut gateway, &says(POD_TAG, COOKIE_ECHO, b"cookie"));
            let acknowledged =
                Packet { body: Body::Sctp([0xc1, 0, 0, 1], chunk(COOKIE_ACK, 0, b"")), ..inner.answer(0, b"") };
            answers(&mut gateway, acknowledged);
            gateway.advance(Span::from_secs(100));
            assert_eq!(look(&gateway), (State::SctpEstablished, true, 110));
            for (name, kind) in ENDS {
                to_pod(&mut gateway, &says([0xac, 0, 0, 2], kind, &[0; 4]));
                assert_eq!(look(&gateway), (State::SctpEstablished, true, 210), "{name}");
            }
            to_pod(&mut gateway, &says(POD_TAG, SHUTDOWN, &[0; 4]));
            assert_eq!(state(&gateway), (State::SctpShutdownSent, true));
        }
    }
}

#[test]
fn rfc9260_s8_5_an_abort_is_not_believed_before_the_tag_is_known() {
    const ABORT: u8 = 6;
    const COOKIE_ECHO: u8 = 10;
    for init in [Packet::init(40_000, [0xc1, 0, 0, 1]), Packet::init_v6(40_000, [0xc1, 0, 0, 1])] {
        let mut gateway = World::new().with_sctp().gateway();
        let (node, inner) = to_pod(&mut gateway, &init);
        let says = |tag, kind, value: &[u8]| Packet { body: Body::Sctp(tag, chunk(kind, 0, value)), ..init.clone() };
        to_pod(&mut gateway, &says([1, 2, 3, 4], ABORT, b""));
        assert_eq!(state(&gateway), (State::SctpCookieWait, false));
        let out = gateway.send(UNDERLAY, &from_pod(node, &inner.answer(0, b"cookie").bytes()));
        assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
        to_pod(&mut gateway, &says([1, 2, 3, 4], ABORT, b""));
        to_pod(&mut gateway, &says([0xac, 0, 0, 1], COOKIE_ECHO, b"cookie"));
        assert_eq!(state(&gateway), (State::SctpCookieEchoed, false));
        to_pod(&mut gateway, &says([0xac, 0, 0, 1], ABORT, b""));
        assert_eq!(state(&gateway), (State::SctpClosed, false));
    }
}
