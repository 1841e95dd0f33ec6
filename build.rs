//! Compiles the programs with which the end-to-end bench makes and counts frames.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "benches/end_to_end/traffic.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=CLANG");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("traffic.bpf.o");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target's architecture");
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        // Debian keeps <asm/types.h> where a compiler for BPF does not look by itself.
        .arg(format!("-I/usr/include/{architecture}-linux-gnu"))
        .args(["-c", SOURCE, "-o"])
        .arg(&object)
        .status();
    let problem = match status {
        Ok(status) if status.success() => return,
        Ok(status) => format!("{clang} could not compile {SOURCE} ({status}); it needs the kernel's headers"),
        Err(error) => format!("cannot run {clang}: {error}; install it, or name another with CLANG=…"),
    };
    println!("cargo::error={problem}");
    std::process::exit(1);
}
