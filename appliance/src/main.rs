//! The `weirgate` command.

fn main() {}
