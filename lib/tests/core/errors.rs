//! Every error of the crate can be shown and boxed.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use weirgate::{flow, fragment, frame, maglev, net, pipeline, snapshot, verdict, wire};

/// Compiles for errors alone.
const fn is_error<E: Error + Send + Sync + Copy + 'static>(_: Option<E>) -> &'static str {
    ""
}

/// Each error type with its name. A type without `Display` or `Error` does not compile here.
const ERRORS: &[(&str, &str)] = &[
    ("flow::AttachError", is_error::<flow::AttachError>(None)),
    ("flow::InsertError", is_error::<flow::InsertError>(None)),
    ("flow::TableError", is_error::<flow::TableError>(None)),
    ("fragment::Clash", is_error::<fragment::Clash>(None)),
    ("fragment::FragmentsError", is_error::<fragment::FragmentsError>(None)),
    ("frame::OutsideBuffer", is_error::<frame::OutsideBuffer>(None)),
    ("maglev::FillError", is_error::<maglev::FillError>(None)),
    ("net::PrefixError", is_error::<net::PrefixError>(None)),
    ("pipeline::AttachError", is_error::<pipeline::AttachError>(None)),
    ("pipeline::InitError", is_error::<pipeline::InitError>(None)),
    ("snapshot::AttachError", is_error::<snapshot::AttachError>(None)),
    ("snapshot::CompileError", is_error::<snapshot::CompileError>(None)),
    ("verdict::DropReason", is_error::<verdict::DropReason>(None)),
    ("wire::ParseError", is_error::<wire::ParseError>(None)),
];

/// The public types of a folder's files whose name ends in `Error`.
fn errors_of(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            errors_of(&path, root, found);
            continue;
        }
        let module = path.strip_prefix(root).unwrap().with_extension("");
        let module = module.iter().next().unwrap().to_str().unwrap();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let name = line.strip_prefix("pub enum ").or_else(|| line.strip_prefix("pub struct "));
            let name = name.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
            if let Some(name) = name.filter(|name| name.ends_with("Error")) {
                found.insert(format!("{module}::{name}"));
            }
        }
    }
}

#[test]
fn every_error_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    errors_of(&root, &root, &mut found);
    let listed: BTreeSet<String> = ERRORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(found.is_subset(&listed), "not listed: {:?}", found.difference(&listed));
}

#[test]
fn an_error_names_the_offending_value_and_its_source() {
    let table = flow::TableError::Capacity { asked: 3, min: 16, max: 99 };
    let error = pipeline::InitError::FlowsV6(table);
    assert_eq!(error.to_string(), "table of IPv6 flows: a table has 16 to 99 flows, not 3");
    assert_eq!(error.source().map(ToString::to_string), Some(table.to_string()));
    let capacity = flow::AttachError::Capacity { found: 16, expected: 32 };
    let error = pipeline::AttachError::FlowsV4(capacity);
    assert_eq!(error.to_string(), "table of IPv4 flows: it is for 16 flows, not 32");
    assert_eq!(error.source().map(ToString::to_string), Some(capacity.to_string()));
    let error = snapshot::CompileError::Selector { service: 7, error: maglev::FillError::NotPrime(4) };
    assert_eq!(
        error.to_string(),
        "the selector of service 7: 4 slots; a table has a prime number of them, at most 655373"
    );
    assert_eq!(verdict::DropReason::NoRoute.to_string(), "no-route");
    assert_eq!(frame::OutsideBuffer { end: 9, buffer: 8 }.to_string(), "a frame that ends at 9 in a buffer of 8 bytes");
}
