use super::*;
use etherparse::Icmpv4Header;
use proptest::prelude::*;
use std::vec::Vec;

#[test]
fn rfc792_the_errors_are_those_that_quote() {
    let errors: Vec<u8> = (0..=255).filter(|kind| is_error(*kind)).collect();
    assert_eq!(errors, [3, 4, 5, 11, 12]);
}

#[test]
fn rfc1191_s4_next_hop_mtu_stands_in_fragmentation_needed_only() {
    let message = emit(kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, [0, 0, 0x05, 0xaa]);
    assert_eq!(Header::parse(&message).unwrap().0.next_hop_mtu(), Some(1450));
    let message = emit(kind::UNREACHABLE, unreachable::PORT, [0, 0, 0x05, 0xaa]);
    assert_eq!(Header::parse(&message).unwrap().0.next_hop_mtu(), None);
}

#[test]
fn rfc4884_s4_1_length_counts_words_of_four_bytes() {
    let quoted = |kind, rest| Header::parse(&emit(kind, 0, rest)).unwrap().0.quoted_len();
    assert_eq!(quoted(kind::TIME_EXCEEDED, [0, 32, 0, 0]), Some(128));
    assert_eq!(quoted(kind::TIME_EXCEEDED, [0, 0, 0, 0]), None);
    assert_eq!(quoted(kind::REDIRECT, [10, 0, 0, 1]), None, "a gateway's address stands there");
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(kind: u8, code: u8, rest: [u8; 4], data: Vec<u8>) {
        let mut message = [&emit(kind, code, rest)[..], &data].concat();
        prop_assert!(seal(&mut message));
        prop_assert_eq!(checksum::of(&message), [0; 2]);
        let (header, payload) = Header::parse(&message).unwrap();
        prop_assert_eq!((header.kind(), header.code()), (kind, code));
        prop_assert_eq!((header.checksum(), header.is_error()), ([message[2], message[3]], is_error(kind)));
        prop_assert_eq!([header.identifier(), header.sequence().to_be_bytes()].concat(), rest);
        prop_assert_eq!(payload, &data);
    }

    #[test]
    fn an_independent_encoder_writes_the_same(id: u16, seq: u16, data: Vec<u8>, mtu: u16) {
        use etherparse::{IcmpEchoHeader, Icmpv4Type, icmpv4::DestUnreachableHeader};
        let unreachable = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
        for theirs in [Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq }), Icmpv4Type::DestinationUnreachable(unreachable)] {
            let bytes = [&Icmpv4Header::with_checksum(theirs, &data).to_bytes()[..], &data].concat();
            let mut ours = bytes.clone();
            [ours[2], ours[3]] = [0xde, 0xad];
            prop_assert!(seal(&mut ours));
            prop_assert_eq!(&ours, &bytes);
            let (header, _) = Header::parse(&bytes).unwrap();
            match header.next_hop_mtu() {
                Some(found) => prop_assert_eq!(found, mtu),
                None => prop_assert_eq!((header.identifier(), header.sequence()), (id.to_be_bytes(), seq)),
            }
        }
    }

    #[test]
    fn rfc792_an_answered_echo_is_the_reply_an_independent_encoder_makes(id: u16, seq: u16, data: Vec<u8>) {
        use etherparse::{IcmpEchoHeader, Icmpv4Type};
        let echo = IcmpEchoHeader { id, seq };
        let mut message = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &data).to_bytes();
        let reply = Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(echo), &data).to_bytes();
        answer_echo(message.first_chunk_mut().unwrap());
        prop_assert_eq!(&message[..], &reply[..]);
    }

    #[test]
    fn every_shorter_length_is_truncated(len in 0..HEADER_LEN) {
        let mut message = emit(8, 0, [0; 4]);
        let error = Header::parse(&message[..len]).unwrap_err();
        prop_assert_eq!(error, ParseError::Truncated { layer: Layer::Icmpv4, need: 8, have: len as u16 });
        prop_assert!(!seal(&mut message[..len]));
        prop_assert_eq!(message, emit(8, 0, [0; 4]));
    }
}
