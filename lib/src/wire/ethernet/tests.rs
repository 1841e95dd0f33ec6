use super::*;
use etherparse::{Ethernet2Header, SingleVlanHeader, VlanId, VlanPcp};
use proptest::prelude::*;
use std::vec::Vec;

fn header() -> impl Strategy<Value = Header> {
    let ethertype = any::<u16>().prop_filter("tags are not payloads", |t| *t != 0x8100 && *t != 0x88a8);
    (any::<[u8; 6]>(), any::<[u8; 6]>(), any::<Option<u16>>(), ethertype).prop_map(|(d, s, vlan, t)| Header {
        destination: Mac(d),
        source: Mac(s),
        vlan,
        ethertype: EtherType(t),
    })
}

fn emitted(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; 18];
    let len = header.emit(&mut head).unwrap();
    [&head[..len], payload].concat()
}

#[test]
fn a_second_tag_is_refused() {
    for inner in [[0x81, 0x00], [0x88, 0xa8]] {
        let frame = [&[0; 12][..], &[0x81, 0x00, 0, 5], &inner, &[0; 64]].concat();
        assert_eq!(Header::parse(&frame), Err(ParseError::NestedVlan));
    }
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(header in header(), payload: Vec<u8>) {
        let frame = emitted(&header, &payload);
        let (parsed, rest) = Header::parse(&frame).unwrap();
        prop_assert_eq!(parsed, header);
        prop_assert_eq!(rest, &payload);
        prop_assert_eq!(frame.len() - rest.len(), header.len());
    }

    #[test]
    fn an_independent_encoder_writes_what_we_read(d: [u8; 6], s: [u8; 6], pcp in 0u8..8, dei: bool, id in 0u16..4096) {
        let link = Ethernet2Header { source: s, destination: d, ether_type: etherparse::EtherType::VLAN_TAGGED_FRAME };
        let tag = SingleVlanHeader {
            pcp: VlanPcp::try_new(pcp).unwrap(),
            drop_eligible_indicator: dei,
            vlan_id: VlanId::try_new(id).unwrap(),
            ether_type: etherparse::EtherType::IPV4,
        };
        let frame = [&link.to_bytes()[..], &tag.to_bytes()].concat();
        let (parsed, _) = Header::parse(&frame).unwrap();
        let tci = u16::from(pcp) << 13 | u16::from(dei) << 12 | id;
        let expected = Header { destination: Mac(d), source: Mac(s), vlan: Some(tci), ethertype: EtherType::IPV4 };
        prop_assert_eq!(parsed, expected);
        prop_assert_eq!(emitted(&parsed, &[]), frame);
    }

    #[test]
    fn every_shorter_length_is_an_error(header in header()) {
        let frame = emitted(&header, &[]);
        for len in 0..frame.len() {
            let truncated = matches!(Header::parse(&frame[..len]), Err(ParseError::Truncated { .. }));
            prop_assert!(truncated);
            let mut short = std::vec![0xaa; len];
            prop_assert_eq!(header.emit(&mut short), None);
            prop_assert!(short.iter().all(|byte| *byte == 0xaa));
        }
    }

    #[test]
    fn noise_never_panics(bytes: Vec<u8>) {
        let _ = Header::parse(&bytes);
    }
}
