//! The steering program: loading it, filling its tables, attaching it so that it outlives the
//! process, and taking over from an earlier one without a gap.

use std::collections::HashSet;
use std::error::Error;
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, RawFd};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, XskMap, lpm_trie::Key};
use aya::programs::{ProgramFd, ProgramInfo, Xdp, loaded_programs};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use ipnet::IpNet;
use tracing::{info, warn};
use weirgate::net::Protocol;

use super::interface::{self, Interface, Mode};
use super::{EarlyFragments, StartError, layout, napi};

/// The name by which the kernel knows the program, and we know an earlier one of ours.
pub const PROGRAM: &str = "weirgate_steer";

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// What the steering program sends to the rings.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SteerTable {
    /// Where services listen: address, port and protocol.
    pub frontends: Vec<(IpAddr, u16, Protocol)>,
    /// Addresses at which services listen and that the host does not have: fragments to them are the
    /// gateway's, even before the first one of their datagram. Fragments to other addresses of services
    /// may be the host's as well.
    pub exclusive: Vec<IpAddr>,
    /// Addresses whose pings the gateway receives.
    pub pinged: Vec<IpAddr>,
    /// The gateway's own VTEPs: address and UDP port.
    pub vteps: Vec<(IpAddr, u16)>,
    /// The gateway's own overlay subnets, to which other nodes route plain IP packets, and the
    /// masquerade addresses.
    pub subnets: Vec<IpNet>,
    /// The pods of peers that are reached by a plain route, where their packets to the outside are masqueraded.
    pub masqueraded: Vec<IpNet>,
    /// What is not outside: destinations to which such packets are the host's.
    pub exempt: Vec<IpNet>,
}

/// Which attach mode to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Attach {
    /// In the driver, and where that is not possible in the kernel's stack.
    #[default]
    Best,
    /// In the kernel's stack.
    Generic,
}

/// What the steering program has counted on all processors since it was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SteerCounters {
    /// Frames redirected to a ring.
    pub steered: u64,
    /// Frames passed to the kernel.
    pub passed: u64,
    /// The gateway's frames dropped because no worker was attached to their queue.
    pub no_worker: u64,
    /// The gateway's frames dropped because the driver left no headroom.
    pub no_headroom: u64,
    /// Frames passed to the kernel of which a worker got a copy: fragments that came before their first one.
    pub early: u64,
    /// Frames passed to the kernel that could not be copied.
    pub early_lost: u64,
}

/// As the program's `struct endpoint`.
type EndpointKey = [u8; 20];
/// As the program's `struct subnet`: how many bits, and the address.
type SubnetKey = (u32, [u8; 16]);

/// The loaded program and its tables.
///
/// Dropping it leaves the program attached; [`Steering::detach`] detaches it.
pub struct Steering {
    ports: Vec<Interface>,
    attached: Vec<Attached>,
    program: Ebpf,
    sockets: XskMap<MapData>,
    endpoints: Table<HashMap<MapData, EndpointKey, u8>, EndpointKey>,
    subnets: Table<LpmTrie<MapData, [u8; 16], u8>, SubnetKey>,
    masqueraded: Table<LpmTrie<MapData, [u8; 16], u8>, SubnetKey>,
    exempt: Table<LpmTrie<MapData, [u8; 16], u8>, SubnetKey>,
    counters: PerCpuArray<MapData, u64>,
    early: MapData,
}

struct Attached {
    port: usize,
    mode: Mode,
    /// The program that was there before.
    replaced: Option<ProgramFd>,
}

/// A table in the kernel and our entries in it.
struct Table<M, K> {
    map: M,
    keys: HashSet<K>,
}

/// A map in the kernel used as a set of keys.
trait Keys<K> {
    fn put(&mut self, key: &K) -> Result<(), MapError>;
    fn take(&mut self, key: &K) -> Result<(), MapError>;
}

impl Keys<EndpointKey> for HashMap<MapData, EndpointKey, u8> {
    fn put(&mut self, key: &EndpointKey) -> Result<(), MapError> {
        self.insert(key, 1, 0)
    }

    fn take(&mut self, key: &EndpointKey) -> Result<(), MapError> {
        self.remove(key)
    }
}

impl Keys<SubnetKey> for LpmTrie<MapData, [u8; 16], u8> {
    fn put(&mut self, &(bits, address): &SubnetKey) -> Result<(), MapError> {
        self.insert(&Key::new(bits, address), 1, 0)
    }

    fn take(&mut self, &(bits, address): &SubnetKey) -> Result<(), MapError> {
        self.remove(&Key::new(bits, address))
    }
}

impl<M: Keys<K>, K: Copy + Eq + Hash> Table<M, K> {
    fn new(map: M) -> Self {
        Self { map, keys: HashSet::new() }
    }

    /// Inserts the wanted keys that are missing. After a refusal it is known which were inserted.
    fn add(&mut self, wanted: &HashSet<K>) -> Result<(), MapError> {
        for &key in wanted {
            if !self.keys.contains(&key) {
                self.map.put(&key)?;
                self.keys.insert(key);
            }
        }
        Ok(())
    }

    /// Removes the keys that are no longer wanted. After a refusal it is known which were removed.
    fn keep(&mut self, wanted: &HashSet<K>) -> Result<(), MapError> {
        let others: Vec<_> = self.keys.difference(wanted).copied().collect();
        for key in others {
            self.map.take(&key)?;
            self.keys.remove(&key);
        }
        Ok(())
    }
}

impl Steering {
    /// Loads the program for these interfaces. Changes nothing on the host.
    ///
    /// A port's index in `names` is its [`PortId`](weirgate::net::PortId).
    ///
    /// # Errors
    /// A missing interface, too many, one that is not Ethernet, one with somebody else's program,
    /// no privilege, or a kernel that refuses the program.
    pub fn load(names: &[&str]) -> Result<Self, StartError> {
        let distinct: HashSet<_> = names.iter().collect();
        if names.is_empty() || names.len() > layout::PORTS_MAX as usize || distinct.len() != names.len() {
            return Err(StartError::Ports { count: distinct.len() });
        }
        let all = interface::list().map_err(|cause| StartError::system("list the network interfaces", None, cause))?;
        let mut ports = Vec::new();
        for &name in names {
            let port = all.iter().find(|interface| interface.name == name).cloned();
            ports.push(port.ok_or_else(|| StartError::NoInterface { name: name.into() })?);
        }
        if let Some(port) = ports.iter().find(|port| !port.is_ethernet) {
            return Err(StartError::NotEthernet { name: port.name.clone() });
        }

        let mut indices = [0u32; layout::PORTS_MAX as usize];
        for (index, port) in indices.iter_mut().zip(&ports) {
            *index = port.index;
        }
        let mut program = EbpfLoader::new()
            .override_global("port_interfaces", &indices, true)
            .load(OBJECT)
            .map_err(|error| refused("load the steering program's tables", &error))?;
        verify(&mut program).map_err(|error| refused("load the steering program", &*error))?;
        // Only now, because listing programs needs the same privilege as loading one.
        for port in &ports {
            refuse_foreign(port)?;
            port.warn_of_offloads();
        }

        let mut take = |name| program.take_map(name).expect("the object file defines the map");
        let sockets = XskMap::try_from(take("sockets"));
        let endpoints = HashMap::try_from(take("endpoints"));
        let [subnets, masqueraded, exempt] =
            ["subnets", "masqueraded", "exempt"].map(|name| LpmTrie::try_from(take(name)));
        let counters = PerCpuArray::try_from(take("counters"));
        let Map::RingBuf(early) = take("early") else { panic!("the object file says that it is a ring") };
        let step = "use the steering program's tables";
        Ok(Self {
            ports,
            attached: Vec::new(),
            early,
            sockets: sockets.map_err(|error| refused(step, &error))?,
            endpoints: Table::new(endpoints.map_err(|error| refused(step, &error))?),
            subnets: Table::new(subnets.map_err(|error| refused(step, &error))?),
            masqueraded: Table::new(masqueraded.map_err(|error| refused(step, &error))?),
            exempt: Table::new(exempt.map_err(|error| refused(step, &error))?),
            counters: counters.map_err(|error| refused(step, &error))?,
            program,
        })
    }

    /// The interfaces, in the order of their ports.
    #[must_use]
    pub fn ports(&self) -> &[Interface] {
        &self.ports
    }

    /// Makes the program steer what `table` lists and nothing else. New entries are inserted before
    /// old ones are removed; an entry in both is never missing in between.
    ///
    /// # Errors
    /// [`StartError::TableFull`], with nothing changed; otherwise the kernel's refusal, after which another call
    /// completes the change.
    pub fn fill(&mut self, table: &SteerTable) -> Result<(), StartError> {
        let frontends = table.frontends.iter().map(|&(address, port, protocol)| endpoint(address, port, protocol));
        let vteps = table.vteps.iter().map(|&(address, port)| endpoint(address, port, Protocol::UDP));
        let alone: HashSet<_> = table.exclusive.iter().copied().collect();
        let shared: HashSet<_> = table.frontends.iter().map(|&(address, ..)| address).collect();
        let marks = [(layout::ADDRESS_ALONE, &alone), (layout::ADDRESS_SHARED, &(&shared - &alone))];
        let marks = marks.map(|(mark, addresses)| addresses.iter().map(move |&of| endpoint(of, mark, Protocol(0))));
        let pinged = table.pinged.iter();
        let pinged = pinged.map(|&of| endpoint(of, 0, if of.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 }));
        let endpoints: HashSet<_> = frontends.chain(vteps).chain(marks.into_iter().flatten()).chain(pinged).collect();
        let prefixes = |networks: &[IpNet]| networks.iter().copied().map(prefix).collect::<HashSet<_>>();
        let [subnets, masqueraded, exempt] =
            [&table.subnets, &table.masqueraded, &table.exempt].map(|networks| prefixes(networks));
        if endpoints.len() > layout::ENDPOINTS_MAX as usize {
            return Err(StartError::TableFull { table: "frontends", limit: layout::ENDPOINTS_MAX });
        }
        for (name, networks) in [("subnets", &subnets), ("masqueraded", &masqueraded), ("exempt", &exempt)] {
            if networks.len() > layout::SUBNETS_MAX as usize {
                return Err(StartError::TableFull { table: name, limit: layout::SUBNETS_MAX });
            }
        }
        let mut change = || {
            self.endpoints.add(&endpoints)?;
            self.subnets.add(&subnets)?;
            // First what is not outside: none of it may be taken for that in between.
            self.exempt.add(&exempt)?;
            self.masqueraded.add(&masqueraded)?;
            self.endpoints.keep(&endpoints)?;
            self.subnets.keep(&subnets)?;
            self.masqueraded.keep(&masqueraded)?;
            self.exempt.keep(&exempt)
        };
        change().map_err(|error| refused("change the steering program's tables", &error))
    }

    /// Steers the frames of one queue to a socket. When the socket closes, the kernel removes it.
    pub(crate) fn plug(&mut self, port: usize, queue: u32, socket: RawFd) -> Result<(), StartError> {
        let key = port as u32 * layout::QUEUES_MAX + queue;
        self.sockets
            .set(key, socket, 0)
            .map_err(|error| refused("put a socket into the steering program's map", &error))
    }

    /// The copies of frames that the kernel got too, for the one worker that reads them.
    pub(crate) fn early_fragments(&self) -> Result<EarlyFragments, StartError> {
        EarlyFragments::of(&self.early).map_err(|error| refused("read the steering program's ring", &error))
    }

    /// Attaches the program to every port, replacing an earlier weirgate's if there is one.
    ///
    /// Call it last, with tables filled and workers started: from here on the kernel sees nothing
    /// of the gateway's. A replacement is atomic: each frame passes the old program or the new one.
    ///
    /// # Errors
    /// What the kernel refused; the ports are then as they were before.
    pub fn attach(&mut self, how: Attach) -> Result<(), StartError> {
        for port in 0..self.ports.len() {
            match self.attach_port(port, how) {
                Ok(attached) => {
                    let mode = attached.mode;
                    let replaced = attached.replaced.is_some();
                    info!(interface = self.ports[port].name, ?mode, replaced, "steering program attached");
                    self.attached.push(attached);
                }
                Err(error) => {
                    self.give_back();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Attaches the program again on every port where a successor has replaced it and then did not
    /// forward. As with [`attach`](Self::attach), each frame passes one program or the other.
    ///
    /// # Errors
    /// What the kernel refused; the ports after that one are unchanged.
    pub fn attach_again(&mut self) -> Result<(), StartError> {
        for place in 0..self.attached.len() {
            let attached = self.attach_port(self.attached[place].port, Attach::Best)?;
            // The program that was there in between is not used any more.
            self.attached[place] = Attached { replaced: None, ..attached };
        }
        Ok(())
    }

    fn attach_port(&mut self, port: usize, how: Attach) -> Result<Attached, StartError> {
        const STEP: &str = "attach the steering program";
        let Interface { name, index, .. } = self.ports[port].clone();
        let current = interface::list()
            .map_err(|cause| StartError::system("list the network interfaces", None, cause))?
            .into_iter()
            .find(|interface| interface.index == index)
            .ok_or_else(|| StartError::NoInterface { name: name.clone() })?;
        let program = self.fd()?;

        // Native and generic programs cannot be attached at once, so a gapless replacement keeps
        // the earlier one's mode.
        if let Some((mode, earlier)) = refuse_foreign(&current)? {
            let replaced = earlier.fd().map_err(|error| refused("open the earlier steering program", &error))?;
            interface::attach(index, mode, program.as_fd(), Some(replaced.as_fd()))
                .map_err(|cause| StartError::system(STEP, Some(&name), cause))?;
            return Ok(Attached { port, mode, replaced: Some(replaced) });
        }
        if how == Attach::Best {
            match interface::attach(index, Mode::Native, program.as_fd(), None) {
                Ok(()) => return Ok(Attached { port, mode: Mode::Native, replaced: None }),
                Err(cause) => info!(interface = name, %cause, "no native XDP, trying generic"),
            }
        }
        interface::attach(index, Mode::Generic, program.as_fd(), None)
            .map_err(|cause| StartError::system(STEP, Some(&name), cause))?;
        Ok(Attached { port, mode: Mode::Generic, replaced: None })
    }

    /// Undoes [`attach`](Self::attach): restores the program that was there before, atomically, or
    /// none where there was none.
    pub fn give_back(&mut self) {
        let Ok(program) = self.fd() else { return };
        for Attached { port, mode, replaced } in self.attached.drain(..) {
            let Interface { name, index, .. } = &self.ports[port];
            let result = match &replaced {
                Some(earlier) => interface::attach(*index, mode, earlier.as_fd(), Some(program.as_fd())),
                None => interface::detach(*index, mode, program.as_fd()),
            };
            if let Err(cause) = result {
                warn!(interface = name, %cause, "could not restore the XDP program");
            }
        }
    }

    /// How each port's program is attached, in the order of the ports; empty before [`attach`].
    ///
    /// [`attach`]: Self::attach
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        self.attached.iter().map(|attached| attached.mode).collect()
    }

    /// What the program has counted.
    #[must_use]
    pub fn counters(&self) -> SteerCounters {
        let sum = |which| self.counters.get(&which, 0).map_or(0, |values| values.iter().sum());
        SteerCounters {
            steered: sum(layout::COUNTER_STEERED),
            passed: sum(layout::COUNTER_PASSED),
            no_worker: sum(layout::COUNTER_NO_WORKER),
            no_headroom: sum(layout::COUNTER_NO_HEADROOM),
            early: sum(layout::COUNTER_EARLY),
            early_lost: sum(layout::COUNTER_EARLY_LOST),
        }
    }

    /// Detaches the program from every port. An interface that is gone, or has another program by
    /// now, is left alone.
    pub fn detach(mut self) {
        let Ok(program) = self.fd() else { return };
        for Attached { port, mode, .. } in self.attached.drain(..) {
            let Interface { name, index, .. } = &self.ports[port];
            match interface::detach(*index, mode, program.as_fd()) {
                Ok(()) => info!(interface = name, "steering program detached"),
                Err(cause) => warn!(interface = name, %cause, "steering program not detached"),
            }
        }
    }

    fn fd(&mut self) -> Result<ProgramFd, StartError> {
        xdp(&mut self.program)
            .and_then(|xdp| Ok(xdp.fd()?.try_clone()?))
            .map_err(|error| refused("open the steering program", &*error))
    }
}

/// A program that [`detach`] has detached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The interface.
    pub interface: String,
    /// How it was attached.
    pub mode: Mode,
    /// The program's id in the kernel.
    pub program: u32,
    /// Whether the interface's interrupts were still deferred, which is undone as well.
    pub interrupts: bool,
}

/// Detaches weirgate's steering program from the named interfaces, or all, whichever process attached it,
/// and stops deferring those interfaces' interrupts. Other programs are left alone.
///
/// # Errors
/// A named interface that does not exist, no privilege, or the kernel's refusal.
pub fn detach(interfaces: Option<&[String]>) -> Result<Vec<Removed>, StartError> {
    let all = interface::list().map_err(|cause| StartError::system("list the network interfaces", None, cause))?;
    if let Some(missing) = interfaces.unwrap_or_default().iter().find(|name| all.iter().all(|have| have.name != **name))
    {
        return Err(StartError::NoInterface { name: missing.clone() });
    }
    let mut removed = Vec::new();
    for found in all.iter().filter(|found| interfaces.is_none_or(|names| names.contains(&found.name))) {
        for &(mode, id) in &found.programs {
            let Some(program) = program(id)?.filter(is_ours) else { continue };
            let fd = program.fd().map_err(|error| refused("open the steering program", &error))?;
            interface::detach(found.index, mode, fd.as_fd())
                .map_err(|cause| StartError::system("detach the steering program", Some(&found.name), cause))?;
            let interrupts = napi::take_back(found);
            removed.push(Removed { interface: found.name.clone(), mode, program: id, interrupts });
        }
    }
    Ok(removed)
}

/// Our program on this interface, if any, or a refusal if there is somebody else's.
fn refuse_foreign(port: &Interface) -> Result<Option<(Mode, ProgramInfo)>, StartError> {
    if port.is_offloaded {
        return Err(StartError::ForeignProgram { name: port.name.clone(), program: String::new(), id: 0 });
    }
    let mut ours = None;
    for &(mode, id) in &port.programs {
        match program(id)? {
            Some(program) if is_ours(&program) => ours = Some((mode, program)),
            other => {
                let program = other.and_then(|program| program.name_as_str().map(Into::into)).unwrap_or_default();
                return Err(StartError::ForeignProgram { name: port.name.clone(), program, id });
            }
        }
    }
    Ok(ours)
}

fn is_ours(program: &ProgramInfo) -> bool {
    program.name_as_str() == Some(PROGRAM)
}

/// The program with this id. Programs that come and go meanwhile are not ours.
fn program(id: u32) -> Result<Option<ProgramInfo>, StartError> {
    for program in loaded_programs() {
        match program {
            Ok(program) if program.id() == id => return Ok(Some(program)),
            Ok(_) => {}
            Err(error) if errno(&error) == Some(libc::EPERM) => {
                return Err(StartError::Privilege { step: "look at the XDP programs that are attached" });
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

fn xdp(program: &mut Ebpf) -> Result<&mut Xdp, Box<dyn Error>> {
    Ok(program.program_mut(PROGRAM).expect("the object file defines the program").try_into()?)
}

/// How often to try to load the program when signals interrupt the kernel.
const LOADS_MAX: u32 = 5;

/// Has the kernel load the program. It verifies the program for most of a second, and stops when a signal
/// comes meanwhile, which says nothing about the program (kernel/bpf/verifier.c: EAGAIN).
fn verify(program: &mut Ebpf) -> Result<(), Box<dyn Error>> {
    let xdp = xdp(program)?;
    for _ in 1..LOADS_MAX {
        match xdp.load() {
            Err(error) if errno(&error) == Some(libc::EAGAIN) => {}
            result => return result.map_err(Into::into),
        }
    }
    xdp.load().map_err(Into::into)
}

/// The system's error number, anywhere in the chain of causes.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        next = error.source();
    }
    None
}

/// For EACCES the cause is the program itself: it does something forbidden.
fn refused(step: &'static str, error: &(dyn Error + 'static)) -> StartError {
    match errno(error) {
        Some(libc::EPERM) => StartError::Privilege { step },
        _ => StartError::Program { step, cause: shortened(&error.to_string()) },
    }
}

/// The first line of a text and the last ones: the kernel's reason for refusing a program is at the end of its
/// verifier's log.
fn shortened(text: &str) -> String {
    const LAST: usize = 8;
    let lines: Vec<_> = text.lines().collect();
    match &*lines {
        [first, .., _] if lines.len() > LAST + 1 => {
            format!("{first}\n…\n{}", lines[lines.len() - LAST..].join("\n"))
        }
        _ => text.to_owned(),
    }
}

fn endpoint(address: IpAddr, port: u16, protocol: Protocol) -> EndpointKey {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&mapped(address).octets());
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key[18] = protocol.0;
    key
}

fn prefix(subnet: IpNet) -> SubnetKey {
    let bits = u32::from(subnet.prefix_len());
    let bits = if subnet.addr().is_ipv4() { bits + 96 } else { bits };
    (bits, mapped(subnet.network()).octets())
}

/// Both families in one key space (RFC 4291 §2.5.5.2).
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_share_a_key_space_without_meeting() {
        let v4 = endpoint("192.0.2.1".parse().unwrap(), 80, Protocol::TCP);
        assert_eq!(v4, *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\0\x50\x06\0");
        let v6 = endpoint("2001:db8::1".parse().unwrap(), 80, Protocol::TCP);
        assert_eq!(v6[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(v6[16..], v4[16..]);
    }

    #[test]
    fn of_the_kernels_long_reason_the_end_is_told() {
        let lines =
            |numbers: std::ops::RangeInclusive<u32>| numbers.map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(shortened(&lines(1..=9)), lines(1..=9));
        assert_eq!(shortened(&lines(1..=1000)), format!("1\n…\n{}", lines(993..=1000)));
    }

    /// A map of which the kernel refuses one change: the one after this many.
    struct Refusing {
        keys: HashSet<u32>,
        changes: u32,
    }

    impl Refusing {
        fn change(&mut self, is_possible: bool) -> Result<(), MapError> {
            let is_refused = self.changes == 0;
            self.changes = self.changes.wrapping_sub(1);
            if is_possible && !is_refused { Ok(()) } else { Err(MapError::KeyNotFound) }
        }
    }

    impl Keys<u32> for Refusing {
        fn put(&mut self, key: &u32) -> Result<(), MapError> {
            let is_new = !self.keys.contains(key);
            self.change(is_new)?;
            self.keys.insert(*key);
            Ok(())
        }

        fn take(&mut self, key: &u32) -> Result<(), MapError> {
            let is_there = self.keys.contains(key);
            self.change(is_there)?;
            self.keys.remove(key);
            Ok(())
        }
    }

    #[test]
    fn a_change_that_the_kernel_refused_halfway_can_be_made_again() {
        let (old, new): (HashSet<_>, HashSet<_>) = ((0..8).collect(), (4..12).collect());
        for changes in 8..16 {
            let mut table = Table::new(Refusing { keys: HashSet::new(), changes });
            table.add(&old).unwrap();
            table.add(&new).and_then(|()| table.keep(&new)).unwrap_err();
            table.add(&new).and_then(|()| table.keep(&new)).unwrap();
            assert_eq!((&table.keys, &table.map.keys), (&new, &new), "refused after {changes}");
        }
    }

    #[test]
    fn a_subnet_matches_by_its_prefix_in_the_shared_key_space() {
        let (bits, address) = prefix("10.77.200.9/24".parse().unwrap());
        assert_eq!((bits, address[12..].to_vec()), (120, vec![10, 77, 200, 0]));
        let (bits, address) = prefix("fd77:0:0:200::9/64".parse().unwrap());
        assert_eq!((bits, &address[..8]), (64, &[0xfd, 0x77, 0, 0, 0, 0, 2, 0][..]));
        // All of IPv4 is not all of IPv6.
        assert_eq!(prefix("0.0.0.0/0".parse().unwrap()).0, 96);
    }
}
