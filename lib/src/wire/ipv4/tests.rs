use super::*;
use etherparse::{IpDscp, IpEcn, IpFragOffset, Ipv4Header};
use proptest::prelude::*;
use std::vec::Vec;

/// Every header that the twenty bytes can spell, for a payload of this many bytes.
fn fields(payload: usize) -> impl Strategy<Value = Fields> {
    let words = (any::<u8>(), any::<u16>(), any::<bool>(), 0u16..0x2000, any::<bool>());
    (words, any::<u8>(), any::<u8>(), any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(
        move |((tos, id, dont_fragment, offset, more_fragments), ttl, protocol, source, destination)| Fields {
            tos,
            total_len: (HEADER_LEN + payload) as u16,
            id,
            dont_fragment,
            fragment_offset: offset << 3,
            more_fragments,
            ttl,
            protocol: Protocol(protocol),
            source,
            destination,
        },
    )
}

fn read(header: &Header<'_>) -> Fields {
    let fragment = header.fragment();
    Fields {
        tos: header.tos(),
        total_len: header.total_len(),
        id: header.id(),
        dont_fragment: header.dont_fragment(),
        fragment_offset: fragment.map_or(0, |fragment| fragment.offset),
        more_fragments: fragment.is_some_and(|fragment| fragment.more),
        ttl: header.ttl(),
        protocol: header.protocol(),
        source: header.source(),
        destination: header.destination(),
    }
}

fn theirs(fields: &Fields, options: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header {
        dscp: IpDscp::try_new(fields.tos >> 2).unwrap(),
        ecn: IpEcn::try_new(fields.tos & 3).unwrap(),
        total_len: fields.total_len + options.len() as u16,
        identification: fields.id,
        dont_fragment: fields.dont_fragment,
        more_fragments: fields.more_fragments,
        fragment_offset: IpFragOffset::try_new(fields.fragment_offset >> 3).unwrap(),
        time_to_live: fields.ttl,
        protocol: etherparse::IpNumber(fields.protocol.0),
        header_checksum: 0,
        source: fields.source,
        destination: fields.destination,
        options: options.try_into().unwrap(),
    };
    header.header_checksum = header.calc_header_checksum();
    header.to_bytes().to_vec()
}

#[test]
fn header_from_a_wire_reads_as_it_should() {
    let header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
        0x00, 0xc7,
    ];
    let datagram = [&header[..], &[7; 0x73 - 20], &[0; 3]].concat();
    let (parsed, payload) = Header::parse(&datagram).unwrap();
    assert_eq!(payload, [7; 0x73 - 20], "padding is left out");
    assert_eq!(parsed.checksum(), [0xb8, 0x61]);
    let expected = Fields {
        tos: 0,
        total_len: 0x73,
        id: 0,
        dont_fragment: true,
        fragment_offset: 0,
        more_fragments: false,
        ttl: 64,
        protocol: Protocol::UDP,
        source: [192, 168, 0, 1],
        destination: [192, 168, 0, 199],
    };
    assert_eq!(read(&parsed), expected);
    assert!(parsed.checksum_is_valid());
    assert_eq!(expected.emit(), header);
}

#[test]
fn rfc1812_s5_3_1_a_last_hop_is_not_taken_off() {
    for ttl in [0, 1] {
        let mut fields =
            read(&Header::parse(&[0x45, 0, 0, 20, 0, 0, 0, 0, 9, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap().0);
        fields.ttl = ttl;
        let before = fields.emit();
        let mut bytes = before;
        assert!(!HeaderMut::new(&mut bytes).decrement_ttl());
        assert_eq!(HeaderMut::new(&mut bytes).forward([9; 4], [8; 4]), None);
        assert_eq!(bytes, before);
    }
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(fields in fields(100), padding: Vec<u8>) {
        let bytes = [&fields.emit()[..], &[0x5a; 100], &padding].concat();
        let (header, payload) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(read(&header), fields);
        prop_assert_eq!(payload, &[0x5a; 100]);
        prop_assert!(header.checksum_is_valid());
        prop_assert_eq!(header.ecn() as u8, fields.tos & 3);
    }

    #[test]
    fn an_independent_encoder_writes_the_same(fields in fields(0), words in 0usize..11, options: [u8; 40]) {
        prop_assert_eq!(theirs(&fields, &[]), fields.emit());
        let options = &options[..words * 4];
        let bytes = theirs(&fields, options);
        let (header, payload) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.options(), options);
        prop_assert_eq!(header.header_len(), bytes.len());
        prop_assert!(header.checksum_is_valid() && payload.is_empty());
    }

    #[test]
    fn any_one_wrong_bit_fails_the_checksum(fields in fields(0), bit in 0usize..160) {
        let mut bytes = fields.emit();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Version and lengths are refused before; the rest by the sum.
        if let Ok((header, _)) = Header::parse(&bytes) {
            prop_assert!(!header.checksum_is_valid());
        }
    }

    #[test]
    fn rfc1624_every_mutation_keeps_the_checksum(
        fields in fields(0), source: [u8; 4], destination: [u8; 4], ecn: u8,
    ) {
        let mut bytes = fields.emit();
        let mut header = HeaderMut::new(&mut bytes);
        header.set_source(source);
        header.set_destination(destination);
        header.set_ecn(Ecn::of(ecn));
        prop_assert_eq!(header.decrement_ttl(), fields.ttl > 1);
        let ttl = if fields.ttl > 1 { fields.ttl - 1 } else { fields.ttl };
        let expected = Fields { source, destination, tos: fields.tos & !3 | ecn & 3, ttl, ..fields };
        prop_assert_eq!(bytes, expected.emit());
    }

    #[test]
    fn rfc1624_forwarding_is_its_three_mutations_at_once(
        fields in fields(0), source: [u8; 4], destination: [u8; 4],
    ) {
        let mut bytes = fields.emit();
        let forwarded = HeaderMut::new(&mut bytes).forward(source, destination).is_some();
        prop_assert_eq!(forwarded, fields.ttl > 1);
        let expected = if forwarded { Fields { source, destination, ttl: fields.ttl - 1, ..fields } } else { fields };
        prop_assert_eq!(bytes, expected.emit());
    }

    #[test]
    fn every_shorter_length_is_truncated(fields in fields(30), words in 0usize..11) {
        let bytes = [&theirs(&fields, &std::vec![1; words * 4])[..], &[0; 30]].concat();
        for len in 0..bytes.len() {
            let truncated = matches!(Header::parse(&bytes[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
        }
        Header::parse(&bytes).unwrap();
    }

    #[test]
    fn lengths_less_than_the_header_are_refused(fields in fields(0), ihl in 0u8..5, total in 0u16..20) {
        let mut bytes = fields.emit();
        bytes[0] = 0x40 | ihl;
        let error = Header::parse(&bytes).unwrap_err();
        prop_assert_eq!(error, ParseError::BadLength { layer: Layer::Ipv4, len: u16::from(ihl) * 4 });
        let bytes = Fields { total_len: total, ..fields }.emit();
        prop_assert_eq!(Header::parse(&bytes).unwrap_err(), ParseError::BadLength { layer: Layer::Ipv4, len: total });
    }

    #[test]
    fn other_versions_are_refused(fields in fields(0), version in (0u8..16).prop_filter("not 4", |v| *v != 4)) {
        let mut bytes = fields.emit();
        bytes[0] = version << 4 | 5;
        prop_assert_eq!(Header::parse(&bytes).unwrap_err(), ParseError::BadVersion { version });
    }

    #[test]
    fn noise_never_panics(mut bytes: Vec<u8>, fix: bool) {
        if let (true, Some(first)) = (fix, bytes.first_mut()) {
            *first = 0x40 | *first & 0x0f;
        }
        if let Ok((header, _)) = Header::parse(&bytes) {
            let _ = (header.checksum_is_valid(), read(&header));
        }
        let _ = Header::parse_quoted(&bytes);
        if let Some(mut header) = HeaderMut::at_front(&mut bytes) {
            header.set_source([1; 4]);
            let _ = header.decrement_ttl();
        }
    }
}

/// Piece headers of a datagram with these options.
fn pieces(options: &[u8]) -> Option<[Vec<u8>; 2]> {
    let mut bytes = [&Fields { id: 7, ..PLAIN }.emit()[..], options].concat();
    bytes[0] = 0x40 | (bytes.len() / 4) as u8;
    let (header, _) = Header::parse_quoted(&bytes).unwrap();
    let part = Fragment { id: 9, offset: 1480, more: true };
    let piece = |is_first, part| {
        let mut header = FragmentHeader::copy(&header, is_first)?;
        let len = header.len();
        let bytes = header.emit(8, part).to_vec();
        assert_eq!(bytes.len(), len);
        Some(bytes)
    };
    Some([piece(true, Fragment { offset: 0, ..part })?, piece(false, part)?])
}

const PLAIN: Fields = Fields {
    tos: 0x12,
    total_len: 40,
    id: 7,
    dont_fragment: false,
    fragment_offset: 0,
    more_fragments: false,
    ttl: 9,
    protocol: Protocol::UDP,
    source: [192, 0, 2, 1],
    destination: [192, 0, 2, 2],
};

#[test]
fn rfc791_s3_1_only_options_with_their_flag_are_in_later_pieces() {
    // Record route (7) is not copied, strict source route (137) is; no operation (1) is not.
    let [first, later] = pieces(&[7, 7, 4, 0, 0, 0, 0, 1, 137, 7, 4, 0, 0, 0, 0, 1]).unwrap();
    assert_eq!(first[20..], [7, 7, 4, 0, 0, 0, 0, 1, 137, 7, 4, 0, 0, 0, 0, 1]);
    assert_eq!(later[20..], [137, 7, 4, 0, 0, 0, 0, 0]);
    for (piece, offset) in [(first, 0), (later, 1480)] {
        let (header, _) = Header::parse_quoted(&piece).unwrap();
        assert!(header.checksum_is_valid());
        assert_eq!(header.fragment(), Some(Fragment { id: 9, offset, more: true }));
        assert_eq!(usize::from(header.total_len()), piece.len() + 8);
        assert_eq!((header.tos(), header.ttl(), header.protocol()), (PLAIN.tos, PLAIN.ttl, PLAIN.protocol));
        assert_eq!((header.source(), header.destination()), (PLAIN.source, PLAIN.destination));
    }
}

#[test]
fn options_that_end_early_or_past_the_header_are_no_trouble() {
    let [first, later] = pieces(&[1, 0, 0xff, 0xff]).unwrap();
    assert_eq!((&first[20..], later.len()), (&[1, 0, 0, 0][..], 20));
    assert_eq!(pieces(&[137, 5, 4, 0]), None);
    assert_eq!(pieces(&[1, 1, 1, 137]), None);
    let [first, _] = pieces(&[1; 40]).unwrap();
    assert_eq!(first.len(), HEADER_LEN_MAX);
}
