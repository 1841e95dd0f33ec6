use super::*;
use etherparse::{IpFragOffset, IpNumber, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header, Ipv6RawExtHeader};
use etherparse::{Ipv6FragmentHeader, Ipv6RoutingExtensions};
use proptest::prelude::*;
use std::vec::Vec;

fn fields(payload: usize) -> impl Strategy<Value = Fields> {
    (any::<u8>(), 0u32..1 << 20, 1u8.., any::<u8>(), any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(
        move |(traffic_class, flow_label, next_header, hop_limit, source, destination)| Fields {
            traffic_class,
            flow_label,
            payload_len: payload as u16,
            next_header,
            hop_limit,
            source,
            destination,
        },
    )
}

fn read(header: &Header<'_>) -> Fields {
    Fields {
        traffic_class: header.traffic_class(),
        flow_label: header.flow_label(),
        payload_len: header.payload_len(),
        next_header: header.next_header(),
        hop_limit: header.hop_limit(),
        source: header.source(),
        destination: header.destination(),
    }
}

/// An options header of `8 + 8 * units` bytes.
fn options(next: u8, units: u8) -> Vec<u8> {
    [&[next, units, 1, 4, 0, 0, 0, 0][..], &std::vec![0; usize::from(units) * 8]].concat()
}

fn fragment_header(next: u8, offset: u16, more: bool, id: u32) -> Vec<u8> {
    let [o0, o1] = (offset | u16::from(more)).to_be_bytes();
    [&[next, 0, o0, o1][..], &id.to_be_bytes()].concat()
}

#[test]
fn rfc8200_s4_1_all_headers_in_their_order_lead_to_the_upper_layer() {
    let payload = [
        options(extension::DESTINATION_OPTIONS, 0),
        options(extension::ROUTING, 1),
        [&[extension::FRAGMENT, 2, 0, 0][..], &[0; 20]].concat(),
        fragment_header(extension::DESTINATION_OPTIONS, 0, true, 7),
        options(6, 0),
        std::vec![0xee; 20],
    ];
    let flat = payload.concat();
    let upper = walk(extension::HOP_BY_HOP, &flat).unwrap();
    assert_eq!(upper.protocol, Protocol::TCP);
    assert_eq!(flat[upper.offset..], [0xee; 20]);
    let fragment = upper.fragment.unwrap();
    assert_eq!(fragment.fragment, Fragment { id: 7, offset: 0, more: true });
    assert_eq!(fragment.at, 8 + 16 + 24);
}

#[test]
fn rfc8200_s4_5_a_later_fragment_ends_the_walk() {
    // What would be an options header is data in the middle of one.
    let payload = [&fragment_header(extension::DESTINATION_OPTIONS, 1448, false, 9)[..], &[0xff; 3]].concat();
    let upper = walk(extension::FRAGMENT, &payload).unwrap();
    let fragment = FragmentHeader { fragment: Fragment { id: 9, offset: 1448, more: false }, at: 0 };
    assert_eq!(
        upper,
        Upper { protocol: Protocol(extension::DESTINATION_OPTIONS), offset: 8, fragment: Some(fragment) }
    );
}

#[test]
fn rfc6946_an_atomic_fragment_is_walked_through() {
    let payload = [&fragment_header(17, 0, false, 1)[..], &[0; 8]].concat();
    let upper = walk(extension::FRAGMENT, &payload).unwrap();
    assert_eq!((upper.protocol, upper.offset), (Protocol::UDP, 8));
    assert!(upper.fragment.unwrap().fragment.is_first());
}

#[test]
fn rfc8200_s4_1_hop_by_hop_options_come_first_or_not_at_all() {
    let payload = [options(extension::HOP_BY_HOP, 0), options(6, 0), std::vec![0; 20]].concat();
    let refused = ParseError::ExtensionHeader { header: extension::HOP_BY_HOP };
    assert_eq!(walk(extension::DESTINATION_OPTIONS, &payload), Err(refused));
    assert_eq!(walk(extension::HOP_BY_HOP, &payload), Err(refused), "twice");
}

#[test]
fn a_fragment_inside_a_fragment_is_refused() {
    let payload =
        [fragment_header(extension::FRAGMENT, 0, true, 1), fragment_header(6, 0, true, 1), std::vec![0; 24]].concat();
    let refused = ParseError::ExtensionHeader { header: extension::FRAGMENT };
    assert_eq!(walk(extension::FRAGMENT, &payload), Err(refused));
}

#[test]
fn rfc5095_a_routing_header_with_segments_left_is_refused() {
    for kind in [0, 2, 3, 4, 253] {
        let mut payload = options(6, 0);
        [payload[2], payload[3]] = [kind, 1];
        assert_eq!(walk(extension::ROUTING, &payload), Err(ParseError::RoutingHeader { kind }));
        payload[3] = 0;
        assert_eq!(walk(extension::ROUTING, &payload).unwrap().offset, 8);
    }
}

#[test]
fn headers_that_cannot_cross_a_translation_are_refused() {
    use extension::{AUTHENTICATION, HOST_IDENTITY, MOBILITY, SHIM6};
    for header in [AUTHENTICATION, MOBILITY, HOST_IDENTITY, SHIM6] {
        let payload = options(6, 0);
        assert_eq!(walk(header, &payload), Err(ParseError::ExtensionHeader { header }));
        let payload = [options(header, 0), options(6, 0)].concat();
        assert_eq!(walk(extension::DESTINATION_OPTIONS, &payload), Err(ParseError::ExtensionHeader { header }));
    }
}

#[test]
fn eight_headers_are_walked_over_and_a_ninth_is_not() {
    let chain = |count: usize| {
        let mut payload = options(extension::DESTINATION_OPTIONS, 0).repeat(count - 1);
        payload.extend(options(17, 0));
        payload
    };
    let upper = walk(extension::DESTINATION_OPTIONS, &chain(EXTENSIONS_MAX)).unwrap();
    assert_eq!((upper.protocol, upper.offset), (Protocol::UDP, 8 * EXTENSIONS_MAX));
    let refused = ParseError::ExtensionHeader { header: extension::DESTINATION_OPTIONS };
    assert_eq!(walk(extension::DESTINATION_OPTIONS, &chain(EXTENSIONS_MAX + 1)), Err(refused));
}

#[test]
fn rfc2675_jumbograms_are_refused() {
    let header = Fields {
        traffic_class: 0,
        flow_label: 0,
        payload_len: 0,
        next_header: extension::HOP_BY_HOP,
        hop_limit: 64,
        source: [1; 16],
        destination: [2; 16],
    };
    let jumbo = [&header.emit()[..], &[6, 0, 0xc2, 4, 0, 1, 0, 0], &[0; 70000]].concat();
    assert_eq!(Header::parse(&jumbo).unwrap_err(), ParseError::BadLength { layer: Layer::Ipv6, len: 0 });
    let most = Fields { payload_len: 0xffff - 40, next_header: 59, ..header };
    Header::parse(&[&most.emit()[..], &[0; 70000]].concat()).unwrap();
    let more = Fields { payload_len: 0xffff - 39, next_header: 59, ..header };
    let error = Header::parse(&[&more.emit()[..], &[0; 70000]].concat()).unwrap_err();
    assert_eq!(error, ParseError::BadLength { layer: Layer::Ipv6, len: 0xffff - 39 });
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(fields in fields(100), padding: Vec<u8>) {
        let bytes = [&fields.emit()[..], &[0x5a; 100], &padding].concat();
        let (header, payload) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(read(&header), fields);
        prop_assert_eq!(payload, &[0x5a; 100]);
        prop_assert_eq!(header.ecn() as u8, fields.traffic_class & 3);
    }

    #[test]
    fn an_independent_encoder_writes_the_same(fields in fields(0)) {
        let theirs = Ipv6Header {
            traffic_class: fields.traffic_class,
            flow_label: Ipv6FlowLabel::try_new(fields.flow_label).unwrap(),
            payload_length: fields.payload_len,
            next_header: IpNumber(fields.next_header),
            hop_limit: fields.hop_limit,
            source: fields.source,
            destination: fields.destination,
        };
        prop_assert_eq!(theirs.to_bytes(), fields.emit());
    }

    #[test]
    fn an_independent_decoder_walks_the_same_way(
        hop: Option<u8>, destination: Option<u8>, routing: Option<u8>, last: Option<u8>,
        fragment in any::<Option<(u16, bool, u32)>>(), data: Vec<u8>,
    ) {
        let raw = |units: u8| {
            // A routing header needs segments left of zero, an options header its padding option.
            let mut payload = std::vec![0; 6 + usize::from(units % 32) * 8];
            [payload[0], payload[1]] = [0, 0];
            Ipv6RawExtHeader::new_raw(IpNumber(0), &payload).unwrap()
        };
        let mut theirs = Ipv6Extensions {
            hop_by_hop_options: hop.map(raw),
            destination_options: destination.map(raw),
            routing: routing.map(|units| Ipv6RoutingExtensions {
                routing: raw(units),
                final_destination_options: last.map(raw),
            }),
            fragment: fragment.map(|(offset, more, id)| {
                Ipv6FragmentHeader::new(IpNumber(0), IpFragOffset::try_new(offset >> 3).unwrap(), more, id)
            }),
            auth: None,
        };
        let first = theirs.set_next_headers(IpNumber::TCP);
        // Final destination options stand behind the fragment header: a later fragment hides them.
        prop_assume!(fragment.is_none_or(|(offset, ..)| offset >> 3 == 0) || routing.is_none() || last.is_none());
        let mut bytes = std::vec![0; theirs.header_len()];
        let len = bytes.len();
        write(&theirs, first, &mut bytes);
        bytes.extend_from_slice(&data);

        let upper = walk(first.0, &bytes).unwrap();
        prop_assert_eq!(upper.protocol, Protocol::TCP);
        prop_assert_eq!(upper.offset, len);
        let expected = fragment.map(|(offset, more, id)| Fragment { id, offset: offset & !7, more });
        prop_assert_eq!(upper.fragment.map(|header| header.fragment), expected);
        if let Some(header) = upper.fragment {
            prop_assert_eq!(&bytes[header.at + 4..header.at + 8], &header.fragment.id.to_be_bytes());
        }
        for len in 0..len {
            let truncated = matches!(walk(first.0, &bytes[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
        }
    }

    #[test]
    fn mutations_change_what_they_say(fields in fields(0), source: [u8; 16], destination: [u8; 16], ecn: u8) {
        let mut bytes = fields.emit();
        let mut header = HeaderMut::new(&mut bytes);
        header.set_source(source);
        header.set_destination(destination);
        header.set_ecn(Ecn::of(ecn));
        let hop_limit = fields.hop_limit - u8::from(header.decrement_hop_limit());
        let traffic_class = fields.traffic_class & !3 | ecn & 3;
        let expected = Fields { source, destination, traffic_class, hop_limit, ..fields };
        prop_assert_eq!(bytes, expected.emit());
        prop_assert_eq!(hop_limit == fields.hop_limit, fields.hop_limit <= 1);
    }

    #[test]
    fn forwarding_changes_addresses_and_hops_or_nothing(
        fields in fields(0), source: [u8; 16], destination: [u8; 16], hop_limit in 0u8..4,
    ) {
        let fields = Fields { hop_limit, ..fields };
        let mut bytes = fields.emit();
        let forwarded = HeaderMut::new(&mut bytes).forward(source, destination);
        let expected = if hop_limit > 1 { Fields { source, destination, hop_limit: hop_limit - 1, ..fields } } else { fields };
        prop_assert_eq!(forwarded.is_some(), hop_limit > 1);
        prop_assert_eq!(bytes, expected.emit());
    }

    #[test]
    fn every_shorter_length_is_truncated(fields in fields(30)) {
        let bytes = [&fields.emit()[..], &[0; 30]].concat();
        for len in 0..bytes.len() {
            let truncated = matches!(Header::parse(&bytes[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
        }
    }

    #[test]
    fn other_versions_are_refused(fields in fields(0), version in (0u8..16).prop_filter("not 6", |v| *v != 6)) {
        let mut bytes = fields.emit();
        bytes[0] = version << 4 | bytes[0] & 0x0f;
        prop_assert_eq!(Header::parse(&bytes).unwrap_err(), ParseError::BadVersion { version });
    }

    #[test]
    fn noise_never_panics(first: u8, bytes: Vec<u8>) {
        let _ = Header::parse(&bytes);
        let _ = walk(first, &bytes);
        for next in [0, 43, 44, 60] {
            if let Ok(upper) = walk(next, &bytes) {
                prop_assert!(upper.offset <= bytes.len());
            }
        }
    }
}

/// Lays the headers out in the order of RFC 8200 §4.1, each at the place their chain gives it.
fn write(theirs: &Ipv6Extensions, first: IpNumber, bytes: &mut [u8]) {
    let mut rest = bytes;
    let mut put = |header: &[u8]| {
        let (front, back) = std::mem::take(&mut rest).split_at_mut(header.len());
        front.copy_from_slice(header);
        rest = back;
    };
    assert_eq!(first == IpNumber(extension::HOP_BY_HOP), theirs.hop_by_hop_options.is_some());
    if let Some(header) = &theirs.hop_by_hop_options {
        put(&header.to_bytes());
    }
    if let Some(header) = &theirs.destination_options {
        put(&header.to_bytes());
    }
    if let Some(routing) = &theirs.routing {
        put(&routing.routing.to_bytes());
    }
    if let Some(header) = &theirs.fragment {
        put(&header.to_bytes());
    }
    if let Some(header) = theirs.routing.as_ref().and_then(|routing| routing.final_destination_options.as_ref()) {
        put(&header.to_bytes());
    }
}
