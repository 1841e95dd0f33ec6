//! A route's MTU may be below its link's: errors, fragments and segment sizes follow it.

use weirgate::snapshot::{CompileError, MssLimit, bytes_required, compile};
use weirgate::verdict::Verdict;
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Packet, SYN, framed, from_pod, to_node, tunnelled, unframed};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};
use weirgate_fixture::{Gateway, leak_aligned};

/// Routes to clients and to peers with these MTUs, in bytes.
fn with_mtus(to_clients: Option<u16>, to_peers: Option<u16>) -> World {
    let mut world = World::new();
    world.routes.iter_mut().for_each(|route| route.mtu = to_clients);
    world.peers.iter_mut().filter_map(|peer| peer.next_hop.as_mut()).for_each(|hop| hop.mtu = to_peers);
    world
}

/// Opens a connection in either family: its node, the client's packet, and the reply to it.
fn opened(gateway: &mut Gateway, v4: bool) -> (usize, Packet, Packet) {
    let request = if v4 { Packet::web(7, SYN, b"") } else { Packet::web_v6(7, SYN, b"") };
    let seen = tunnelled(&gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes())).bytes);
    let node = usize::from(seen.link == to_node(1));
    let answer = Packet::read(&seen.inner).answer(SYN | ACK, b"");
    assert_eq!(gateway.send(UNDERLAY, &from_pod(node, &answer.bytes())).verdict, Verdict::Transmit(UPLINK));
    (node, request, answer)
}

/// The packet, filled with data up to `len` bytes.
fn of_len(packet: &Packet, len: usize) -> Packet {
    let headers = if packet.source.is_ipv4() { 40 } else { 60 };
    Packet { body: Body::Tcp(ACK, vec![0x55; len - headers]), ..packet.clone() }
}

/// The MTU that an error reports.
fn reported(ip: &[u8]) -> u16 {
    match Packet::read(ip).body {
        Body::Icmp(3, 4, [0, 0, high, low], _) | Body::Icmp(2, 0, [0, 0, high, low], _) => {
            u16::from_be_bytes([high, low])
        }
        other => panic!("{other:?}"),
    }
}

/// Asserts that packets to a pod pass up to this size, and larger ones get an error.
fn assert_to_pods(gateway: &mut Gateway, request: &Packet, most: u16) {
    let mut send = |len| gateway.send(UPLINK, &framed(FROM_CLIENT, &of_len(request, len).bytes()));
    for _ in 0..2 {
        assert_eq!(send(usize::from(most)).verdict, Verdict::Transmit(UNDERLAY));
        let out = send(usize::from(most) + 1);
        assert_eq!((out.verdict, reported(&unframed(&out.bytes).1)), (Verdict::Transmit(UPLINK), most));
    }
}

/// As [`assert_to_pods`], but to the client.
fn assert_to_clients(gateway: &mut Gateway, (node, answer): (usize, &Packet), most: u16) {
    let mut send = |len| gateway.send(UNDERLAY, &from_pod(node, &of_len(answer, len).bytes()));
    for _ in 0..2 {
        assert_eq!(send(usize::from(most)).verdict, Verdict::Transmit(UPLINK));
        let out = send(usize::from(most) + 1);
        assert_eq!((out.verdict, reported(&tunnelled(&out.bytes).inner)), (Verdict::Transmit(UNDERLAY), most));
    }
}

#[test]
fn rfc1191_s4_a_routes_mtu_is_reported_in_both_directions() {
    for v4 in [true, false] {
        let overhead = if v4 { 50 } else { 70 };
        // A value below the family's minimum is ignored, and so is one above the link's MTU.
        let least = if v4 { 576 } else { 1280 };
        for (route, to_pods, to_clients) in [
            (1400, 1400 - overhead, 1400),
            (1380, 1380 - overhead, 1380),
            (1300, if v4 { 1250 } else { 1280 }, 1300),
            (60, least, least),
        ] {
            let mut gateway = with_mtus(Some(route), Some(route)).gateway();
            let (node, request, answer) = opened(&mut gateway, v4);
            assert_to_pods(&mut gateway, &request, to_pods);
            // The tunnel's MTU is the smaller one, unless the clients' routes have a very small one.
            let largest = 1500 - overhead;
            if to_clients < largest {
                assert_to_clients(&mut gateway, (node, &answer), to_clients);
            }
        }
        let mut gateway = with_mtus(Some(9000), Some(9000)).gateway();
        let (_, request, _) = opened(&mut gateway, v4);
        assert_to_pods(&mut gateway, &request, 1500 - overhead);
    }
}

/// A flow remembers its next hop, and still follows a route that changes.
#[test]
fn a_routes_mtu_is_followed_while_a_flow_lasts() {
    let mut gateway = with_mtus(None, None).gateway();
    let (node, request, answer) = opened(&mut gateway, true);
    for (generation, mtu) in [(2, Some(1400)), (3, None), (4, Some(1300))] {
        gateway.apply(&World { generation, ..with_mtus(mtu, mtu) });
        assert_to_pods(&mut gateway, &request, mtu.unwrap_or(1500) - 50);
        match mtu {
            Some(mtu) => assert_to_clients(&mut gateway, (node, &answer), mtu),
            None => {
                let out = gateway.send(UNDERLAY, &from_pod(node, &of_len(&answer, 1450).bytes()));
                assert_eq!(out.verdict, Verdict::Transmit(UPLINK));
            }
        }
    }
}

#[test]
fn packets_that_may_be_fragmented_are_fragmented_to_a_routes_mtu() {
    let mut gateway = with_mtus(Some(700), Some(800)).gateway();
    let query = Packet { dont_fragment: false, ..Packet::dns(5000, &[1; 1400]) };
    let outs = gateway.send_burst(&[(UPLINK, framed(FROM_CLIENT, &query.bytes()))]);
    let lens: Vec<usize> = outs.iter().map(|out| tunnelled(&out.bytes).inner.len()).collect();
    assert_eq!(lens, [748, 700]);
    // Also to a client whose link address is unknown.
    let mut world = with_mtus(Some(700), None);
    world.neighbours.clear();
    for world in [with_mtus(Some(700), None), world] {
        let mut gateway = world.gateway();
        let seen = tunnelled(&gateway.send(UPLINK, &framed(FROM_CLIENT, &Packet::dns(5000, b"").bytes())).bytes);
        let node = usize::from(seen.link == to_node(1));
        let answer = Packet { dont_fragment: false, ..Packet::read(&seen.inner).answer(0, &[2; 1000]) };
        let outs = gateway.send_burst(&[(UNDERLAY, from_pod(node, &answer.bytes()))]);
        let lens: Vec<usize> = outs.iter().map(|out| unframed(&out.bytes).1.len()).collect();
        assert_eq!(lens, [700, 348]);
    }
}

#[test]
fn segment_sizes_are_lowered_to_what_routes_take() {
    let mss = |ip: &[u8]| {
        let tcp = if ip[0] >> 4 == 4 { 20 } else { 40 };
        (ip[tcp + 20] == 2).then(|| u16::from_be_bytes([ip[tcp + 22], ip[tcp + 23]]))
    };
    let with_mss = |packet: &Packet| {
        let mut ip = packet.bytes();
        let (tcp, len) = if ip[0] >> 4 == 4 { (20, 2) } else { (40, 4) };
        ip.extend([2, 4, 0x23, 0x00]);
        ip[tcp + 12] = 0x60;
        let total = u16::from_be_bytes([ip[len], ip[len + 1]]) + 4;
        ip[len..len + 2].copy_from_slice(&total.to_be_bytes());
        if tcp == 20 {
            ip[10..12].fill(0);
            let sum = ip[..20].chunks(2).fold(0_u32, |sum, it| sum + u32::from(u16::from_be_bytes([it[0], it[1]])));
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        ip
    };
    for (to_clients, to_peers, least) in
        [(Some(1320), None, 1320), (None, Some(1400), 1350), (Some(1300), Some(1400), 1300)]
    {
        let world = World { mss: MssLimit::Path, ..with_mtus(to_clients, to_peers) };
        let mut gateway = world.gateway();
        let request = Packet::web(7, SYN, b"");
        let seen = tunnelled(&gateway.send(UPLINK, &framed(FROM_CLIENT, &with_mss(&request))).bytes);
        assert_eq!(mss(&seen.inner), Some(least - 40), "announced by the client");
        let node = usize::from(seen.link == to_node(1));
        let (source, destination) = (seen.inner[16..20].to_vec(), u16::from_be_bytes([seen.inner[20], seen.inner[21]]));
        let source: [u8; 4] = source.try_into().unwrap();
        let pool: [u8; 4] = seen.inner[12..16].try_into().unwrap();
        let answer = Packet::new((source, 80).into(), (pool, destination).into(), Body::Tcp(SYN | ACK, vec![]));
        let out = gateway.send(UNDERLAY, &from_pod(node, &with_mss(&answer)));
        assert_eq!(mss(&unframed(&out.bytes).1), Some(least - 40), "announced by the pod");
    }
}

/// A link's own MTU is the operator's to correct; a small route must not stop all forwarding.
#[test]
fn a_small_route_refuses_no_snapshot_and_a_small_link_does() {
    let error = |world: &World| {
        world.describe(|description| compile(description, leak_aligned(bytes_required(description))).err())
    };
    assert_eq!(error(&with_mtus(Some(68), Some(68))), None);
    let mut world = World::new();
    world.ports[1].mtu = 1300;
    assert_eq!(error(&world), Some(CompileError::MtuTooSmall { mtu: 1300 }));
    // The encapsulation takes 50 bytes over IPv4, 70 over IPv6.
    for (mtu, expected) in [(1350, None), (1349, Some(CompileError::MtuTooSmall { mtu: 1349 }))] {
        world.ports[1].mtu = mtu;
        assert_eq!(error(&world), expected);
    }
}

#[test]
fn the_overlays_mtu_applies_only_to_encapsulated_packets() {
    for (world, carried) in [(World::new(), false), (World::new().direct(), true)] {
        let mut gateway = World { overlay_mtu: Some(1400), ..world }.gateway();
        let request = Packet { dont_fragment: true, ..Packet::web(7, SYN, &[0; 1441 - 40]) };
        let out = gateway.send(UPLINK, &framed(FROM_CLIENT, &request.bytes()));
        assert_eq!(out.verdict == Verdict::Transmit(UNDERLAY), carried, "{:?}", out.verdict);
    }
}
