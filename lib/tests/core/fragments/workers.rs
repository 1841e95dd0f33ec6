//! Fragments that come to several workers.

use std::collections::VecDeque;

use weirgate::net::WorkerId;
use weirgate::time::Span;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_fixture::frames::{Body, FROM_CLIENT, Packet, framed, from_pod, tunnelled};
use weirgate_fixture::world::{self, UNDERLAY, UPLINK};

use super::helpers::{Cluster, all_sent, at_client, at_pod, dropped, fragments, is_pool, node_of, query};

#[test]
fn fragments_find_the_worker_that_has_their_flow() {
    for workers in [2, 3, 8] {
        for owner in 0..usize::from(workers) {
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                let mut cluster = Cluster::new(workers);
                // A whole packet creates the flow at one worker; the fragments come to worker 0.
                let outs = cluster.send(owner, UPLINK, &framed(FROM_CLIENT, &query(5000, 10).bytes()));
                let whole = Packet::read(&tunnelled(all_sent(&outs, UNDERLAY)[0]).inner);
                let request = query(5000, 4000);
                let cut = fragments(&request.bytes(), 7, [1376, 1376]);
                let outs: Vec<_> = order
                    .iter()
                    .flat_map(|index| cluster.send(0, UPLINK, &framed(FROM_CLIENT, &cut[*index])))
                    .collect();
                let (inner, _) = at_pod(&outs).expect("all of it");
                assert_eq!((inner.source, inner.destination), (whole.source, whole.destination));
                assert_eq!(cluster.gateways.iter().map(|gateway| gateway.worker.flows().v4.len()).sum::<u32>(), 1);

                // The reply comes to the last worker's queue.
                let answer = Packet { dont_fragment: false, ..inner.answer(0, &[7; 4001]) };
                let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
                let node = node_of(answer.source.ip());
                let last = usize::from(workers) - 1;
                let outs: Vec<_> = order
                    .iter()
                    .flat_map(|index| cluster.send(last, UNDERLAY, &from_pod(node, &cut[*index])))
                    .collect();
                assert_eq!(at_client(&outs).unwrap().0.body, answer.body);
            }
        }
    }
}

#[test]
fn a_datagram_without_a_flow_opens_one_at_the_worker_it_came_to() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut cluster = Cluster::new(3);
        for (id, handed) in [(7, true), (8, false)] {
            let request = query(5000, 4000);
            let cut = fragments(&request.bytes(), id, [1376, 1376]);
            let before = cluster.handed;
            let outs: Vec<_> =
                order.iter().flat_map(|index| cluster.send(1, UPLINK, &framed(FROM_CLIENT, &cut[*index]))).collect();
            assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
            assert_eq!(cluster.handed > before, handed, "only the first datagram is handed round");
        }
        let flows: Vec<_> = cluster.gateways.iter().map(|gateway| gateway.worker.flows().v4.len()).collect();
        assert_eq!(flows, [0, 1, 0]);
    }
}

#[test]
fn a_flow_that_has_idled_too_long_does_not_keep_fragments_from_the_worker_that_has_the_next_one() {
    let mut cluster = Cluster::new(3);
    cluster.send(0, UPLINK, &framed(FROM_CLIENT, &query(5000, 10).bytes()));
    // Ageing has not come round to it yet.
    cluster.gateways.iter_mut().for_each(|gateway| gateway.advance(Span::from_secs(600)));
    let outs = cluster.send(1, UPLINK, &framed(FROM_CLIENT, &query(5000, 10).bytes()));
    let whole = Packet::read(&tunnelled(all_sent(&outs, UNDERLAY)[0]).inner);
    let cut = fragments(&query(5000, 4000).bytes(), 7, [1376, 1376]);
    let outs: Vec<_> = cut.iter().flat_map(|cut| cluster.send(0, UPLINK, &framed(FROM_CLIENT, cut))).collect();
    let (inner, _) = at_pod(&outs).expect("all of it");
    assert_eq!((inner.source, inner.destination), (whole.source, whole.destination));
}

#[test]
fn fragments_that_cross_between_workers_end_where_their_first_does() {
    // All fragments are in flight before the first has been handed round.
    let mut cluster = Cluster::new(3);
    let request = query(5000, 4000);
    let cut = fragments(&request.bytes(), 7, [1376, 1376]);
    let mut waiting: VecDeque<_> = cut.iter().map(|fragment| (1, framed(FROM_CLIENT, fragment), 0)).collect();
    let mut outs = vec![];
    while let Some((worker, frame, handovers)) = waiting.pop_front() {
        for (out, _, handovers) in cluster.gateways[worker].call(&[(UPLINK, frame, handovers)]) {
            match out.verdict {
                Verdict::Handover(next) => waiting.push_back((usize::from(next.0), out.bytes, handovers + 1)),
                _ => outs.push(out),
            }
        }
    }
    assert_eq!(at_pod(&outs).unwrap().0.body, request.body);
    assert_eq!(cluster.gateways[1].worker.flows().v4.len(), 1);
}

#[test]
fn fragments_of_a_pods_datagram_for_a_service_find_the_owner_that_the_pod_names() {
    for port in 5000..5010 {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut cluster = Cluster::new(3);
            let request = Packet { source: (world::pod(0, 10), port).into(), ..query(port, 4000) };
            let cut = fragments(&request.bytes(), 7, [1376, 1376]);
            let outs: Vec<_> =
                order.iter().flat_map(|index| cluster.send(1, UNDERLAY, &from_pod(0, &cut[*index]))).collect();
            let (inner, _) = at_pod(&outs).expect("all of it");
            assert_eq!((inner.body.clone(), is_pool(inner.source.ip())), (request.body.clone(), true));
            // A whole one takes the same path, and the fragmented reply goes back to the pod.
            let small = Packet { body: Body::Udp(b"small".into()), ..request.clone() };
            let outs = cluster.send(0, UNDERLAY, &from_pod(0, &small.bytes()));
            assert_eq!(Packet::read(&tunnelled(all_sent(&outs, UNDERLAY)[0]).inner).source, inner.source);
            assert_eq!(cluster.gateways.iter().map(|gateway| gateway.worker.flows().v4.len()).sum::<u32>(), 1);
            let answer = Packet { dont_fragment: false, ..inner.answer(0, &[7; 4001]) };
            let cut = fragments(&answer.bytes(), 78, [1376, 1376]);
            let node = node_of(answer.source.ip());
            let outs: Vec<_> =
                order.iter().flat_map(|index| cluster.send(2, UNDERLAY, &from_pod(node, &cut[*index]))).collect();
            let (back, _) = at_pod(&outs).expect("all of it");
            assert_eq!((back.source, back.body), (request.destination, answer.body));
        }
    }
}

#[test]
fn fragments_that_lost_their_first_between_workers_do_not_go_round_for_ever() {
    let mut cluster = Cluster::new(3);
    let cut = fragments(&query(5000, 4000).bytes(), 7, [1376, 1376]);
    // The first is handed over and lost between workers.
    let out = cluster.gateways[0].send(UPLINK, &framed(FROM_CLIENT, &cut[0]));
    assert_eq!(out.verdict, Verdict::Handover(WorkerId(1)));
    // The next waits at the worker that it is handed to.
    let outs = cluster.send(0, UPLINK, &framed(FROM_CLIENT, &cut[1]));
    assert_eq!(outs.iter().map(|out| out.verdict).collect::<Vec<_>>(), [Verdict::Held]);
    // Marked as handed round, it is dropped.
    let outs = cluster.gateways[0].call(&[(UPLINK, framed(FROM_CLIENT, &cut[2]), 3)]);
    assert_eq!(dropped(&outs[0].0), DropReason::FragmentRefused);
}
