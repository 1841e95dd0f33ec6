//! Open connections to removed backends, of services that have them reset.

use weirgate::snapshot::RemovedBackend;

use super::*;

/// A world in which the web service has connections to removed backends reset, with a connection open in it, and what
/// its backend sees.
fn open_in_resetting(world: &World, requester: Requester) -> (World, Gateway, Packet) {
    let mut world = world.clone();
    world.policies.entry(WEB).or_default().removed_backend = RemovedBackend::Reset;
    let mut gateway = world.gateway();
    let first = requester.reaches(&mut gateway, &requester.segment(SYN));
    requester.hears(&mut gateway, &first.answer(SYN | ACK, b""));
    requester.reaches(&mut gateway, &requester.segment(ACK));
    (world, gateway, first)
}

#[test]
fn rfc9293_s3_10_7_1_an_open_connection_of_a_removed_backend_is_reset_where_its_service_says_so() {
    everywhere(|world, requester| {
        let (world, mut gateway, first) = open_in_resetting(world, requester);
        // While the backend drains, nothing is reset.
        let drained = draining(&world, &first);
        gateway.apply(&drained);
        requester.reaches(&mut gateway, &requester.segment(ACK));
        gateway.apply(&without(&drained, &first));

        let segment = Packet { numbers: [5000, 7000], ..requester.segment(ACK) };
        let late = Packet { numbers: [7000, 5001], ..first.answer(ACK, b"late data") };
        for turn in 1..=3 {
            // From the requester, with and without data, and again if the reset was lost.
            let out = requester.sends(&mut gateway, &segment);
            let reset = match requester.is_pod {
                true => Packet::read(&tunnelled(&out.bytes).inner),
                false => Packet::read(&out.bytes[14..]),
            };
            assert_eq!((reset.source, reset.destination), (segment.destination, segment.source));
            assert_eq!((reset.body, reset.numbers), (Body::Tcp(RST, vec![]), [7000, 0]));
            // From the backend, to the address that it saw.
            let out = gateway.send(UNDERLAY, &from_pod(node_of(first.destination.ip()), &late.bytes()));
            let reset = Packet::read(&tunnelled(&out.bytes).inner);
            assert_eq!((reset.source, reset.destination), (late.destination, late.source));
            assert_eq!((reset.body, reset.numbers), (Body::Tcp(RST, vec![]), [5001, 0]));
            assert_eq!((gateway.counters.resets_sent.get(), live(&gateway)), (2 * turn, 1));
        }
        // What acknowledges nothing is of no open connection.
        let silent = requester.sends(&mut gateway, &requester.segment(FIN));
        assert_eq!(silent.verdict, Verdict::Drop(DropReason::TcpFlags));
        // A reset is never answered, and goes where the connection went.
        let last = requester.reaches(&mut gateway, &requester.segment(RST));
        assert_eq!((last.destination, gateway.counters.resets_sent.get()), (first.destination, 6));
    });
}

#[test]
fn whoever_has_had_one_end_answered_the_other_end_is_answered_later_too() {
    everywhere(|world, requester| {
        let (world, mut gateway, first) = open_in_resetting(world, requester);
        gateway.apply(&without(&world, &first));
        let open = state(&gateway);
        // In the client's name, or of the backend: neither shortens the flow's life.
        let late = from_pod(node_of(first.destination.ip()), &first.answer(ACK, b"late").bytes());
        for _ in 0..3 {
            requester.sends(&mut gateway, &Packet { numbers: [1, 2], ..requester.segment(ACK) });
            gateway.send(UNDERLAY, &late);
        }
        gateway.advance(Span::from_secs(3600));
        gateway.worker.age(&gateway.snapshot(), gateway.now, 4096);
        assert_eq!((live(&gateway), state(&gateway)), (1, open));
        requester.sends(&mut gateway, &requester.segment(ACK));
        assert_eq!(gateway.counters.resets_sent.get(), 7);
    });
}

#[test]
fn no_reset_answers_what_no_end_can_have_sent() {
    everywhere(|world, requester| {
        let (world, mut gateway, first) = open_in_resetting(world, requester);
        gateway.apply(&without(&world, &first));
        // From the other side of the gateway.
        let late = first.answer(ACK, b"late");
        let spoofed = gateway.send(UPLINK, &framed(FROM_CLIENT, &late.bytes()));
        assert_eq!(spoofed.verdict, Verdict::Drop(DropReason::SpoofedSource));
        // With flags that no segment has, and with a wrong checksum.
        let illegal = requester.sends(&mut gateway, &requester.segment(SYN | FIN | ACK));
        assert_eq!(illegal.verdict, Verdict::Drop(DropReason::TcpFlags));
        let mut damaged = late.bytes();
        *damaged.last_mut().unwrap() ^= 1;
        let damaged = from_pod(node_of(first.destination.ip()), &damaged);
        assert_eq!(gateway.send(UNDERLAY, &damaged).verdict, Verdict::Drop(DropReason::Malformed));
        assert_eq!(gateway.counters.resets_sent.get(), 0);
    });
}

#[test]
fn what_is_not_an_open_connection_of_a_removed_backend_is_reset_nowhere() {
    everywhere(|world, requester| {
        // A handshake begins anew with another backend.
        let mut resetting = world.clone();
        resetting.policies.entry(WEB).or_default().removed_backend = RemovedBackend::Reset;
        let mut gateway = resetting.gateway();
        let first = requester.reaches(&mut gateway, &requester.segment(SYN));
        gateway.apply(&without(&resetting, &first));
        assert_ne!(requester.reaches(&mut gateway, &requester.segment(SYN)).destination, first.destination);
        // Connections of a service that is gone go on, and so do those of a backend that is back.
        let (world, mut gateway, first) = open_in_resetting(world, requester);
        let mut gone = World { generation: world.generation + 1, ..world.clone() };
        gone.frontends.iter_mut().for_each(|(.., frontends)| frontends.clear());
        gateway.apply(&gone);
        assert_eq!(requester.reaches(&mut gateway, &requester.segment(ACK)).destination, first.destination);
        gateway.apply(&World { generation: world.generation + 2, ..world });
        assert_eq!(requester.reaches(&mut gateway, &requester.segment(ACK)).destination, first.destination);
        assert_eq!(gateway.counters.resets_sent.get(), 0);
    });
}
