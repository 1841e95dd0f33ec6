//! Which core a thread has, and before whom. Each function is safe to call.

use std::{fs, io};

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Binds a thread of any process to one core; thread 0 is the calling one.
#[allow(dead_code, reason = "each bench uses some of it")]
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
