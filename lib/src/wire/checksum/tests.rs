use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// RFC 1071 §4.1's loop, written as slowly as it reads.
fn slow(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[test]
fn rfc1071_s3_numerical_example() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(of(&bytes), [0x22, 0x0d]);
}

#[test]
fn rfc1624_s4_example_whose_sum_comes_to_zero() {
    // The case that RFC 1141's equation got wrong.
    let delta = Delta::NONE.replace2([0x55, 0x55], [0x32, 0x85]);
    assert_eq!(delta.apply([0xdd, 0x2f]), [0x00, 0x00]);
}

#[test]
fn header_from_a_wire_sums_to_zero() {
    let header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
        0x00, 0xc7,
    ];
    assert!(sum20(&header).is_valid());
    assert!(Sum::NONE.bytes(&header).is_valid());
    let mut broken = header;
    broken[8] -= 1;
    assert!(!sum20(&broken).is_valid());
}

#[test]
fn empty_and_all_zero_bytes_have_the_checksum_of_nothing() {
    assert_eq!(of(&[]), [0xff, 0xff]);
    assert_eq!(of(&[0; 65]), [0xff, 0xff]);
}

#[test]
fn a_full_datagram_of_ones_does_not_overflow() {
    let bytes = std::vec![0xff; 65536];
    assert_eq!(of(&bytes), slow(&bytes));
}

#[test]
fn rfc768_a_computed_zero_is_sent_as_all_ones() {
    assert_eq!(Sum::NONE.two([0xff, 0xff]).finish(), [0, 0]);
    assert_eq!(Sum::NONE.two([0xff, 0xff]).finish_udp(), [0xff, 0xff]);
    // 0x1234 under the checksum becomes what makes the sum all ones.
    let checksum = Sum::NONE.two([0x12, 0x34]).finish_udp();
    assert_eq!(Delta::NONE.replace2([0x12, 0x34], [0xff, 0xff]).apply_udp(checksum), [0xff, 0xff]);
}

#[test]
fn rfc768_no_checksum_stays_none() {
    let delta = Delta::NONE.replace4([10, 0, 0, 1], [192, 0, 2, 1]).replace2([0, 80], [0x75, 0x30]);
    assert_eq!(delta.apply_udp([0, 0]), [0, 0]);
}

proptest! {
    #[test]
    fn sum_agrees_with_the_slow_loop_at_every_length_and_alignment(bytes: Vec<u8>, skip in 0usize..9) {
        let bytes = bytes.get(skip..).unwrap_or_default();
        prop_assert_eq!(of(bytes), slow(bytes));
    }

    #[test]
    fn long_sums_agree_with_the_slow_loop(bytes in prop::collection::vec(any::<u8>(), 1000..3000)) {
        prop_assert_eq!(of(&bytes), slow(&bytes));
    }

    #[test]
    fn sum_in_parts_is_the_sum_of_the_whole(
        four: [u8; 4], sixteen: [u8; 16], two: [u8; 2], twenty: [u8; 20], rest: Vec<u8>,
    ) {
        let whole = [&four[..], &sixteen, &two, &twenty, &rest].concat();
        let parts = Sum::NONE.four(four).sixteen(sixteen).two(two).bytes(&twenty).bytes(&rest);
        prop_assert_eq!(parts.finish(), slow(&whole));
        prop_assert_eq!(sum20(&twenty).finish(), slow(&twenty));
    }

    #[test]
    fn pseudo_headers_agree_with_an_independent_decoder(
        source: [u8; 4], destination: [u8; 4], source6: [u8; 16], destination6: [u8; 16], payload: Vec<u8>,
    ) {
        let len = 8 + payload.len() as u16;
        let mut header = etherparse::UdpHeader { source_port: 53, destination_port: 4242, length: len, checksum: 0 };
        let segment = [&header.to_bytes()[..], &payload].concat();

        header.checksum = header.calc_checksum_ipv4_raw(source, destination, &payload).unwrap();
        let sum = Sum::NONE.pseudo_v4(source, destination, 17, len).bytes(&segment);
        prop_assert_eq!(u16::from_be_bytes(sum.finish_udp()), header.checksum);

        header.checksum = header.calc_checksum_ipv6_raw(source6, destination6, &payload).unwrap();
        let sum = Sum::NONE.pseudo_v6(source6, destination6, 17, u32::from(len)).bytes(&segment);
        prop_assert_eq!(u16::from_be_bytes(sum.finish_udp()), header.checksum);
    }

    #[test]
    fn rfc1624_update_equals_full_recomputation(
        mut bytes in prop::collection::vec(any::<u8>(), 40..120),
        at in 0usize..10, two: [u8; 2], four: [u8; 4], sixteen: [u8; 16],
    ) {
        let before = slow(&bytes);
        let at = at * 2;
        let (old2, old4, old16) = {
            let (head, rest) = bytes[at..].split_first_chunk().unwrap();
            let (mid, rest) = rest.split_first_chunk().unwrap();
            (*head, *mid, *rest.first_chunk::<14>().unwrap())
        };
        let mut old = [0; 16];
        old[..14].copy_from_slice(&old16);
        let mut new = sixteen;
        // Fourteen bytes of it are in the buffer; the rest does not change.
        [new[14], new[15]] = [0, 0];
        let delta = Delta::NONE.replace2(old2, two).replace4(old4, four).replace16(old, new);
        bytes[at..at + 2].copy_from_slice(&two);
        bytes[at + 2..at + 6].copy_from_slice(&four);
        bytes[at + 6..at + 20].copy_from_slice(&new[..14]);
        let after = slow(&bytes);
        // All zeroes has two checksums, and no update can know which; no header is all zero.
        prop_assume!(bytes.iter().any(|byte| *byte != 0) && before != [0xff, 0xff]);
        prop_assert_eq!(delta.apply(before), after);
    }

    #[test]
    fn an_update_and_its_inverse_leave_the_checksum(checksum: [u8; 2], old: [u8; 16], new: [u8; 16]) {
        let there = Delta::NONE.replace16(old, new).apply(checksum);
        let back = Delta::NONE.replace16(new, old).apply(there);
        // 0x0000 and 0xffff are the same number.
        let zero = |c: [u8; 2]| if c == [0xff; 2] { [0; 2] } else { c };
        prop_assert_eq!(zero(back), zero(checksum));
    }

    #[test]
    fn rfc768_udp_checksum_stays_right_through_translation(
        source: [u8; 4], destination: [u8; 4], to: [u8; 4], port: [u8; 2], payload: Vec<u8>,
    ) {
        let len = 8 + payload.len() as u16;
        let segment = |port: [u8; 2], checksum: [u8; 2]| {
            [&super::super::udp::emit([0x12, 0x34], port, len, checksum)[..], &payload].concat()
        };
        let full = |destination, port| {
            Sum::NONE.pseudo_v4(source, destination, 17, len).bytes(&segment(port, [0; 2])).finish_udp()
        };
        let before = full(destination, [0x75, 0x30]);
        let after = Delta::NONE.replace4(destination, to).replace2([0x75, 0x30], port).apply_udp(before);
        prop_assert_ne!(after, [0; 2]);
        prop_assert_eq!(after, full(to, port));
    }
}
