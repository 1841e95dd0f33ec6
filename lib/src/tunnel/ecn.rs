//! Congestion marks across a tunnel (RFC 6040), whichever it is.

use crate::verdict::DropReason;
use crate::wire::Ecn;

/// The inner ECN after an outer header with `outer` has been taken off (RFC 6040 §4.2, figure 4).
///
/// # Errors
/// [`DropReason::EcnNotCapable`] where congestion was marked on a packet that cannot carry the mark.
#[inline]
pub const fn decapsulated_ecn(inner: Ecn, outer: Ecn) -> Result<Ecn, DropReason> {
    match (inner, outer) {
        (Ecn::NotCapable, Ecn::Congested) => Err(DropReason::EcnNotCapable),
        (Ecn::NotCapable, _) => Ok(Ecn::NotCapable),
        (_, Ecn::Congested) => Ok(Ecn::Congested),
        (Ecn::Capable0, Ecn::Capable1) => Ok(Ecn::Capable1),
        (inner, _) => Ok(inner),
    }
}
