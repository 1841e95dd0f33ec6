//! System calls that no library in use offers safely. Each function is safe to call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use weirgate::time::Instant;

/// `SO_PREFER_BUSY_POLL` and `SO_BUSY_POLL_BUDGET` of asm-generic/socket.h, since Linux 5.11.
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
/// `XDP_MAX_TX_SKB_BUDGET` of linux/if_xdp.h, since Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
/// `ETHTOOL_GTXCSUM`, `ETHTOOL_GFLAGS` and `ETHTOOL_GCHANNELS` of linux/ethtool.h.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const SIOCETHTOOL: u32 = 0x8946;
/// `ETH_FLAG_RXVLAN` of linux/ethtool.h, among those that `ETHTOOL_GFLAGS` answers with.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The time on the clock that continues through suspension and across restarts of a process.
#[must_use]
pub(crate) fn boot_time() -> Instant {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec of ours, written before the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    Instant(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}

fn set_option(socket: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns.
    check(unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), size_of::<i32>() as u32) })
        .map(drop)
}

/// Makes the socket's NAPI context run from this process's calls rather than from interrupts.
pub(crate) fn prefer_busy_poll(socket: RawFd, microseconds: u32, budget: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds.cast_signed())?;
    set_option(socket, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, budget.cast_signed())
}

/// Whether a call on this socket can poll a driver: the kernel knows a NAPI context for it. Some drivers report it when
/// the socket is bound, others with the first frame, and others never.
pub(crate) fn has_napi_id(socket: RawFd) -> bool {
    let mut id = 0u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: `length` says how many bytes `id` has, and both live until the call returns.
    let result = unsafe {
        let id = (&raw mut id).cast();
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID, id, &raw mut length)
    };
    check(result).is_ok() && id != 0
}

/// Lets one call transmit up to `frames` in copy mode, where the kernel knows the option.
pub(crate) fn transmit_budget(socket: RawFd, frames: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, frames.cast_signed())
}

/// Lets the kernel receive into the socket's ring. `ENETDOWN` while the interface is down.
pub(crate) fn kick_receive(socket: RawFd) -> io::Result<()> {
    // SAFETY: a null buffer of length zero is allowed for an AF_XDP socket; nothing is written.
    let result = unsafe {
        libc::recvfrom(socket, std::ptr::null_mut(), 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut())
    };
    settle(result)
}

/// Makes the kernel transmit from the socket's ring. `ENETDOWN` while the interface is down.
pub(crate) fn kick_transmit(socket: RawFd) -> io::Result<()> {
    // SAFETY: a null buffer of length zero is allowed for an AF_XDP socket; nothing is read.
    let result = unsafe { libc::sendto(socket, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    settle(result)
}

/// The errors after which the rings are as usable as before (networking/af_xdp.rst).
fn settle(result: libc::ssize_t) -> io::Result<()> {
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

/// A descriptor that another thread can make readable.
pub(crate) fn event() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an [`event`] readable.
pub(crate) fn raise(event: BorrowedFd<'_>) {
    let one = 1u64;
    // SAFETY: eight bytes are read from `one`. A full counter is readable already.
    unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

/// Makes an [`event`] unreadable again.
pub(crate) fn lower(event: BorrowedFd<'_>) {
    let mut count = 0u64;
    // SAFETY: at most eight bytes are written to `count`.
    unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
}

/// One descriptor to wait for, readable or broken.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Waiter(libc::pollfd);

impl Waiter {
    pub(crate) fn new(fd: RawFd) -> Self {
        Self(libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
    }

    /// Whether the descriptor was readable at the end of the last wait.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.revents & libc::POLLIN != 0
    }

    /// Whether the descriptor will never be readable again.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
    }

    /// Ignores the descriptor from now on.
    pub(crate) fn forget(&mut self) {
        self.0.fd = -1;
        self.0.revents = 0;
    }
}

/// Sleeps until one of the descriptors is ready, a signal comes or the time is over.
pub(crate) fn wait(waiters: &mut [Waiter], timeout: Duration) {
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `Waiter` is transparent over pollfd, and the slice's length goes with its pointer.
    unsafe { libc::poll(waiters.as_mut_ptr().cast(), waiters.len() as libc::nfds_t, milliseconds) };
}

/// Binds the calling thread to one core.
pub(crate) fn pin_thread(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all-zero is a valid, empty set; the core is below the set's size; the kernel reads as
    // many bytes as the set has.
    check(unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    })
    .map(drop)
}

/// `struct ethtool_channels` of linux/ethtool.h; its first word is also all of `ethtool_value`
/// but the second.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx_or_value: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

fn ethtool(name: &str, command: u32) -> io::Result<Channels> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut channels = Channels { command, ..Channels::default() };
    // SAFETY: all-zero is a valid ifreq: an empty name and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: for each command in use the kernel writes at most `struct ethtool_channels`, which
    // outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL.into(), &raw mut request) })?;
    Ok(channels)
}

/// How many queues of the interface receive.
pub(crate) fn receive_queues(name: &str) -> io::Result<u32> {
    let channels = ethtool(name, ETHTOOL_GCHANNELS)?;
    Ok(channels.rx + channels.combined)
}

/// Whether transmit checksum offload is on.
pub(crate) fn transmit_checksum_offload(name: &str) -> io::Result<bool> {
    Ok(ethtool(name, ETHTOOL_GTXCSUM)?.max_rx_or_value != 0)
}

/// Whether VLAN tags are stripped from received frames and reported beside them.
pub(crate) fn receive_vlan_offload(name: &str) -> io::Result<bool> {
    Ok(ethtool(name, ETHTOOL_GFLAGS)?.max_rx_or_value & ETH_FLAG_RXVLAN != 0)
}
