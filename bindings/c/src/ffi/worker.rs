//! A worker in the caller's memory, and all calls on it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use weirgate::counters::{Counters, ServiceCounters};
use weirgate::flow;
use weirgate::fragment::Limits;
use weirgate::frame::{self, BURST_FRAMES_MAX};
use weirgate::net::{PortId, WorkerId};
use weirgate::pipeline;
use weirgate::snapshot::Snapshot;
use weirgate::time::{Instant, Span};
use weirgate::verdict::{DropReason, Verdict};

use super::{answer, raw};
use crate::convert;
use crate::status::Status;
use crate::types::{self, Burst, Frame, WEIRGATE_WORKER_ALIGNMENT, WorkerConfig};

/// Marks memory that holds a worker of this version.
const MAGIC: u64 = u64::from_le_bytes(*b"WGWORKR\x01");

/// A worker, at the beginning of the caller's memory. One call at a time changes it; another one
/// returns `WEIRGATE_STATUS_BUSY`.
//
// Counters of services and then flows follow it in that memory. Invariant: `worker` borrows the
// counters beside it and the memory behind it, all of which stays where it is, so it must not be
// moved. Nothing in it needs dropping: the memory can be given up at any time between calls.
#[repr(align(64))]
pub struct Worker {
    magic: AtomicU64,
    /// Held by the call that changes the worker.
    busy: AtomicBool,
    /// Only to be reached through [`Worker::enter`].
    worker: UnsafeCell<pipeline::Worker<'static>>,
    /// Written by the call that holds `busy`, read by anyone.
    counters: Counters,
    services: &'static [ServiceCounters],
}

const _: () = {
    assert!(!std::mem::needs_drop::<Worker>());
    assert!(align_of::<Worker>() == WEIRGATE_WORKER_ALIGNMENT);
    assert!(size_of::<Worker>().is_multiple_of(64) && size_of::<ServiceCounters>().is_multiple_of(64));
    assert!(align_of::<ServiceCounters>() <= WEIRGATE_WORKER_ALIGNMENT);
};

/// The one call that changes the worker, for as long as this lives.
struct Turn<'w>(&'w Worker);

impl Worker {
    fn enter(&self) -> Result<Turn<'_>, Status> {
        // Acquire: pairs with the release in `drop`, so that this turn sees what the last one wrote.
        match self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Turn(self)),
            Err(_) => Err(Status::Busy),
        }
    }
}

impl Turn<'_> {
    fn worker(&mut self) -> &mut pipeline::Worker<'static> {
        // SAFETY: `busy` was ours to set, so no other `Turn` exists until this one is dropped, and
        // `&mut self` allows one such reference at a time. Nothing else reads the cell.
        unsafe { &mut *self.0.worker.get() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Where the sections of the memory begin and end, in bytes.
struct Layout {
    services_end: usize,
    end: usize,
    config: pipeline::WorkerConfig,
}

impl Layout {
    fn new(config: &WorkerConfig) -> Result<Self, Status> {
        if usize::from(config.id) >= types::WEIRGATE_WORKERS_MAX {
            return Err(Status::Workers);
        }
        if config.flows_v4.max(config.flows_v6) > flow::CAPACITY_MAX {
            return Err(Status::FlowCapacity);
        }
        let &WorkerConfig { secret, flows_v4, flows_v6, id, .. } = config;
        if usize::from(config.workers) > types::WEIRGATE_WORKERS_MAX || config.workers != 0 && id >= config.workers {
            return Err(Status::Workers);
        }
        let workers = config.workers.max(1);
        let services = usize::try_from(config.services).map_err(|_| Status::OutOfRange)?;
        let (id, fragments) = (WorkerId(id), limits(config));
        let config = pipeline::WorkerConfig { id, workers, flows_v4, flows_v6, fragments, secret };
        let services = services.checked_mul(size_of::<ServiceCounters>());
        let services_end = services.and_then(|bytes| bytes.checked_add(size_of::<Worker>()));
        let services_end = services_end.ok_or(Status::OutOfRange)?;
        let end = services_end.checked_add(pipeline::Worker::memory_bytes(&config)).ok_or(Status::OutOfRange)?;
        Ok(Self { services_end, end, config })
    }

    /// Whether a worker fits there.
    fn fits(&self, memory: *mut c_void, length: usize) -> Result<(), Status> {
        if memory.is_null() {
            Err(Status::NullPointer)
        } else if !memory.addr().is_multiple_of(WEIRGATE_WORKER_ALIGNMENT) {
            Err(Status::Misaligned)
        } else if length < self.end {
            Err(Status::TooShort)
        } else {
            Ok(())
        }
    }
}

/// The limits on fragmented datagrams.
fn limits(config: &WorkerConfig) -> Limits {
    let usual = Limits::default();
    let or = |asked: u32, usual: u32| if asked == 0 { usual } else { asked };
    Limits {
        datagrams: or(config.fragment_datagrams, usual.datagrams),
        held_bytes: or(config.fragment_held_bytes, usual.held_bytes),
        wait: if config.fragment_wait_ms == 0 { usual.wait } else { Span::from_millis(config.fragment_wait_ms.into()) },
    }
}

/// # Safety
/// `worker` comes from `weirgate_worker_init` unless a check can detect that it does not, and its
/// memory is still there.
unsafe fn state<'a>(worker: *const Worker) -> Result<&'a Worker, Status> {
    // SAFETY: the caller vouches for it. Shared access is right beside other calls: all that they
    // change is atomic or inside the cell.
    let worker = unsafe { raw::reference(worker)? };
    if worker.magic.load(Ordering::Relaxed) == MAGIC { Ok(worker) } else { Err(Status::NotAWorker) }
}

/// # Safety
/// `snapshot` points to `length` bytes that nobody changes meanwhile.
pub(super) unsafe fn attach<'a>(snapshot: *const c_void, length: usize) -> Result<Snapshot<'a>, Status> {
    if snapshot.is_null() {
        return Err(Status::NullPointer);
    }
    // SAFETY: the caller vouches for it.
    Ok(Snapshot::attach(unsafe { raw::array(snapshot.cast(), length)? })?)
}

/// Reports how many bytes of memory a worker needs.
///
/// # Safety
/// `config` points to a configuration, `bytes` to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_bytes(config: *const WorkerConfig, bytes: *mut usize) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (config, bytes) = unsafe { (raw::reference(config)?, raw::place(bytes)?) };
        bytes.write(Layout::new(config)?.end);
        Ok(())
    })())
}

/// Makes a worker without flows in `memory`, touching every byte that it uses, and returns its address
/// in `worker`: the memory's beginning, which must be a multiple of
/// `WEIRGATE_WORKER_ALIGNMENT`. The memory need not have been written before.
///
/// The worker stays in that memory and must not be moved. It needs no destructor: the memory may be freed
/// whenever no call is at work on it.
///
/// # Safety
/// `config` points to a configuration, `memory` to `length` bytes that nothing else uses from now
/// on, `worker` to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_init(
    config: *const WorkerConfig,
    memory: *mut c_void,
    length: usize,
    worker: *mut *mut Worker,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (config, out) = unsafe { (raw::reference(config)?, raw::place(worker)?) };
        let layout = Layout::new(config)?;
        layout.fits(memory, length)?;
        // SAFETY: `fits` has checked the memory, for whose use the caller vouches.
        let front = unsafe {
            let flows = raw::zeroed(memory.cast::<u8>().add(layout.services_end), layout.end - layout.services_end)?;
            place(&layout, memory, |counters, services| {
                Ok((pipeline::Worker::new(&layout.config, flows, counters, services)?, ()))
            })?
        };
        out.write(front.0);
        Ok(())
    })())
}

/// Makes a worker that adopts the flows that an earlier one left in `memory`, even if that one or its
/// process ended in the middle of a call; counters begin at zero. Nobody else may use the memory any
/// more. A control plane that keeps it in shared memory can so hand a gateway over to its next process.
///
/// - `config`: as the earlier worker's, with the same number of `workers`. The tables keep their own
///   `secret`.
/// - `snapshot`: the current one. Its ports or the selector's seed may have changed, so that replies of a flow
///   lead to another worker. Such flows are dropped: that worker may use their ports for other
///   flows.
/// - `adopted`: receives how many flows were adopted.
/// - Work: linear in the capacities.
///
/// On `WEIRGATE_STATUS_NOT_ADOPTED` the memory holds no worker of this configuration and version; no
/// flow was touched, and `weirgate_worker_init` starts without any.
///
/// # Safety
/// As `weirgate_worker_init`, and the memory's bytes have been written. `snapshot` points to
/// `snapshot_length` bytes that nobody changes meanwhile, `adopted` to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_attach(
    config: *const WorkerConfig,
    snapshot: *const c_void,
    snapshot_length: usize,
    memory: *mut c_void,
    length: usize,
    worker: *mut *mut Worker,
    adopted: *mut types::Adopted,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for all of them.
        let (config, out, adopted) = unsafe { (raw::reference(config)?, raw::place(worker)?, raw::place(adopted)?) };
        let layout = Layout::new(config)?;
        layout.fits(memory, length)?;
        // SAFETY: the caller vouches for it.
        let snapshot = unsafe { attach(snapshot, snapshot_length)? };
        // SAFETY: `fits` has checked the memory, for whose use the caller vouches.
        let (front, flows) = unsafe {
            let at = memory.cast::<u8>().add(layout.services_end);
            let flows = raw::array_mut(at, layout.end - layout.services_end)?;
            pipeline::Worker::check(&layout.config, flows).map_err(|_| Status::NotAdopted)?;
            place(&layout, memory, |counters, services| {
                let attached = pipeline::Worker::attach(&layout.config, &snapshot, flows, counters, services);
                attached.map_err(|_| Status::NotAdopted)
            })?
        };
        let flow::Adopted { flows, damaged, strayed } = flows;
        adopted.write(types::Adopted { flows, damaged, strayed });
        out.write(front);
        Ok(())
    })())
}

/// Writes the front of a worker's memory: counters at zero, and the worker that `make` makes beside them.
///
/// # Safety
/// [`Layout::fits`] has checked `memory`, whose front, up to the flows, nothing else refers to.
unsafe fn place<T>(
    layout: &Layout,
    memory: *mut c_void,
    make: impl FnOnce(&'static Counters, &'static [ServiceCounters]) -> Result<(pipeline::Worker<'static>, T), Status>,
) -> Result<(*mut Worker, T), Status> {
    // SAFETY: the caller vouches for it.
    let services = unsafe {
        raw::zeroed(memory.cast::<u8>().add(size_of::<Worker>()), layout.services_end - size_of::<Worker>())?
    };
    let count = services.len() / size_of::<ServiceCounters>();
    // SAFETY: `services` is `count` values long, aligned since both the memory and the front's
    // size are multiples of 64, and zeroed, which is a value of `ServiceCounters`: integers in
    // atomics. The mutable borrow ends here for good.
    let services: &'static [ServiceCounters] =
        unsafe { std::slice::from_raw_parts(services.as_ptr().cast::<ServiceCounters>(), count) };
    let front = memory.cast::<Worker>();
    // SAFETY: the front is aligned and large enough, and nothing refers to it yet. The counters
    // are written before the reference to them is made, and stay there as the invariant of
    // `Worker` says; `'static` stands for "as long as the caller leaves the memory to us".
    unsafe {
        let counters = &raw mut (*front).counters;
        counters.write(Counters::default());
        let (worker, made) = make(&*counters, services)?;
        (&raw mut (*front).worker).write(UnsafeCell::new(worker));
        (&raw mut (*front).services).write(services);
        (&raw mut (*front).busy).write(AtomicBool::new(false));
        (&raw mut (*front).magic).write(AtomicU64::new(MAGIC));
        Ok((front, made))
    }
}

/// Sets the verdict of every frame of the burst.
///
/// On any status but `WEIRGATE_STATUS_OK` nothing has been processed or changed.
///
/// - `now_ns`: nanoseconds on the caller's monotonic clock; must not go backwards.
/// - Work: bounded for each frame, no allocation.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`. `snapshot` points to `snapshot_length` bytes that
/// nobody changes meanwhile. `burst`, its arrays and all their buffers are as it says, used by
/// nobody else meanwhile, and no two buffers share a byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_process(
    worker: *mut Worker,
    snapshot: *const c_void,
    snapshot_length: usize,
    now_ns: u64,
    burst: *mut Burst,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for all of them.
        let (mut turn, snapshot, burst) =
            unsafe { (state(worker)?.enter()?, attach(snapshot, snapshot_length)?, raw::reference_mut(burst)?) };
        if burst.frame_count.max(burst.spare_count) > BURST_FRAMES_MAX {
            return Err(Status::BurstTooLong);
        }
        // SAFETY: the caller vouches for both arrays.
        let (raw_frames, raw_spares) = unsafe {
            (raw::array_mut(burst.frames, burst.frame_count)?, raw::array_mut(burst.spares, burst.spare_count)?)
        };
        let mut frames = ArrayVec::<frame::Frame<'_>, BURST_FRAMES_MAX>::new();
        for raw in raw_frames.iter() {
            // SAFETY: the caller vouches for the buffer, and that it is no other frame's.
            let buffer = unsafe { raw::array_mut(raw.buffer, raw.capacity as usize)? };
            let frame = frame::Frame::new(buffer, raw.start as usize, raw.length as usize, PortId(raw.port))
                .map(|frame| frame.handed_over(raw.handovers));
            frames.push(frame.map_err(|_| Status::FrameOutsideBuffer)?);
        }
        let mut spares = ArrayVec::<frame::Frame<'_>, BURST_FRAMES_MAX>::new();
        for raw in raw_spares.iter() {
            // SAFETY: as for the frames.
            spares.push(frame::Frame::spare(unsafe { raw::array_mut(raw.buffer, raw.capacity as usize)? }));
        }
        let mut call = frame::Burst::new(&mut frames, &mut spares);
        pipeline::process(turn.worker(), &snapshot, Instant(now_ns), &mut call);
        burst.emitted = call.emitted;
        let emitted = raw_spares.iter_mut().zip(&spares).take(burst.emitted);
        raw_frames.iter_mut().zip(&frames).chain(emitted).for_each(|(raw, frame)| write_back(raw, frame));
        Ok(())
    })())
}

/// What processing changed. Both numbers are at most the buffer's capacity, which has 32 bits.
fn write_back(raw: &mut Frame, frame: &frame::Frame<'_>) {
    raw.start = frame.start() as u32;
    raw.length = frame.len() as u32;
    raw.port = frame.port().0;
    let is_handed_over = matches!(frame.verdict(), Some(Verdict::Handover(_)));
    raw.handovers = frame.handovers().saturating_add(u8::from(is_handed_over));
    (raw.verdict, raw.detail) = convert::verdict(frame.verdict());
}

/// Removes flows past their idle timeout, and fragmented datagrams that have been silent too long, among
/// the next `budget` of each kind. Call it once in each turn of the loop.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`. `snapshot` points to `snapshot_length` bytes that
/// nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_age(
    worker: *mut Worker,
    snapshot: *const c_void,
    snapshot_length: usize,
    now_ns: u64,
    budget: u32,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (mut turn, snapshot) = unsafe { (state(worker)?.enter()?, attach(snapshot, snapshot_length)?) };
        turn.worker().age(&snapshot, Instant(now_ns), budget);
        Ok(())
    })())
}

/// Reports how many flows there are in each family.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`; `flows_v4` and `flows_v6` point to room for the
/// results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_flows(worker: *mut Worker, flows_v4: *mut u32, flows_v6: *mut u32) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for all of them.
        let (mut turn, v4, v6) = unsafe { (state(worker)?.enter()?, raw::place(flows_v4)?, raw::place(flows_v6)?) };
        v4.write(turn.worker().flows().v4.len());
        v6.write(turn.worker().flows().v6.len());
        Ok(())
    })())
}

/// Returns the next neighbour whose link address packets wait for: ask the kernel to resolve it.
/// `WEIRGATE_STATUS_EMPTY` where there is none.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`; `unresolved` points to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_next_unresolved(
    worker: *mut Worker,
    unresolved: *mut types::Unresolved,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (mut turn, out) = unsafe { (state(worker)?.enter()?, raw::place(unresolved)?) };
        let (port, address) = turn.worker().next_unresolved().ok_or(Status::Empty)?;
        out.write(types::Unresolved { address: convert::raw_address(address), port: port.0 });
        Ok(())
    })())
}

/// Counts a drop of the caller's own, such as a ring without room.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_count_drop(worker: *mut Worker, reason: u8) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for it.
        let worker = unsafe { state(worker)? };
        // Counters have one writer: the call whose turn it is.
        let _turn = worker.enter()?;
        let reason = DropReason::ALL.get(usize::from(reason)).ok_or(Status::OutOfRange)?;
        worker.counters.count_drop(*reason);
        Ok(())
    })())
}

/// Reads the counters that are neither a port's, a service's nor a drop's. From any thread, also
/// while another call is at work.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`; `counters` points to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_counters(worker: *const Worker, counters: *mut types::Counters) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (worker, out) = unsafe { (state(worker)?, raw::place(counters)?) };
        let [
            host,
            handovers,
            fragments_held,
            fragments_created,
            flows_created,
            flows_expired,
            flows_reopened,
            flows_reset,
            evicted_half_open,
            evicted_one_way,
            evicted_closing,
            evicted_unassured,
            evicted_stream,
            forwarded_stateless,
            echoes_answered,
            errors_translated,
            errors_sent,
            resets_sent,
        ] = worker.counters.named().map(|(_, counter)| counter.get());
        out.write(types::Counters {
            host,
            handovers,
            fragments_held,
            fragments_created,
            flows_created,
            flows_expired,
            flows_reopened,
            flows_reset,
            evicted_half_open,
            evicted_one_way,
            evicted_closing,
            evicted_unassured,
            evicted_stream,
            forwarded_stateless,
            echoes_answered,
            errors_translated,
            errors_sent,
            resets_sent,
        });
        Ok(())
    })())
}

/// Reads how many frames were dropped for each of the first `count` reasons, by number. From any
/// thread, also while another call is at work.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`; `drops` points to room for `count` results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_drops(worker: *const Worker, drops: *mut u64, count: usize) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for it.
        let worker = unsafe { state(worker)? };
        if count > DropReason::COUNT {
            return Err(Status::OutOfRange);
        }
        // SAFETY: as above; room for a value that need not be initialised has the value's layout.
        let out = unsafe { raw::array_mut(drops.cast::<std::mem::MaybeUninit<u64>>(), count)? };
        for (out, reason) in out.iter_mut().zip(DropReason::ALL) {
            out.write(worker.counters.drops(*reason));
        }
        Ok(())
    })())
}

/// Reads the counters of a port. From any thread, also while another call is at work.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`; `counters` points to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_port_counters(
    worker: *const Worker,
    port: u8,
    counters: *mut types::PortCounters,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (worker, out) = unsafe { (state(worker)?, raw::place(counters)?) };
        let counters = worker.counters.port(PortId(port)).ok_or(Status::OutOfRange)?;
        out.write(types::PortCounters {
            received: convert::traffic(&counters.received),
            transmitted: convert::traffic(&counters.transmitted),
        });
        Ok(())
    })())
}

/// Reads the counters of a service by its number, which is below the configuration's `services`.
/// From any thread, also while another call is at work.
///
/// # Safety
/// `worker` comes from `weirgate_worker_init`; `counters` points to room for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weirgate_worker_service_counters(
    worker: *const Worker,
    service: u32,
    counters: *mut types::ServiceCounters,
) -> Status {
    answer((|| {
        // SAFETY: the caller vouches for both.
        let (worker, out) = unsafe { (state(worker)?, raw::place(counters)?) };
        let counters = worker.services.get(service as usize).ok_or(Status::OutOfRange)?;
        out.write(types::ServiceCounters {
            original: convert::traffic(&counters.original),
            reply: convert::traffic(&counters.reply),
            flows: counters.flows.get(),
        });
        Ok(())
    })())
}

#[cfg(test)]
mod tests {
    use std::alloc::{Layout as Allocation, alloc, dealloc};
    use std::ptr;

    use super::*;

    #[test]
    fn every_counter_is_told_in_the_order_of_the_core_s() {
        let config = WorkerConfig { flows_v4: 16, flows_v6: 16, ..WorkerConfig::default() };
        let (mut bytes, mut worker, mut counters) = (0, ptr::null_mut(), types::Counters::default());
        // SAFETY: as below; the structure is nothing but so many words.
        let told = unsafe {
            assert_eq!(weirgate_worker_bytes(&config, &mut bytes), Status::Ok);
            let allocation = Allocation::from_size_align(bytes, WEIRGATE_WORKER_ALIGNMENT).expect("a size");
            let memory = alloc(allocation);
            assert_eq!(weirgate_worker_init(&config, memory.cast(), bytes, &mut worker), Status::Ok);
            let counted = state(worker).expect("a worker").counters.named();
            (1..).zip(counted).for_each(|(number, (_, counter))| counter.add(number));
            assert_eq!(weirgate_worker_counters(worker, &mut counters), Status::Ok);
            dealloc(memory, allocation);
            std::mem::transmute::<types::Counters, [u64; Counters::NAMED]>(counters)
        };
        assert_eq!(told, std::array::from_fn(|place| place as u64 + 1));
    }

    #[test]
    fn a_second_call_on_a_busy_worker_is_told_and_counters_can_be_read_all_the_same() {
        let config = WorkerConfig { flows_v4: 16, flows_v6: 16, services: 3, ..WorkerConfig::default() };
        let mut bytes = 0;
        let mut worker = ptr::null_mut();
        let (mut v4, mut v6) = (0, 0);
        let mut counters = types::Counters::default();
        // SAFETY: every pointer is to a value of this function's, or to memory that it allocates
        // with the size and alignment that the library asks for and frees after the last call.
        unsafe {
            assert_eq!(weirgate_worker_bytes(&config, &mut bytes), Status::Ok);
            let allocation = Allocation::from_size_align(bytes, WEIRGATE_WORKER_ALIGNMENT).expect("a size");
            let memory = alloc(allocation);
            assert_eq!(weirgate_worker_init(&config, memory.cast(), bytes, &mut worker), Status::Ok);
            let turn = state(worker).and_then(Worker::enter).expect("nobody else is at work");
            assert_eq!(weirgate_worker_flows(worker, &mut v4, &mut v6), Status::Busy);
            assert_eq!(weirgate_worker_count_drop(worker, 0), Status::Busy);
            assert_eq!(weirgate_worker_counters(worker, &mut counters), Status::Ok);
            drop(turn);
            assert_eq!(weirgate_worker_flows(worker, &mut v4, &mut v6), Status::Ok);
            dealloc(memory, allocation);
        }
        assert_eq!((v4, v6, counters), (0, 0, types::Counters::default()));
    }
}
