//! Which pool address and port stands for a client towards a backend.

use crate::flow::{Table, Tuple};
use crate::hash::{Stream, reduce};
use crate::net::{Protocol, WorkerId};
use crate::snapshot::{Family, Globals, Snapshot};

/// The most ports that are tried for a new flow.
const TRIES: usize = 128;

/// The worker whose flows use this port on a pool address.
#[inline]
pub(crate) fn owner(globals: &Globals, port: [u8; 2]) -> WorkerId {
    let above = u16::from_be_bytes(port).saturating_sub(globals.pool_first);
    let worker = above.checked_div(globals.pool_share).unwrap_or(0);
    WorkerId(worker.min(u16::from(globals.workers.saturating_sub(1))) as u8)
}

/// The worker that owns the flows of an endpoint whose address is kept. Both directions carry that
/// endpoint and nothing else that all workers could agree on, so it alone decides, by the hash that
/// all gateways share: whoever chooses the endpoint can choose the worker, as with the hash of a
/// network card.
pub(crate) fn owner_of<A: Family>(globals: &Globals, address: A, port: [u8; 2]) -> WorkerId {
    let endpoint = Tuple { source: address, destination: address, source_port: port, destination_port: port };
    let hash = A::hash(&globals.selector, &endpoint, Protocol(0));
    // Fewer than 256.
    WorkerId(reduce((hash >> 32) as u32, u32::from(globals.workers)) as u8)
}

/// Finds a reply tuple that no flow has: the backend's endpoint answers to a pool address at a
/// random port of this worker's share (RFC 6056 §3.3.1). One port serves as many backends as there
/// are, since the whole tuple decides.
///
/// Work: at most [`TRIES`] lookups. `None` where all of them are taken, or the pool is empty.
pub(crate) fn allocate<A: Family>(
    table: &Table<'_, A>,
    snapshot: &Snapshot<'_>,
    worker: WorkerId,
    backend: (A, [u8; 2]),
    protocol: Protocol,
    random: &mut Stream,
) -> Option<Tuple<A>> {
    let pool = A::pool(snapshot);
    let Globals { pool_first, pool_share, .. } = *snapshot.globals;
    let first = pool_first.checked_add(pool_share.checked_mul(u16::from(worker.0))?)?;
    let start = reduce(random.next() as u32, pool.len() as u32) as usize;
    let mut addresses = pool.iter().cycle().skip(start);
    for _ in 0..TRIES {
        let port = first + reduce(random.next() as u32, u32::from(pool_share)) as u16;
        let reply = Tuple {
            source: backend.0,
            destination: *addresses.next()?,
            source_port: backend.1,
            destination_port: port.to_be_bytes(),
        };
        if table.lookup(table.hash(&reply, protocol), &reply, protocol).is_none() {
            return Some(reply);
        }
    }
    None
}
