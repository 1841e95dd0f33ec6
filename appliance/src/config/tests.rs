use std::fs;
use std::path::Path;

use proptest::prelude::*;
use weirgate::snapshot::PastLimit;
use weirgate::wire::Dscp;

use super::fields::SECTIONS;
use super::*;

mod slips;
mod values;

/// A right file to spoil, line by line.
const RIGHT: &str = r#"[gateway]
poll = "busy"
workers = 2

[uplink]
interface = "up0"
addresses = ["192.0.2.1", "2001:db8:1::1"]

[underlay]
interface = "un0"

[overlay]
networks = ["10.77.0.0/16", "fd77::/48"]
subnets = ["10.77.200.0/24", "fd77:0:0:200::/64"]
public_ip = "10.99.0.50"
public_ipv6 = "fd99::50"
vtep_mac = "0a:58:0a:4d:c8:00"
vtep_mac_v6 = "0a:58:0a:4d:c8:06"

[[peer]]
subnets = ["10.77.74.0/24", "fd77:0:0:74::/64"]
public_ip = "10.99.0.11"
public_ipv6 = "fd99::11"
vtep_mac = "96:b5:c3:d1:0b:f4"
vtep_mac_v6 = "96:b5:c3:d1:0b:f6"

[[peer]]
subnets = ["10.77.4.0/24"]
public_ip = "10.99.0.12"
backend = "host-gw"

[[service]]
name = "web"
protocol = "tcp"
port = 80
node_port = 30080
external_addresses = ["203.0.113.10"]
backends = ["10.77.74.10:80", "10.77.4.10:80", "[fd77:0:0:74::10]:80"]

[[service]]
name = "dns"
protocol = "udp"
node_port = 30053
backends = ["10.77.74.10:53", "[fd77:0:0:74::10]:53"]
"#;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn sentences(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The right file after each `(from, to)` has been replaced in it.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = RIGHT.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "the right file has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    text
}

/// What is found in the file that is [`edited`] so: errors, then warnings.
fn findings(edits: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    match check("w.toml", &edited(edits)) {
        Ok(checked) => (Vec::new(), sentences(&checked.warnings)),
        Err(refused) => (sentences(&refused.errors), sentences(&refused.warnings)),
    }
}

#[test]
fn the_right_file_is_read_as_written() {
    let Checked { config, warnings } = check("w.toml", RIGHT).expect("the file is right");
    assert_eq!(warnings, [], "nothing to warn of");
    assert_eq!(config.poll, Poll::Busy);
    assert_eq!((config.workers, config.first_core), (Some(2), 0));
    assert_eq!(config.control_socket, Path::new(CONTROL_SOCKET));
    assert_eq!((config.uplink.as_str(), config.underlay.as_str()), ("up0", "un0"));
    assert_eq!((config.overlay.vni, config.overlay.port), (Vni::new(1).unwrap(), 8472));
    let pool: Vec<String> = config.overlay.snat_pool.iter().map(ToString::to_string).collect();
    let default = ["10.77.200.2", "10.77.200.3", "10.77.200.4", "10.77.200.5"];
    assert_eq!(pool[..4], default);
    assert_eq!(pool[4..], ["fd77:0:0:200::2", "fd77:0:0:200::3", "fd77:0:0:200::4", "fd77:0:0:200::5"]);
    assert_eq!(config.peers[0].backend, Backend::Vxlan);
    assert_eq!(config.peers[1].backend, Backend::HostGw);
    assert_eq!(config.services[0].backends[2].to_string(), "[fd77:0:0:74::10]:80");
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.fragments, weirgate::fragment::Limits::default());
    assert_eq!((config.flows_v4, config.flows_v6, config.table_size, config.seed), (65_536, 65_536, 65_537, 0));
}

#[test]
fn a_configuration_is_summed_up_in_a_few_lines() {
    let summary = |edits: &[(&str, &str)]| check("w.toml", &edited(edits)).expect("the file is right").config.summary();
    let right = "uplink    up0 at 192.0.2.1, 2001:db8:1::1\n\
                 underlay  un0; 2 workers from core 0, polling busy\n\
                 overlay   10.77.200.0/24, fd77:0:0:200::/64 of 10.77.0.0/16, fd77::/48; vxlan, VNI 1, port 8472\n\
                 peers     2 with 3 subnets\n\
                 services  2 with 5 backends\n\
                 flows     65536 over IPv4 and 65536 over IPv6 for each worker; 8 addresses in the SNAT pool\n";
    assert_eq!(summary(&[]), right);
    let one = summary(&[("poll = \"busy\"", "first_core = 1"), ("workers = 2", "workers = 1")]);
    assert_eq!(one, right.replace("2 workers from core 0, polling busy", "1 worker from core 1, polling adaptive"));
    let pool = summary(&[("public_ip =", "snat_pool = [\"10.77.200.9\", \"fd77:0:0:200::9\"]\npublic_ip =")]);
    assert_eq!(pool, right.replace("8 addresses", "2 addresses"));
}

#[test]
fn a_peer_has_an_address_and_a_vtep_of_each_family() {
    let Checked { config, .. } = check("w.toml", RIGHT).expect("the file is right");
    let [both, plain] = &config.peers[..] else { panic!("two peers") };
    let of = |peer: &Peer, subnet: &str| {
        let subnet = subnet.parse().unwrap();
        (peer.public(&subnet).map(|it| it.to_string()), peer.vtep(&subnet).map(|it| it.to_string()))
    };
    let found = |public: &str, vtep: &str| (Some(public.to_owned()), Some(vtep.to_owned()));
    assert_eq!(of(both, "10.77.74.0/24"), found("10.99.0.11", "96:b5:c3:d1:0b:f4"));
    assert_eq!(of(both, "fd77:0:0:74::/64"), found("fd99::11", "96:b5:c3:d1:0b:f6"));
    assert_eq!(of(plain, "10.77.4.0/24"), (Some("10.99.0.12".to_owned()), None));
    assert_eq!(of(plain, "fd77:0:0:4::/64"), (None, None));
}

#[test]
fn backends_are_reached_in_their_own_family_only() {
    let (errors, _) = findings(&[(", \"2001:db8:1::1\"]", "]")]);
    let sentence = |at: &str, backend: &str| {
        format!(
            "w.toml:{at}: {backend} is IPv6, but the service has no IPv6 frontend; use a backend of the other family, \
             or add an IPv6 address in front"
        )
    };
    assert_eq!(
        errors,
        [
            sentence("38:48: service[0].backends[2]", "[fd77:0:0:74::10]:80"),
            sentence("44:31: service[1].backends[1]", "[fd77:0:0:74::10]:53"),
        ]
    );
}

#[test]
fn what_is_beside_a_slip_is_right() {
    for edits in [
        // Neither TCP's ports nor another port of UDP are VXLAN's.
        &[("node_port = 30053", "port = 53\nexternal_addresses = [\"10.99.0.50\", \"fd99::50\"]\nnode_port = 30053")][..],
        &[("\"203.0.113.10\"", "\"10.99.0.50\""), ("port = 80\n", "port = 8472\n")],
        // External addresses do without a node port.
        &[("node_port = 30053", "port = 53\nexternal_addresses = [\"203.0.113.11\", \"2001:db8:2::1\"]")],
        // The least room for addresses to translate to.
        &[("10.77.200.0/24", "10.77.200.0/29"), ("fd77:0:0:200::/64", "fd77:0:0:200::/125")],
        // The fewest ports.
        &[(
            "[[service]]",
            "[masquerade]\naddresses = [\"198.51.100.7\"]\nfirst_port = 2000\nlast_port = 2064\n[[service]]",
        )],
        // No end of the overlay where nothing travels in VXLAN.
        &[
            ("[overlay]\n", "[overlay]\nbackend = \"host-gw\"\n"),
            ("vtep_mac = \"0a:58:0a:4d:c8:00\"\nvtep_mac_v6 = \"0a:58:0a:4d:c8:06\"\n", ""),
            ("vtep_mac = \"96:b5:c3:d1:0b:f4\"\nvtep_mac_v6 = \"96:b5:c3:d1:0b:f6\"\n", ""),
        ],
        // A family of which nobody asks needs no backend.
        &[(", \"2001:db8:1::1\"]", "]"), (", \"[fd77:0:0:74::10]:80\"]", "]"), (", \"[fd77:0:0:74::10]:53\"]", "]")],
    ] {
        assert_eq!(findings(edits), (Vec::new(), Vec::new()), "{edits:?}");
    }
}

#[test]
fn one_peer_in_vxlan_is_enough_for_the_gateway_to_need_its_end() {
    let peers = "vtep_mac = \"96:b5:c3:d1:0b:f4\"\nvtep_mac_v6 = \"96:b5:c3:d1:0b:f6\"\n";
    let own = ("vtep_mac = \"0a:58:0a:4d:c8:00\"\nvtep_mac_v6 = \"0a:58:0a:4d:c8:06\"\n", "");
    let plain = ("[overlay]\n", "[overlay]\nbackend = \"host-gw\"\n");
    let tunnelled = format!("{peers}backend = \"vxlan\"\n");
    let direct = "backend = \"host-gw\"\n";
    for edits in [&[plain, (peers, tunnelled.as_str()), own][..], &[own, (peers, direct)], &[own]] {
        let (errors, _) = findings(edits);
        assert_eq!(errors.len(), 2, "{errors:?}");
        for (error, vtep) in errors.iter().zip(["overlay.vtep_mac: ", "overlay.vtep_mac_v6: "]) {
            assert!(error.contains(vtep) && error.contains("travel in VXLAN"), "{error}");
        }
    }
}

#[test]
fn a_subnet_is_a_part_of_one_network() {
    // Where the list of networks is not right itself, nothing is said of what lies in it.
    let (errors, _) = findings(&[("[\"10.77.0.0/16\", \"fd77::/48\"]", "[]")]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("overlay.networks: the list is empty"), "{errors:?}");
    // It begins in one and is wider.
    let (errors, _) = findings(&[("\"fd77:0:0:74::/64\"", "\"fd77::/32\"")]);
    assert!(errors.iter().any(|error| error.contains("fd77::/32 lies in none of")), "{errors:?}");
}

#[test]
fn services_do_not_share_a_frontend() {
    let second = "[[service]]\nname = \"web2\"\nprotocol = \"tcp\"\nport = 30080\nnode_port = 30080\n\
                  external_addresses = [\"192.0.2.1\"]\nbackends = [\"10.77.74.10:80\", \"[fd77:0:0:74::10]:80\"]\n\n\
                  [[service]]\nname = \"dns\"";
    let (errors, _) = findings(&[("[[service]]\nname = \"dns\"", second)]);
    assert_eq!(
        errors,
        [
            "w.toml:44:13: service[1].node_port: 30080 is also service[0].node_port for tcp; give each service its own",
            "w.toml:44:13: service[1].node_port: 192.0.2.1 port 30080 for tcp is also service[0].node_port; give each \
             service its own",
            "w.toml:44:13: service[1].node_port: 2001:db8:1::1 port 30080 for tcp is also service[0].node_port; give \
             each service its own",
            "w.toml:45:23: service[1].external_addresses[0]: 192.0.2.1 port 30080 for tcp is also \
             service[0].node_port; give each service its own",
        ]
    );
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let (errors, _) = findings(&[
        ("\"10.77.4.10:80\"", "\"10.77.4.10\""),
        ("workers = 2", "workers = 0"),
        ("interface = \"un0\"", "interface = \"\""),
    ]);
    let lines: Vec<&str> = errors.iter().map(|error| error.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["3", "10", "38"], "{errors:#?}");
}

#[test]
fn a_service_has_its_own_codepoint_or_that_of_all() {
    let policies = |policy: &str, service: &str| {
        let text = edited(&[
            ("[[service]]\nname = \"web\"", &format!("{policy}[[service]]\nname = \"web\"")),
            ("port = 80\n", &format!("port = 80\n{service}")),
        ]);
        let config = check("w.toml", &text).unwrap_or_else(|refused| panic!("{:#?}", refused.errors)).config;
        let dscp: Vec<_> = config.services.iter().map(|service| service.policy.dscp.map(Dscp::number)).collect();
        (config.mss, config.outer_dscp, dscp)
    };
    let off = (MssLimit::Off, OuterDscp::Fixed(Dscp::DEFAULT));
    assert_eq!(policies("", ""), (off.0, off.1, vec![None, None]));
    assert_eq!(policies("[policy]\ndscp = 10\nmss = \"off\"\n", ""), (off.0, off.1, vec![Some(10), Some(10)]));
    assert_eq!(policies("[policy]\ndscp = 10\nmss = 1300\n", "dscp = 46\n").2, [Some(46), Some(10)]);
    let all = policies("[policy]\nmss = \"auto\"\nouter_dscp = \"copy\"\n", "dscp = 0\n");
    assert_eq!(all, (MssLimit::Path, OuterDscp::Copy, vec![Some(0), None]));
    let (mss, outer, _) = policies("[policy]\nmss = 1300\nouter_dscp = 63\n", "");
    assert_eq!((mss, outer), (MssLimit::Bytes(1300), OuterDscp::Fixed(Dscp::new(63).unwrap())));
}

#[test]
fn pings_of_services_are_answered_unless_that_is_turned_off() {
    let echo = |policy: &str| {
        let text = edited(&[("[[service]]\nname = \"web\"", &format!("{policy}[[service]]\nname = \"web\""))]);
        check("w.toml", &text).unwrap_or_else(|refused| panic!("{:#?}", refused.errors)).config.echo
    };
    assert_eq!(echo(""), Echo { services: true, per_second: 1000 });
    assert_eq!(echo("[policy]\necho = \"off\"\n"), Echo { services: false, per_second: 1000 });
    assert_eq!(echo("[policy]\necho = \"on\"\necho_per_second = 5\n"), Echo { services: true, per_second: 5 });
}

#[test]
fn past_the_limit_on_new_flows_packets_are_dropped_unless_they_are_to_be_placed() {
    let admission = |flows: &str| {
        let text = edited(&[("[[service]]\nname = \"web\"", &format!("{flows}[[service]]\nname = \"web\""))]);
        check("w.toml", &text).unwrap_or_else(|refused| panic!("{:#?}", refused.errors)).config.admission
    };
    assert_eq!(admission(""), Admission::default());
    assert_eq!(admission("[flows]\npast_limit = \"drop\"\n").past_limit, PastLimit::Drop);
    let all = "[flows]\nhalf_open_per_client = 7\nnew_per_second = 9\npast_limit = \"stateless\"\n";
    let expected = Admission { half_open_per_client: 7, new_flows_per_second: 9, past_limit: PastLimit::Stateless };
    assert_eq!(admission(all), expected);
}

#[test]
fn a_node_port_outside_of_the_clusters_is_warned_of() {
    let (errors, warnings) = findings(&[("\n[underlay]", "node_ports = \"30000-30060\"\n[underlay]")]);
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        warnings,
        [
            "w.toml:36:13: service[0].node_port: 30080 is outside of the node ports (30000 to 30060), so the cluster does \
          not reserve it for this service"
        ]
    );
}

#[test]
fn what_works_but_may_not_be_meant_is_a_warning() {
    let (errors, warnings) =
        findings(&[("backends = [\"10.77.74.10:53\", \"[fd77:0:0:74::10]:53\"]", "backends = []")]);
    assert_eq!(errors, [""; 0]);
    let empty = "w.toml:44:12: service[1].backends: the list is empty, so every packet for the service will be dropped \
                 (no-backend)";
    assert_eq!(warnings, [empty]);
    let (errors, warnings) = findings(&[(", \"[fd77:0:0:74::10]:53\"", "")]);
    assert_eq!(errors, [""; 0]);
    let one_family =
        "w.toml:44:12: service[1].backends: no backend is IPv6, so clients over IPv6 will be dropped (no-backend)";
    assert_eq!(warnings, [one_family]);
}

#[test]
fn a_file_that_is_not_toml_is_told_by_its_first_slip() {
    let (errors, _) = findings(&[("workers = 2", "workers = = 2")]);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("w.toml:3:11: not TOML here: "), "{}", errors[0]);
    let (errors, _) = findings(&[("workers = 2", "workers = 2\nworkers = 3")]);
    assert!(errors[0].starts_with("w.toml:4:1: not TOML here: duplicate key"), "{}", errors[0]);
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let refused = load(Path::new("/nonexistent/w.toml")).unwrap_err();
    assert_eq!(
        sentences(&refused.errors),
        ["/nonexistent/w.toml: cannot be read: No such file or directory (os error 2); name a file that can, such as \
             --config weirgate.toml"]
    );
}

#[test]
fn an_empty_file_lacks_the_three_tables_that_nothing_stands_in_for() {
    let refused = check("w.toml", "").unwrap_err();
    assert_eq!(
        sentences(&refused.errors),
        [
            "w.toml:1:1: uplink: missing; add the table [uplink] with interface = \"eth0\"",
            "w.toml:1:1: underlay: missing; add the table [underlay] with interface = \"eth1\"",
            "w.toml:1:1: overlay: missing; add the table [overlay] with networks = [\"10.77.0.0/16\", \"fd77::/48\"] \
             and subnets = [\"10.77.200.0/24\", \"fd77:0:0:200::/64\"]",
        ]
    );
}

#[test]
fn the_sample_of_the_reference_is_right_and_has_every_field() {
    let sample = reference::sample();
    let checked = check("sample", &sample).unwrap_or_else(|refused| panic!("{:#?}", sentences(&refused.errors)));
    assert_eq!(sentences(&checked.warnings), [""; 0]);
}

#[test]
fn what_the_reference_calls_a_default_is_what_holds_without_the_field() {
    let mut seen = 0;
    for section in SECTIONS {
        for field in section.fields {
            let fields::Absent::Default(default) = field.absent else { continue };
            let Some(value) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else { continue };
            let sample = reference::sample();
            let head = sample.find(&format!("[{}]", section.name)).unwrap();
            let line = format!("\n{} = {}\n", field.name, field.example);
            let with = |by: &str| {
                let text = format!("{}{}", &sample[..head], sample[head..].replacen(&line, by, 1));
                assert_eq!(text == sample, by == line, "the sample has {line}");
                check("sample", &text).unwrap_or_else(|refused| panic!("{:#?}", sentences(&refused.errors))).config
            };
            assert_eq!(with("\n"), with(&format!("\n{} = {value}\n", field.name)), "{}.{}", section.name, field.name);
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} defaults are values");
}

#[test]
fn every_example_is_right_and_the_first_has_every_field() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            load(&path).unwrap_or_else(|refused| panic!("{:#?}", sentences(&refused.errors)));
            seen += 1;
        }
    }
    assert!(seen > 0);
    let text = fs::read_to_string(root().join("examples/weirgate.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    for section in SECTIONS {
        let tables: Vec<&toml::Table> = match &table[section.name] {
            toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_table).collect(),
            one => one.as_table().into_iter().collect(),
        };
        for field in section.fields {
            let there = tables.iter().any(|table| table.contains_key(field.name));
            assert!(there, "examples/weirgate.toml lacks {}.{}", section.name, field.name);
        }
    }
}

#[test]
fn the_reference_page_is_that_of_the_code() {
    let path = root().join("docs/configuration.md");
    if std::env::var_os("WEIRGATE_WRITE_DOCS").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == reference(), "docs/configuration.md is out of date: run this test with WEIRGATE_WRITE_DOCS=1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_is_refused_and_never_panics(text in "(\\[{0,2}[a-z_.]{1,12}\\]{0,2}\n?|[a-z_]{1,12} = (\"\\PC{0,20}\"|-?[0-9]{1,22}|\\[[^\n]{0,20}\\]|\\PC{0,9})\n){0,12}") {
        let refused = check("noise", &text).unwrap_err();
        prop_assert!(!refused.errors.is_empty());
    }

    /// Every field, given a value of every wrong type, brings an error that names the field.
    #[test]
    fn a_value_of_another_type_is_told_by_its_field(
        section in 0..SECTIONS.len(),
        field in 0_usize..16,
        value in prop::sample::select(vec!["true", "1.5", "1979-05-27", "{ a = 1 }", "[[1]]", "\"\"", "-7"]),
    ) {
        let section = &SECTIONS[section];
        let field = &section.fields[field % section.fields.len()];
        let line = format!("{} = {}\n", field.name, field.example);
        let sample = reference::sample();
        let head = sample.find(&format!("[{}]", section.name)).unwrap();
        let spoiled = format!(
            "{}{}",
            &sample[..head],
            sample[head..].replacen(&line, &format!("{} = {value}\n", field.name), 1)
        );
        let refused = check("spoiled", &spoiled).unwrap_err();
        let path = format!("{}.{}", section.name, field.name);
        let told = refused.errors.iter().any(|error| error.field.replace("[0]", "").starts_with(&path));
        prop_assert!(told, "{:#?}", sentences(&refused.errors));
    }

    /// For any subnets of peers, two that overlap are reported, and disjoint ones are not.
    #[test]
    fn overlaps_are_found_among_any_subnets(subnets in prop::collection::vec((any::<u16>(), 17_u8..=30), 1..12)) {
        let nets: Vec<IpNet> = subnets
            .iter()
            .map(|(bits, length)| {
                IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a4d_0000 | u32::from(*bits))), *length).unwrap().trunc()
            })
            .collect();
        let list: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
        let text = format!(
            "[uplink]\ninterface=\"a\"\n[underlay]\ninterface=\"b\"\n[overlay]\nnetworks=[\"10.77.0.0/16\",\"10.0.0.0/24\"]\n\
             subnets=[\"10.0.0.0/24\"]\nbackend=\"host-gw\"\npublic_ip=\"192.0.2.1\"\n\
             [[peer]]\npublic_ip=\"192.0.2.2\"\nsubnets=[{}]\n",
            list.join(",")
        );
        let overlapping = nets.iter().enumerate().any(|(i, a)| {
            nets[..i].iter().any(|b| a.contains(b) || b.contains(a))
        });
        prop_assert_eq!(check("subnets", &text).is_err(), overlapping);
    }
}
