//! Forwards frames between two interfaces, or returns them on one, through the rings and the
//! worker loop and with no gateway in between. Needs root.
//!
//! ```text
//! bare [--seconds N] [--workers N] [--ring N] [--busy] [--generic] [--steer ADDRESS:PORT]... [--vtep ADDRESS:PORT]...
//!      [--subnet PREFIX]... [--leave] INTERFACE [INTERFACE]
//! ```
//!
//! Only what `--steer` (UDP and TCP), `--vtep` and `--subnet` name is forwarded; all else reaches the
//! kernel. Prints a line of counters a second. `--leave` ends without detaching, as a killed process.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weirgate::net::Protocol;
use weirgate_appliance::worker::{self, Bare, Plan, Poll};
use weirgate_appliance::xdp::{Attach, SteerTable, Steering};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut plan = Plan::default();
    let mut table = SteerTable::default();
    let mut attach = Attach::Best;
    let mut seconds = 10;
    let mut leave = false;
    let mut interfaces = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => seconds = value()?.parse()?,
            "--workers" => plan.workers = Some(value()?.parse()?),
            "--ring" => plan.ring = value()?.parse()?,
            "--busy" => plan.poll = Poll::Busy,
            "--generic" => attach = Attach::Generic,
            "--leave" => leave = true,
            "--subnet" => table.subnets.push(value()?.parse()?),
            "--vtep" => {
                let vtep: SocketAddr = value()?.parse()?;
                table.vteps.push((vtep.ip(), vtep.port()));
            }
            "--steer" => {
                let frontend: SocketAddr = value()?.parse()?;
                table.frontends.push((frontend.ip(), frontend.port(), Protocol::TCP));
                table.frontends.push((frontend.ip(), frontend.port(), Protocol::UDP));
            }
            _ => interfaces.push(argument),
        }
    }
    let names: Vec<_> = interfaces.iter().map(String::as_str).collect();
    let ports = names.len() as u8;

    let mut steering = Steering::load(&names)?;
    steering.fill(&table)?;
    let workers = worker::start(&plan, &mut steering, |_| {
        Ok(move |lane: &mut worker::Lane| lane.run(&mut Bare { ports, ..Bare::default() }))
    })?;
    steering.attach(attach)?;

    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        println!("steering {:?}", steering.counters());
        for (id, stats) in workers.stats().iter().enumerate() {
            let ports: Vec<_> = stats.ports[..names.len()]
                .iter()
                .map(|port| (port.received_frames.load(Relaxed), port.transmitted_frames.load(Relaxed)))
                .collect();
            let latency = stats.latency.histogram();
            println!(
                "worker {id}: received and transmitted {ports:?}, bursts {}, sleeps {}, handed {}, rx-full {}, fill-empty {}, invalid {}, held {} of {}, turn p50 {} ns p99 {} ns",
                stats.bursts.load(Relaxed),
                stats.sleeps.load(Relaxed),
                stats.handed_over.load(Relaxed),
                stats.receive_ring_full.load(Relaxed),
                stats.fill_ring_empty.load(Relaxed),
                stats.invalid.load(Relaxed),
                stats.held.load(Relaxed),
                workers.chunks(),
                latency.value_at_quantile(0.5),
                latency.value_at_quantile(0.99),
            );
        }
    }
    if leave {
        // As if killed: nothing is detached, closed or restored by us.
        std::process::exit(0);
    }
    steering.detach();
    workers.stop();
    Ok(())
}
