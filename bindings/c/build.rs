//! Gives the shared library the name that programs load it by: of the version of its interface, so that the loader
//! pairs no program with a library of another.

fn main() {
    let types = "src/types.rs";
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={types}");
    let text = std::fs::read_to_string(types).expect("the types");
    let version = text.lines().find_map(|line| line.strip_prefix("pub const WEIRGATE_ABI_VERSION: u32 = "));
    let version: u32 = version.and_then(|rest| rest.strip_suffix(';')?.parse().ok()).expect("a version");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libweirgate.so.{version}");
}
