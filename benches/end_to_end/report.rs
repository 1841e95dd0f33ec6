//! The tables.

use std::collections::BTreeMap;

use weirgate::fragment::Limits;
use weirgate::net::WorkerId;
use weirgate::pipeline::{Worker, WorkerConfig};

use crate::memory::Memory;
use crate::paths::Path;
use crate::spread::Spread;
use crate::traffic::Load;

/// The share of the bare forwarder's rate that a gateway must reach.
const BAR: f64 = 0.9;
/// A forwarder that takes this share of the offered load is not the limit.
const KEEPS_UP: f64 = 0.97;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Frames a second.
    pub(crate) offered: f64,
    /// Frames a second.
    pub(crate) forwarded: f64,
    /// Frames found wrong, of those that were checked to the last byte.
    pub(crate) wrong: u64,
    /// Frames found right.
    pub(crate) checked: u64,
    /// The share of its core that the forwarding thread had.
    pub(crate) share: f64,
    /// How many flows the forwarder knew at the end, where it knows any.
    pub(crate) flows: Option<u64>,
}

/// All measurements of a run; those of one path and load in the order of the rounds.
#[derive(Default)]
pub(crate) struct Report {
    samples: BTreeMap<(u16, u32, Path), Vec<Sample>>,
    memory: BTreeMap<Path, Memory>,
}

impl Report {
    pub(crate) fn add(&mut self, path: Path, load: Load, sample: Sample) {
        self.samples.entry((load.length, load.flows, path)).or_default().push(sample);
    }

    pub(crate) fn memory(&mut self, path: Path, memory: Memory) {
        self.memory.insert(path, memory);
    }

    pub(crate) fn print(&self) {
        println!(
            "\n| frame | flows | path | M frames/s: median (least–most) | of bare AF_XDP | of the kernel | offered | core |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for (&(length, flows, path), samples) in &self.samples {
            let forwarded = Spread::of(samples.iter().map(|sample| sample.forwarded / 1e6));
            let offered = Spread::of(samples.iter().map(|sample| sample.offered / 1e6));
            let share = Spread::of(samples.iter().map(|sample| sample.share * 100.0));
            let limit = if forwarded.median > KEEPS_UP * offered.median { ", the limit" } else { "" };
            println!(
                "| {length} B | {flows} | {} | {forwarded:.2} | {} | {} | {:.2}{limit} | {:.0} % |",
                path.name(),
                self.ratio(length, flows, path, Path::Bare).map_or("".into(), |ratio| format!("{ratio:.2}")),
                self.ratio(length, flows, path, Path::Kernel).map_or("".into(), |ratio| format!("{ratio:.2}")),
                offered.median,
                share.median,
            );
        }
        println!();
        for (&(length, flows, path), samples) in &self.samples {
            let (wrong, checked) =
                samples.iter().fold((0, 0), |sum, sample| (sum.0 + sample.wrong, sum.1 + sample.checked));
            if wrong > 0 || checked == 0 && path != Path::Unmoved {
                println!(
                    "NOT VALID: {} at {flows} flows of {length} B: {wrong} frames wrong, {checked} right",
                    path.name()
                );
            }
            for sample in samples.iter().filter(|sample| sample.flows.is_some_and(|known| known < flows.into())) {
                println!("NOT VALID: {} knew {:?} flows of {flows}", path.name(), sample.flows);
            }
        }
        self.print_bars();
        self.print_memory();
    }

    /// The ratio of two paths' rates, round by round.
    fn ratio(&self, length: u16, flows: u32, path: Path, to: Path) -> Option<Spread> {
        let upper = self.samples.get(&(length, flows, path)).filter(|_| path > to)?;
        let lower = self.samples.get(&(length, flows, to))?;
        Some(Spread::of(upper.iter().zip(lower).map(|(upper, lower)| upper.forwarded / lower.forwarded)))
    }

    fn print_bars(&self) {
        for &(length, flows, path) in self.samples.keys().filter(|(.., path)| *path == Path::Weirgate) {
            let verdict = |met| if met { "met" } else { "MISSED" };
            if let Some(ratio) = self.ratio(length, flows, path, Path::Bare) {
                println!(
                    "bar, {length} B, {flows} flows: {:.2} of bare AF_XDP, at least {BAR} wanted: {}",
                    ratio.median,
                    verdict(ratio.median >= BAR)
                );
            }
            if let Some(ratio) = self.ratio(length, flows, path, Path::Kernel) {
                println!(
                    "bar, {length} B, {flows} flows: {:.2} of the kernel, more than 1 wanted: {}",
                    ratio.median,
                    verdict(ratio.median > 1.0)
                );
            }
        }
    }

    fn print_memory(&self) {
        println!("\n| process | resident | frames' memory (`RssShmem`) | locked (`VmLck`) | on huge pages |");
        println!("| --- | --- | --- | --- | --- |");
        for (path, memory) in &self.memory {
            let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
            println!(
                "| {} | {} | {} | {} | {} |",
                path.name(),
                mib(memory.resident),
                mib(memory.shared),
                mib(memory.locked),
                mib(memory.huge)
            );
        }
        let capacity = 1 << 16;
        let bytes = |flows_v4, flows_v6| {
            let fragments = Limits::default();
            let config = WorkerConfig { id: WorkerId(0), workers: 1, flows_v4, flows_v6, fragments, secret: [0; 4] };
            Worker::memory_bytes(&config)
        };
        let (least, v4, v6) = (bytes(1, 1), bytes(capacity, 1), bytes(1, capacity));
        let each = |bytes: usize| (bytes - least) as f64 / f64::from(capacity - 1);
        println!("\nflow tables: {:.0} bytes an IPv4 flow of the capacity, {:.0} an IPv6 flow", each(v4), each(v6));
    }
}
