//! Fragmented pings: from pods to the outside, and to the gateway itself.

use std::net::IpAddr;

use weirgate::verdict::DropReason;
use weirgate_fixture::frames::{Body, FROM_CLIENT, Packet, TO_CLIENT, framed, from_pod, to_node, tunnelled, unframed};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, Out};

use super::helpers::{
    Cluster, all_sent, at_client, at_pod, dropped, fragments, from_client, from_pods, node_of, reassembled,
};

const OUT: &str = "198.51.100.7";
const OUT_V6: &str = "2001:db8:7::7";

fn masquerading(workers: u8) -> World {
    World { workers, masquerade: [OUT, OUT_V6].map(|text| text.parse().unwrap()).into(), ..World::new() }
}

/// A ping of 3000 bytes over either family.
fn pings() -> [Packet; 2] {
    let data: Vec<u8> = (0..3000).map(|n| (n / 7) as u8).collect();
    let v4 = Packet::ping(world::pod(0, 10).into(), world::CLIENT.into(), &data);
    let v6 = Packet::ping(world::pod_v6(0, 10).into(), world::CLIENT_V6.into(), &data);
    [Packet { dont_fragment: false, ..v4 }, v6]
}

fn reply_to(ping: &Packet) -> Packet {
    let Body::Icmp(.., data) = &ping.body else { panic!("{ping:?}") };
    Packet { dont_fragment: ping.dont_fragment, ..ping.answer(0, data) }
}

fn identifier(packet: &Packet) -> [u8; 2] {
    let Body::Icmp(_, _, [a, b, ..], _) = packet.body else { panic!("{packet:?}") };
    [a, b]
}

/// The packet with another identifier.
fn with_identifier(packet: &Packet, [a, b]: [u8; 2]) -> Packet {
    let Body::Icmp(kind, code, [_, _, c, d], data) = packet.body.clone() else { panic!("{packet:?}") };
    Packet { body: Body::Icmp(kind, code, [a, b, c, d], data), ..packet.clone() }
}

#[test]
fn rfc5508_req1_a_fragmented_ping_crosses_and_its_reply_comes_back_in_any_order() {
    for ping in pings() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2]] {
            let mut gateway = masquerading(1).gateway();
            let cut = fragments(&ping.bytes(), 77, [1376, 1376]);
            let outs = from_pods(&mut gateway, &ping, &order.map(|index| cut[index].clone()));
            let (seen, _) = at_client(&outs).expect("all of it");
            let own: IpAddr = [OUT, OUT_V6][usize::from(ping.source.is_ipv6())].parse().unwrap();
            let expected = Packet { source: (own, 0).into(), ..with_identifier(&ping, identifier(&seen)) };
            assert_eq!(seen, expected.after_a_hop());

            let answer = reply_to(&seen);
            let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
            let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
            let (back, _) = at_pod(&outs).expect("all of it");
            let expected = Packet { destination: ping.source, ..with_identifier(&answer, identifier(&ping)) };
            assert_eq!(back, expected.after_a_hop());
            assert_eq!((gateway.counters.flows_created.get(), gateway.worker.fragmented_datagrams()), (1, 0));
            assert!(gateway.counted().iter().all(|(name, _)| !name.starts_with("drop-")), "{:?}", gateway.counted());
        }
    }
}

#[test]
fn a_ping_too_large_for_its_path_is_fragmented_and_its_reply_too() {
    let mut world = masquerading(1);
    world.ports[0].mtu = 1000;
    let mut gateway = world.gateway();
    let [ping, _] = pings();
    let outs = from_pods(&mut gateway, &ping, &fragments(&ping.bytes(), 77, [1400, 1400]));
    let (seen, _) = at_client(&outs).expect("all of it");
    assert!(outs.len() > 3, "cut again");
    let answer = reply_to(&seen);
    let outs = from_client(&mut gateway, &fragments(&answer.bytes(), 78, [1480, 1480]));
    assert_eq!(at_pod(&outs).unwrap().0.body, with_identifier(&answer, identifier(&ping)).body);
    assert!(outs.len() > 3, "cut again");
}

#[test]
fn fragments_find_the_worker_that_has_their_ping() {
    for ping in pings() {
        for workers in [2, 3, 8] {
            for entry in 0..usize::from(workers) {
                for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                    let mut cluster = Cluster::of(&masquerading(workers));
                    let cut = fragments(&ping.bytes(), 7, [1376, 1376]);
                    let node = node_of(ping.source.ip());
                    let send = |cluster: &mut Cluster, port, frame: &dyn Fn(&[u8]) -> Vec<u8>, cut: &[Vec<u8>]| {
                        order
                            .iter()
                            .flat_map(|index| cluster.send(entry, port, &frame(&cut[*index])))
                            .collect::<Vec<_>>()
                    };
                    let outs = send(&mut cluster, UNDERLAY, &|fragment| from_pod(node, fragment), &cut);
                    let (seen, _) = at_client(&outs).expect("all of it");
                    let answer = reply_to(&seen);
                    let cut = fragments(&answer.bytes(), 8, [1376, 1376]);
                    let outs = send(&mut cluster, UPLINK, &|fragment| framed(FROM_CLIENT, fragment), &cut);
                    let (back, _) = at_pod(&outs).expect("all of it");
                    assert_eq!(back.body, with_identifier(&answer, identifier(&ping)).body);
                }
            }
        }
    }
}

/// Sends fragments in this order through a link or the first node's tunnel. Returns the IP packets that egress
/// by the same.
fn in_order(gateway: &mut Gateway, node: Option<usize>, cut: &[Vec<u8>], order: [usize; 3]) -> Vec<Vec<u8>> {
    let port = if node.is_some() { UNDERLAY } else { UPLINK };
    let frame = |fragment: &[u8]| node.map_or_else(|| framed(FROM_CLIENT, fragment), |node| from_pod(node, fragment));
    let outs: Vec<Out> = order.iter().flat_map(|index| gateway.send_burst(&[(port, frame(&cut[*index]))])).collect();
    let open = |bytes: &&[u8]| match node {
        Some(node) => {
            let seen = tunnelled(bytes);
            assert_eq!(seen.link, to_node(node));
            seen.inner
        }
        None => {
            let (link, ip) = unframed(bytes);
            assert_eq!(link, TO_CLIENT);
            ip
        }
    };
    all_sent(&outs, port).iter().map(open).collect()
}

#[test]
fn rfc1122_s3_2_2_6_fragmented_pings_of_the_gateway_itself_are_answered() {
    let [out, out_v6]: [IpAddr; 2] = [OUT, OUT_V6].map(|text| text.parse().unwrap());
    let [own, own_v6]: [IpAddr; 2] = ["10.77.200.0", "fd77:0:0:200::2"].map(|text| text.parse().unwrap());
    let [service, service_v6] = [IpAddr::from(world::EXTERNAL), world::EXTERNAL_V6.into()];
    let [v4, v6] = pings();
    for (ping, node, own) in [
        (&v4, Some(0), own),
        (&v6, Some(0), own_v6),
        (&v4, None, out),
        (&v6, None, out_v6),
        (&v4, Some(0), service),
        (&v6, Some(0), service_v6),
        (&v4, None, service),
        (&v6, None, service_v6),
    ] {
        let source = if node.is_some() { ping.source } else { ping.destination };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2]] {
            let mut gateway = masquerading(1).with_external().gateway();
            let ping = Packet { source, destination: (own, 0).into(), ttl: 3, ..ping.clone() };
            let cut = fragments(&ping.bytes(), 77, [1376, 1376]);
            let (answer, _) = reassembled(&in_order(&mut gateway, node, &cut, order)).expect("all of it");
            assert_eq!(Packet::read(&answer), reply_to(&ping));
            assert_eq!((gateway.counters.echoes_answered.get(), gateway.worker.fragmented_datagrams()), (1, 0));
            assert!(gateway.counted().iter().all(|(name, _)| !name.starts_with("drop-")), "{:?}", gateway.counted());
        }
    }
}

#[test]
fn rfc6864_s5_3_1_fragmented_replies_have_the_gateways_own_identifications() {
    let mut gateway = masquerading(1).gateway();
    let [ping, _] = pings();
    let ping = Packet { destination: ("10.77.200.0".parse::<IpAddr>().unwrap(), 0).into(), ..ping };
    // Two pods use the same identification.
    let ids = [10, 11].map(|pod| {
        let ping = Packet { source: (world::pod(0, pod), 0).into(), ..ping.clone() };
        let cut = fragments(&ping.bytes(), 77, [1376, 1376]);
        reassembled(&in_order(&mut gateway, Some(0), &cut, [0, 1, 2])).expect("all of it").1
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn fragmented_replies_to_nobody_are_dropped_by_name() {
    let mut gateway = masquerading(1).gateway();
    for ping in pings() {
        let own: IpAddr = [OUT, OUT_V6][usize::from(ping.source.is_ipv6())].parse().unwrap();
        let unasked = Packet { source: ping.destination, destination: (own, 0).into(), ..reply_to(&ping) };
        let outs = from_client(&mut gateway, &fragments(&unasked.bytes(), 2, [1376, 1376]));
        let reasons: Vec<_> = outs.iter().map(dropped).collect();
        assert_eq!(reasons, [DropReason::IcmpUnmatched, DropReason::FragmentRefused, DropReason::FragmentRefused]);
    }
}
