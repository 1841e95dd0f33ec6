//! System calls that no library in use offers safely. Each function is safe to call.

use std::io;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
