//! Every workload of the pipeline at every number of flows, in one run of some minutes:
//!
//! - `cargo bench --bench matrix` prints the figures up to a million flows;
//! - `cargo bench --bench matrix -- --write` saves them in docs/performance.tsv, and rewrites the tables of
//!   docs/performance.md and docs/performance.svg;
//! - `cargo bench --bench matrix -- --redraw` rewrites those from the saved figures;
//! - `FLOWS_MAX=1000` measures no more flows than that; ten million, as `--write` does, take 6 GB of memory.
//!
//! Names state the workload: WORKLOAD/SIZE/FAMILY/FLOWS. Sizes are those of frames on the wire. A figure
//! is the median of nine rounds, each of which is the median burst's time per frame; the spread is the
//! rounds' minimum and maximum.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::baseline::Baseline;
use support::gateway::{IMIX, SMALL};
use support::report::{Results, Row, short, with_tables};
use support::{Bench, Family, Workload, load_latency};

const FLOWS: [u32; 5] = [1, 1_000, 100_000, 1_000_000, 10_000_000];
const ROUNDS: usize = 9;
/// Frames of a round.
const FRAMES: u64 = 40_000;
/// The baseline takes a microsecond and more for each.
const BASELINE_FRAMES: u64 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let is_test = arguments.iter().any(|it| it == "--test");
    match arguments.first().map(String::as_str) {
        None | Some("--test") => drop(measure(if is_test { 1 } else { flows_max("1000000") })),
        Some("--write") => {
            let results = measure(flows_max("10000000"));
            keep("docs/performance.tsv", &results.text());
            redraw();
        }
        Some("--redraw") => redraw(),
        Some(other) => panic!("{other} is no option; use --write or --redraw"),
    }
}

fn flows_max(unless_told: &str) -> u32 {
    let text = std::env::var("FLOWS_MAX").unwrap_or(unless_told.into());
    text.parse().unwrap_or_else(|_| panic!("FLOWS_MAX={text} is no number; FLOWS_MAX=1000000 is one"))
}

fn measure(most: u32) -> Results {
    let mut matrix = Matrix { results: Results { notes: notes(), rows: vec![] } };
    for flows in FLOWS.into_iter().filter(|flows| *flows <= most) {
        matrix.family::<[u8; 4]>(flows, "64B");
        matrix.baseline(flows);
        matrix.family::<[u8; 16]>(flows, "78B");
    }
    matrix.results
}

struct Matrix {
    results: Results,
}

impl Matrix {
    fn family<A: Family>(&mut self, flows: u32, smallest: &str) {
        let mut bench = Bench::<A>::new(flows);
        let memory = match bench.table_bytes {
            small @ ..1_048_576 => format!("{} KiB", small >> 10),
            large => format!("{} MiB", large >> 20),
        };
        let add = |matrix: &mut Self, workload: &str, size: &str, per: u64, run: &mut dyn FnMut() -> Duration| {
            let rounds: Vec<f64> = (0..ROUNDS).map(|_| run().as_nanos() as f64 / per as f64).collect();
            matrix.add(workload, size, A::NAME, flows, rounds);
        };
        let rounds = if flows > 1_000_000 { 1 } else { 3 };
        self.add("L", &memory, A::NAME, flows, (0..rounds).map(|_| load_latency(bench.table_bytes)).collect());
        let all = [Workload::Hit, Workload::Reply, Workload::NewFlow, Workload::Miss];
        bench.mix(SMALL);
        for (workload, label) in all.into_iter().zip(["hit", "reply", "new-flow", "miss"]) {
            add(self, label, smallest, FRAMES, &mut || bench.run_frames(workload, FRAMES));
        }
        bench.mix(IMIX);
        for (workload, label) in all.into_iter().zip(["hit", "reply"]).take(2) {
            add(self, label, "IMIX", FRAMES, &mut || bench.run_frames(workload, FRAMES));
        }
        // Each time all flows are created again, which takes long where there are many.
        let rounds = if flows >= 1_000_000 { 1 } else { ROUNDS };
        let times = (0..rounds).map(|_| bench.run_expiry(1000).as_nanos() as f64 / 1000.0).collect();
        if flows > 1 {
            self.add("expiry", smallest, A::NAME, flows, times);
        }
    }

    fn baseline(&mut self, flows: u32) {
        let mut bench = Baseline::new(flows);
        for (is_reply, label) in [(false, "baseline-hit"), (true, "baseline-reply")] {
            let round = |_| bench.run_frames(is_reply, BASELINE_FRAMES).as_nanos() as f64 / BASELINE_FRAMES as f64;
            let rounds = (0..ROUNDS).map(round).collect();
            self.add(label, "64B", "v4", flows, rounds);
        }
    }

    fn add(&mut self, workload: &str, size: &str, family: &str, flows: u32, mut rounds: Vec<f64>) {
        rounds.sort_by(f64::total_cmp);
        let spread = (rounds[0], rounds[rounds.len() - 1]);
        let row = Row {
            workload: workload.into(),
            size: size.into(),
            family: family.into(),
            flows,
            ns: rounds[rounds.len() / 2],
            spread,
        };
        println!(
            "{:32} {:8.1} ns   {:.1} to {:.1}",
            row.name().replace(&format!("/{flows}"), &format!("/{}-flows", short(flows))),
            row.ns,
            spread.0,
            spread.1
        );
        self.results.rows.push(row);
    }
}

/// What the figures depend on.
fn notes() -> Vec<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, it)| it);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    vec![
        format!("{cores} cores of {model}, Linux {}, load {load} before the run", output("uname", &["-r"])),
        format!("commit {}, {}", output("git", &["describe", "--always", "--dirty"]), output("date", &["-I"])),
        "nanoseconds a frame: the middle one of nine rounds, and the least and the most".into(),
    ]
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn keep(name: &str, text: &str) {
    std::fs::write(path(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("wrote {name}");
}

fn redraw() {
    let read = |name| std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let results = Results::parse(&read("docs/performance.tsv"));
    keep("docs/performance.svg", &results.plot());
    keep("docs/performance.md", &with_tables(&read("docs/performance.md"), &results.tables()));
}
