//! The gateway's own ICMP errors.

use weirgate::pipeline::Step;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{
    ACK, Body, FROM_CLIENT, Packet, SYN, TO_CLIENT, framed, from_pod, to_node, tunnelled, unframed,
};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};

use super::helpers::{established, from_client, to_pod, transmitted};

#[test]
fn a_packet_too_big_for_the_overlay_is_answered_with_the_mtu_that_fits() {
    let mut gateway = World::new().gateway();
    let big = vec![0x55; 1460];
    established(&mut gateway, &Packet::web(7, SYN, b""));
    let request = Packet::web(7, ACK, &big);
    let out = from_client(&mut gateway, &request);
    let (link, ip) = unframed(transmitted(&out, UPLINK));
    let error = Packet::read(&ip);
    assert_eq!(link, TO_CLIENT);
    assert_eq!((error.source.ip(), error.destination.ip()), (request.destination.ip(), request.source.ip()));
    let Body::Icmp(3, 4, [0, 0, high, low], quote) = error.body else { panic!("{error:?}") };
    assert_eq!(u16::from_be_bytes([high, low]), 1450);
    assert_eq!((ip.len(), &quote[..]), (576, &request.bytes()[..548]));

    established(&mut gateway, &Packet::web_v6(7, SYN, b""));
    let request = Packet::web_v6(7, ACK, &big[..1440]);
    let out = from_client(&mut gateway, &request);
    let (_, ip) = unframed(transmitted(&out, UPLINK));
    let error = Packet::read(&ip);
    assert_eq!((error.source.ip(), error.destination.ip()), (request.destination.ip(), request.source.ip()));
    let Body::Icmp(2, 0, mtu, quote) = error.body else { panic!("{error:?}") };
    assert_eq!(u32::from_be_bytes(mtu), 1430);
    assert_eq!((ip.len(), &quote[..]), (1280, &request.bytes()[..1232]));

    // A packet of exactly the MTU passes.
    to_pod(&mut gateway, &Packet::web(7, ACK, &big[..1410]));
    to_pod(&mut gateway, &Packet::web_v6(7, ACK, &big[..1370]));
}

#[test]
fn the_pod_gets_an_error_about_a_reply_too_big_for_the_clients_link() {
    let mut world = World::new();
    world.ports[0].mtu = 1300;
    let mut gateway = world.gateway();
    let (node, inner) = to_pod(&mut gateway, &Packet::web(7, SYN, b""));
    let answer = inner.answer(ACK, &[1; 1350]);
    let out = gateway.send(UNDERLAY, &from_pod(node, &answer.bytes()));
    let seen = tunnelled(transmitted(&out, UNDERLAY));
    let error = Packet::read(&seen.inner);
    assert_eq!(
        (seen.link, error.source.ip(), error.destination.ip()),
        (to_node(node), answer.destination.ip(), answer.source.ip())
    );
    let Body::Icmp(3, 4, [0, 0, high, low], quote) = error.body else { panic!("{error:?}") };
    assert_eq!((u16::from_be_bytes([high, low]), &quote[..]), (1300, &answer.bytes()[..548]));
}

#[test]
fn a_configured_overlay_mtu_below_the_links_is_used() {
    let mut gateway = World { overlay_mtu: Some(1400), ..World::new() }.gateway();
    established(&mut gateway, &Packet::web(7, SYN, &[0; 1360]));
    let out = from_client(&mut gateway, &Packet::web(7, ACK, &[0; 1361]));
    let Body::Icmp(3, 4, [0, 0, high, low], _) = Packet::read(&out.bytes[14..]).body else { panic!("{out:?}") };
    assert_eq!(u16::from_be_bytes([high, low]), 1400);
}

#[test]
fn rfc1812_s5_3_1_an_expired_time_to_live_is_reported() {
    let mut gateway = World::new().gateway();
    for (request, kind) in [(Packet::web(7, SYN, b""), 11), (Packet::web_v6(7, SYN, b""), 3)] {
        let request = Packet { ttl: 1, ..request };
        let out = from_client(&mut gateway, &request);
        let error = Packet::read(&unframed(transmitted(&out, UPLINK)).1);
        assert_eq!(error.body, Body::Icmp(kind, 0, [0; 4], request.bytes()));
        assert_eq!((error.source.ip(), error.ttl), (request.destination.ip(), 64));
    }
}

#[test]
fn a_service_without_backends_is_refused_as_a_closed_port_is() {
    let mut gateway = World::new().gateway();
    for (mut request, kind, code) in [(Packet::web(7, SYN, b""), 3, 3), (Packet::web_v6(7, SYN, b""), 1, 4)] {
        request.destination.set_port(30_099);
        let out = from_client(&mut gateway, &request);
        let error = Packet::read(&unframed(transmitted(&out, UPLINK)).1);
        assert_eq!(error.body, Body::Icmp(kind, code, [0; 4], request.bytes()));
    }
    gateway.assert_counted(&[("errors-sent", 2), ("port0-in", 2), ("port0-out", 2)]);
}

#[test]
fn the_tracer_reports_which_error_takes_a_packets_place() {
    let mut gateway = World::new().gateway();
    let request = Packet::web(7, SYN, b"");
    let closed = Packet { destination: (world::NODE_PORT_ADDRESS, 30_099).into(), ..request.clone() };
    let big = Packet { body: Body::Tcp(SYN, vec![0; 1460]), ..request.clone() };
    for (packet, error) in
        [(Packet { ttl: 1, ..request }, "time exceeded"), (big, "too big"), (closed, "port unreachable")]
    {
        let steps = gateway.steps(UPLINK, &framed(FROM_CLIENT, &packet.bytes()));
        assert!(steps.contains(&Step::ErrorSent(error)), "{steps:?}");
        assert_eq!(steps.last(), Some(&Step::Decided(Verdict::Transmit(UPLINK))));
    }
}

#[test]
fn errors_of_the_gateways_own_are_rate_limited() {
    let mut gateway = World::new().gateway();
    let mut refused = Packet::web(7, SYN, b"");
    refused.destination.set_port(30_099);
    let mut limited = 0;
    for _ in 0..60 {
        limited +=
            u32::from(from_client(&mut gateway, &refused).verdict == Verdict::Drop(DropReason::ErrorRateLimited));
    }
    assert_eq!(limited, 10);
    gateway.advance(Span::from_millis(5));
    assert_eq!((0..60).filter(|_| from_client(&mut gateway, &refused).verdict == Verdict::Transmit(UPLINK)).count(), 5);
}
