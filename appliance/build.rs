//! Compiles the steering program for the kernel's BPF machine.

use std::env;
use std::path::PathBuf;
use std::process::Command;

#[allow(unreachable_pub)] // the appliance's library makes it public
#[path = "src/xdp/layout.rs"]
mod layout;

const SOURCE: &str = "bpf/steer.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=src/xdp/layout.rs");
    println!("cargo:rerun-if-env-changed=CLANG");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.bpf.o");
    let mut command = Command::new(&clang);
    command.args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    // The kernel's headers include <asm/types.h>, which Debian keeps in the directory of the host's
    // architecture, where a compiler for BPF does not look by itself.
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target's architecture");
    command.arg(format!("-I/usr/include/{architecture}-linux-gnu"));
    for (name, value) in definitions() {
        command.arg(format!("-D{name}={value}"));
    }
    command.arg("-c").arg(SOURCE).arg("-o").arg(&object);

    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "{clang} could not compile appliance/{SOURCE} ({status}); it needs the kernel's headers (Debian: apt install linux-libc-dev)"
        )),
        Err(error) => fail(&format!(
            "cannot run {clang}, which compiles the steering program: {error}; install it (Debian: apt install clang) or name another with CLANG=…"
        )),
    }
}

fn definitions() -> [(&'static str, u64); 17] {
    [
        ("ADJUST", layout::ADJUST as u64),
        ("QUEUES_MAX", layout::QUEUES_MAX.into()),
        ("PORTS_MAX", layout::PORTS_MAX.into()),
        ("ENDPOINTS_MAX", layout::ENDPOINTS_MAX.into()),
        ("SUBNETS_MAX", layout::SUBNETS_MAX.into()),
        ("FRAGMENTS_MAX", layout::FRAGMENTS_MAX.into()),
        ("ADDRESS_ALONE", layout::ADDRESS_ALONE.into()),
        ("ADDRESS_SHARED", layout::ADDRESS_SHARED.into()),
        ("EARLY_FRAME_MAX", layout::EARLY_FRAME_MAX.into()),
        ("EARLY_RING_BYTES", layout::EARLY_RING_BYTES.into()),
        ("COUNTER_STEERED", layout::COUNTER_STEERED.into()),
        ("COUNTER_PASSED", layout::COUNTER_PASSED.into()),
        ("COUNTER_NO_WORKER", layout::COUNTER_NO_WORKER.into()),
        ("COUNTER_NO_HEADROOM", layout::COUNTER_NO_HEADROOM.into()),
        ("COUNTER_EARLY", layout::COUNTER_EARLY.into()),
        ("COUNTER_EARLY_LOST", layout::COUNTER_EARLY_LOST.into()),
        ("COUNTERS", layout::COUNTERS.into()),
    ]
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1);
}
