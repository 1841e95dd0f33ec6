//! System calls that no library in use offers safely. Each function is safe to call.

use std::{fs, io};

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Binds a thread of any process to one core; thread 0 is the calling one.
pub(crate) fn pin(thread: i32, core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all-zero is a valid, empty set; the core is below the set's size; the kernel reads as
    // many bytes as the set has.
    check(unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &set)
    })
}

/// Gives a thread the highest ordinary priority; thread 0 is the calling one, and what it starts
/// from then on inherits it.
pub(crate) fn put_first(thread: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, thread.cast_unsigned(), -20) })
}

/// Where the kernel keeps the priority of the calling process's session (`sched(7)`).
const SESSION: &str = "/proc/self/autogroup";

/// The calling process before all others: each session shares the processor as one, whatever the
/// priorities of the threads in it. Dropping it makes the session an ordinary one again.
pub(crate) struct First {
    grouped: bool,
}

impl First {
    pub(crate) fn new() -> io::Result<Self> {
        put_first(0)?;
        Ok(Self { grouped: fs::write(SESSION, "-20").is_ok() })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if self.grouped {
            let _ = fs::write(SESSION, "0");
        }
    }
}

/// A thread that [`interrupt`] can find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    process: i32,
    thread: i32,
}

/// Makes the calling thread's system calls return when it is interrupted.
pub(crate) fn be_interruptible() -> io::Result<Target> {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: all-zero is a valid sigaction; the handler does nothing, so it may run at any time.
    check(unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut())
    })?;
    // SAFETY: neither call has preconditions.
    Ok(unsafe { Target { process: libc::getpid(), thread: libc::gettid() } })
}

/// Interrupts a system call of that thread; without one, or without the thread, nothing happens.
pub(crate) fn interrupt(target: Target) {
    // SAFETY: no pointers are passed. A thread with this number in this process is one of ours, and
    // the signal has a handler.
    unsafe { libc::syscall(libc::SYS_tgkill, target.process, target.thread, libc::SIGUSR1) };
}
