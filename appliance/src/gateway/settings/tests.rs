//! Every key of the configuration has the effects that its row here names, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use weirgate::net::{Mac, PortId};
use weirgate::snapshot::Description;

use super::*;
use crate::config::fields::{Field, SECTIONS, Section};
use crate::config::kind::Kind;
use crate::control::compile::{SteerTable, World, steer_table};
use crate::control::netlink::{Event, Hop, Link, Model, Neighbour};

mod rows;

use rows::{NUMBERS, TEXTS, TIMEOUTS};

/// Behind the sample with every key: a peer and a service that leave to other sections what can be left to them.
const MORE: &str = r#"
[[peer]]
subnets = ["10.77.4.0/24"]
public_ip = "10.99.0.12"
vtep_mac = "96:b5:c3:d1:0c:f4"

[[service]]
name = "dns"
protocol = "udp"
node_port = 30053
backends = ["10.77.4.10:53", "[fd77:0:0:74::10]:53"]
"#;

/// How many queues the ports have.
const QUEUES: u32 = 3;

/// All that is made of a configuration, and of the host as [`kernel`] has it.
#[derive(Debug)]
#[allow(dead_code, reason = "read by what Debug writes")]
struct Whole<'a> {
    config: &'a Config,
    description: &'a Description<'a>,
    steering: SteerTable,
    interfaces: Vec<&'a str>,
    plan: Plan,
    worker: WorkerConfig,
    tables: Wanted<'a>,
}

/// A host with enough interfaces and a next hop to every node that a row names.
fn kernel(config: &Config) -> Model {
    let link = |number: u8| Link {
        name: format!("eth{number}"),
        mac: Some(Mac([2, 0, 0, 0, 0, number])),
        mtu: 1500 + u32::from(number),
        up: true,
    };
    let links = [0, 1, 2].map(|number| (u32::from(number) + 10, link(number)));
    let mut model = Model::new(&[&config.uplink, &config.underlay], &links).expect("the host has these interfaces");
    let nodes = ["10.99.0.11", "10.99.0.12", "10.99.0.13", "fd99::11", "fd99::13"];
    let nodes = nodes.map(|node| node.parse::<IpAddr>().expect("an address"));
    model.replace_next_hops(nodes.map(|node| (node, Hop { port: PortId(1), neighbour: node, mtu: None })).into());
    for node in nodes {
        for (ifindex, _) in &links {
            let neighbour = Neighbour::Known(Mac([2, 0, 0, 0, 1, 1]));
            model.apply(Event::Neighbour { ifindex: *ifindex, address: node, neighbour });
        }
    }
    model
}

/// Each value that is made of a file, by its path.
fn leaves(file: &str) -> BTreeMap<String, String> {
    let config = config::check("file", file).unwrap_or_else(|refused| panic!("{:#?}", refused.errors)).config;
    let workers = u8::try_from(workers(&config, QUEUES)).expect("few workers");
    let world = World::new(&config, &kernel(&config));
    let text = world.describe(&config, workers, 1, |description| {
        let whole = Whole {
            config: &config,
            description,
            steering: steer_table(&config, &world),
            interfaces: interfaces(&config),
            plan: plan(&config, workers),
            worker: worker(&config, workers, WorkerId(0), [0; 4]),
            tables: tables(&config, workers),
        };
        format!("{whole:#?}")
    });
    paths(&text)
}

/// Takes apart what `{:#?}` writes, which has a line for each value: `a.b`, `a[0]` in a list, `a.0` in a tuple.
fn paths(text: &str) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    // Of each open bracket: which, the path to it, and how many values it has had.
    let mut open: Vec<(char, String, usize)> = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_end_matches(',');
        if matches!(line, "}" | "]" | ")") {
            open.pop();
            continue;
        }
        let (path, value) = match open.last_mut() {
            None => (String::new(), line),
            Some(('{', outer, _)) => {
                let (name, value) = line.split_once(": ").expect("a field has a name");
                (if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") }, value)
            }
            Some((bracket, outer, count)) => {
                *count += 1;
                let number = *count - 1;
                (if *bracket == '[' { format!("{outer}[{number}]") } else { format!("{outer}.{number}") }, line)
            }
        };
        let kind = value.trim_end_matches(['{', '[', '(']).trim_end();
        if kind.len() < value.len() {
            open.push((value.chars().next_back().expect("a bracket"), path.clone(), 0));
        }
        if !kind.is_empty() && leaves.insert(path.clone(), kind.to_owned()).is_some() {
            panic!("{path} twice");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    leaves
}

/// The file with another line for this key; `None` takes the line out.
fn edited(file: &str, key: &str, value: Option<&str>) -> String {
    let (section, field) = described(key);
    let head = if section.repeated { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) };
    let (before, after) = file.split_at(file.find(&head).expect("the sample has every section"));
    let line = format!("\n{} = {}\n", field.name, field.example);
    assert!(after.contains(&line), "the sample has {key}");
    let by = value.map_or_else(|| "\n".to_owned(), |value| format!("\n{} = {value}\n", field.name));
    format!("{before}{}", after.replacen(&line, &by, 1))
}

fn described(key: &str) -> (&'static Section, &'static Field) {
    let (section, field) = key.split_once('.').expect("SECTION.KEY");
    let section = SECTIONS.iter().find(|known| known.name == section).unwrap_or_else(|| panic!("no [{section}]"));
    let field = section.fields.iter().find(|known| known.name == field).unwrap_or_else(|| panic!("no {key}"));
    (section, field)
}

/// What differs, a line each.
fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeSet<String> {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("{path} gone"));
    let other = after.iter().filter(|(path, value)| before.get(*path) != Some(value));
    gone.chain(other.map(|(path, value)| format!("{path} = {value}"))).collect()
}

/// A key, another value for it, and all that it changes.
struct Row {
    key: &'static str,
    value: String,
    /// What is left out of the file before and after.
    without: &'static [&'static str],
    effects: BTreeSet<String>,
}

/// Every row of the tables.
fn rows() -> Vec<Row> {
    let texts = TEXTS.iter().map(|&(key, value, without, effects)| Row {
        key,
        value: value.to_owned(),
        without,
        effects: effects.iter().map(ToString::to_string).collect(),
    });
    let number =
        |key, value: u64, effects: BTreeSet<String>| Row { key, value: value.to_string(), without: &[], effects };
    let numbers = NUMBERS.iter().flat_map(|&(key, values, unit, places)| {
        let effects = move |value| places.iter().map(move |place| format!("{place} = {}", value * unit)).collect();
        values.iter().map(move |&value| number(key, value, effects(value)))
    });
    let timeouts = TIMEOUTS.iter().flat_map(|&(key, name)| {
        let places = ["config", "description.gateway"];
        let effects = move |value| places.iter().map(|place| format!("{place}.timeouts.{name} = {value}")).collect();
        [2, 100_000].into_iter().map(move |value| number(key, value, effects(value)))
    });
    texts.chain(numbers).chain(timeouts).collect()
}

#[test]
fn every_key_changes_what_it_is_for_and_nothing_else() {
    let sample = config::sample() + MORE;
    let mut wrong = String::new();
    for row in rows() {
        let before = row.without.iter().fold(sample.clone(), |file, key| edited(&file, key, None));
        let after = edited(&before, row.key, Some(&row.value));
        let found = differences(&leaves(&before), &leaves(&after));
        if found != row.effects {
            let lacking: Vec<_> = row.effects.difference(&found).collect();
            let beside: Vec<_> = found.difference(&row.effects).collect();
            let _ = writeln!(wrong, "{} = {}\n  lacks {lacking:#?}\n  has beside {beside:#?}", row.key, row.value);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_key_has_a_row_and_every_number_one_to_either_side() {
    let rows = rows();
    for section in SECTIONS {
        for field in section.fields {
            let key = format!("{}.{}", section.name, field.name);
            let values: Vec<&str> = rows.iter().filter(|row| row.key == key).map(|row| row.value.as_str()).collect();
            assert!(!values.is_empty(), "{key} has no row in the tables below: what does it change?");
            let range = match field.kind {
                Kind::Number(least, most) => Some((least, most)),
                Kind::Port => Some((1, 65_535)),
                _ => None,
            };
            let Some((least, most)) = range else { continue };
            let numbers: Vec<u64> = values.iter().map(|value| value.parse().expect("a number")).collect();
            let usual: u64 = field.example.parse().expect("a number");
            // What is capped, or raised to a least one, shows beyond the usual value only.
            assert!(usual == least || numbers.iter().any(|&value| value < usual), "{key} has no row below {usual}");
            assert!(usual == most || numbers.iter().any(|&value| value > usual), "{key} has no row above {usual}");
        }
    }
}

#[test]
fn a_change_of_a_nested_value_is_found_by_its_path() {
    let before = paths("A {\n    b: [\n        1,\n        C(\n            2,\n        ),\n    ],\n    d: None,\n}");
    let after = paths(
        "A {\n    b: [\n        1,\n        C(\n            3,\n        ),\n    ],\n    d: Some(\n        4,\n    ),\n}",
    );
    let differences: Vec<String> = differences(&before, &after).into_iter().collect();
    assert_eq!(differences, ["b[1].0 = 3", "d = Some", "d.0 = 4"]);
}
