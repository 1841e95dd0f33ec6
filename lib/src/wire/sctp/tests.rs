use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// A packet of these chunks: type, flags, value.
fn packet(chunks: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = emit([0x12, 0x34], [0x56, 0x78], [1, 2, 3, 4]).to_vec();
    for (kind, flags, value) in chunks {
        bytes.extend(emit_chunk(*kind, *flags, value.len() as u16));
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    assert!(seal(&mut bytes));
    bytes
}

fn chunks() -> impl Strategy<Value = Vec<(u8, u8, Vec<u8>)>> {
    prop::collection::vec(any::<(u8, u8, Vec<u8>)>(), 1..20)
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(chunks in chunks()) {
        let bytes = packet(&chunks);
        let (header, found) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.source_port(), [0x12, 0x34]);
        prop_assert_eq!(header.destination_port(), [0x56, 0x78]);
        prop_assert_eq!(header.tag(), [1, 2, 3, 4]);
        prop_assert_eq!(Some(header.checksum()), checksum(&bytes));
        let found: Vec<_> = found.map(|chunk| (chunk.kind, chunk.flags, chunk.value.to_vec())).collect();
        prop_assert_eq!(found, chunks);
    }

    #[test]
    fn a_packet_cut_anywhere_but_in_padding_is_truncated(chunks in chunks(), at: prop::sample::Index) {
        let bytes = packet(&chunks);
        let cut = at.index(bytes.len());
        let mut ends = Vec::from([HEADER_LEN]);
        for (_, _, value) in &chunks {
            let from = ends.last().unwrap().next_multiple_of(4);
            ends.push(from + CHUNK_HEADER_LEN + value.len());
        }
        let is_whole = ends[1..].iter().any(|end| (*end..=end.next_multiple_of(4)).contains(&cut));
        match Header::parse(&bytes[..cut]) {
            Ok(_) => prop_assert!(is_whole),
            Err(error) => {
                prop_assert!(!is_whole && matches!(error, ParseError::Truncated { .. }), "{:?} at {}", error, cut);
            }
        }
    }

    #[test]
    fn a_first_fragment_ends_anywhere_behind_its_first_chunks_header(chunks in chunks(), at: prop::sample::Index) {
        let bytes = packet(&chunks);
        let cut = at.index(bytes.len());
        let parsed = Header::parse_first(&bytes[..cut]);
        prop_assert_eq!(parsed.is_ok(), cut >= HEADER_LEN + CHUNK_HEADER_LEN);
        if let Ok((_, found)) = parsed {
            for (found, (kind, flags, value)) in found.zip(&chunks) {
                prop_assert_eq!((found.kind, found.flags), (*kind, *flags));
                prop_assert!(value.starts_with(found.value));
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes: Vec<u8>) {
        for (_, chunks) in [Header::parse(&bytes), Header::parse_first(&bytes)].into_iter().flatten() {
            prop_assert!(chunks.count() <= bytes.len() / 4);
        }
        let _ = checksum(&bytes);
    }
}

#[test]
fn rfc9260_s3_2_a_chunk_shorter_than_its_own_header_is_refused() {
    for len in 0..4 {
        for other in [&[][..], &[kind::DATA, 3, 0, 4]] {
            let bytes = [&emit([0; 2], [0; 2], [0; 4])[..], other, &[kind::ABORT, 0, 0, len]].concat();
            let error = Header::parse(&bytes).unwrap_err();
            assert_eq!(error, ParseError::BadLength { layer: Layer::SctpChunk, len: len.into() });
        }
    }
}

#[test]
fn a_chunk_longer_than_the_packet_is_truncated() {
    let bytes = [&emit([0; 2], [0; 2], [0; 4])[..], &[kind::DATA, 3, 0, 21], &[0; 16]].concat();
    let error = Header::parse(&bytes).unwrap_err();
    assert_eq!(error, ParseError::Truncated { layer: Layer::SctpChunk, need: 21, have: 20 });
    let bytes = emit([0; 2], [0; 2], [0; 4]);
    let error = Header::parse(&bytes).unwrap_err();
    assert_eq!(error, ParseError::Truncated { layer: Layer::SctpChunk, need: 4, have: 0 }, "no chunk at all");
}

#[test]
fn initiate_tags_are_read_from_whole_init_chunks_alone() {
    let value = [[7, 8, 9, 10], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]].concat();
    let tag = |kind, value: &[u8]| Chunk { kind, flags: 0, value }.initiate_tag();
    assert_eq!(tag(kind::INIT, &value), Some([7, 8, 9, 10]));
    assert_eq!(tag(kind::INIT_ACK, &value), Some([7, 8, 9, 10]));
    assert_eq!(tag(kind::COOKIE_ECHO, &value), None);
    assert_eq!(tag(kind::INIT, &value[..15]), None);
    assert_eq!(tag(kind::INIT, &[0; 16]), None, "RFC 9260 §3.3.2: zero is no tag");
}

#[test]
fn no_more_chunks_are_looked_at_than_there_is_a_limit_to() {
    let bundled = |count| vec![(kind::DATA, 3, vec![0; 13]); count];
    for (count, seen) in [(63, 63), (64, 64), (65, 64), (74, 64), (300, 64)] {
        let whole = packet(&bundled(count));
        for (_, chunks) in [Header::parse(&whole).unwrap(), Header::parse_first(&whole).unwrap()] {
            assert_eq!(chunks.count(), seen, "{count} chunks");
        }
    }
    // What is behind them is the receiver's to judge.
    let behind = [&packet(&bundled(64))[..], &[0, 0, 0, 3]].concat();
    assert!(Header::parse(&behind).is_ok());
    assert!(Header::parse(&[&packet(&bundled(63))[..], &[0, 0, 0, 3]].concat()).is_err());
}

#[test]
fn rfc9260_appendix_a_the_checksum_lies_with_its_lowest_byte_first() {
    let mut bytes = [0x12, 0x34, 0x56, 0x78, 1, 2, 3, 4, 0, 0, 0, 0, 1, 0, 0, 8, 9, 9, 9, 9];
    // By another program.
    assert_eq!(checksum(&bytes), Some([253, 107, 111, 33]));
    assert!(seal(&mut bytes));
    assert_eq!(bytes[8..12], [253, 107, 111, 33]);
    assert_eq!((checksum(&bytes[..11]), seal(&mut bytes[..11])), (None, false));
}
