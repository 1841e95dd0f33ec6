//! Descriptions, and the snapshots compiled from them.

use std::ffi::{c_char, c_void};
use std::ptr;

use weirgate::maglev;
use weirgate::net::{self, Protocol, Vni};
use weirgate::snapshot::{self, Gateway};

use super::worker::attach;
use super::{answer, raw};
use crate::convert;
use crate::status::{Problem, Status, not_prime};
use crate::types::{self, Description, Service};

/// A description in the core's own types, for the duration of a call.
struct Owned<'a> {
    raw: &'a Description,
    gateway: Gateway<'static>,
    subnets: Vec<net::Prefix>,
    pool: Vec<std::net::IpAddr>,
    masquerade: Vec<std::net::IpAddr>,
    non_masquerade: Vec<net::Prefix>,
    local: Vec<std::net::IpAddr>,
    ports: Vec<snapshot::Port>,
    peers: Vec<snapshot::Peer>,
    services: Vec<OwnedService>,
    routes: Vec<snapshot::Route>,
    neighbours: Vec<snapshot::Neighbour>,
}

struct OwnedService {
    id: u32,
    protocol: Protocol,
    table_size: u32,
    policy: snapshot::Policy,
    frontends: Vec<net::Endpoint>,
    backends: Vec<snapshot::Backend>,
}

/// Reads an array and converts each element; names the first invalid one.
///
/// # Safety
/// As [`raw::array`].
unsafe fn list<T: 'static, R>(
    name: &str,
    pointer: *const T,
    count: usize,
    convert: impl Fn(&T) -> Result<R, Problem>,
) -> Result<Vec<R>, Problem> {
    // SAFETY: the caller vouches for it.
    let array = unsafe { raw::array(pointer, count) }.map_err(|status| Problem::from(status).within(name))?;
    let convert = |(index, raw)| convert(raw).map_err(|problem| problem.within(format_args!("{name}[{index}]")));
    array.iter().enumerate().map(convert).collect()
}

/// # Safety
/// The service's arrays are as long as it says.
unsafe fn service(raw: &Service) -> Result<OwnedService, Problem> {
    if raw.table_size > maglev::TABLE_SIZE_MAX || !maglev::is_prime(raw.table_size) {
        return Err(Problem::new(Status::NotPrime, not_prime(raw.table_size as usize)));
    }
    // SAFETY: the caller vouches for both.
    let (frontends, backends) = unsafe {
        (
            list("frontends", raw.frontends, raw.frontend_count, convert::endpoint)?,
            list("backends", raw.backends, raw.backend_count, convert::backend)?,
        )
    };
    let policy = convert::policy(raw)?;
    let &Service { id, protocol, table_size, .. } = raw;
    Ok(OwnedService { id, protocol: Protocol(protocol), table_size, policy, frontends, backends })
}

impl<'a> Owned<'a> {
    /// # Safety
    /// `description` points to one whose arrays are as long as it says.
    unsafe fn read(description: *const Description) -> Result<Self, Problem> {
        // SAFETY: the caller vouches for it.
        let raw: &'a Description =
            unsafe { raw::reference(description) }.map_err(|status| Problem::from(status).within("description"))?;
        let vni = Vni::new(raw.vni)
            .ok_or_else(|| Problem::new(Status::Vni, format!("VNI {}; it has 24 bits at most", raw.vni)))?;
        let gateway = Gateway {
            workers: raw.workers,
            vni,
            vxlan_port: raw.vxlan_port,
            v4: convert::vtep_v4(&raw.vtep_v4).map_err(|problem| problem.within("vtep_v4"))?,
            v6: convert::vtep_v6(&raw.vtep_v6).map_err(|problem| problem.within("vtep_v6"))?,
            overlay_mtu: (raw.overlay_mtu != 0).then_some(raw.overlay_mtu),
            subnets: &[],
            pool: &[],
            pool_ports: (raw.pool_port_first, raw.pool_port_last),
            node_ports: (raw.node_port_first, raw.node_port_last),
            masquerade: snapshot::Masquerade {
                ports: (raw.masquerade_port_first, raw.masquerade_port_last),
                ..snapshot::Masquerade::NONE
            },
            local: &[],
            mss: convert::mss(raw.mss),
            outer_dscp: convert::outer_dscp(raw.outer_dscp).map_err(|problem| problem.within("outer_dscp"))?,
            selector_seed: raw.selector_seed,
            timeouts: convert::timeouts(&raw.timeouts),
            admission: convert::admission(raw)?,
            echo: convert::echo(raw)?,
        };
        // SAFETY: the caller vouches for every array.
        unsafe {
            Ok(Self {
                raw,
                gateway,
                subnets: list("subnets", raw.subnets, raw.subnet_count, convert::prefix)?,
                pool: list("pool", raw.pool, raw.pool_count, convert::address)?,
                masquerade: list("masquerade", raw.masquerade, raw.masquerade_count, convert::address)?,
                non_masquerade: list("non_masquerade", raw.non_masquerade, raw.non_masquerade_count, convert::prefix)?,
                local: list("local", raw.local, raw.local_count, convert::address)?,
                ports: list("ports", raw.ports, raw.port_count, convert::port)?,
                peers: list("peers", raw.peers, raw.peer_count, convert::peer)?,
                services: list("services", raw.services, raw.service_count, |raw| service(raw))?,
                routes: list("routes", raw.routes, raw.route_count, convert::route)?,
                neighbours: list("neighbours", raw.neighbours, raw.neighbour_count, convert::neighbour)?,
            })
        }
    }

    fn describe<T>(&self, hear: impl FnOnce(&snapshot::Description<'_>) -> T) -> T {
        let services: Vec<snapshot::Service<'_>> = self
            .services
            .iter()
            .map(|service| snapshot::Service {
                id: service.id,
                protocol: service.protocol,
                frontends: &service.frontends,
                backends: &service.backends,
                table_size: service.table_size,
                policy: service.policy,
            })
            .collect();
        hear(&snapshot::Description {
            generation: self.raw.generation,
            gateway: Gateway {
                subnets: &self.subnets,
                pool: &self.pool,
                masquerade: snapshot::Masquerade {
                    addresses: &self.masquerade,
                    exempt: &self.non_masquerade,
                    ..self.gateway.masquerade
                },
                local: &self.local,
                ..self.gateway
            },
            ports: &self.ports,
            peers: &self.peers,
            services: &services,
            routes: &self.routes,
            neighbours: &self.neighbours,
        })
    }
}

/// Returns the status, and writes the sentence where there is room for it.
///
/// # Safety
/// As [`raw::write_text`].
unsafe fn explain(result: Result<(), Problem>, problem: *mut c_char, length: usize) -> Status {
    let (status, text) = match result {
        Ok(()) => (Status::Ok, String::new()),
        Err(Problem { status, text }) => (status, text),
    };
    // SAFETY: the caller vouches for it.
    unsafe { raw::write_text(problem, length, &text) };
    status
}

/// Fills in a description with nothing but defaults: one worker, VXLAN network 1 at UDP port 8472,
/// pool ports 1024 to 65535, Kubernetes' node ports, and the usual timeouts and limits.
///
/// # Safety
/// `description` points to room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_description_defaults(description: *mut Description) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for it.
        unsafe { raw::place(description)? }.write(Description {
            ports: ptr::null(),
            port_count: 0,
            peers: ptr::null(),
            peer_count: 0,
            services: ptr::null(),
            service_count: 0,
            routes: ptr::null(),
            route_count: 0,
            neighbours: ptr::null(),
            neighbour_count: 0,
            subnets: ptr::null(),
            subnet_count: 0,
            pool: ptr::null(),
            pool_count: 0,
            masquerade: ptr::null(),
            masquerade_count: 0,
            non_masquerade: ptr::null(),
            non_masquerade_count: 0,
            local: ptr::null(),
            local_count: 0,
            selector_seed: 0,
            generation: 0,
            vni: 1,
            timeouts: convert::raw_timeouts(&snapshot::Timeouts::default()),
            vxlan_port: 8472,
            overlay_mtu: 0,
            pool_port_first: 1024,
            pool_port_last: u16::MAX,
            masquerade_port_first: snapshot::Masquerade::NONE.ports.0,
            masquerade_port_last: snapshot::Masquerade::NONE.ports.1,
            node_port_first: snapshot::NODE_PORTS.0,
            node_port_last: snapshot::NODE_PORTS.1,
            half_open_per_client: snapshot::Admission::default().half_open_per_client,
            new_flows_per_second: snapshot::Admission::default().new_flows_per_second,
            echoes_per_second: snapshot::Echo::default().per_second,
            mss: types::WEIRGATE_MSS_OFF,
            outer_dscp: 0,
            past_limit: types::WEIRGATE_PAST_LIMIT_DROP,
            vtep_v4: types::Vtep::default(),
            vtep_v6: types::Vtep::default(),
            workers: 1,
            echo_services: snapshot::Echo::default().services.into(),
            reserved: [0; 4],
        });
        Ok(())
    })())
}

/// Reports how many bytes of memory compiling this description needs.
///
/// - `problem`: room for `problem_length` bytes of text, or null. It receives a sentence with the
///   offending value, cut where it is too long and ended by a zero byte; an empty one on success.
///
/// # Safety
/// `description` points to one whose arrays are as long as it says, `bytes` to room for the
/// result, `problem` is as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_snapshot_bytes(
    description: *const Description,
    bytes: *mut usize,
    problem: *mut c_char,
    problem_length: usize,
) -> Status {
    let result = (|| {
        // SAFETY: the caller vouches for both.
        let (owned, out) = unsafe { (Owned::read(description)?, raw::place(bytes)?) };
        out.write(owned.describe(snapshot::bytes_required));
        Ok(())
    })();
    // SAFETY: the caller vouches for it.
    unsafe { explain(result, problem, problem_length) }
}

/// Writes the snapshot of a description to the front of `memory`, which begins at a multiple of
/// `WEIRGATE_SNAPSHOT_ALIGNMENT` and has as many bytes as `weirgate_snapshot_bytes` reports. Returns
/// in `used` how long the snapshot is; the memory after it is free again.
///
/// A snapshot is bytes with offsets: it can be copied, stored and shared. Equal descriptions compile to
/// equal bytes. On any status but `WEIRGATE_STATUS_OK` the memory's earlier content is lost.
///
/// - `problem`: as for `weirgate_snapshot_bytes`.
///
/// # Safety
/// `description` points to one whose arrays are as long as it says, `memory` to `length` bytes that
/// nobody else uses meanwhile, `used` to room for the result, `problem` is as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_snapshot_compile(
    description: *const Description,
    memory: *mut c_void,
    length: usize,
    used: *mut usize,
    problem: *mut c_char,
    problem_length: usize,
) -> Status {
    let result = (|| {
        // SAFETY: the caller vouches for both.
        let (owned, out) = unsafe { (Owned::read(description)?, raw::place(used)?) };
        if memory.is_null() {
            return Err(Problem::from(Status::NullPointer).within("memory"));
        }
        if !memory.addr().is_multiple_of(types::WEIRGATE_SNAPSHOT_ALIGNMENT) {
            return Err(Problem::from(Status::Misaligned).within("memory"));
        }
        owned.describe(|description| {
            let length = length.min(snapshot::bytes_required(description));
            // SAFETY: the caller vouches for at least as many bytes.
            let memory = unsafe { raw::zeroed(memory.cast(), length)? };
            out.write(snapshot::compile(description, memory)?);
            Ok(())
        })
    })();
    // SAFETY: the caller vouches for it.
    unsafe { explain(result, problem, problem_length) }
}

/// Returns the generation of a snapshot, and thereby checks that the bytes are one of this version.
///
/// # Safety
/// `snapshot` points to `length` bytes that nobody changes meanwhile, `generation` to room for
/// the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_snapshot_generation(
    snapshot: *const c_void,
    length: usize,
    generation: *mut u32,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (snapshot, out) = unsafe { (attach(snapshot, length)?, raw::place(generation)?) };
        out.write(snapshot.generation());
        Ok(())
    })())
}
