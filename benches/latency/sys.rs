//! System calls that no library in use offers safely. Each function is safe to call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Many descriptors to wait for at once (`epoll(7)`), each under a number.
pub(crate) struct Poller(OwnedFd);

/// How many answers one wait gives at most.
const READY_MAX: usize = 64;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for `fd` to be readable from now on.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: `event` lives until the call returns.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) })
            .map(drop)
    }

    /// Waits for `fd` no longer.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let none = std::ptr::null_mut();
        // SAFETY: since Linux 2.6.9 the event is not read.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), none) }).map(drop)
    }

    /// Waits until something is readable or the time is over, and puts the numbers of what is into `ready`.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_MAX];
        let timeout =
            libc::timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        // SAFETY: the kernel writes at most READY_MAX events; the timeout lives until the call returns.
        let result = unsafe {
            libc::epoll_pwait2(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                READY_MAX as i32,
                &raw const timeout,
                std::ptr::null(),
            )
        };
        match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
            Ok(count) => {
                ready.extend(events[..count.cast_unsigned() as usize].iter().map(|event| event.u64));
                Ok(())
            }
        }
    }
}

/// Lets the calling thread's timers end when they are due; else they may be 50 µs late (`prctl(2)`).
pub(crate) fn be_punctual() -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64) }).map(drop)
}

/// How long all threads of this process have run, those that have ended included.
pub(crate) fn ran() -> Duration {
    // SAFETY: all-zero is a valid rusage; it lives until the call returns.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime].into_iter().fold(Duration::ZERO, |sum, time| {
        sum + Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
    })
}
