//! One change for each field that C and Go fill in, and what comes of it: every language applies the change by the
//! field's name in C, and has to see the same.

use std::collections::BTreeSet;
use std::fmt::Write;

use weirgate::counters::ServiceCounters;
use weirgate::net::{Mac, PortId, Protocol, Vni};
use weirgate::pipeline::{Worker, WorkerConfig};
use weirgate::snapshot::{
    ClientAddress, Description, Encapsulation, MssLimit, NextHop, OuterDscp, PastLimit, Peer, RemovedBackend,
    RouteTarget, Service, bytes_required, compile,
};
use weirgate::wire::Dscp;
use weirgate_fixture::leak_aligned;

use super::common::fnv1a;
use super::world::{at, describe, endpoint};
use super::{WORKER_FIELDS, worker_config};

type Change = fn(&mut Description<'static>, &str);

fn parsed_mac(text: &str) -> Mac {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
    Mac(std::array::from_fn(|_| bytes.next().expect("six bytes")))
}

fn edit<T: Copy>(list: &mut &'static [T], change: impl FnOnce(&mut Vec<T>)) {
    let mut copy = list.to_vec();
    change(&mut copy);
    *list = copy.leak();
}

fn peer(d: &mut Description<'static>, index: usize, change: impl FnOnce(&mut Peer)) {
    edit(&mut d.peers, |peers| change(&mut peers[index]));
}

fn next_hop(d: &mut Description<'static>, index: usize, change: impl FnOnce(&mut NextHop)) {
    peer(d, index, |peer| change(peer.next_hop.as_mut().expect("a next hop")));
}

fn service(d: &mut Description<'static>, index: usize, change: impl FnOnce(&mut Service<'static>)) {
    edit(&mut d.services, |services| change(&mut services[index]));
}

/// The fields of one description, each with a value that it does not have and what that is in the core's words.
const DESCRIPTION: &[(&str, &str, Change)] = &[
    ("port_count", "10", |d, v| edit(&mut d.ports, |list| list.truncate(at(v)))),
    ("ports[9].mac", "02:00:00:00:09:01", |d, v| edit(&mut d.ports, |list| list[9].mac = parsed_mac(v))),
    ("ports[9].mtu", "1523", |d, v| edit(&mut d.ports, |list| list[9].mtu = at(v))),
    ("peer_count", "3", |d, v| edit(&mut d.peers, |list| list.truncate(at(v)))),
    ("peers[0].subnet", "10.77.75.0/25", |d, v| peer(d, 0, |peer| peer.subnet = at(v))),
    ("peers[2].subnet", "fd77:0:0:76::/63", |d, v| peer(d, 2, |peer| peer.subnet = at(v))),
    ("peers[0].public_address", "10.99.0.17", |d, v| peer(d, 0, |peer| peer.public = at(v))),
    ("peers[1].public_address", "fd99::17", |d, v| peer(d, 1, |peer| peer.public = at(v))),
    ("peers[0].encapsulation", "0", |d, _| peer(d, 0, |peer| peer.encapsulation = Encapsulation::Direct)),
    ("peers[0].vtep_mac", "02:00:00:00:09:02", |d, v| {
        peer(d, 0, |peer| peer.encapsulation = Encapsulation::Vxlan { mac: parsed_mac(v) });
    }),
    ("peers[0].has_next_hop", "0", |d, _| peer(d, 0, |peer| peer.next_hop = None)),
    ("peers[0].next_hop_port", "5", |d, v| next_hop(d, 0, |hop| hop.port = PortId(at(v)))),
    ("peers[0].next_hop_mac", "02:00:00:00:09:03", |d, v| next_hop(d, 0, |hop| hop.mac = parsed_mac(v))),
    ("peers[0].next_hop_mtu", "1280", |d, v| next_hop(d, 0, |hop| hop.mtu = Some(at(v)))),
    ("service_count", "2", |d, v| edit(&mut d.services, |list| list.truncate(at(v)))),
    ("services[0].frontends[0]", "192.0.2.3:30081", |d, v| {
        service(d, 0, |it| edit(&mut it.frontends, |list| list[0] = endpoint(v)));
    }),
    ("services[0].frontends[1]", "[2001:db8:1::3]:30085", |d, v| {
        service(d, 0, |it| edit(&mut it.frontends, |list| list[1] = endpoint(v)));
    }),
    ("services[0].frontend_count", "1", |d, v| {
        service(d, 0, |it| edit(&mut it.frontends, |list| list.truncate(at(v))));
    }),
    ("services[0].backends[0].endpoint", "10.77.74.11:8089", |d, v| {
        service(d, 0, |it| edit(&mut it.backends, |list| list[0].endpoint = endpoint(v)));
    }),
    ("services[0].backends[0].weight", "4", |d, v| {
        service(d, 0, |it| edit(&mut it.backends, |list| list[0].weight = at(v)));
    }),
    ("services[0].backend_count", "1", |d, v| service(d, 0, |it| edit(&mut it.backends, |list| list.truncate(at(v))))),
    ("services[0].id", "19", |d, v| service(d, 0, |it| it.id = at(v))),
    ("services[0].table_size", "1013", |d, v| service(d, 0, |it| it.table_size = at(v))),
    ("services[0].protocol", "17", |d, v| service(d, 0, |it| it.protocol = Protocol(at(v)))),
    ("services[0].client_address", "1", |d, _| service(d, 0, |it| it.policy.client_address = ClientAddress::Preserve)),
    ("services[0].removed_backend", "1", |d, _| {
        service(d, 0, |it| it.policy.removed_backend = RemovedBackend::Reset);
    }),
    ("services[1].has_dscp", "0", |d, _| service(d, 1, |it| it.policy.dscp = None)),
    ("services[1].dscp", "45", |d, v| service(d, 1, |it| it.policy.dscp = Dscp::new(at(v)))),
    ("route_count", "4", |d, v| edit(&mut d.routes, |list| list.truncate(at(v)))),
    ("routes[0].prefix", "192.0.3.0/25", |d, v| edit(&mut d.routes, |list| list[0].prefix = at(v))),
    ("routes[0].via", "192.0.2.253", |d, v| {
        edit(&mut d.routes, |list| list[0].target = RouteTarget::Router(PortId(9), at(v)));
    }),
    ("routes[0].port", "3", |d, v| edit(&mut d.routes, |list| list[0].target = RouteTarget::Link(PortId(at(v))))),
    ("routes[0].target", "1", |d, _| edit(&mut d.routes, |list| list[0].target = RouteTarget::Nowhere)),
    ("routes[0].mtu", "1280", |d, v| edit(&mut d.routes, |list| list[0].mtu = Some(at(v)))),
    ("neighbour_count", "2", |d, v| edit(&mut d.neighbours, |list| list.truncate(at(v)))),
    ("neighbours[0].address", "192.0.2.11", |d, v| edit(&mut d.neighbours, |list| list[0].address = at(v))),
    ("neighbours[0].mac", "02:00:00:00:09:04", |d, v| edit(&mut d.neighbours, |list| list[0].mac = parsed_mac(v))),
    ("neighbours[0].port", "2", |d, v| edit(&mut d.neighbours, |list| list[0].port = PortId(at(v)))),
    ("subnet_count", "2", |d, v| edit(&mut d.gateway.subnets, |list| list.truncate(at(v)))),
    ("subnets[0]", "10.77.200.0/23", |d, v| edit(&mut d.gateway.subnets, |list| list[0] = at(v))),
    ("pool_count", "2", |d, v| edit(&mut d.gateway.pool, |list| list.truncate(at(v)))),
    ("pool[0]", "10.77.200.5", |d, v| edit(&mut d.gateway.pool, |list| list[0] = at(v))),
    ("masquerade_count", "1", |d, v| edit(&mut d.gateway.masquerade.addresses, |list| list.truncate(at(v)))),
    ("masquerade[0]", "198.51.100.23", |d, v| edit(&mut d.gateway.masquerade.addresses, |list| list[0] = at(v))),
    ("non_masquerade_count", "1", |d, v| edit(&mut d.gateway.masquerade.exempt, |list| list.truncate(at(v)))),
    ("non_masquerade[0]", "10.76.0.0/15", |d, v| edit(&mut d.gateway.masquerade.exempt, |list| list[0] = at(v))),
    ("local_count", "1", |d, v| edit(&mut d.gateway.local, |list| list.truncate(at(v)))),
    ("local[0]", "192.0.2.5", |d, v| edit(&mut d.gateway.local, |list| list[0] = at(v))),
    ("selector_seed", "18364758544493064720", |d, v| d.gateway.selector_seed = at(v)),
    ("generation", "4000000007", |d, v| d.generation = at(v)),
    ("vni", "16777213", |d, v| d.gateway.vni = Vni::new(at(v)).expect("24 bits")),
    ("timeouts.tcp_syn_sent_seconds", "1009", |d, v| d.gateway.timeouts.tcp_syn_sent_seconds = at(v)),
    ("timeouts.tcp_syn_received_seconds", "1009", |d, v| d.gateway.timeouts.tcp_syn_received_seconds = at(v)),
    ("timeouts.tcp_established_seconds", "1009", |d, v| d.gateway.timeouts.tcp_established_seconds = at(v)),
    ("timeouts.tcp_fin_wait_seconds", "1009", |d, v| d.gateway.timeouts.tcp_fin_wait_seconds = at(v)),
    ("timeouts.tcp_close_wait_seconds", "1009", |d, v| d.gateway.timeouts.tcp_close_wait_seconds = at(v)),
    ("timeouts.tcp_last_ack_seconds", "1009", |d, v| d.gateway.timeouts.tcp_last_ack_seconds = at(v)),
    ("timeouts.tcp_time_wait_seconds", "1009", |d, v| d.gateway.timeouts.tcp_time_wait_seconds = at(v)),
    ("timeouts.tcp_reset_seconds", "1009", |d, v| d.gateway.timeouts.tcp_reset_seconds = at(v)),
    ("timeouts.tcp_syn_sent2_seconds", "1009", |d, v| d.gateway.timeouts.tcp_syn_sent2_seconds = at(v)),
    ("timeouts.udp_seconds", "1009", |d, v| d.gateway.timeouts.udp_seconds = at(v)),
    ("timeouts.udp_stream_seconds", "1009", |d, v| d.gateway.timeouts.udp_stream_seconds = at(v)),
    ("timeouts.icmp_seconds", "1009", |d, v| d.gateway.timeouts.icmp_seconds = at(v)),
    ("timeouts.sctp_cookie_wait_seconds", "1009", |d, v| d.gateway.timeouts.sctp_cookie_wait_seconds = at(v)),
    ("timeouts.sctp_cookie_echoed_seconds", "1009", |d, v| d.gateway.timeouts.sctp_cookie_echoed_seconds = at(v)),
    ("timeouts.sctp_established_seconds", "1009", |d, v| d.gateway.timeouts.sctp_established_seconds = at(v)),
    ("timeouts.sctp_shutdown_sent_seconds", "1009", |d, v| d.gateway.timeouts.sctp_shutdown_sent_seconds = at(v)),
    ("timeouts.sctp_shutdown_received_seconds", "1009", |d, v| {
        d.gateway.timeouts.sctp_shutdown_received_seconds = at(v);
    }),
    ("timeouts.sctp_shutdown_ack_sent_seconds", "1009", |d, v| {
        d.gateway.timeouts.sctp_shutdown_ack_sent_seconds = at(v);
    }),
    ("timeouts.sctp_closed_seconds", "1009", |d, v| d.gateway.timeouts.sctp_closed_seconds = at(v)),
    ("vxlan_port", "4789", |d, v| d.gateway.vxlan_port = at(v)),
    ("overlay_mtu", "0", |d, _| d.gateway.overlay_mtu = None),
    ("overlay_mtu", "1381", |d, v| d.gateway.overlay_mtu = Some(at(v))),
    ("pool_port_first", "1033", |d, v| d.gateway.pool_ports.0 = at(v)),
    ("pool_port_last", "64951", |d, v| d.gateway.pool_ports.1 = at(v)),
    ("masquerade_port_first", "2017", |d, v| d.gateway.masquerade.ports.0 = at(v)),
    ("masquerade_port_last", "59981", |d, v| d.gateway.masquerade.ports.1 = at(v)),
    ("node_port_first", "30013", |d, v| d.gateway.node_ports.0 = at(v)),
    ("node_port_last", "31019", |d, v| d.gateway.node_ports.1 = at(v)),
    ("half_open_per_client", "1001003", |d, v| d.gateway.admission.half_open_per_client = at(v)),
    ("new_flows_per_second", "100003", |d, v| d.gateway.admission.new_flows_per_second = at(v)),
    ("echoes_per_second", "70001", |d, v| d.gateway.echo.per_second = at(v)),
    ("mss", "0", |d, _| d.gateway.mss = MssLimit::Off),
    ("mss", "1367", |d, v| d.gateway.mss = MssLimit::Bytes(at(v))),
    ("mss", "65535", |d, _| d.gateway.mss = MssLimit::Path),
    ("outer_dscp", "41", |d, v| d.gateway.outer_dscp = OuterDscp::Fixed(Dscp::new(at(v)).expect("six bits"))),
    ("outer_dscp", "255", |d, _| d.gateway.outer_dscp = OuterDscp::Copy),
    ("past_limit", "0", |d, _| d.gateway.admission.past_limit = PastLimit::Drop),
    ("vtep_v4.public_address", "10.99.0.53", |d, v| d.gateway.v4.as_mut().expect("an end").public = at(v)),
    ("vtep_v4.mac", "02:00:00:00:09:05", |d, v| d.gateway.v4.as_mut().expect("an end").mac = parsed_mac(v)),
    ("vtep_v6.public_address", "fd99::53", |d, v| d.gateway.v6.as_mut().expect("an end").public = at(v)),
    ("vtep_v6.mac", "02:00:00:00:09:06", |d, v| d.gateway.v6.as_mut().expect("an end").mac = parsed_mac(v)),
    ("workers", "5", |d, v| d.gateway.workers = at(v)),
    ("echo_services", "0", |d, _| d.gateway.echo.services = false),
];

type WorkerChange = fn(&mut WorkerConfig, &str);

/// The fields of a worker's configuration on which its size depends; `services` are counted beside it.
const WORKER_SIZES: &[(&str, &str, WorkerChange)] = &[
    ("flows_v4", "4099", |config, v| config.flows_v4 = at(v)),
    ("flows_v6", "8209", |config, v| config.flows_v6 = at(v)),
    ("services", "67", |_, _| {}),
    ("fragment_datagrams", "113", |config, v| config.fragments.datagrams = at(v)),
    ("fragment_held_bytes", "131101", |config, v| config.fragments.held_bytes = at(v)),
];

pub(super) fn compiled(description: &Description<'_>) -> &'static [u8] {
    let memory = leak_aligned(bytes_required(description));
    let len = compile(description, memory).unwrap_or_else(|error| panic!("{error:?}"));
    &memory[..len]
}

/// The vectors of every change.
pub(super) fn text() -> String {
    let mut text = String::from(
        "# What each field does, by its name in C: the world with this one value changed.\n\
         # description FIELD VALUE FNV-1a of the snapshot | worker FIELD VALUE BYTES more of memory\n\n",
    );
    let mut seen = BTreeSet::from([fnv1a(compiled(&describe()))]);
    for (field, value, change) in DESCRIPTION {
        let mut description = describe();
        change(&mut description, value);
        let hash = fnv1a(compiled(&description));
        assert!(seen.insert(hash), "{field} {value} has no effect, or that of another field");
        let _ = writeln!(text, "description {field} {value} {hash:016x}");
    }
    let bytes = |config: &WorkerConfig, services: u64| {
        Worker::memory_bytes(config) as u64 + services * size_of::<ServiceCounters>() as u64
    };
    let (base, services) = worker_config();
    let mut seen = BTreeSet::from([0]);
    for (field, value, change) in WORKER_SIZES {
        let (mut config, _) = worker_config();
        change(&mut config, value);
        let services_then = if *field == "services" { at(value) } else { services };
        let more = bytes(&config, services_then) - bytes(&base, services);
        assert!(seen.insert(more), "{field} {value} has no effect, or that of another field");
        let _ = writeln!(text, "worker {field} {value} {more}");
    }
    text
}

/// Where a structure's fields are filled in, with every index left out; `None` for what is no structure of its own
/// but a value, or not for the caller to fill in as a description.
fn places(structure: &str) -> Option<&'static [&'static str]> {
    Some(match structure {
        "description" => &[""],
        "vtep" => &["vtep_v4.", "vtep_v6."],
        "timeouts" => &["timeouts."],
        "port" => &["ports[]."],
        "peer" => &["peers[]."],
        "service" => &["services[]."],
        "backend" => &["services[].backends[]."],
        "route" => &["routes[]."],
        "neighbour" => &["neighbours[]."],
        "worker_config" => &["worker."],
        "address" | "prefix" | "endpoint" => return None,
        "adopted" | "frame" | "burst" | "unresolved" => return None,
        "traffic" | "port_counters" | "service_counters" | "counters" => return None,
        other => panic!("weirgate_{other}: say where it is filled in"),
    })
}

/// Checks that every field which the layouts list has a row.
pub(super) fn assert_complete(layouts: &str) {
    let without_index = |path: &str| {
        let mut name = String::new();
        for part in path.split_inclusive(['[', ']']) {
            name += if part.ends_with(']') { "]" } else { part };
        }
        name
    };
    let worker = WORKER_FIELDS.iter().map(|field| without_index(&format!("worker.{field}")));
    let rows: Vec<String> = DESCRIPTION.iter().map(|(field, ..)| without_index(field)).chain(worker).collect();
    for line in layouts.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(' ').next().and_then(|name| name.strip_prefix("weirgate_")).expect("a structure");
        let Some((structure, field)) = name.split_once('.').filter(|(_, field)| *field != "reserved") else {
            continue;
        };
        for place in places(structure).unwrap_or_default() {
            let path = format!("{place}{field}");
            // A list by its elements, a structure by its fields.
            let has =
                |row: &String| row.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || ".[".contains(&rest[..1]));
            assert!(rows.iter().any(has), "{path} has no row: what does it do?");
        }
    }
}
