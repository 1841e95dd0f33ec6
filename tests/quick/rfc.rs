//! docs/rfc.md names tests that exist, and all that are named after an RFC.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the project's own Rust is.
const ROOMS: &[&str] = &["lib", "appliance", "bindings", "tests", "examples", "benches"];

/// The functions that a source file defines.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let (before, after) = line.split_once("fn ")?;
        let is_definition = before.is_empty() || before.ends_with(' ');
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        (is_definition && end > 0 && !before.contains("//")).then(|| &after[..end])
    })
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.extend(functions(&source).map(str::to_string));
        }
    }
}

fn in_the_tree() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for room in ROOMS {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(room), &mut found);
    }
    found
}

/// The tests that a document names: code words with an underscore.
fn named(document: &str) -> BTreeSet<String> {
    let words = document.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    words.filter(is_name).map(str::to_string).collect()
}

/// `rfc`, a number, and more of a name.
fn is_after_an_rfc(name: &str) -> bool {
    name.strip_prefix("rfc").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_'))
}

#[test]
fn the_list_of_requirements_and_the_tests_agree() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rfc.md");
    let document = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (named, exist) = (named(&document), in_the_tree());
    let missing: Vec<_> = named.difference(&exist).collect();
    assert!(missing.is_empty(), "docs/rfc.md names tests that are not there: {missing:#?}");
    let unnamed: Vec<_> = exist.iter().filter(|name| is_after_an_rfc(name) && !named.contains(*name)).collect();
    assert!(unnamed.is_empty(), "docs/rfc.md does not name: {unnamed:#?}");
    assert!(named.len() > 50, "only {} names were read", named.len());
}

#[test]
fn a_row_has_as_many_cells_as_its_table_and_the_last_is_not_empty() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rfc.md");
    let document = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut width = 0;
    for (number, line) in (1..).zip(document.lines()) {
        let cells: Vec<&str> = line.split('|').collect();
        match line.starts_with('|') {
            false => width = 0,
            true if width == 0 => width = cells.len(),
            true => {
                assert_eq!(cells.len(), width, "line {number}");
                assert!(!cells[width - 2].trim().is_empty(), "line {number} has neither a test nor a reason");
            }
        }
    }
}
