use super::*;
use etherparse::UdpHeader;
use proptest::prelude::*;
use std::vec::Vec;

proptest! {
    #[test]
    fn emit_then_parse_is_identity(s: [u8; 2], d: [u8; 2], c: [u8; 2], data: Vec<u8>, trailer: Vec<u8>) {
        let len = (HEADER_LEN + data.len()) as u16;
        let bytes = [&emit(s, d, len, c)[..], &data, &trailer].concat();
        let (header, rest) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.source_port(), s);
        prop_assert_eq!(header.destination_port(), d);
        prop_assert_eq!(header.len(), len);
        prop_assert_eq!(header.checksum(), c);
        prop_assert_eq!(rest, &data);
    }

    #[test]
    fn an_independent_encoder_writes_what_we_read(source_port: u16, destination_port: u16, length in 8u16.., checksum: u16) {
        let theirs = UdpHeader { source_port, destination_port, length, checksum };
        let ours = emit(
            source_port.to_be_bytes(), destination_port.to_be_bytes(), length, checksum.to_be_bytes(),
        );
        prop_assert_eq!(theirs.to_bytes(), ours);
    }

    #[test]
    fn a_length_past_the_payload_is_truncated(data: Vec<u8>, more in 1u16..100) {
        let have = HEADER_LEN + data.len();
        let len = have as u16 + more;
        let bytes = [&emit([0; 2], [0; 2], len, [0; 2])[..], &data].concat();
        let error = Header::parse(&bytes).unwrap_err();
        prop_assert_eq!(error, ParseError::Truncated { layer: Layer::Udp, need: len, have: have as u16 });
        // A first fragment announces the whole datagram.
        prop_assert_eq!(Header::parse_first(&bytes).unwrap().1, &data);
    }

    #[test]
    fn rfc768_a_length_less_than_the_header_is_refused(len in 0u16..8, data: Vec<u8>) {
        let bytes = [&emit([0; 2], [0; 2], len, [0; 2])[..], &data].concat();
        prop_assert_eq!(Header::parse(&bytes).unwrap_err(), ParseError::BadLength { layer: Layer::Udp, len });
    }

    #[test]
    fn every_shorter_length_is_truncated(len in 0..HEADER_LEN) {
        let error = Header::parse(&emit([0; 2], [0; 2], 8, [0; 2])[..len]).unwrap_err();
        prop_assert_eq!(error, ParseError::Truncated { layer: Layer::Udp, need: 8, have: len as u16 });
    }

    #[test]
    fn noise_never_panics(bytes: Vec<u8>) {
        let _ = Header::parse(&bytes);
        let _ = Header::parse_first(&bytes);
    }
}
