use std::vec::Vec;

use super::Direction::{Original, Reply};
use super::State::*;
use super::transitions::OTHER_CHUNK;
use super::*;
use crate::time::span;

/// What `conntrack` does with each kind of segment, state by state, as its own table has it (kernel,
/// net/netfilter/nf_conntrack_proto_tcp.c), with these differences: whose FIN it was is known (`FO`, `FR`, and `CO`,
/// `CR` once it was acknowledged), so that one side's does not count for both; a SYN after both sides' FINs
/// begins another connection, with a backend of its own (`NW`); a RST in place of any reply ends the flow
/// (`DL`), while others are doubted, and RESET (`RS`) in place of CLOSE is left when both sides (`RO`, `RR`: one of
/// them) have spoken; a reply may not open anew what has ended; `-` is invalid, `.` goes on and changes nothing.
const TCP: &str = "
    orig  syn    SS .  SR .  ES .  FO .  FR .  CO .  CR .  LA NW TW NW RS .  RO .  RR .  S2 S2
    orig  synack SS -  SR SR ES -  FO -  FR -  CO -  CR -  LA -  TW -  RS -  RO -  RR -  S2 SR
    orig  fin    SS -  SR FO ES FO FO FO FR LA CO CO CR LA LA LA TW TW RS RO RO RO RR FO S2 -
    orig  ack    SS -  SR ES ES ES FO FO FR CR CO CO CR CR LA TW TW TW RS RO RO RO RR ES S2 -
    orig  rst    SS DL SR .  ES RS FO RS FR RS CO RS CR RS LA .  TW .  RS .  RO RS RR RS S2 .
    orig  none   SS -  SR -  ES -  FO -  FR -  CO -  CR -  LA -  TW -  RS -  RO -  RR -  S2 -
    reply syn    SS S2 SR -  ES -  FO -  FR -  CO -  CR -  LA -  TW -  RS -  RO -  RR -  S2 S2
    reply synack SS SR SR .  ES .  FO .  FR .  CO .  CR .  LA .  TW .  RS RR RO RR RR RR S2 SR
    reply fin    SS -  SR FR ES FR FO LA FR FR CO LA CR CR LA LA TW TW RS RR RO FR RR RR S2 -
    reply ack    SS .  SR SR ES ES FO CO FR FR CO CO CR CR LA TW TW TW RS RR RO ES RR RR S2 .
    reply rst    SS DL SR .  ES RS FO RS FR RS CO RS CR RS LA .  TW .  RS .  RO RS RR RS S2 .
    reply none   SS -  SR -  ES -  FO -  FR -  CO -  CR -  LA -  TW -  RS -  RO -  RR -  S2 -";

const SCTP: &str = "
    orig  init          CW CW CE CE ES ES SS SS SR SR SA SA CL NW
    orig  init_ack      CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    orig  abort         CW CL CE CL ES CL SS CL SR CL SA CL CL CL
    orig  shutdown      CW CW CE CE ES SS SS SS SR SR SA SA CL CL
    orig  shutdown_ack  CW CW CE CE ES ES SS SA SR SA SA SA CL CL
    orig  error         CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    orig  cookie_echo   CW CE CE CE ES ES SS SS SR SR SA SA CL CL
    orig  cookie_ack    CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    orig  shutdown_comp CW CW CE CE ES ES SS SS SR SR SA CL CL CL
    orig  other         CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    reply init          CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    reply init_ack      CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    reply abort         CW CL CE CL ES CL SS CL SR CL SA CL CL CL
    reply shutdown      CW CW CE CE ES SR SS SS SR SR SA SA CL CL
    reply shutdown_ack  CW CW CE CE ES ES SS SA SR SA SA SA CL CL
    reply error         CW CW CE CL ES ES SS SS SR SR SA SA CL CL
    reply cookie_echo   CW CW CE CE ES ES SS SS SR SR SA SA CL CL
    reply cookie_ack    CW CW CE ES ES ES SS SS SR SR SA SA CL CL
    reply shutdown_comp CW CW CE CE ES ES SS SS SR SR SA CL CL CL
    reply other         CW CW CE CE ES ES SS SS SR SR SA SA CL CL";

fn tcp_state(name: &str) -> Option<State> {
    Some(match name {
        "SS" => TcpSynSent,
        "SR" => TcpSynReceived,
        "ES" => TcpEstablished,
        "FO" => TcpFinWaitOriginal,
        "FR" => TcpFinWaitReply,
        "CO" => TcpCloseWaitOriginal,
        "CR" => TcpCloseWaitReply,
        "LA" => TcpLastAck,
        "TW" => TcpTimeWait,
        "RS" => TcpReset,
        "RO" => TcpResetOriginal,
        "RR" => TcpResetReply,
        "S2" => TcpSynSent2,
        _ => return None,
    })
}

fn sctp_state(name: &str) -> Option<State> {
    Some(match name {
        "CW" => SctpCookieWait,
        "CE" => SctpCookieEchoed,
        "ES" => SctpEstablished,
        "SS" => SctpShutdownSent,
        "SR" => SctpShutdownReceived,
        "SA" => SctpShutdownAckSent,
        "CL" => SctpClosed,
        _ => return None,
    })
}

/// The kind of a segment, by what conntrack's documentation says of the flags it takes for legal.
fn tcp_class(flags: u8) -> &'static str {
    let [fin, syn, rst, ack, urg] = [0x01, 0x02, 0x04, 0x10, 0x20].map(|bit| flags & bit != 0);
    match (fin, syn, rst, ack, urg) {
        (false, true, false, false, _) => "syn",
        (false, true, false, true, false) => "synack",
        (false, false, true, _, false) => "rst",
        (true, false, false, true, _) => "fin",
        (false, false, false, true, _) => "ack",
        _ => "none",
    }
}

fn sctp_class(kind: u8) -> &'static str {
    match kind {
        1 => "init",
        2 => "init_ack",
        6 => "abort",
        7 => "shutdown",
        8 => "shutdown_ack",
        9 => "error",
        10 => "cookie_echo",
        11 => "cookie_ack",
        14 => "shutdown_comp",
        _ => "other",
    }
}

/// Every cell of a table against [`step`], for every value of the flags that is of the row's class.
fn compare(table: &str, state_of: fn(&str) -> Option<State>, class_of: fn(u8) -> &'static str) -> usize {
    let mut cells = 0;
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let direction = if words[0] == "orig" { Original } else { Reply };
        for cell in words[2..].chunks(2) {
            let from = state_of(cell[0]).expect("a state");
            for flags in (0..64).filter(|flags| class_of(*flags) == words[1]) {
                for assured in [0, ASSURED].into_iter().filter(|bit| from.can_be(*bit != 0)) {
                    let expected = match cell[1] {
                        "-" => Err(Step::INVALID),
                        "." => Err(Step::IGNORE),
                        "NW" => Err(Step::REOPEN),
                        "DL" => Err(Step::DELETE),
                        name => Ok(state_of(name).expect("a state")),
                    };
                    let got = step(from as u8 | assured, direction, Flags(flags));
                    let written = got.state();
                    let seen = written.map(|byte| State::from_number(byte & NUMBER).expect("a state")).ok_or(got);
                    assert_eq!(seen, expected, "{from:?} {direction:?} {flags:#x}");
                    if let Some(byte) = written {
                        let worth =
                            |byte: u8| State::from_number(byte & NUMBER).map(|it| it.worth(byte & ASSURED != 0));
                        // Where a segment's numbers tell something: of a handshake, of a FIN, of its acknowledgement.
                        let [fin, syn] = [Flags::FIN, Flags::SYN].map(|flag| flags & flag.0 != 0);
                        let has_number = from.is_of(Protocol::TCP) && syn
                            || from == TcpSynReceived
                            || byte & ASSURED != assured
                            || fin && matches!(seen, Ok(TcpFinWaitOriginal | TcpFinWaitReply))
                            || fin
                                && matches!(
                                    (from, direction),
                                    (TcpCloseWaitOriginal, Reply) | (TcpCloseWaitReply, Original)
                                )
                            || (from, direction) == (TcpFinWaitOriginal, Reply)
                            || (from, direction) == (TcpFinWaitReply, Original);
                        let is_plain = worth(byte) == worth(from as u8 | assured) && !has_number;
                        assert_eq!(got.plain().is_some(), is_plain, "{from:?} {flags:#x}");
                        let now = byte & ASSURED != 0;
                        let may = seen.expect("a state");
                        assert!(now || assured == 0, "{from:?} {direction:?} {flags:#x}: assured no more");
                        assert!(may.can_be(now), "{from:?} {direction:?} {flags:#x}: {may:?} assured: {now}");
                        assert_eq!(now, !may.can_be(false) || assured != 0, "{from:?} {direction:?} {flags:#x}");
                    }
                    cells += 1;
                }
            }
        }
    }
    cells
}

#[test]
fn every_tcp_state_direction_and_class() {
    // Two directions, 64 flags, thirteen states, of which one may or may not be assured.
    assert_eq!(compare(TCP, tcp_state, tcp_class), 2 * 64 * (13 + 1));
}

#[test]
fn every_sctp_state_direction_and_chunk() {
    assert_eq!(compare(SCTP, sctp_state, sctp_class), 2 * 64 * (7 + 4));
    for kind in 0..=255 {
        assert_eq!(Flags::of_chunk(kind).0, kind.min(OTHER_CHUNK));
    }
}

#[test]
fn every_datagram_state_and_direction_whatever_stands_in_place_of_flags() {
    for flags in (0..=255).map(Flags) {
        for (from, original, reply) in [
            (Udp, Udp, UdpAnswered),
            (UdpAnswered, UdpStream, UdpAnswered),
            (UdpStream, UdpStream, UdpStream),
            (IcmpEcho, IcmpEcho, IcmpEchoAnswered),
            (IcmpEchoAnswered, IcmpEchoAnswered, IcmpEchoAnswered),
        ] {
            for (direction, expected) in [(Original, original), (Reply, reply)] {
                let assured = if from == UdpStream { ASSURED } else { 0 };
                let byte = step(from as u8 | assured, direction, flags).state().expect("a state");
                assert_eq!(State::from_number(byte & NUMBER), Some(expected), "{from:?} {direction:?}");
                assert_eq!(byte & ASSURED != 0, expected == UdpStream, "{from:?} {direction:?}");
            }
        }
    }
}

#[test]
fn no_byte_of_a_table_leads_out_of_the_states() {
    for byte in 0..=255 {
        for direction in [Original, Reply] {
            for flags in (0..=255).map(Flags) {
                let next = step(byte, direction, flags);
                assert!(next.state().is_none_or(|byte| State::from_number(byte & NUMBER).is_some()), "{byte:#x}");
            }
        }
    }
    let known: Vec<u8> = (0..=255).filter(|number| State::from_number(*number).is_some()).collect();
    assert_eq!(known.len(), State::ALL.len());
    assert!(known.iter().all(|number| State::from_number(*number).map(|state| state as u8) == Some(*number)));
    assert!(known.iter().all(|number| ![3, 7, 8, 11].contains(number) && *number < ASSURED), "{known:?}");
}

#[test]
fn only_the_clients_own_ack_assures_a_connection() {
    // A forged SYN, answered by a pod; whatever the pod says more, the flow stays half open.
    let answered = step(TcpSynSent as u8, Reply, Flags::SYN.union(Flags::ACK)).state().unwrap();
    assert_eq!(answered, TcpSynReceived as u8);
    for flags in (0..64).map(Flags) {
        if let Some(byte) = step(answered, Reply, flags).state() {
            assert_eq!(byte & ASSURED, 0, "{flags:?}");
        }
    }
    assert_eq!(step(answered, Original, Flags::ACK).state(), Some(TcpEstablished as u8 | ASSURED));
    let idle = idle_ticks(&Timeouts::default());
    assert!(idle[usize::from(answered)] <= idle[TcpSynSent as usize]);
}

/// Every state of a flow that packets of one side alone can bring about, whatever their flags and numbers, from
/// this one on.
fn alone(from: u8, side: Direction) -> Vec<u8> {
    let (mut reached, mut at) = (std::vec![from], 0);
    while let Some(byte) = reached.get(at).copied() {
        for next in (0..64).filter_map(|flags| step(byte, side, Flags(flags)).state()) {
            if !reached.contains(&next) {
                reached.push(next);
            }
        }
        at += 1;
    }
    reached
}

#[test]
fn after_a_reset_one_side_alone_does_not_end_the_doubt() {
    for side in [Original, Reply] {
        let reached = alone(TcpReset as u8 | ASSURED, side);
        assert!(
            reached.iter().all(|byte| State::from_byte(*byte).is_some_and(|it| it.name() == "RESET")),
            "{reached:?}"
        );
    }
}

#[test]
fn rfc9293_s3_5_only_a_bare_syn_begins_a_flow() {
    for flags in (0..=255).map(Flags) {
        // ECE and CWR may stand beside it (RFC 3168 §6.1.1), PSH and URG may too.
        let bare = flags.0 & 0x17 == 0x02;
        assert_eq!(State::first(Protocol::TCP, flags), bare.then_some(TcpSynSent), "{flags:?}");
        let init = flags.0 == 1;
        assert_eq!(State::first(Protocol::SCTP, flags), init.then_some(SctpCookieWait), "{flags:?}");
    }
    assert_eq!(State::first(Protocol::UDP, Flags(0)), Some(Udp));
    assert_eq!(State::first(Protocol::ICMP, Flags(0)), Some(IcmpEcho));
    assert_eq!(State::first(Protocol::ICMPV6, Flags(0)), Some(IcmpEcho));
    assert_eq!(State::first(Protocol(47), Flags(2)), None);
}

/// The seconds that a flow in this state may idle by default.
fn seconds(state: State) -> u64 {
    span(idle_ticks(&Timeouts::default())[state as usize]).0.div_ceil(1_000_000_000)
}

#[test]
fn timeouts_are_linuxs_but_where_kube_proxy_or_an_rfc_has_more() {
    let told: Vec<(State, u64)> = State::ALL.iter().map(|state| (*state, seconds(*state))).collect();
    let expected = [
        (TcpSynSent, 120),
        (TcpEstablished, 86_400),
        (Udp, 120),
        (UdpStream, 300),
        (TcpSynReceived, 60),
        (TcpLastAck, 30),
        (TcpTimeWait, 120),
        (TcpSynSent2, 120),
        (UdpAnswered, 120),
        (IcmpEcho, 60),
        (IcmpEchoAnswered, 60),
        (SctpCookieWait, 3),
        (SctpCookieEchoed, 3),
        (SctpEstablished, 210),
        (SctpShutdownSent, 3),
        (SctpShutdownReceived, 3),
        (SctpShutdownAckSent, 3),
        (SctpClosed, 10),
        (TcpReset, 240),
        (TcpFinWaitOriginal, 7440),
        (TcpFinWaitReply, 7440),
        (TcpCloseWaitOriginal, 3600),
        (TcpCloseWaitReply, 3600),
        (TcpResetOriginal, 240),
        (TcpResetReply, 240),
    ];
    assert_eq!(told, expected);
}

#[test]
fn rfc4787_req5_a_udp_mapping_lives_at_least_two_minutes() {
    assert!([Udp, UdpAnswered, UdpStream].iter().all(|state| seconds(*state) >= 120));
}

#[test]
fn rfc5382_req5_an_established_flow_survives_two_hours_four_minutes_idle() {
    assert!(seconds(TcpEstablished) >= 2 * 3600 + 4 * 60);
}

#[test]
fn rfc5508_req2_an_icmp_query_mapping_lives_at_least_sixty_seconds() {
    assert!([IcmpEcho, IcmpEchoAnswered].iter().all(|state| seconds(*state) >= 60));
}

#[test]
fn no_timeout_outgrows_the_clock() {
    let timeouts = Timeouts { tcp_established_seconds: u32::MAX, ..Timeouts::default() };
    assert_eq!(idle_ticks(&timeouts)[TcpEstablished as usize], u32::MAX / 2);
    assert_eq!(idle_ticks(&timeouts)[Udp as usize], 114_440);
}

#[test]
fn a_fin_that_is_not_acknowledged_keeps_a_flow_no_longer_than_if_it_were_open() {
    for (open, fin, expected) in [(3600, 7440, 3600), (7440, 7440, 7440), (86_400, 600, 600)] {
        let timeouts = Timeouts { tcp_established_seconds: open, tcp_fin_wait_seconds: fin, ..Timeouts::default() };
        let idle = idle_ticks(&timeouts);
        for state in [TcpFinWaitOriginal, TcpFinWaitReply] {
            assert_eq!(span(idle[state as usize]).0.div_ceil(1_000_000_000), expected);
        }
    }
}

#[test]
fn flows_give_way_in_this_order_and_assured_ones_never() {
    let of = |worth: Option<Worth>, assured: bool| -> std::string::String {
        let all = State::ALL.iter().filter(|state| state.can_be(assured) && state.worth(assured) == worth);
        std::format!("{:?}", all.collect::<Vec<_>>())
    };
    assert_eq!(
        of(Some(Worth::HalfOpen), false),
        "[TcpSynSent, TcpSynReceived, TcpSynSent2, SctpCookieWait, SctpCookieEchoed]"
    );
    assert_eq!(of(Some(Worth::OneWay), false), "[Udp, IcmpEcho]");
    assert_eq!(of(Some(Worth::Closing), false), "[SctpShutdownAckSent, SctpClosed, TcpFinWaitReply]");
    assert_eq!(
        of(Some(Worth::Closing), true),
        "[TcpTimeWait, SctpShutdownAckSent, SctpClosed, TcpReset, TcpResetOriginal, TcpResetReply]"
    );
    assert_eq!(
        of(Some(Worth::Unassured), false),
        "[UdpAnswered, IcmpEchoAnswered, SctpShutdownSent, SctpShutdownReceived]"
    );
    assert_eq!(
        of(None, true),
        "[TcpEstablished, TcpLastAck, SctpEstablished, SctpShutdownSent, SctpShutdownReceived, TcpFinWaitOriginal, \
         TcpFinWaitReply, TcpCloseWaitOriginal, TcpCloseWaitReply]"
    );
    assert_eq!(of(Some(Worth::Stream), true), "[UdpStream]");
    assert_eq!(of(None, false), "[]");
    assert!(Worth::ALL.is_sorted());
}

#[test]
fn a_state_is_of_the_protocol_that_it_is_named_after() {
    for state in State::ALL {
        let name = std::format!("{state:?}");
        for (protocol, prefix) in [
            (Protocol::TCP, "Tcp"),
            (Protocol::UDP, "Udp"),
            (Protocol::SCTP, "Sctp"),
            (Protocol::ICMP, "Icmp"),
            (Protocol::ICMPV6, "Icmp"),
        ] {
            assert_eq!(state.is_of(protocol), name.starts_with(prefix), "{name} and {protocol}");
        }
    }
}
