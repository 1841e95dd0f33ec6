//! How long a request through a gateway waits for its answer, over veth devices in network namespaces, four paths in
//! one run: the kernel as a flannel node with kube-proxy forwards, a bare AF_XDP forwarder, and weirgate with busy and
//! with adaptive polling. Beside it, bytes in bulk on one TCP connection, and the processor time that they take. Needs
//! root and two cores.
//!
//! The paths take turns, several rounds; a table gives the median and the spread of each, and of the ratios within a
//! round. Client and servers run where the scheduler puts them, on the same cores as the gateway, as on a small
//! machine. Settings come from the environment:
//!
//! ```text
//! ROUNDS=5         how many rounds
//! WINDOW_MS=2000   how long each measurement lasts, after a warm-up of a quarter of that
//! PATHS=kernel,bare,busy,adaptive
//! LOADS=alone,together,half,up,down
//! CONNECTIONS=64   how many connections ask at once
//! ```

mod bare;
mod client;
#[path = "../support/first.rs"]
mod first;
mod paths;
mod report;
mod server;
#[path = "../support/spread.rs"]
mod spread;
mod sys;

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use weirgate_world::{Options, World, build_gateway};

use client::Way;
use paths::{Path, Running};
use report::{Bulk, Load, Report};
use server::Servers;

/// The core of the gateway's worker.
const FORWARDER_CORE: usize = 0;

struct Settings {
    rounds: usize,
    window: Duration,
    paths: Vec<Path>,
    loads: Vec<String>,
    connections: usize,
}

const LOADS: [&str; 5] = ["alone", "together", "half", "up", "down"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--forward") {
        let core = arguments[at + 1].parse().expect("the bench passes a number");
        return match bare::run(core, &arguments[at + 2..]) {
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
            eprintln!("latency: {problem}");
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
    let path = |name: &str| {
        let found = Path::ALL.into_iter().find(|path| path.setting() == name);
        found.ok_or(format!("PATHS has {name}, which is none of {}", Path::ALL.map(Path::setting).join(", ")))
    };
    let load = |name: &str| match LOADS.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("LOADS has {name}, which is none of {}", LOADS.join(", "))),
    };
    Ok(Settings {
        rounds: number("ROUNDS", if is_test { "1" } else { "5" })? as usize,
        window: Duration::from_millis(number("WINDOW_MS", if is_test { "200" } else { "2000" })?.into()),
        paths: setting("PATHS", "kernel,bare,busy,adaptive").split(',').map(path).collect::<Result<_, _>>()?,
        loads: setting("LOADS", &LOADS.join(",")).split(',').map(load).collect::<Result<_, _>>()?,
        connections: number("CONNECTIONS", "64")? as usize,
    })
}

fn measure(settings: &Settings) -> ExitCode {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("latency: a worker that never sleeps takes one core away from client and servers");
        return ExitCode::FAILURE;
    }
    if settings.paths.iter().any(|path| matches!(path, Path::Busy | Path::Adaptive)) {
        let _ = build_gateway();
    }
    let world = match World::new(Options { servers: false, alone: true, ..Options::default() }) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("latency: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _first =
        first::First::new().inspect_err(|error| eprintln!("latency: other processes may disturb the figures: {error}"));
    let mut report = Report::default();
    let measured = Servers::start(&world).and_then(|servers| {
        for round in 0..settings.rounds {
            eprintln!("round {} of {}", round + 1, settings.rounds);
            for &path in &settings.paths {
                round_of(&world, &servers, path, settings, &mut report)?;
            }
        }
        Ok(())
    });
    if let Err(error) = measured {
        eprintln!("latency: {error}");
        return ExitCode::FAILURE;
    }
    report.print();
    if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All loads on one path.
fn round_of(world: &World, servers: &Servers, path: Path, settings: &Settings, report: &mut Report) -> io::Result<()> {
    let &Settings { window, connections, .. } = settings;
    let context = |load| move |error: io::Error| io::Error::new(error.kind(), format!("{path:?}, {load}: {error}"));
    let running = Running::start(world, path, FORWARDER_CORE);
    let servants = running.servants();
    let wants = |load: &str| settings.loads.iter().any(|wanted| wanted == load);
    if wants("alone") {
        let alone = client::alone(world, &servants, window).map_err(context("one outstanding"))?;
        report.add(Load::Alone, path, alone);
    }
    if wants("together") || wants("half") {
        let together = client::together(world, &servants, connections, window).map_err(context("many connections"))?;
        let half = together.rate() / 2.0;
        report.add(Load::Together, path, together);
        if wants("half") {
            let half = client::paced(world, &servants, connections, half, window).map_err(context("half load"))?;
            report.add(Load::Half, path, half);
        }
    }
    for (way, name) in [(Way::Up, "up"), (Way::Down, "down")] {
        if path == Path::Bare || !wants(name) {
            continue;
        }
        let moved = client::bulk(world, &servants, servers, way, window, || running.ran()).map_err(context(name))?;
        let (bytes, elapsed, [before, after]) = moved;
        let gigabytes = bytes as f64 / 1e9;
        let bulk = Bulk {
            gigabits: gigabytes * 8.0 / elapsed.as_secs_f64(),
            per_gigabyte: (after - before).as_secs_f64() / gigabytes,
        };
        report.add_bulk(way, path, bulk);
    }
    Ok(())
}
