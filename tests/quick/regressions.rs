//! Inputs that once broke something, and those that fuzzing begins with, through the fuzz targets'
//! own code.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/parse.rs"]
mod parse;
#[path = "../../fuzz/src/pipeline/mod.rs"]
mod pipeline;

fn each_input(target: &str, run: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for folder in [root.join("fuzz/seeds").join(target), root.join("tests/regressions").join(target)] {
        // A target without a finding has no folder.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            // The name, should it panic; shown for tests that fail.
            println!("{}", path.display());
            run(&fs::read(&path).expect("an input"));
            read += 1;
        }
    }
    assert!(read > 0, "no inputs for {target}");
}

#[test]
fn parsing_survives_every_known_input() {
    each_input("parse", parse::run);
}

#[test]
fn the_pipeline_survives_every_known_input() {
    each_input("pipeline", pipeline::run);
}

#[test]
fn a_gateway_survives_every_known_input() {
    each_input("gateway", pipeline::gateway::run);
}
