//! The command line of `weirgate`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Checked, Config, Problem, Refused};

/// A packet gateway from the outside into a flannel container network.
#[derive(Parser, Debug)]
#[command(name = "weirgate", version, about, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to tell on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub log_level: LogLevel,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the host, or the gateway asked, did not let it be done
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
    /// What the gateway does on the whole.
    Info,
    /// What the control side does in particular.
    Debug,
    /// Everything, dependencies included.
    Trace,
}

/// Runs the command; the exit code is documented in `--help`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Check(file) => check(&file),
    }
}

const WRONG: u8 = 2;

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
    // Nothing is left to tell where standard error itself is gone.
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
