//! The house rule on dependencies inside the core: its modules form layers, and an arrow that is not listed here is a
//! design change. Doc links count as well: who reads a module should not need to know the ones above.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of `lib` with the modules that it may name, lowest first: each only names modules above its own line.
const LAYERS: &[(&str, &[&str])] = &[
    ("net", &[]),
    ("time", &[]),
    ("hash", &["net"]),
    ("wire", &["net"]),
    ("verdict", &["net", "wire"]),
    ("frame", &["net", "verdict"]),
    ("maglev", &["hash"]),
    ("flow", &["hash", "net", "time", "wire"]),
    ("fragment", &["hash", "net", "time"]),
    ("tunnel", &["frame", "hash", "net", "verdict", "wire"]),
    ("nat", &["flow", "hash", "net", "time"]),
    ("snapshot", &["flow", "hash", "maglev", "nat", "net", "tunnel", "wire"]),
    ("counters", &["flow", "net", "verdict"]),
    (
        "pipeline",
        &[
            "counters", "flow", "fragment", "frame", "hash", "nat", "net", "snapshot", "time", "tunnel", "verdict",
            "wire",
        ],
    ),
];

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lib/src")
}

/// The files of a folder and of those in it, but for tests.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if stem == "tests" {
            continue;
        }
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A file's module path: `flow/table/evict.rs` is `[flow, table, evict]`, `flow/mod.rs` is `[flow]`.
fn module_of(root: &Path, file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file
        .strip_prefix(root)
        .unwrap()
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if path.last().is_some_and(|last| last == "mod" || last == "lib") {
        path.pop();
    }
    path
}

/// What stands before the tests of a file, without comments that are not documentation.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let is_code = |line: &&str| !line.trim_start().starts_with("//") || line.contains("::");
    text.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect()
}

/// The segments of every path in a text that begins with `crate` or `super`, with groups expanded.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if !before.is_alphanumeric() && before != '_' && before != ':' {
                expand(&text[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Reads one path at the front of a text and returns its length in bytes.
fn expand(text: &str, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let trimmed = text.trim_start();
    let skipped = text.len() - trimmed.len();
    let len = trimmed.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(trimmed.len());
    let mut path = before.to_vec();
    if let Some(inside) = trimmed.strip_prefix('{') {
        let mut at = 1;
        while at < trimmed.len() {
            let rest = &trimmed[at..];
            match rest.chars().next() {
                Some('}') => return skipped + at + 1,
                Some(c) if c == ',' || c.is_whitespace() => at += c.len_utf8(),
                _ => at += expand(rest, before, found).max(1),
            }
        }
        return skipped + inside.len() + 1;
    }
    if len == 0 {
        found.push(path);
        return skipped + trimmed.chars().next().map_or(0, char::len_utf8);
    }
    path.push(trimmed[..len].to_owned());
    if trimmed[len..].starts_with("::") {
        return skipped + len + 2 + expand(&trimmed[len + 2..], &path, found);
    }
    found.push(path);
    skipped + len
}

/// The path from the crate's root that a path in this module means.
fn resolve(module: &[String], path: &[String]) -> Vec<String> {
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    let base = if supers == 0 { &[][..] } else { &module[..module.len().saturating_sub(supers)] };
    base.iter().chain(path.iter().filter(|segment| *segment != "crate" && *segment != "super")).cloned().collect()
}

fn arrows_of_the_core() -> Arrows {
    let root = source();
    let mut arrows = Arrows::new();
    for file in files(&root) {
        let module = module_of(&root, &file);
        let Some(own) = module.first() else { continue };
        let named = arrows.entry(own.clone()).or_default();
        for path in paths(&code(&fs::read_to_string(&file).unwrap())) {
            named.extend(resolve(&module, &path).first().filter(|other| *other != own).cloned());
        }
    }
    arrows
}

/// The files of the pipeline, and which of them each names. Any file may name what `mod.rs` itself defines; what
/// `mod.rs` re-exports counts as that file's.
fn arrows_of_the_pipeline() -> Arrows {
    let root = source();
    let folder = root.join("pipeline");
    let files: Vec<(String, String)> = files(&folder)
        .iter()
        .filter_map(|file| Some((module_of(&folder, file).first()?.clone(), code(&fs::read_to_string(file).unwrap()))))
        .collect();
    let is_file = |name: &String| files.iter().any(|(file, _)| file == name);
    let mut handed_on = BTreeMap::new();
    let root_file = fs::read_to_string(folder.join("mod.rs")).unwrap();
    for line in code(&root_file).split(';') {
        if let Some((_, path)) = line.rsplit_once("use ") {
            let mut paths = Vec::new();
            expand(path, &[], &mut paths);
            for path in paths.into_iter().filter(|path| path.len() > 1 && is_file(&path[0])) {
                handed_on.insert(path[1].clone(), path[0].clone());
            }
        }
    }
    let mut arrows = Arrows::new();
    for (own, text) in &files {
        let named = arrows.entry(own.clone()).or_default();
        let module = ["pipeline".to_owned(), own.clone()];
        for path in paths(text) {
            let path = resolve(&module, &path);
            if path.first().is_some_and(|first| first == "pipeline")
                && let Some(name) = path.get(1)
            {
                let file = if is_file(name) { Some(name) } else { handed_on.get(name) };
                named.extend(file.filter(|file| *file != own).cloned());
            }
        }
    }
    arrows
}

/// A circle among the arrows, if there is one.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    let mut left = arrows.clone();
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let free = left.iter().find(|(_, others)| others.is_disjoint(&names)).map(|(name, _)| name.clone());
        match free {
            Some(name) => drop(left.remove(&name)),
            None => break,
        }
    }
    // Each of the remaining ones names another of them.
    let mut walked = vec![left.keys().next()?.clone()];
    loop {
        let next = left[walked.last()?].iter().find(|name| left.contains_key(*name))?.clone();
        if let Some(begin) = walked.iter().position(|name| *name == next) {
            walked.push(next);
            return Some(walked.split_off(begin));
        }
        walked.push(next);
    }
}

#[test]
fn the_list_of_layers_has_no_circle() {
    for (at, (name, below)) in LAYERS.iter().enumerate() {
        let lower: Vec<&str> = LAYERS[..at].iter().map(|(name, _)| *name).collect();
        for other in *below {
            assert!(lower.contains(other), "{name} is listed before {other}, which it may name");
        }
    }
}

#[test]
fn modules_of_the_core_name_only_those_that_they_may() {
    let arrows = arrows_of_the_core();
    if let Some(circle) = circle(&arrows) {
        panic!("a circle: {}", circle.join(" -> "));
    }
    let listed: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let present: BTreeSet<&str> = arrows.keys().map(String::as_str).collect();
    assert_eq!(present, listed, "the modules of lib, and those that are listed");
    for (name, below) in LAYERS {
        for other in &arrows[*name] {
            assert!(below.contains(&other.as_str()), "{name} names {other}: list this arrow, or break it");
        }
        for other in *below {
            assert!(arrows[*name].contains(*other), "{name} no longer names {other}: take it off the list");
        }
    }
}

#[test]
fn files_of_the_pipeline_name_each_other_in_no_circle() {
    let arrows = arrows_of_the_pipeline();
    assert!(arrows.len() > 10, "{arrows:?}");
    if let Some(circle) = circle(&arrows) {
        panic!("a circle: {}; decide there, and carry out in a file above", circle.join(" -> "));
    }
}

#[test]
fn paths_are_read_whole() {
    let text = "use crate::wire::{Dscp, ipv4, tcp::{self, Flags}};\nfn f(x: &super::Item) {}\n/// [`a`](crate::flow::A)\n\
                use super::{act, bind::{Bound}};";
    let found: BTreeSet<String> = paths(text).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::wire::Dscp",
        "crate::wire::ipv4",
        "crate::wire::tcp::self",
        "crate::wire::tcp::Flags",
        "super::Item",
        "crate::flow::A",
        "super::act",
        "super::bind::Bound",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
    let module = ["flow", "table", "evict"].map(str::to_owned);
    let resolved =
        |path: &[&str]| resolve(&module, &path.iter().map(ToString::to_string).collect::<Vec<_>>()).join("::");
    assert_eq!(resolved(&["super", "super", "Entry"]), "flow::Entry");
    assert_eq!(resolved(&["super", "super", "super", "nat", "Pool"]), "nat::Pool");
    assert_eq!(resolved(&["crate", "nat", "Pool"]), "nat::Pool");
}
