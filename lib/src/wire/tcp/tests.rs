use super::*;
use etherparse::{TcpHeader, TcpOptionElement};
use proptest::prelude::*;
use std::vec::Vec;

fn fields() -> impl Strategy<Value = Fields> {
    any::<([u8; 2], [u8; 2], u32, u32, u8, u16)>().prop_map(|(s, d, sequence, acknowledgement, flags, window)| Fields {
        source_port: s,
        destination_port: d,
        sequence,
        acknowledgement,
        flags: Flags(flags),
        window,
    })
}

fn theirs(options: &[TcpOptionElement]) -> Vec<u8> {
    let mut header = TcpHeader::new(4000, 80, 7, 1000);
    header.set_options(options).unwrap();
    header.to_bytes().to_vec()
}

#[test]
fn rfc9293_mss_is_found_behind_other_options() {
    use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, Timestamp, WindowScale};
    let bytes =
        theirs(&[Noop, WindowScale(7), SelectiveAcknowledgementPermitted, Timestamp(1, 2), MaximumSegmentSize(1460)]);
    let (header, data) = Header::parse(&bytes).unwrap();
    assert!(data.is_empty());
    let mss = header.mss().unwrap();
    assert_eq!(mss.value, 1460);
    assert_eq!(bytes[mss.offset..mss.offset + 2], 1460u16.to_be_bytes());
    let kinds: Vec<u8> = header.options().map(|option| option.kind).collect();
    assert_eq!(kinds, [kind::WINDOW_SCALE, kind::SACK_PERMITTED, kind::TIMESTAMPS, kind::MSS]);
}

#[test]
fn options_end_where_the_list_ends_or_breaks_off() {
    let with = |options: [u8; 8]| {
        let mut bytes = Fields::default().emit().to_vec();
        bytes[12] = 0x70;
        bytes.extend_from_slice(&options);
        let (header, _) = Header::parse(&bytes).unwrap();
        header.options().count()
    };
    assert_eq!(with([2, 4, 5, 0xb4, 0, 3, 3, 7]), 1, "end of list");
    assert_eq!(with([3, 3, 7, 2, 0, 5, 5, 5]), 1, "length zero");
    assert_eq!(with([3, 3, 7, 2, 1, 5, 5, 5]), 1, "length one");
    assert_eq!(with([3, 3, 7, 2, 6, 5, 5, 5]), 1, "longer than the header");
    assert_eq!(with([1; 8]), 0, "padding only");
    assert_eq!(with([1, 1, 1, 1, 1, 1, 1, 2]), 0, "no length byte");
}

#[test]
fn rfc9293_a_data_offset_below_five_words_is_refused() {
    for words in 0..5 {
        let mut bytes = Fields::default().emit();
        bytes[12] = words << 4;
        let len = u16::from(words) * 4;
        assert_eq!(Header::parse(&bytes).unwrap_err(), ParseError::BadLength { layer: Layer::Tcp, len });
    }
}

#[test]
fn flags_name_themselves() {
    assert_eq!(std::format!("{:?}", Flags::SYN.union(Flags::ACK)), "{SYN, ACK}");
    assert!(Flags(0x12).contains(Flags::SYN) && !Flags(0x10).contains(Flags(0x12)));
    assert!(Flags(0x10).intersects(Flags(0x12)) && !Flags(0x10).intersects(Flags(0x02)));
    assert_eq!(Flags(0x12).union(Flags(0x11)), Flags(0x13));
}

#[test]
fn a_list_of_options_that_breaks_off_is_left_as_it_is() {
    for (options, lowered) in [([2, 4, 5, 180, 3, 3, 7, 0], true), ([2, 4, 5, 180, 3, 9, 7, 0], false)] {
        let mut segment = [&Fields::default().emit()[..], &options].concat();
        segment[12] = 7 << 4;
        let before = segment.clone();
        assert_eq!(lower_mss(&mut segment, 1000), lowered);
        assert_eq!(segment == before, !lowered);
    }
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(fields in fields(), data: Vec<u8>) {
        let bytes = [&fields.emit()[..], &data].concat();
        let (header, rest) = Header::parse(&bytes).unwrap();
        let parsed = Fields {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            sequence: header.sequence(),
            acknowledgement: header.acknowledgement(),
            flags: header.flags(),
            window: header.window(),
        };
        prop_assert_eq!(parsed, fields);
        prop_assert_eq!(rest, &data);
        prop_assert_eq!((header.header_len(), header.checksum(), header.urgent()), (20, [0; 2], 0));
    }

    #[test]
    fn an_independent_decoder_reads_the_same(
        fields in fields(), words in 0u8..11, options: [u8; 40], checksum: u16, urgent: u16, data: Vec<u8>,
    ) {
        let mut bytes = fields.emit().to_vec();
        bytes[12] = (5 + words) << 4;
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes[18..20].copy_from_slice(&urgent.to_be_bytes());
        bytes.extend_from_slice(&options[..usize::from(words) * 4]);
        bytes.extend_from_slice(&data);
        let (ours, rest) = Header::parse(&bytes).unwrap();
        let (theirs, their_rest) = TcpHeader::from_slice(&bytes).unwrap();
        prop_assert_eq!(rest, their_rest);
        prop_assert_eq!(u16::from_be_bytes(ours.source_port()), theirs.source_port);
        prop_assert_eq!(u16::from_be_bytes(ours.destination_port()), theirs.destination_port);
        prop_assert_eq!(ours.sequence(), theirs.sequence_number);
        prop_assert_eq!(ours.acknowledgement(), theirs.acknowledgment_number);
        prop_assert_eq!(ours.window(), theirs.window_size);
        prop_assert_eq!(u16::from_be_bytes(ours.checksum()), theirs.checksum);
        prop_assert_eq!(ours.urgent(), theirs.urgent_pointer);
        let flags = [
            (Flags::FIN, theirs.fin), (Flags::SYN, theirs.syn), (Flags::RST, theirs.rst), (Flags::PSH, theirs.psh),
            (Flags::ACK, theirs.ack), (Flags::URG, theirs.urg), (Flags::ECE, theirs.ece), (Flags::CWR, theirs.cwr),
        ];
        for (flag, set) in flags {
            prop_assert_eq!(ours.flags().contains(flag), set);
        }
        // They stop at an option whose length is not its kind's; up to there both agree.
        let mut ours = ours.options();
        for element in theirs.options_iterator() {
            let Ok(element) = element else { break };
            if element == TcpOptionElement::Noop { continue }
            let option = ours.next().unwrap();
            match element {
                TcpOptionElement::MaximumSegmentSize(value) => {
                    prop_assert_eq!((option.kind, option.data), (kind::MSS, &value.to_be_bytes()[..]));
                }
                TcpOptionElement::WindowScale(shift) => {
                    prop_assert_eq!((option.kind, option.data), (kind::WINDOW_SCALE, &[shift][..]));
                }
                TcpOptionElement::SelectiveAcknowledgementPermitted => {
                    prop_assert_eq!((option.kind, option.data.len()), (kind::SACK_PERMITTED, 0));
                }
                TcpOptionElement::Timestamp(value, echo) => {
                    let expected = [value.to_be_bytes(), echo.to_be_bytes()].concat();
                    prop_assert_eq!((option.kind, option.data), (kind::TIMESTAMPS, &expected[..]));
                }
                _ => prop_assert_eq!(option.kind, kind::SACK),
            }
        }
    }

    #[test]
    fn options_lie_where_they_say(options: [u8; 40]) {
        let mut bytes = Fields::default().emit().to_vec();
        bytes[12] = 0xf0;
        bytes.extend_from_slice(&options);
        let (header, _) = Header::parse(&bytes).unwrap();
        for option in header.options() {
            prop_assert_eq!(bytes[option.offset], option.kind);
            prop_assert_eq!(usize::from(bytes[option.offset + 1]), option.data.len() + 2);
            prop_assert_eq!(&bytes[option.offset + 2..][..option.data.len()], option.data);
        }
    }

    #[test]
    fn every_shorter_length_is_truncated(words in 5u8..16) {
        let mut bytes = [0; 60];
        bytes[..20].copy_from_slice(&Fields::default().emit());
        bytes[12] = words << 4;
        for len in 0..usize::from(words) * 4 {
            let truncated = matches!(Header::parse(&bytes[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
        }
    }

    #[test]
    fn noise_never_panics(bytes: Vec<u8>) {
        if let Ok((header, _)) = Header::parse(&bytes) {
            let _ = header.mss();
            header.options().for_each(drop);
        }
    }
}
