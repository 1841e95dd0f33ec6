//! The command line of `weirgate`.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use tracing_subscriber::EnvFilter;

use crate::config::{self, Checked, Config, Problem, Refused};
use crate::status::{AddressFilter, Conn, ConnsEnd, Filter, InState, OfProtocol};
use crate::xdp::{self, Mode, Removed};
use crate::{gateway, status};

/// A packet gateway from the outside into a flannel container network.
#[derive(Parser, Debug)]
#[command(name = "weirgate", version, about, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to log on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub log_level: LogLevel,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the host, or by the running gateway
  2  the command line or the configuration is wrong";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Check a configuration file without touching the host.
    ///
    /// Prints a summary and "ok", or every error of the file on standard error, one sentence each:
    /// file, line, column, field, value, and what would work.
    #[command(after_help = EXIT_CODES)]
    Check(ConfigFile),
    /// Run the gateway until SIGTERM or ctrl-C.
    ///
    /// Takes the gateway's own traffic from the kernel and forwards it; everything else on the
    /// interfaces is left to the kernel. An orderly end leaves nothing behind. Needs root, or
    /// CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON.
    ///
    /// After a gateway was killed, the next one adopts its steering program and its connections. Until then
    /// the program drops the gateway's traffic; the flow tables are in memory that outlives the process.
    #[command(after_help = EXIT_CODES)]
    Run(RunOptions),
    /// Report what a running gateway does.
    ///
    /// Ports, peers, services, flow tables, drops by reason and burst times; docs/counters.md
    /// explains every counter.
    #[command(after_help = EXIT_CODES)]
    Status(StatusOptions),
    /// List the flows of a running gateway, as `conntrack -L` does.
    ///
    /// One line for each flow: protocol and its number, seconds until its idle timeout, state, original tuple,
    /// reply tuple, service and worker. No worker is stopped for the list, so flows come and go meanwhile.
    #[command(after_help = EXIT_CODES)]
    Conns(ConnsOptions),
    /// Remove the steering program, the flow tables and the control socket that a killed gateway has
    /// left.
    ///
    /// Until then the gateway's own traffic is dropped, so that connections stay alive for a gateway that
    /// is started again. Reports what it removed; other programs are left alone.
    #[command(after_help = EXIT_CODES)]
    Detach(DetachOptions),
}

/// What to show of the status, and of which gateway.
#[derive(Args, Debug)]
pub struct StatusOptions {
    /// Print JSON, for programs.
    #[arg(long, conflicts_with = "all")]
    pub json: bool,
    /// Show counters at zero and long lists, too.
    #[arg(long)]
    pub all: bool,
    /// The control socket of the gateway, as its configuration names it.
    #[arg(long, value_name = "PATH", default_value = config::CONTROL_SOCKET)]
    pub control_socket: PathBuf,
}

/// Which flows to list, in which form, and of which gateway.
#[derive(Args, Debug)]
pub struct ConnsOptions {
    /// Only flows of the service with this name.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only flows of this client: an address, an address with a port, or a subnet.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<AddressFilter>,
    /// Only flows to this backend: an address, an address with a port, or a subnet.
    #[arg(long, value_name = "ADDRESS")]
    pub backend: Option<AddressFilter>,
    /// Only flows in this state, such as `established`.
    #[arg(long, value_name = "STATE")]
    pub state: Option<InState>,
    /// Only flows of this protocol, by name or number.
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<OfProtocol>,
    /// Print JSON, one object for each line, for programs.
    #[arg(long)]
    pub json: bool,
    /// The control socket of the gateway, as its configuration names it.
    #[arg(long, value_name = "PATH", default_value = config::CONTROL_SOCKET)]
    pub control_socket: PathBuf,
}

/// Which configuration to run, and whether to take over.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// Where the configuration lies.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Take over from the gateway that runs now, with its connections.
    ///
    /// The new gateway prepares everything first. Then the running one lets go of its queues and flow
    /// tables, and ends once the new one forwards. Frames that come in between are dropped, and TCP sends
    /// them again. If the new gateway fails before it forwards, the old one continues.
    #[arg(long)]
    pub takeover: bool,
}

/// Where to look for programs.
#[derive(Args, Debug)]
pub struct DetachOptions {
    /// An interface to look at; may be repeated. Without it: all.
    #[arg(long = "interface", value_name = "INTERFACE")]
    pub interfaces: Vec<String>,
    /// The control socket to remove if its gateway is dead; that gateway's flow tables are noted beside it.
    #[arg(long, value_name = "PATH", default_value = config::CONTROL_SOCKET)]
    pub control_socket: PathBuf,
}

/// Where the configuration lies.
#[derive(Args, Debug)]
pub struct ConfigFile {
    /// The configuration file (TOML, see docs/configuration.md).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// How much to log.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// What stops the gateway.
    Error,
    /// What an operator should look at.
    Warn,
    /// The main steps of the gateway.
    Info,
    /// Every step of the control side.
    Debug,
    /// Everything, dependencies included.
    Trace,
}

/// Runs the command; the exit code is documented in `--help`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.log_level);
    match cli.command {
        Command::Check(file) => check(&file),
        Command::Run(options) => run(&options),
        Command::Status(options) => status(&options),
        Command::Conns(options) => conns(options),
        Command::Detach(options) => detach(&options),
    }
}

const REFUSED: u8 = 1;
const WRONG: u8 = 2;

/// Logs to standard error: our own crates at `level`, others from warnings up.
fn log(level: LogLevel) {
    let filter = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,weirgate=info,weirgate_appliance=info",
        LogLevel::Debug => "warn,weirgate=debug,weirgate_appliance=debug",
        LogLevel::Trace => "trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Prints one sentence on standard error; returns the exit code of a refusal.
fn refused(error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "weirgate: {error}");
    ExitCode::from(REFUSED)
}

/// The configuration, its warnings printed; where it is wrong, all findings printed instead.
fn load(file: &ConfigFile) -> Result<Config, ExitCode> {
    match config::load(&file.config) {
        Ok(Checked { config, warnings }) => {
            print_findings(&[], &warnings);
            Ok(config)
        }
        Err(Refused { errors, warnings }) => {
            print_findings(&errors, &warnings);
            Err(ExitCode::from(WRONG))
        }
    }
}

fn print_findings(errors: &[Problem], warnings: &[Problem]) {
    let mut out = io::stderr().lock();
    // Where standard error itself is gone, nothing can be reported.
    for warning in warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    for error in errors {
        let _ = writeln!(out, "{error}");
    }
}

fn print_out(text: &str) {
    // A reader that has gone away wants no more.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn check(file: &ConfigFile) -> ExitCode {
    match load(file) {
        Ok(config) => {
            print_out(&format!("{}ok\n", config.summary()));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn run(options: &RunOptions) -> ExitCode {
    match load(&options.file) {
        Ok(config) => match gateway::run(config, options.takeover) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refused(&error),
        },
        Err(code) => code,
    }
}

fn status(options: &StatusOptions) -> ExitCode {
    match status::ask(&options.control_socket) {
        Ok(status) if options.json => {
            let json = serde_json::to_string_pretty(&status).expect("status is plain data");
            print_out(&format!("{json}\n"));
            ExitCode::SUCCESS
        }
        Ok(status) => {
            print_out(&status.tables(options.all));
            ExitCode::SUCCESS
        }
        Err(error) => refused(&error),
    }
}

fn conns(options: ConnsOptions) -> ExitCode {
    let ConnsOptions { service, client, backend, state, protocol, json, control_socket } = options;
    let filter = Filter { service, client, backend, state, protocol };
    let lines = match status::ask_conns(&control_socket, filter) {
        Ok(lines) => lines,
        Err(error) => return refused(&error),
    };
    let cause = match print_conns(lines, json) {
        Ok((printed, Some(ConnsEnd { listed }))) if printed == listed => return ExitCode::SUCCESS,
        // A reader that has gone away wants no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Ok((printed, Some(ConnsEnd { listed }))) => {
            format!("the gateway has listed {listed} flows and {printed} arrived")
        }
        Ok((_, None)) => "the gateway ended it".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(io::stderr().lock(), "weirgate: the list is incomplete: {cause}; run the command again");
    ExitCode::from(REFUSED)
}

/// Prints the flows as they come. Returns how many, and the gateway's end of the list if there was one.
fn print_conns(mut lines: impl BufRead, json: bool) -> io::Result<(u64, Option<ConnsEnd>)> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut line = Vec::new();
    let mut printed = 0;
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line == b"\n" {
            // The gateway has found nothing for a while; the reader gets what there is.
            out.flush()?;
            line.clear();
            continue;
        }
        match serde_json::from_slice::<ConnsEnd>(&line) {
            Ok(end) => return out.flush().map(|()| (printed, Some(end))),
            Err(_) if json => out.write_all(&line)?,
            Err(_) => writeln!(out, "{}", serde_json::from_slice::<Conn>(&line)?)?,
        }
        printed += 1;
        line.clear();
    }
    out.flush().map(|()| (printed, None))
}

fn detach(options: &DetachOptions) -> ExitCode {
    let interfaces = (!options.interfaces.is_empty()).then_some(options.interfaces.as_slice());
    let removed = match xdp::detach(interfaces) {
        Ok(removed) => removed,
        Err(error) => return refused(&error),
    };
    for Removed { interface, mode, program, interrupts } in &removed {
        let mode = match mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        };
        let and = if *interrupts { ", and no longer defers interrupts" } else { "" };
        print_out(&format!("{interface}: removed the {mode} steering program, id {program}{and}\n"));
    }
    let tables = match gateway::remove_stale_tables(&options.control_socket) {
        Ok(tables) => tables,
        Err(error) => return refused(&error),
    };
    for table in &tables {
        print_out(&format!("{}: removed a flow table or its note\n", table.display()));
    }
    match status::remove_stale(&options.control_socket) {
        Ok(true) => print_out(&format!("{}: removed the control socket\n", options.control_socket.display())),
        Ok(false) if removed.is_empty() && tables.is_empty() => {
            print_out("nothing to remove: no interface has a steering program of weirgate's\n");
        }
        Ok(false) => {}
        Err(error) => return refused(&error),
    }
    ExitCode::SUCCESS
}
