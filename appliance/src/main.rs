//! The `weirgate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    weirgate_appliance::cli::main()
}
