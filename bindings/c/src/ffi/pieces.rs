//! Components of the gateway that are useful by themselves.

use weirgate::hash::HashKey;
use weirgate::maglev::{self, Member};
use weirgate::net::Vni;
use weirgate::wire::vxlan;

use super::{answer, raw};
use crate::convert;
use crate::status::Status;
use crate::types::{Backend, WEIRGATE_VXLAN_HEADER_BYTES};

/// Fills a Maglev lookup table: each of `slot_count` slots receives the index of one backend in
/// `backends`, in proportion to the weights. A backend of weight 0 gets no slot.
///
/// Gateways with the same `seed` and the same order of backends get the same table; the order decides
/// contested slots. A snapshot sorts them by ascending address (IPv4 as mapped IPv6) and port.
///
/// - `slot_count`: a prime, such as `WEIRGATE_TABLE_SIZE`.
/// - On any status but `WEIRGATE_STATUS_OK` the slots' earlier content is lost.
///
/// # Safety
/// `backends` points to `backend_count` of them, `slots` to room for `slot_count` results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_maglev_fill(
    seed: u64,
    backends: *const Backend,
    backend_count: usize,
    slots: *mut u16,
    slot_count: usize,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for it.
        let backends = unsafe { raw::array(backends, backend_count)? };
        let size = u32::try_from(slot_count).ok().filter(|size| *size <= maglev::TABLE_SIZE_MAX);
        let size = size.filter(|size| maglev::is_prime(*size)).ok_or(Status::NotPrime)?;
        let key = HashKey::from_seed(seed);
        let member = |raw: &Backend| {
            let backend = convert::backend(raw).map_err(|problem| problem.status)?;
            let address = match backend.endpoint.address {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                std::net::IpAddr::V6(address) => address.octets(),
            };
            Ok(Member::new(&key, address, backend.endpoint.port, backend.weight, size))
        };
        let mut members = backends.iter().map(member).collect::<Result<Vec<_>, Status>>()?;
        if slots.is_null() {
            return Err(Status::NullPointer);
        }
        if !slots.is_aligned() {
            return Err(Status::Misaligned);
        }
        // SAFETY: the caller vouches for as many bytes; zeroed ones are values of `u16`.
        let table = unsafe {
            raw::zeroed(slots.cast(), slot_count * size_of::<u16>())?;
            raw::array_mut(slots, slot_count)?
        };
        Ok(maglev::fill(&mut members, table)?)
    })())
}

/// Reads the VXLAN header at the front of a UDP datagram's data and returns its network. The inner
/// Ethernet frame follows after `WEIRGATE_VXLAN_HEADER_BYTES`. Reserved bits are ignored (RFC 7348
/// section 5).
///
/// # Safety
/// `data` points to `length` bytes, `vni` to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_vxlan_parse(data: *const u8, length: usize, vni: *mut u32) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (data, out) = unsafe { (raw::array(data, length)?, raw::place(vni)?) };
        let (header, _) = vxlan::Header::parse(data)?;
        out.write(header.vni().get());
        Ok(())
    })())
}

/// Writes a VXLAN header of this network to the `WEIRGATE_VXLAN_HEADER_BYTES` bytes at `header`.
///
/// # Safety
/// `header` points to as many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_vxlan_emit(vni: u32, header: *mut u8) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for it.
        let out = unsafe { raw::place(header.cast::<[u8; WEIRGATE_VXLAN_HEADER_BYTES]>())? };
        out.write(vxlan::emit(Vni::new(vni).ok_or(Status::Vni)?));
        Ok(())
    })())
}
