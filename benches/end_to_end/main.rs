//! Frames a second from a client's link to a node's, over veth devices in network namespaces, three
//! paths in one run: the kernel as a flannel node with kube-proxy forwards, a bare AF_XDP forwarder,
//! and weirgate. Needs root and two cores.
//!
//! The paths take turns, several rounds; a table gives the median and the spread of each, and of the
//! ratios within a round. One core makes the frames, the other forwards them and counts them where
//! they arrive. Settings come from the environment:
//!
//! ```text
//! ROUNDS=5        how many rounds
//! WINDOW_MS=1000  how long each measurement lasts, after as long a warm-up
//! PATHS=kernel,bare,unmoved,weirgate
//! FLOWS=1,1024,32000
//! LARGE=1         0 leaves out frames of 1400 bytes
//! ```

mod bare;
#[path = "../support/first.rs"]
mod first;
mod memory;
mod paths;
mod report;
#[path = "../support/spread.rs"]
mod spread;
mod sys;
mod traffic;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use weirgate_world::{Options, World, build_gateway};

use memory::Memory;
use paths::{Path, Running};
use report::{Report, Sample};
use traffic::Load;

/// The core that makes frames, and the one that forwards and counts them.
const GENERATOR_CORE: usize = 1;
const FORWARDER_CORE: usize = 0;

/// The smallest frame (64 bytes with its check sequence) and a large one, without their check sequence.
const SMALL: u16 = 60;
const LARGE: u16 = 1400;
const LARGE_FLOWS: u32 = 1024;

struct Settings {
    rounds: usize,
    window: Duration,
    paths: Vec<Path>,
    flows: Vec<u32>,
    large: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--forward") {
        let kind = if arguments[at + 1] == "unmoved" { bare::Kind::Unmoved } else { bare::Kind::Moved };
        let core = arguments[at + 2].parse().expect("the bench passes a number");
        return match bare::run(kind, core) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bare forwarder: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match settings(arguments.iter().any(|argument| argument == "--test")) {
        Ok(settings) => measure(&settings),
        Err(problem) => {
            eprintln!("end_to_end: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// From the environment; `is_test` makes one short round that only shows that all of it works.
fn settings(is_test: bool) -> Result<Settings, String> {
    let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.into());
    let number = |name: &str, usual: &str| {
        let text = setting(name, usual);
        text.parse::<u32>().ok().filter(|&value| value > 0).ok_or(format!("{name}={text} is not a number above 0"))
    };
    let paths = setting("PATHS", "kernel,bare,unmoved,weirgate")
        .split(',')
        .map(|name| match name {
            "kernel" => Ok(Path::Kernel),
            "bare" => Ok(Path::Bare),
            "unmoved" => Ok(Path::Unmoved),
            "weirgate" => Ok(Path::Weirgate),
            other => Err(format!("PATHS has {other}, which is none of kernel, bare, unmoved, weirgate")),
        })
        .collect::<Result<_, _>>()?;
    let flows = setting("FLOWS", if is_test { "1024" } else { "1,1024,32000" })
        .split(',')
        .map(|text| text.parse().ok().filter(|flows| (1..=512_000).contains(flows)))
        .collect::<Option<_>>()
        .ok_or("FLOWS takes numbers from 1 to 512000")?;
    Ok(Settings {
        rounds: number("ROUNDS", if is_test { "1" } else { "5" })? as usize,
        window: Duration::from_millis(number("WINDOW_MS", if is_test { "200" } else { "1000" })?.into()),
        paths,
        flows,
        large: setting("LARGE", "1") != "0",
    })
}

fn measure(settings: &Settings) -> ExitCode {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("end_to_end: one core makes the frames and another forwards them, and there is only one");
        return ExitCode::FAILURE;
    }
    if settings.paths.contains(&Path::Weirgate) {
        let _ = build_gateway();
    }
    let world = match World::new(Options { servers: false, alone: true, ..Options::default() }) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _first = first::First::new()
        .inspect_err(|error| eprintln!("end_to_end: other processes may disturb the figures: {error}"));
    let mut report = Report::default();
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        for &path in &settings.paths {
            let running = Running::start(&world, path, FORWARDER_CORE);
            if path != Path::Unmoved {
                for &flows in &settings.flows {
                    let load = Load { flows, length: SMALL };
                    report.add(path, load, sample(&world, &running, load, settings.window));
                }
            }
            if settings.large && path != Path::Kernel {
                let load = Load { flows: LARGE_FLOWS, length: LARGE };
                report.add(path, load, sample(&world, &running, load, settings.window));
            }
            if let Some(process) = running.process() {
                report.memory(path, Memory::of(process));
            }
        }
    }
    report.print();
    ExitCode::SUCCESS
}

/// One measurement: a warm-up, in which the flows are created, and a window.
fn sample(world: &World, running: &Running<'_>, load: Load, window: Duration) -> Sample {
    traffic::offer(world, load, GENERATOR_CORE, |meter| {
        thread::sleep(window.max(Duration::from_millis(500)));
        let ((began, before), ran) = (meter.read(), running.ran());
        thread::sleep(window);
        let ((ended, after), ran) = (meter.read(), running.ran().saturating_sub(ran));
        let elapsed = (ended - began).as_secs_f64();
        let counts = after.since(&before);
        let flows = running.flows();
        eprintln!("  {:<14} {load:?} {counts:?} flows {flows:?}", running.path().name());
        Sample {
            offered: counts.sent as f64 / elapsed,
            forwarded: counts.forwarded() as f64 / elapsed,
            wrong: counts.wrong,
            checked: counts.checked,
            share: ran.as_secs_f64() / elapsed,
            flows,
        }
    })
}
