use std::vec;

use super::*;
use crate::flow::{Direction, Timeouts, idle_ticks};

const CLIENT: Tuple<[u8; 4]> = Tuple {
    source: [192, 0, 2, 7],
    destination: [203, 0, 113, 9],
    source_port: [0x9c, 0x40],
    destination_port: [0, 80],
};

/// A table with one flow of TCP that a client has begun, followed through these segments of both sides; what the last
/// of them was to it, and how many flows there are then.
fn followed(segments: &[(Direction, u8, u64)]) -> (Tracked, u32) {
    let mut memory = vec![0_u8; Table::<[u8; 4]>::memory_bytes(16) + 64];
    let start = memory.as_ptr().align_offset(64);
    let mut flows = Table::<[u8; 4]>::new(16, [1, 2, 3, 4], &mut memory[start..]).unwrap();
    let idle = idle_ticks(&Timeouts::default());
    let at = |seconds| Age::new(Instant::from_secs(seconds), &idle);
    flows.begin(CLIENT, CLIENT.inverted(), Protocol::TCP, State::TcpSynSent, at(0)).unwrap();
    let mut last = Tracked::Misfit;
    for (direction, flags, seconds) in segments {
        let tuple = if *direction == Direction::Original { CLIENT } else { CLIENT.inverted() };
        let Some(found) = flows.lookup(flows.hash(&tuple, Protocol::TCP), &tuple, Protocol::TCP) else { break };
        assert_eq!(found.direction, *direction);
        last = flows.track(found, Flags(*flags), at(*seconds));
    }
    (last, flows.len())
}

#[test]
fn a_packet_follows_its_flow_ends_it_or_does_not_fit() {
    use Direction::{Original, Reply};
    let (syn, rst, ack) = (Flags::SYN.0, Flags::RST.0, Flags::ACK.0);
    let open = [(Reply, syn | ack, 1), (Original, ack, 1)];
    assert_eq!(followed(&open), (Tracked::Follows(State::TcpEstablished), 1));
    assert_eq!(followed(&[(Reply, rst | ack, 1)]), (Tracked::Ends, 0));
    assert_eq!(followed(&[(Reply, syn | Flags::FIN.0, 1)]), (Tracked::Misfit, 1));
}

#[test]
fn a_packet_of_a_flow_that_has_idled_too_long_finds_it_over() {
    use Direction::{Original, Reply};
    let (syn, ack) = (Flags::SYN.0, Flags::ACK.0);
    assert_eq!(followed(&[(Original, syn, 119)]), (Tracked::Follows(State::TcpSynSent), 1));
    assert_eq!(followed(&[(Original, syn, 119), (Reply, syn | ack, 240)]), (Tracked::Over, 0));
}

#[test]
fn a_flow_takes_each_of_its_tuples_once() {
    let mut memory = vec![0_u8; Table::<[u8; 4]>::memory_bytes(16) + 64];
    let start = memory.as_ptr().align_offset(64);
    let mut flows = Table::<[u8; 4]>::new(16, [1, 2, 3, 4], &mut memory[start..]).unwrap();
    let idle = idle_ticks(&Timeouts::default());
    let age = Age::new(Instant::ZERO, &idle);
    assert_eq!(flows.begin(CLIENT, CLIENT.inverted(), Protocol::UDP, State::Udp, age), Ok(0));
    let again = flows.begin(CLIENT, CLIENT.inverted(), Protocol::UDP, State::Udp, age);
    assert_eq!(again, Err(InsertError::TupleTaken));
}

#[test]
fn what_idles_too_long_is_forgotten_unasked_and_counted() {
    let mut memory = vec![0_u8; Table::<[u8; 4]>::memory_bytes(16) + 64];
    let start = memory.as_ptr().align_offset(64);
    let mut flows = Table::<[u8; 4]>::new(16, [1, 2, 3, 4], &mut memory[start..]).unwrap();
    let idle = idle_ticks(&Timeouts::default());
    let at = |seconds| Age::new(Instant::from_secs(seconds), &idle);
    for (port, seconds) in [(1, 0), (2, 0), (3, 100)] {
        let tuple = Tuple { source_port: [0, port], ..CLIENT };
        flows.begin(tuple, tuple.inverted(), Protocol::UDP, State::Udp, at(seconds)).unwrap();
    }
    assert_eq!((flows.forget_idle(at(119), 16), flows.len()), (0, 3));
    assert_eq!((flows.forget_idle(at(122), 16), flows.len()), (2, 1));
    assert_eq!((flows.forget_idle(at(122), 16), flows.len()), (0, 1));
}
