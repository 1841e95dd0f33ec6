//! The tables.

use std::collections::BTreeMap;

use crate::client::{Answers, Way};
use crate::paths::Path;
use crate::spread::Spread;

/// What the client does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Load {
    /// One datagram outstanding.
    Alone,
    /// A request outstanding on each of many connections.
    Together,
    /// Half the rate at which the path answered the load before.
    Half,
}

impl Load {
    const fn name(self) -> &'static str {
        match self {
            Self::Alone => "one outstanding, UDP",
            Self::Together => "one on each connection, TCP",
            Self::Half => "half of that rate, TCP",
        }
    }
}

/// Bytes in bulk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    /// A second, and how many seconds of processor time each of them takes.
    pub(crate) gigabits: f64,
    pub(crate) per_gigabyte: f64,
}

/// All measurements of a run; those of one path and load in the order of the rounds.
#[derive(Default)]
pub(crate) struct Report {
    answers: BTreeMap<(Load, Path), Vec<Answers>>,
    bulk: BTreeMap<(Way, Path), Vec<Bulk>>,
}

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

impl Report {
    pub(crate) fn add(&mut self, load: Load, path: Path, answers: Answers) {
        self.answers.entry((load, path)).or_default().push(answers);
    }

    pub(crate) fn add_bulk(&mut self, way: Way, path: Path, bulk: Bulk) {
        self.bulk.entry((way, path)).or_default().push(bulk);
    }

    /// Whether every measurement is valid: answers came, none failed, bytes moved.
    pub(crate) fn is_valid(&self) -> bool {
        let mut is_valid = true;
        for ((load, path), rounds) in &self.answers {
            for answers in rounds.iter().filter(|answers| answers.failed > 0 || answers.nanoseconds.is_empty()) {
                let (failed, count) = (answers.failed, answers.nanoseconds.len());
                println!("NOT VALID: {}, {}: {failed} requests failed, {count} answered", path.name(), load.name());
                is_valid = false;
            }
        }
        for ((way, path), rounds) in &self.bulk {
            if rounds.iter().any(|bulk| bulk.gigabits <= 0.0) {
                println!("NOT VALID: {}, {way:?}: no bytes came", path.name());
                is_valid = false;
            }
        }
        is_valid
    }

    pub(crate) fn print(&self) {
        println!(
            "\n| load | path | p50, µs | p99, µs | p99.9, µs | answers a second | of the kernel: p50 | p99 | p99.9 | answers |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for (&(load, path), rounds) in &self.answers {
            let mut cells = Vec::new();
            for (_, quantile) in QUANTILES {
                cells.push(format!("{:.1}", Spread::of(rounds.iter().map(|answers| answers.quantile(quantile)))));
            }
            cells.push(format!("{:.0}", Spread::of(rounds.iter().map(Answers::rate))));
            for (_, quantile) in QUANTILES {
                let ratio = self.ratio(load, path, Path::Kernel, |answers| answers.quantile(quantile));
                cells.push(ratio.map_or("".into(), |ratio| format!("{ratio:.2}")));
            }
            let ratio = self.ratio(load, path, Path::Kernel, Answers::rate);
            cells.push(ratio.map_or("".into(), |ratio| format!("{ratio:.2}")));
            println!("| {} | {} | {} |", load.name(), path.name(), cells.join(" | "));
        }
        println!("\n| TCP in bulk | path | Gbit/s | of the kernel | processor s/GB | of the kernel |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for (&(way, path), rounds) in &self.bulk {
            let ratio = |read: fn(&Bulk) -> f64| {
                self.bulk_ratio(way, path, read).map_or("".into(), |ratio| format!("{ratio:.2}"))
            };
            println!(
                "| {} | {} | {:.2} | {} | {:.2} | {} |",
                if way == Way::Up { "client to pod" } else { "pod to client" },
                path.name(),
                Spread::of(rounds.iter().map(|bulk| bulk.gigabits)),
                ratio(|bulk| bulk.gigabits),
                Spread::of(rounds.iter().map(|bulk| bulk.per_gigabyte)),
                ratio(|bulk| bulk.per_gigabyte),
            );
        }
        println!();
        self.print_bars();
    }

    fn print_bars(&self) {
        let verdict = |met| if met { "met" } else { "MISSED" };
        let at_most = |what: &str, ratio: Option<Spread>, bar: f64| {
            if let Some(ratio) = ratio {
                println!("bar, {what}: {ratio:.2}, at most {bar} wanted: {}", verdict(ratio.median <= bar));
            }
        };
        for path in [Path::Busy, Path::Adaptive] {
            let name = path.name();
            let to_kernel =
                |load, quantile| self.ratio(load, path, Path::Kernel, |answers: &Answers| answers.quantile(quantile));
            at_most(&format!("{name}, one outstanding, p50 of the kernel's"), to_kernel(Load::Alone, 0.5), 0.6);
            at_most(&format!("{name}, one outstanding, p99 of the kernel's"), to_kernel(Load::Alone, 0.99), 0.7);
            at_most(&format!("{name}, half load, p99 of the kernel's"), to_kernel(Load::Half, 0.99), 1.0);
        }
        for load in [Load::Alone, Load::Together, Load::Half] {
            for (name, quantile) in &QUANTILES[..2] {
                let ratio =
                    self.ratio(load, Path::Adaptive, Path::Busy, |answers: &Answers| answers.quantile(*quantile));
                at_most(&format!("adaptive, {}, {name} of busy's", load.name()), ratio, 1.2);
            }
        }
        for path in [Path::Busy, Path::Adaptive] {
            let at_least = |what: &str, ratio: Option<Spread>| {
                if let Some(ratio) = ratio {
                    let verdict = verdict(ratio.median >= 1.0);
                    println!("bar, {}, {what} of the kernel's: {ratio:.2}, at least 1 wanted: {verdict}", path.name());
                }
            };
            at_least("answers on many connections", self.ratio(Load::Together, path, Path::Kernel, Answers::rate));
            at_least("bulk, client to pod", self.bulk_ratio(Way::Up, path, |bulk| bulk.gigabits));
            at_least("bulk, pod to client", self.bulk_ratio(Way::Down, path, |bulk| bulk.gigabits));
        }
    }

    /// A ratio between two paths, round by round.
    fn ratio(&self, load: Load, path: Path, to: Path, read: impl Fn(&Answers) -> f64) -> Option<Spread> {
        let upper = self.answers.get(&(load, path)).filter(|_| path > to)?;
        let lower = self.answers.get(&(load, to))?;
        Some(Spread::of(upper.iter().zip(lower).map(|(upper, lower)| read(upper) / read(lower))))
    }

    fn bulk_ratio(&self, way: Way, path: Path, read: impl Fn(&Bulk) -> f64) -> Option<Spread> {
        let upper = self.bulk.get(&(way, path)).filter(|_| path > Path::Kernel)?;
        let lower = self.bulk.get(&(way, Path::Kernel))?;
        Some(Spread::of(upper.iter().zip(lower).map(|(upper, lower)| read(upper) / read(lower))))
    }
}
