//! Packets too large for their path: fragmented by the gateway where that is allowed.

use std::collections::BTreeMap;

use etherparse::Ipv4Header;
use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
use weirgate::pipeline::{Observer, Step, process_observed};
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::BUFFER_BYTES;
use weirgate_fixture::frames::{ACK, Body, FROM_CLIENT, Packet, framed, tunnelled, unframed};
use weirgate_fixture::world::{UNDERLAY, UPLINK, World};

use super::helpers::{
    all_sent, at_client, at_pod, dropped, fragments, from_client, from_pods, query, query_v6, reassembled,
};

#[test]
fn rfc791_a_packet_too_large_for_its_path_is_fragmented() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 1472);
    let out = gateway.send_burst(&[(UPLINK, framed(FROM_CLIENT, &request.bytes()))]);
    assert_eq!(out.len(), 2);
    // The overlay's MTU is 1450: 20 bytes of header and 1424 of data, a multiple of eight.
    assert_eq!(tunnelled(&out[0].bytes).inner.len(), 1444);
    let (inner, _) = at_pod(&out).unwrap();
    assert_eq!(inner, Packet { source: inner.source, destination: inner.destination, ..request.after_a_hop() });
    gateway.assert_counted(&[
        ("flows-created", 1),
        ("fragments-created", 1),
        ("port0-in", 1),
        ("port1-out", 2),
        ("service2-flows", 1),
        ("service2-original", 1),
    ]);
}

/// The verdict of each frame, by its place.
#[derive(Default)]
struct Decided(BTreeMap<usize, Verdict>);

impl Observer for Decided {
    fn step(&mut self, frame: usize, step: Step) {
        if let Step::Decided(verdict) = step {
            assert_eq!(self.0.insert(frame, verdict), None, "frame {frame} was decided already");
        }
    }
}

#[test]
fn the_tracer_knows_frames_by_their_places_and_spare_buffers_by_those_behind() {
    let mut gateway = World::new().gateway();
    let ips = [query(5000, 1472).bytes(), Packet::web(7, ACK, b"").bytes(), query(5001, 1472).bytes()];
    let mut buffers: Vec<Vec<u8>> =
        ips.iter().map(|ip| [&[0; HEADROOM_MAX][..], &framed(FROM_CLIENT, ip)].concat()).collect();
    let mut lent = vec![[0_u8; BUFFER_BYTES]; 4];
    let mut frames: Vec<Frame<'_>> = buffers
        .iter_mut()
        .map(|buffer| {
            let len = buffer.len() - HEADROOM_MAX;
            Frame::new(buffer, HEADROOM_MAX, len, UPLINK).expect("the frame fits")
        })
        .collect();
    let mut spares: Vec<Frame<'_>> = lent.iter_mut().map(|buffer| Frame::spare(buffer)).collect();
    let mut decided = Decided::default();
    let snapshot = gateway.snapshot();
    let mut burst = Burst::new(&mut frames, &mut spares);
    process_observed(&mut gateway.worker, &snapshot, gateway.now, &mut burst, &mut decided);
    let [sent, refused] = [Verdict::Transmit(UNDERLAY), Verdict::Drop(DropReason::NotSyn)];
    let expected = [sent, refused, sent, sent, sent].into_iter().enumerate().collect();
    assert_eq!(decided.0, expected);
}

#[test]
fn rfc4787_req13_towards_clients_df_gets_an_error_and_no_df_is_fragmented() {
    let mut world = World::new();
    world.ports[0].mtu = 600;
    let mut gateway = world.gateway();
    let outs = from_client(&mut gateway, &[query(5000, 100).bytes()]);
    let inner = Packet::read(&tunnelled(&outs[0].bytes).inner);
    let answer = Packet { dont_fragment: false, ..inner.answer(0, &[9; 1400]) };
    let outs = from_pods(&mut gateway, &answer, &[answer.bytes()]);
    assert_eq!(outs.len(), 3);
    assert_eq!(at_client(&outs).unwrap().0.body, answer.body);

    let outs = from_pods(&mut gateway, &answer, &[Packet { dont_fragment: true, ..answer.clone() }.bytes()]);
    let reported = Packet::read(&tunnelled(&outs[0].bytes).inner);
    assert!(matches!(reported.body, Body::Icmp(3, 4, [0, 0, 2, 88], _)), "{reported:?}");
}

#[test]
fn rfc791_s3_2_fragments_are_fragmented_again() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 4000);
    for order in [[0, 1, 2], [2, 1, 0]] {
        let cut = fragments(&request.bytes(), 77, [1480, 1480]);
        let outs = from_client(&mut gateway, &order.map(|index| cut[index].clone()));
        assert_eq!(outs.iter().filter(|out| out.verdict != Verdict::Held).count(), 5);
        assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    }
}

#[test]
fn rfc791_s3_1_options_are_copied_by_their_flag() {
    let mut gateway = World::new().gateway();
    let plain = query(5000, 1460).bytes();
    let mut ip = [&plain[..20], &[7, 3, 4, 1, 148, 4, 0, 0], &plain[20..]].concat();
    ip[0] = 0x47;
    ip[2..4].copy_from_slice(&(plain.len() as u16 + 8).to_be_bytes());
    let sum = Ipv4Header::from_slice(&ip).unwrap().0.calc_header_checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let outs = from_client(&mut gateway, &[ip]);
    let inner: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| tunnelled(frame).inner).collect();
    assert_eq!(inner[0][20..28], [7, 3, 4, 1, 148, 4, 0, 0]);
    assert_eq!((inner[1][0], &inner[1][20..24]), (0x46, &[148, 4, 0, 0][..]));
    assert_eq!(Packet::read(&reassembled(&inner).unwrap().0).body, query(5000, 1460).body);
}

/// Whatever the option list loses when it is rewritten, the data behind it does not change.
#[test]
fn a_datagram_is_reassembled_whatever_options_its_fragments_carry() {
    let lists: [&[u8]; 9] = [
        &[0; 4],
        &[0; 40],
        &[1, 1, 1, 1],
        &[1, 1, 1, 0],
        &[7, 3, 4, 1],
        &[7, 3, 4, 0, 0, 0, 0, 0],
        &[7, 3, 4, 1, 148, 4, 0, 0],
        &[148, 4, 0, 0, 0, 0, 0, 0],
        &[0, 9, 9, 9, 9, 9, 9, 9],
    ];
    let with_options = |fragment: &[u8], options: &[u8]| {
        let mut ip = [&fragment[..20], options, &fragment[20..]].concat();
        ip[0] = 0x45 + (options.len() / 4) as u8;
        let len = (ip.len() as u16).to_be_bytes();
        ip[2..4].copy_from_slice(&len);
        let sum = Ipv4Header::from_slice(&ip).unwrap().0.calc_header_checksum();
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    };
    for options in lists {
        for (len, lens) in [(1450, vec![]), (4000, vec![1456, 1456]), (4000, vec![1448, 1456])] {
            let mut gateway = World::new().gateway();
            let request = query(5000, len);
            let cut = if lens.is_empty() { vec![request.bytes()] } else { fragments(&request.bytes(), 77, lens) };
            // With that many bytes of options each exceeds the MTU of the underlay.
            let frames: Vec<_> = cut.iter().map(|fragment| with_options(fragment, options)).collect();
            let outs = from_client(&mut gateway, &frames);
            let inner: Vec<_> = all_sent(&outs, UNDERLAY).iter().map(|frame| tunnelled(frame).inner).collect();
            assert!(inner.len() > frames.len() && inner.iter().all(|ip| ip.len() <= 1450), "{options:?}");
            let whole = reassembled(&inner).unwrap_or_else(|| panic!("{options:?}: not all of it")).0;
            assert_eq!(Packet::read(&whole).body, request.body, "{options:?}");
        }
    }
}

#[test]
fn ipv6_is_never_fragmented() {
    let mut gateway = World::new().gateway();
    let outs = from_client(&mut gateway, &[query_v6(5000, 1440).bytes()]);
    let (_, ip) = unframed(&outs[0].bytes);
    assert!(matches!(Packet::read(&ip).body, Body::Icmp(2, 0, [0, 0, 5, 150], _)));
    let outs = from_client(&mut gateway, &fragments(&query_v6(5000, 3000).bytes(), 1, [1448, 1448]));
    let (_, ip) = unframed(&outs[0].bytes);
    assert!(matches!(Packet::read(&ip).body, Body::Icmp(2, 0, [0, 0, 5, 150], _)));
    assert_eq!(dropped(&outs[1]), DropReason::FragmentRefused);
}

#[test]
fn without_a_spare_buffer_a_packet_is_dropped_whole() {
    let mut gateway = World::new().gateway();
    let frame = (UPLINK, framed(FROM_CLIENT, &query(5000, 1472).bytes()));
    let outs = gateway.send_burst(&vec![frame; weirgate_fixture::SPARES + 1]);
    assert_eq!(outs.len(), 2 * weirgate_fixture::SPARES + 1);
    assert_eq!(dropped(&outs[weirgate_fixture::SPARES]), DropReason::NoSpare);
}

#[test]
fn fragments_of_a_burst_that_all_need_fragmentation_wait_for_buffers() {
    let mut gateway = World::new().gateway();
    let request = query(5000, 60_000);
    let frames: Vec<_> = fragments(&request.bytes(), 1, [1480; 40])
        .iter()
        .map(|fragment| (UPLINK, framed(FROM_CLIENT, fragment)))
        .collect();
    let outs = gateway.send_burst(&frames);
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    assert!(outs.iter().any(|out| out.verdict == Verdict::Held));
}
