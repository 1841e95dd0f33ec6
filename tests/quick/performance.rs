//! docs/performance.md and its plot show the figures of docs/performance.tsv.

use std::fs;
use std::path::Path;

#[path = "../../benches/support/report.rs"]
mod report;

use report::{Results, with_tables};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn tables_and_plot_are_those_of_the_figures() {
    let figures = read("performance.tsv");
    let results = Results::parse(&figures);
    assert_eq!(results.text(), figures, "docs/performance.tsv is not as the bench writes it");
    let how = "cargo bench --bench matrix -- --redraw writes it again";
    assert_eq!(results.plot(), read("performance.svg"), "docs/performance.svg: {how}");
    let document = read("performance.md");
    assert_eq!(with_tables(&document, &results.tables()), document, "docs/performance.md: {how}");
    // Each workload at each number of flows, in both families.
    for family in ["v4", "v6"] {
        for workload in ["hit", "reply", "new-flow", "miss", "expiry", "L"] {
            let sizes = results.rows.iter().filter(|row| (&*row.workload, &*row.family) == (workload, family));
            assert!(sizes.count() >= 3, "{workload} over {family}");
        }
    }
}
