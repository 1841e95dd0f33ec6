//! Deferred interrupts: where calls on the sockets poll the driver, its interrupts only take the processor from the
//! process that polls (Documentation/networking/napi.rst in the kernel). Where they do not, a frame waits for the
//! timer that stands in for the interrupt. Which of the two it is shows in where frames are found: [`Deferral`]
//! decides by that, for each port, and [`DeferredInterrupts`] does it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};
use weirgate::time::{Instant, Span};

use super::Interface;

/// How many times interrupts stay off after a poll that found nothing, and for how many nanoseconds each. The second
/// is the longest that a frame can wait while nobody polls.
const SETTINGS: [(&str, &str); 2] = [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "50000")];
/// The second of them.
pub const WAIT_MAX: Span = Span(50_000);

/// How many arrivals are needed before anything is decided.
const ARRIVALS_MIN: u64 = 256;
/// Of a hundred arrivals, how many must fall inside a call. If calls brought none, a worker that does nothing but
/// call would still see half of them arrive inside a call.
const PERCENT_MIN: u64 = 90;
/// How long a trial lasts at most.
const TRIAL_MAX: Span = Span::from_secs(10);
/// How long interrupts are left alone after an undecided trial, and after a lost one.
const PAUSE: Span = Span::from_secs(60);
const PAUSE_LOST: Span = Span::from_secs(600);

/// Measurements of a port's queues since the workers started. Counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Polling {
    /// Queues on whose sockets a call polls the driver.
    pub polled: u32,
    /// Queues that have received frames and are not polled.
    pub unpolled: u32,
    /// How often frames arrived inside a call.
    pub by_call: u64,
    /// How often frames had arrived between two calls.
    pub between: u64,
}

impl Polling {
    /// The sum of both.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            polled: self.polled + other.polled,
            unpolled: self.unpolled + other.unpolled,
            by_call: self.by_call + other.by_call,
            between: self.between + other.between,
        }
    }

    fn arrivals_since(&self, earlier: &Self) -> (u64, u64) {
        let by_call = self.by_call.saturating_sub(earlier.by_call);
        (by_call, by_call + self.between.saturating_sub(earlier.between))
    }
}

/// When one queue's frames arrive: while a call polls, or between two calls.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Arrivals {
    /// How many frames are known to be in the RX ring; `None` when nobody has checked for a while.
    known: Option<u32>,
    pub(crate) by_call: u64,
    pub(crate) between: u64,
}

impl Arrivals {
    /// This many frames were taken from the ring.
    pub(crate) fn taken(&mut self, frames: u32) {
        if let Some(known) = &mut self.known {
            self.between += u64::from(frames > *known);
            *known = known.saturating_sub(frames);
        }
    }

    /// A call polled; this many frames were in the ring before and after it.
    pub(crate) fn polled(&mut self, before: u32, after: u32) {
        if let Some(known) = self.known {
            self.between += u64::from(before > known);
            self.by_call += u64::from(after > before);
        }
        self.known = Some(after);
    }

    /// The worker has slept. The frame that woke it says nothing about polling.
    pub(crate) fn forget(&mut self) {
        self.known = None;
    }
}

/// Whether a port's interrupts are deferred, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deferral {
    /// No: no frame has come, and only frames may show which queues are polled.
    Unknown,
    /// No: calls do not poll every queue that has frames.
    Unpolled,
    /// Yes, on trial, to see whether calls find the frames then.
    Trial {
        /// Since when.
        since: Instant,
        /// The measurements by then.
        before: Polling,
    },
    /// Yes: calls found this many of a hundred arrivals.
    Deferred {
        /// As of the last count.
        percent: u64,
        /// The measurements when it began.
        before: Polling,
    },
    /// No: the trial, or a later count, had too few of a hundred.
    Lost {
        /// How many there were.
        percent: u64,
        /// When the next trial may be.
        until: Instant,
    },
    /// No: too few frames came in a trial to decide.
    Undecided {
        /// When the next trial may be.
        until: Instant,
    },
    /// No: the settings cannot be changed.
    OutOfReach(String),
}

impl Deferral {
    /// The next state by the measurements so far.
    #[must_use]
    pub fn after(self, now: Instant, seen: &Polling) -> Self {
        match self {
            Self::OutOfReach(_) => self,
            _ if seen.unpolled > 0 => Self::Unpolled,
            _ if seen.polled == 0 => Self::Unknown,
            Self::Trial { since, before } => match judged(&before, seen) {
                Some(percent) => Self::counted(percent, now, seen),
                None if now - since > TRIAL_MAX => Self::Undecided { until: now + PAUSE },
                None => self,
            },
            Self::Deferred { before, .. } => match judged(&before, seen) {
                Some(percent) => Self::counted(percent, now, seen),
                None => self,
            },
            Self::Lost { until, .. } | Self::Undecided { until } if now < until => self,
            Self::Unknown | Self::Unpolled | Self::Lost { .. } | Self::Undecided { .. } => {
                Self::Trial { since: now, before: *seen }
            }
        }
    }

    fn counted(percent: u64, now: Instant, seen: &Polling) -> Self {
        match percent {
            PERCENT_MIN.. => Self::Deferred { percent, before: *seen },
            _ => Self::Lost { percent, until: now + PAUSE_LOST },
        }
    }

    /// Whether the interrupts are deferred.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::Trial { .. } | Self::Deferred { .. })
    }

    /// Why they are or are not.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Unknown => "no frame has come yet".to_owned(),
            Self::Unpolled => "the driver cannot be polled through these sockets: they have no NAPI id".to_owned(),
            Self::Trial { .. } => "on trial: whether polling finds the frames".to_owned(),
            Self::Deferred { percent, .. } => format!("polling found {percent} % of what came"),
            Self::Lost { percent, .. } => format!("polling found only {percent} % of what came"),
            Self::Undecided { .. } => "too few frames came in a trial".to_owned(),
            Self::OutOfReach(cause) => format!("the settings are out of reach: {cause}"),
        }
    }
}

/// Of a hundred arrivals since then, how many calls found; `None` as long as there are too few.
fn judged(before: &Polling, seen: &Polling) -> Option<u64> {
    let (by_call, all) = seen.arrivals_since(before);
    (all >= ARRIVALS_MIN).then(|| by_call * 100 / all)
}

/// The ports' interrupts, and the settings as they were, put back when this is dropped.
///
/// A killed process cannot put them back. So values equal to ours at the start count as its leftover, and are
/// set to the kernel's default, 0.
#[derive(Debug)]
pub(crate) struct DeferredInterrupts {
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    name: String,
    /// In sysfs, where it shows this network namespace.
    directory: Option<PathBuf>,
    deferral: Deferral,
    /// The settings that are changed now, and what they were.
    before: Vec<(PathBuf, String)>,
}

impl DeferredInterrupts {
    /// Leaves these interfaces' interrupts as they are for now, except for what a killed process of ours has changed.
    pub(crate) fn new(interfaces: &[Interface]) -> Self {
        let port = |interface: &Interface| {
            take_back(interface);
            Port::new(&interface.name, interface.directory())
        };
        Self { ports: interfaces.iter().map(port).collect() }
    }

    /// Decides again about a port, and applies the decision.
    pub(crate) fn see(&mut self, port: usize, now: Instant, seen: &Polling) {
        if let Some(port) = self.ports.get_mut(port) {
            port.see(now, seen);
        }
    }

    /// The state of a port.
    pub(crate) fn deferral(&self, port: usize) -> Option<&Deferral> {
        self.ports.get(port).map(|port| &port.deferral)
    }
}

impl Port {
    fn new(name: &str, directory: Option<PathBuf>) -> Self {
        Self { name: name.to_owned(), directory, deferral: Deferral::Unknown, before: Vec::new() }
    }

    fn see(&mut self, now: Instant, seen: &Polling) {
        let was_on = self.deferral.is_on();
        let next = std::mem::replace(&mut self.deferral, Deferral::Unknown).after(now, seen);
        self.deferral = match (was_on, next.is_on()) {
            (false, true) => match self.defer() {
                Ok(()) => next,
                Err(cause) => {
                    self.restore();
                    warn!(interface = self.name, %cause, "interrupts not deferred");
                    Deferral::OutOfReach(cause.to_string())
                }
            },
            (true, false) => {
                self.restore();
                next
            }
            _ => next,
        };
        if was_on != self.deferral.is_on() {
            info!(interface = self.name, deferred = !was_on, reason = self.deferral.reason(), "interrupts");
        }
    }

    fn defer(&mut self) -> io::Result<()> {
        let directory = self
            .directory
            .as_ref()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "sysfs does not show this network namespace"))?;
        for (setting, value) in SETTINGS {
            let path = directory.join(setting);
            let before = replace(&path, value)?;
            self.before.push((path, before));
        }
        Ok(())
    }

    fn restore(&mut self) {
        for (path, before) in self.before.drain(..).rev() {
            match fs::write(&path, &before) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %cause, "setting not restored")
                }
                _ => {}
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Sets an interface to the kernel's default where it still has a killed process's values of ours; returns
/// whether it had.
pub(crate) fn take_back(interface: &Interface) -> bool {
    interface.directory().is_some_and(|directory| take_back_in(&directory))
}

fn take_back_in(directory: &Path) -> bool {
    let mut had = false;
    for (setting, value) in SETTINGS {
        let path = directory.join(setting);
        if fs::read_to_string(&path).is_ok_and(|found| found.trim() == value) {
            match fs::write(&path, "0") {
                Ok(()) => had = true,
                Err(cause) => warn!(path = %path.display(), %cause, "setting not restored"),
            }
        }
    }
    had
}

fn replace(path: &Path, value: &str) -> io::Result<String> {
    let before = fs::read_to_string(path)?;
    fs::write(path, value)?;
    Ok(before.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(100);

    fn seen(by_call: u64, between: u64) -> Polling {
        Polling { polled: 1, unpolled: 0, by_call, between }
    }

    fn trial() -> Deferral {
        Deferral::Unknown.after(NOW, &seen(1000, 1000))
    }

    #[test]
    fn nothing_is_deferred_before_a_queue_is_known_to_be_polled() {
        let nothing = Polling::default();
        assert_eq!(Deferral::Unknown.after(NOW, &nothing), Deferral::Unknown);
        let unpolled = Polling { unpolled: 1, ..nothing };
        assert_eq!(Deferral::Unknown.after(NOW, &unpolled), Deferral::Unpolled);
        // One queue that has frames and is not polled decides for the port: the settings are the port's.
        let mixed = Polling { polled: 3, ..unpolled };
        assert_eq!(Deferral::Unknown.after(NOW, &mixed), Deferral::Unpolled);
        assert_eq!(trial().after(NOW, &mixed), Deferral::Unpolled);
        assert!(!Deferral::Unpolled.is_on());
        // A queue without frames may never have any.
        assert!(Deferral::Unpolled.after(NOW, &seen(0, 0)).is_on());
    }

    #[test]
    fn a_trial_is_decided_by_what_came_since_it_began() {
        let trial = trial();
        assert_eq!(trial, Deferral::Trial { since: NOW, before: seen(1000, 1000) });
        assert_eq!(trial.clone().after(NOW, &seen(1000 + ARRIVALS_MIN - 1, 1000)), trial);
        let enough = seen(1000 + ARRIVALS_MIN, 1000);
        assert_eq!(trial.clone().after(NOW, &enough), Deferral::Deferred { percent: 100, before: enough });
        let just = seen(1900, 1100);
        assert_eq!(trial.clone().after(NOW, &just), Deferral::Deferred { percent: 90, before: just });
        let lost = Deferral::Lost { percent: 89, until: NOW + PAUSE_LOST };
        assert_eq!(trial.after(NOW, &seen(1890, 1110)), lost);
        assert!(!lost.is_on());
    }

    #[test]
    fn a_trial_on_an_idle_link_ends_and_comes_again() {
        let trial = trial();
        let late = NOW + TRIAL_MAX + Span(1);
        let undecided = trial.after(late, &seen(1001, 1000));
        assert_eq!(undecided, Deferral::Undecided { until: late + PAUSE });
        assert_eq!(undecided.clone().after(late, &seen(9000, 1000)), undecided);
        assert!(undecided.after(late + PAUSE, &seen(9000, 1000)).is_on());
    }

    #[test]
    fn what_was_found_good_is_counted_again_and_ends_when_it_no_longer_is() {
        let deferred = trial().after(NOW, &seen(2000, 1000));
        assert!(matches!(deferred, Deferral::Deferred { percent: 100, .. }));
        let still = deferred.after(NOW, &seen(2950, 1050));
        assert_eq!(still, Deferral::Deferred { percent: 95, before: seen(2950, 1050) });
        // What was long ago counts no more: of the last thousand, half.
        let lost = still.after(NOW, &seen(3450, 1550));
        assert_eq!(lost, Deferral::Lost { percent: 50, until: NOW + PAUSE_LOST });
        assert_eq!(lost.clone().after(NOW, &seen(9000, 1550)), lost);
        assert!(lost.after(NOW + PAUSE_LOST, &seen(9000, 1550)).is_on());
    }

    #[test]
    fn arrivals_are_told_apart_by_whether_a_call_brought_them() {
        let counts = |arrivals: &Arrivals| (arrivals.by_call, arrivals.between);
        let mut arrivals = Arrivals::default();
        arrivals.taken(5);
        arrivals.polled(3, 4);
        assert_eq!(counts(&arrivals), (0, 0), "nobody had looked before");
        arrivals.taken(4);
        arrivals.polled(0, 2);
        assert_eq!(counts(&arrivals), (1, 0));
        arrivals.taken(3);
        assert_eq!(counts(&arrivals), (1, 1), "one more than the call had left");
        arrivals.polled(1, 1);
        assert_eq!(counts(&arrivals), (1, 2), "and another before the next");
        arrivals.forget();
        arrivals.taken(7);
        arrivals.polled(9, 9);
        assert_eq!(counts(&arrivals), (1, 2), "what came while the worker slept is not counted");
    }

    /// An interface's directory with these values, in the order of the settings.
    fn directory(name: &str, values: [&str; 2]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("weirgate-napi-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for ((setting, _), value) in SETTINGS.into_iter().zip(values) {
            fs::write(directory.join(setting), format!("{value}\n")).unwrap();
        }
        directory
    }

    fn values(directory: &Path) -> [String; 2] {
        SETTINGS.map(|(setting, _)| fs::read_to_string(directory.join(setting)).unwrap().trim().to_owned())
    }

    #[test]
    fn settings_change_for_a_trial_and_come_back_when_it_is_lost_and_at_the_end() {
        let place = directory("trial", ["1", "7000"]);
        let ours = SETTINGS.map(|(_, value)| value.to_owned());
        assert_eq!(ours[1], WAIT_MAX.0.to_string());
        let mut port = Port::new("up0", Some(place.clone()));
        port.see(NOW, &Polling { unpolled: 1, ..Polling::default() });
        assert_eq!(values(&place), ["1", "7000"]);
        port.see(NOW, &seen(0, 0));
        assert_eq!(values(&place), ours);
        port.see(NOW, &seen(100, 900));
        assert_eq!(
            (values(&place), &port.deferral),
            (["1", "7000"].map(str::to_owned), &Deferral::Lost { percent: 10, until: NOW + PAUSE_LOST })
        );
        port.see(NOW + PAUSE_LOST, &seen(100, 900));
        port.see(NOW + PAUSE_LOST, &seen(1000, 900));
        assert_eq!((values(&place), port.deferral.is_on()), (ours, true));
        drop(port);
        assert_eq!(values(&place), ["1", "7000"]);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn settings_out_of_reach_are_told_and_nothing_is_left_half_done() {
        let place = directory("half", ["0", "0"]);
        fs::remove_file(place.join(SETTINGS[1].0)).unwrap();
        let mut port = Port::new("up0", Some(place.clone()));
        port.see(NOW, &seen(0, 0));
        assert!(matches!(port.deferral, Deferral::OutOfReach(_)), "{:?}", port.deferral);
        assert_eq!(fs::read_to_string(place.join(SETTINGS[0].0)).unwrap(), "0");
        port.see(NOW + PAUSE_LOST, &seen(0, 0));
        assert!(!port.deferral.is_on());
        fs::remove_dir_all(place).unwrap();

        let mut hidden = Port::new("up0", None);
        hidden.see(NOW, &seen(0, 0));
        assert!(hidden.deferral.reason().contains("sysfs"), "{:?}", hidden.deferral);
    }

    #[test]
    fn what_a_killed_process_has_set_is_taken_back_and_nothing_else() {
        let place = directory("killed", SETTINGS.map(|(_, value)| value));
        assert!(take_back_in(&place));
        assert_eq!(values(&place), ["0", "0"]);
        assert!(!take_back_in(&place));
        fs::remove_dir_all(place).unwrap();
        let place = directory("others", ["1", "20000"]);
        assert!(!take_back_in(&place));
        assert_eq!(values(&place), ["1", "20000"]);
        fs::remove_dir_all(place).unwrap();
    }
}
