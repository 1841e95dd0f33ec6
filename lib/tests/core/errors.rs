//! Every error of the crate can be shown and boxed.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use weirgate::net::{Endpoint, PortId, Protocol};
use weirgate::wire::Layer;
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

/// Each error, and the values that its text names.
fn texts() -> Vec<(Box<dyn Error>, &'static [&'static str])> {
    let outside: IpAddr = "192.0.2.7".parse().unwrap();
    let mut all: Vec<(Box<dyn Error>, &'static [&'static str])> = vec![
        (Box::new(fragment::Clash::Repeated), &[]),
        (Box::new(fragment::Clash::Overlap), &[]),
        (Box::new(fragment::Clash::Length), &[]),
        (Box::new(fragment::FragmentsError::Datagrams { asked: 3 }), &["3", "16", "65536"]),
        (Box::new(fragment::FragmentsError::HeldBytes { asked: 3 }), &["3", "4096", "1073741824"]),
        (Box::new(fragment::FragmentsError::Memory { have: 5, need: 7 }), &["5", "7", "64"]),
        (Box::new(frame::OutsideBuffer { end: 9, buffer: 8 }), &["9", "8"]),
        (Box::new(flow::InsertError::Full), &[]),
        (Box::new(flow::InsertError::TupleTaken), &[]),
        (Box::new(flow::AttachError::NoTable), &[]),
        (Box::new(flow::AttachError::Version { found: 1, expected: 2 }), &["1", "2"]),
        (Box::new(flow::AttachError::Layout { found: 0xabc, expected: 0xdef }), &["abc", "def"]),
        (Box::new(flow::AttachError::Capacity { found: 100, expected: 200 }), &["100", "200"]),
        (Box::new(maglev::FillError::NoWeight), &[]),
        (Box::new(maglev::FillError::NotPrime(4)), &["4", "655373"]),
        (Box::new(maglev::FillError::TooManyMembers(70_000)), &["70000", "65535"]),
        (Box::new(net::PrefixError), &["/"]),
        (Box::new(pipeline::InitError::Id), &[]),
        (Box::new(snapshot::AttachError::Misaligned), &["8"]),
        (Box::new(snapshot::AttachError::Truncated { have: 11 }), &["11"]),
        (Box::new(snapshot::AttachError::NotASnapshot), &[]),
        (Box::new(snapshot::AttachError::Version(0)), &["0"]),
        (Box::new(snapshot::AttachError::Section(12)), &["12"]),
    ];
    let table = [
        (flow::TableError::Capacity { asked: 3, min: 16, max: 99 }, &["3", "16", "99"][..]),
        (flow::TableError::Memory { have: 5, need: 7 }, &["5", "7", "64"]),
    ];
    let endpoint = Endpoint { address: outside, port: 80 };
    let compile: [(snapshot::CompileError, &[&str]); 16] = [
        (snapshot::CompileError::Memory { have: 5, need: 7 }, &["5", "7", "8"]),
        (snapshot::CompileError::TooManyPorts(17), &["17", "16"]),
        (snapshot::CompileError::UnknownPort(PortId(3)), &["3"]),
        (snapshot::CompileError::Workers(65), &["65", "64"]),
        (snapshot::CompileError::PoolPorts(30, 20), &["30", "20"]),
        (snapshot::CompileError::TooManyPoolAddresses(65), &["65", "64"]),
        (snapshot::CompileError::PoolAddress(outside), &["192.0.2.7"]),
        (snapshot::CompileError::FrontendAddress(outside), &["192.0.2.7"]),
        (snapshot::CompileError::MappedAddress(outside), &["192.0.2.7"]),
        (snapshot::CompileError::MasqueradeAddress(outside), &["192.0.2.7"]),
        (snapshot::CompileError::NoVtep(outside), &["192.0.2.7"]),
        (snapshot::CompileError::MtuTooSmall { mtu: 1300 }, &["1300"]),
        (snapshot::CompileError::MssTooSmall(535), &["535", "536"]),
        (snapshot::CompileError::DuplicateFrontend(endpoint, Protocol::SCTP), &["192.0.2.7:80", "sctp"]),
        (snapshot::CompileError::UnknownProtocol(Protocol(47)), &["47"]),
        (snapshot::CompileError::Selector { service: 7, error: maglev::FillError::NotPrime(4) }, &["7", "4", "655373"]),
    ];
    let parse: [(wire::ParseError, &[&str]); 11] = [
        (wire::ParseError::Truncated { layer: Layer::SctpChunk, need: 20, have: 7 }, &["SCTP chunk", "20", "7"]),
        (wire::ParseError::BadVersion { version: 5 }, &["5"]),
        (wire::ParseError::BadLength { layer: Layer::Vlan, len: 9 }, &["802.1Q", "9"]),
        (wire::ParseError::BadIpChecksum, &["IPv4"]),
        (wire::ParseError::NestedVlan, &["VLAN"]),
        (wire::ParseError::BadFragment { offset: 1480 }, &["1480"]),
        (wire::ParseError::TinyFragment { have: 7 }, &["7"]),
        (wire::ParseError::ExtensionHeader { header: 139 }, &["139"]),
        (wire::ParseError::RoutingHeader { kind: 2 }, &["2"]),
        (wire::ParseError::UdpChecksumMissing { port: 8472 }, &["8472"]),
        (wire::ParseError::VniFlagClear, &["VXLAN"]),
    ];
    all.extend(table.map(|(error, values)| (error.into(), values)));
    all.extend(compile.map(|(error, values)| (error.into(), values)));
    all.extend(parse.map(|(error, values)| (error.into(), values)));
    all.extend(verdict::DropReason::ALL.iter().map(|reason| ((*reason).into(), &[][..])));
    all
}

#[test]
fn an_error_is_told_from_others_and_names_the_offending_value() {
    let mut told = BTreeSet::new();
    for (error, values) in texts() {
        let text = error.to_string();
        assert!(!text.is_empty(), "{error:?}");
        assert!(values.iter().all(|value| text.contains(value)), "{error:?}: {text}");
        assert!(told.insert(text), "{error:?} is told as another one");
    }
}

#[test]
fn an_error_in_another_is_told_and_is_its_source() {
    let table = flow::TableError::Capacity { asked: 3, min: 16, max: 99 };
    let fill = maglev::FillError::NotPrime(4);
    let fragments = fragment::FragmentsError::Datagrams { asked: 3 };
    let attach = flow::AttachError::Table(table);
    let nested: [(Box<dyn Error>, String); 7] = [
        (attach.into(), table.to_string()),
        (pipeline::InitError::FlowsV4(table).into(), table.to_string()),
        (pipeline::InitError::FlowsV6(table).into(), table.to_string()),
        (pipeline::InitError::Fragments(fragments).into(), fragments.to_string()),
        (pipeline::AttachError::FlowsV6(attach).into(), attach.to_string()),
        (pipeline::AttachError::Fragments(fragments).into(), fragments.to_string()),
        (snapshot::CompileError::Selector { service: 7, error: fill }.into(), fill.to_string()),
    ];
    for (error, source) in nested {
        assert!(error.to_string().contains(&source), "{error}");
        assert_eq!(error.source().map(ToString::to_string), Some(source));
    }
    assert!(pipeline::InitError::Id.source().is_none() && flow::AttachError::NoTable.source().is_none());
}
