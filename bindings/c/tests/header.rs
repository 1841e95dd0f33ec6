//! The header and the layouts of its structures are generated, committed and compared.

mod common;

use std::mem::offset_of;
use std::path::Path;

use cbindgen::{Builder, Config};
use weirgate_ffi::types::*;

fn header() -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config::from_file(package.join("cbindgen.toml")).expect("a configuration");
    let builder = Builder::new().with_config(config).with_src(package.join("src/lib.rs"));
    let mut header = Vec::new();
    builder.generate().expect("code that can be read").write(&mut header);
    String::from_utf8(header).expect("text")
}

#[test]
fn the_header_is_what_the_code_says() {
    common::compare("bindings/include/weirgate.h", &header());
}

/// What the header says to a compiler, but for the version itself: structures with their fields in order, constants,
/// calls. `abi.txt` has one line for each version with the hash of that.
#[test]
fn what_the_header_says_changes_only_with_its_version() {
    let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains("WEIRGATE_ABI_VERSION");
    let header = header();
    let (_, code) = header.split_once("*/").expect("a comment at the top");
    let code: Vec<&str> = code.split_once("*/").expect("two").1.lines().filter(is_code).collect();
    let now = (WEIRGATE_ABI_VERSION, format!("{:016x}", common::fnv1a(code.join("\n").as_bytes())));

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vectors/abi.txt");
    let committed = std::fs::read_to_string(path).expect("versions");
    let lines = committed.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (version, hash) = line.split_once(' ').expect("a version and a hash");
        (version.parse::<u32>().expect("a version"), hash.to_owned())
    });
    let versions: Vec<_> = lines.collect();
    assert!(versions.windows(2).all(|pair| pair[0].0 < pair[1].0), "versions in order: {versions:?}");
    match versions.last() {
        Some(last) if last.0 >= now.0 => {
            assert!(*last == now, "{now:?}, not {last:?}: count WEIRGATE_ABI_VERSION up, then run bindings/update");
        }
        _ => common::compare("tests/data/vectors/abi.txt", &format!("{committed}{} {}\n", now.0, now.1)),
    }
}

macro_rules! layouts {
    ($($type:ident $name:literal { $($field:ident),+ })+) => {{
        let mut text = String::from("# Bytes of each structure and where its fields begin, on 64-bit machines.\n");
        $(
            text += &format!("{} {}\n", $name, size_of::<$type>());
            $( text += &format!("{}.{} {}\n", $name, stringify!($field), offset_of!($type, $field)); )+
            // A field that is not listed does not compile.
            let _ = |value: $type| { let $type { $($field: _),+ } = value; };
        )+
        text
    }};
}

#[test]
fn the_layouts_are_those_that_every_language_expects() {
    let text = layouts! {
        Address "weirgate_address" { bytes, family }
        Prefix "weirgate_prefix" { address, length }
        Endpoint "weirgate_endpoint" { address, reserved, port }
        Vtep "weirgate_vtep" { public_address, mac }
        Timeouts "weirgate_timeouts" {
            tcp_syn_sent_seconds, tcp_syn_received_seconds, tcp_established_seconds, tcp_fin_wait_seconds,
            tcp_close_wait_seconds, tcp_last_ack_seconds, tcp_time_wait_seconds, tcp_reset_seconds,
            tcp_syn_sent2_seconds, udp_seconds, udp_stream_seconds, icmp_seconds, sctp_cookie_wait_seconds,
            sctp_cookie_echoed_seconds, sctp_established_seconds, sctp_shutdown_sent_seconds,
            sctp_shutdown_received_seconds, sctp_shutdown_ack_sent_seconds, sctp_closed_seconds
        }
        Port "weirgate_port" { mac, mtu }
        Peer "weirgate_peer" {
            subnet, public_address, encapsulation, vtep_mac, has_next_hop, next_hop_port, next_hop_mac, next_hop_mtu
        }
        Backend "weirgate_backend" { endpoint, weight }
        Service "weirgate_service" {
            frontends, frontend_count, backends, backend_count, id, table_size, protocol, client_address, has_dscp,
            dscp, removed_backend, reserved
        }
        Route "weirgate_route" { prefix, via, port, target, mtu }
        Neighbour "weirgate_neighbour" { address, mac, port }
        Description "weirgate_description" {
            ports, port_count, peers, peer_count, services, service_count, routes, route_count, neighbours,
            neighbour_count, subnets, subnet_count, pool, pool_count, masquerade, masquerade_count, non_masquerade,
            non_masquerade_count, local, local_count, selector_seed, generation, vni, timeouts, vxlan_port, overlay_mtu,
            pool_port_first, pool_port_last, masquerade_port_first, masquerade_port_last, node_port_first,
            node_port_last, half_open_per_client, new_flows_per_second, echoes_per_second, mss, outer_dscp, past_limit,
            vtep_v4, vtep_v6, workers, echo_services, reserved
        }
        WorkerConfig "weirgate_worker_config" {
            secret, flows_v4, flows_v6, services, fragment_datagrams, fragment_held_bytes, fragment_wait_ms, id,
            workers, reserved
        }
        Adopted "weirgate_adopted" { flows, damaged, strayed }
        Frame "weirgate_frame" { buffer, capacity, start, length, port, verdict, detail, handovers }
        Burst "weirgate_burst" { frames, frame_count, spares, spare_count, emitted }
        Unresolved "weirgate_unresolved" { address, port }
        Traffic "weirgate_traffic" { packets, bytes }
        PortCounters "weirgate_port_counters" { received, transmitted }
        ServiceCounters "weirgate_service_counters" { original, reply, flows }
        Counters "weirgate_counters" { host, handovers, fragments_held, fragments_created, flows_created, flows_expired, flows_reopened, flows_reset, evicted_half_open, evicted_one_way, evicted_closing, evicted_unassured, evicted_stream, forwarded_stateless, echoes_answered, errors_translated, errors_sent, resets_sent }
    };
    let fields = text.lines().filter_map(|line| line.strip_prefix("weirgate_counters.")?.split(' ').next());
    let core = weirgate::counters::Counters::default();
    assert!(fields.eq(core.named().map(|(name, _)| name.replace('-', "_"))), "other counters than the core has");
    common::compare("tests/data/vectors/layout.txt", &text);
}
