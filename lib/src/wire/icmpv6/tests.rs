use super::*;
use etherparse::{IcmpEchoHeader, Icmpv6Header, Icmpv6Type};
use proptest::prelude::*;
use std::vec::Vec;

#[test]
fn rfc4443_s2_1_errors_have_the_high_bit_clear() {
    assert!((0..=127).all(is_error));
    assert!(!(128..=255).any(is_error));
}

#[test]
fn rfc4443_s3_2_mtu_stands_in_packet_too_big_only() {
    let message = emit(kind::PACKET_TOO_BIG, 0, 1430u32.to_be_bytes());
    assert_eq!(Header::parse(&message).unwrap().0.mtu(), Some(1430));
    let message = emit(kind::PARAMETER_PROBLEM, 0, 40u32.to_be_bytes());
    assert_eq!(Header::parse(&message).unwrap().0.mtu(), None);
}

#[test]
fn rfc4884_s4_4_length_counts_words_of_eight_bytes() {
    let quoted = |kind, rest| Header::parse(&emit(kind, 0, rest)).unwrap().0.quoted_len();
    assert_eq!(quoted(kind::TIME_EXCEEDED, [16, 0, 0, 0]), Some(128));
    assert_eq!(quoted(kind::TIME_EXCEEDED, [0; 4]), None);
    assert_eq!(quoted(kind::PACKET_TOO_BIG, [16, 0, 0, 0]), None, "the MTU stands there");
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(
        kind: u8, code: u8, rest: [u8; 4], data: Vec<u8>, source: [u8; 16], destination: [u8; 16],
    ) {
        let mut message = [&emit(kind, code, rest)[..], &data].concat();
        prop_assert!(seal(&mut message, source, destination));
        let (header, payload) = Header::parse(&message).unwrap();
        prop_assert_eq!((header.kind(), header.code()), (kind, code));
        prop_assert_eq!((header.checksum(), header.is_error()), ([message[2], message[3]], is_error(kind)));
        prop_assert_eq!([header.identifier(), header.sequence().to_be_bytes()].concat(), rest);
        prop_assert_eq!(payload, &data);
        let pseudo = Sum::NONE.pseudo_v6(source, destination, 58, message.len() as u32);
        prop_assert!(pseudo.bytes(&message).is_valid());
    }

    #[test]
    fn an_independent_encoder_writes_the_same(
        id: u16, seq: u16, mtu: u32, data: Vec<u8>, source: [u8; 16], destination: [u8; 16],
    ) {
        let echo = IcmpEchoHeader { id, seq };
        for theirs in [Icmpv6Type::EchoRequest(echo), Icmpv6Type::PacketTooBig { mtu }] {
            let header = Icmpv6Header::with_checksum(theirs, source, destination, &data).unwrap();
            let bytes = [&header.to_bytes()[..], &data].concat();
            let mut ours = bytes.clone();
            [ours[2], ours[3]] = [0xde, 0xad];
            prop_assert!(seal(&mut ours, source, destination));
            prop_assert_eq!(&ours, &bytes);
            let (header, _) = Header::parse(&bytes).unwrap();
            match header.mtu() {
                Some(found) => prop_assert_eq!(found, mtu),
                None => prop_assert_eq!((header.identifier(), header.sequence()), (id.to_be_bytes(), seq)),
            }
        }
    }

    #[test]
    fn rfc4443_s4_2_an_answered_echo_is_the_reply_an_independent_encoder_makes(
        id: u16, seq: u16, data: Vec<u8>, source: [u8; 16], destination: [u8; 16],
    ) {
        let echo = IcmpEchoHeader { id, seq };
        let header = |kind, source, destination| Icmpv6Header::with_checksum(kind, source, destination, &data).unwrap();
        let mut message = header(Icmpv6Type::EchoRequest(echo), source, destination).to_bytes();
        let reply = header(Icmpv6Type::EchoReply(echo), destination, source).to_bytes();
        answer_echo(message.first_chunk_mut().unwrap());
        prop_assert_eq!(&message[..], &reply[..]);
    }

    #[test]
    fn every_shorter_length_is_truncated(len in 0..HEADER_LEN) {
        let mut message = emit(128, 0, [0; 4]);
        let error = Header::parse(&message[..len]).unwrap_err();
        prop_assert_eq!(error, ParseError::Truncated { layer: Layer::Icmpv6, need: 8, have: len as u16 });
        prop_assert!(!seal(&mut message[..len], [1; 16], [2; 16]));
        prop_assert_eq!(message, emit(128, 0, [0; 4]));
    }
}
