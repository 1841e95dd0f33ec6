//! Signals that the gateway heeds, as something to wait for (signalfd(2)).

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::FromRawFd;
use std::ptr;

use async_io::Async;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// An orderly end, by the signal of this name.
    End(&'static str),
    /// SIGHUP: to daemons, it means to read the configuration again.
    Reload,
}

const SIGNALS: [(i32, Signal); 3] =
    [(libc::SIGTERM, Signal::End("SIGTERM")), (libc::SIGINT, Signal::End("SIGINT")), (libc::SIGHUP, Signal::Reload)];

/// Waits for SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals(Async<File>);

impl Signals {
    /// Takes the signals. Call it before any thread is started: threads inherit the signal mask.
    ///
    /// # Errors
    /// The system's, where it refuses the descriptor.
    pub fn take() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes the whole set, so it is initialised for the calls after it;
        // all of them only use the set and signal numbers that exist.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for (signal, _) in SIGNALS {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        };
        // SAFETY: the set is initialised, and a null pointer asks for no old mask.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, open, and nobody else's.
        let file = unsafe { File::from_raw_fd(descriptor) };
        Ok(Self(Async::new(file)?))
    }

    /// What the next signal that comes asks for.
    ///
    /// # Errors
    /// The system's.
    pub async fn next(&self) -> io::Result<Signal> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        // Read before waiting, and again after a spurious wakeup.
        self.0.read_with(|mut file| file.read_exact(&mut record)).await?;
        // The number of the signal is the first member of signalfd_siginfo.
        let [a, b, c, d, ..] = record;
        let number = i32::from_ne_bytes([a, b, c, d]);
        Ok(SIGNALS.iter().find(|(signal, _)| *signal == number).map_or(Signal::End("a signal"), |(_, asks)| *asks))
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn a_signal_that_came_is_known_by_what_it_asks_for() {
        let signals = Signals::take().expect("a descriptor for signals");
        // A signal that is sent to one thread is there for the reads of that thread alone (signalfd(2)): to wait would
        // be to have the reactor's thread look for it.
        let now = || block_on(poll_once(signals.next())).map(Result::unwrap);
        assert_eq!(now(), None);
        for (number, asks) in SIGNALS {
            // SAFETY: raise has no memory preconditions; the signal is blocked in this thread, which it is sent to.
            assert_eq!(unsafe { libc::raise(number) }, 0);
            assert_eq!(now(), Some(asks));
        }
    }
}
