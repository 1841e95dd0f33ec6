//! VXLAN (RFC 7348 §5).
//!
//! ```text
//! |R|R|R|R|I|R|R|R|            reserved             |
//! |                 VNI                 |  reserved |
//! ```

use super::{Layer, ParseError, field};
use crate::net::Vni;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

const FLAG_I: u8 = 0x08;

/// A header on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// Reads the header; the rest is the inner Ethernet frame.
    ///
    /// Reserved bits are ignored (RFC 7348 §5).
    ///
    /// # Errors
    /// [`ParseError::Truncated`], and [`ParseError::VniFlagClear`] where no VNI is given.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let Some((head, inner)) = bytes.split_first_chunk() else {
            return Err(ParseError::truncated(Layer::Vxlan, HEADER_LEN, bytes.len()));
        };
        if head[0] & FLAG_I == 0 {
            return Err(ParseError::VniFlagClear);
        }
        Ok((Self(head), inner))
    }

    /// Whether the inner frame belongs to this network. Compared as slices, which takes half of what it takes as
    /// numbers.
    #[inline(always)]
    pub(crate) fn is_of(&self, vni: &[u8; 3]) -> bool {
        self.0.split_at(4).1.split_at(3).0 == vni.as_slice()
    }

    /// The network that the inner frame belongs to.
    #[inline]
    #[must_use]
    pub const fn vni(&self) -> Vni {
        Vni(field::<4, 3, _>(self.0))
    }
}

/// A header for this network: reserved bits are zero (RFC 7348 §5).
#[inline]
#[must_use]
pub const fn emit(vni: Vni) -> [u8; HEADER_LEN] {
    let [a, b, c] = vni.0;
    [FLAG_I, 0, 0, 0, a, b, c, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn rfc7348_s5_header_of_vni_1_as_the_kernel_writes_it() {
        assert_eq!(emit(Vni([0, 0, 1])), [0x08, 0, 0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn rfc7348_s5_frame_without_a_valid_vni_is_refused() {
        assert_eq!(Header::parse(&[0xf7, 0xff, 0xff, 0xff, 0, 0, 1, 0]).unwrap_err(), ParseError::VniFlagClear);
    }

    proptest! {
        #[test]
        fn rfc7348_s5_reserved_bits_are_ignored_on_receipt(vni: [u8; 3], flags: u8, reserved: [u8; 3], last: u8) {
            let [a, b, c] = reserved;
            let [x, y, z] = vni;
            let bytes = [flags | FLAG_I, a, b, c, x, y, z, last];
            let (header, inner) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(header.vni(), Vni(vni));
            prop_assert!(inner.is_empty());
        }

        #[test]
        fn emit_then_parse_is_identity(vni: [u8; 3], inner: Vec<u8>) {
            let bytes = [&emit(Vni(vni))[..], &inner].concat();
            let (header, rest) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(header.vni(), Vni(vni));
            prop_assert_eq!(rest, &inner);
        }

        #[test]
        fn every_shorter_length_is_truncated(len in 0..HEADER_LEN) {
            let error = Header::parse(&emit(Vni([0, 0, 1]))[..len]).unwrap_err();
            prop_assert_eq!(error, ParseError::Truncated { layer: Layer::Vxlan, need: 8, have: len as u16 });
        }
    }
}
