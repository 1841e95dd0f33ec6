//! Rules about services: where clients reach them, and that their backends can be reached.

use std::net::IpAddr;

use weirgate::net::Protocol;
use weirgate::snapshot::ClientAddress;

use super::{Prefixes, Unique, outside};
use crate::config::Backend;
use crate::config::fields::SERVICES_MAX;
use crate::config::problem::Findings;
use crate::config::read::List;
use crate::config::sections::{Sections, ServiceSection};

/// Frontends that no two services may share.
#[derive(Default)]
struct Claimed {
    names: Unique<String>,
    node_ports: Unique<(Protocol, u16)>,
    external: Unique<(Protocol, IpAddr, u16)>,
}

/// Checks every service.
pub(super) fn check(sections: &Sections<'_>, networks: &Prefixes, findings: &mut Findings<'_>) {
    let whole = sections.peers.iter().all(|peer| peer.member.subnets.as_ref().is_some_and(List::is_whole));
    let mut peers = Prefixes { whole, ..Prefixes::default() };
    for subnet in sections.peers.iter().flat_map(|peer| peer.member.subnets()) {
        // An overlap has been reported already.
        let _ = peers.claim(subnet.value, &subnet.place);
    }
    let mut claimed = Claimed::default();
    for service in &sections.services {
        frontends(sections, service, networks, &mut claimed, findings);
        backends(sections, service, &peers, findings);
        families(sections, service, findings);
        kept(sections, service, findings);
    }
    if let Some(beyond) = sections.services.get(SERVICES_MAX) {
        let count = sections.services.len();
        findings.error(&beyond.table.place, format!("{count} services are too many; use at most {SERVICES_MAX}"));
    }
}

fn frontends(
    sections: &Sections<'_>,
    service: &ServiceSection<'_>,
    networks: &Prefixes,
    claimed: &mut Claimed,
    findings: &mut Findings<'_>,
) {
    let table = &service.table;
    if let Some(name) = &service.name
        && let Some(first) = claimed.names.claim(name.value.clone(), &name.place)
    {
        findings.error(&name.place, format!("\"{}\" is also {first}; give each service its own name", name.value));
    }
    let external: &[_] = service.external.as_ref().map_or(&[], |list| &list.items);
    if !table.has("node_port") && service.external.as_ref().is_none_or(|list| list.written == 0) {
        table.missing("node_port", " though there are no external addresses, so no client could reach it", findings);
    }
    if !external.is_empty() && !table.has("port") {
        table.missing("port", " though there are external addresses", findings);
    }
    let Some(protocol) = service.protocol else { return };
    if let Some(port) = &service.node_port {
        if protocol == Protocol::UDP && port.value == sections.overlay.port {
            let text = format!("{} is the overlay's VXLAN port; use another such as 30080", port.value);
            findings.error(&port.place, text);
        }
        let (first, last) = sections.node_ports;
        if !(first..=last).contains(&port.value) {
            let text = format!(
                "{} is outside of the node ports ({first} to {last}), so the cluster does not reserve it for this service",
                port.value
            );
            findings.warning(&port.place, text);
        }
        if let Some(first) = claimed.node_ports.claim((protocol, port.value), &port.place) {
            let text = format!("{} is also {first} for {protocol}; give each service its own", port.value);
            findings.error(&port.place, text);
        }
        for address in sections.uplink_addresses.iter().flat_map(List::values) {
            claim_external(claimed, (protocol, *address, port.value), &port.place, findings);
        }
    }
    for address in external {
        outside(networks, address, findings);
        let Some(port) = &service.port else { continue };
        let vxlan = protocol == Protocol::UDP && port.value == sections.overlay.port;
        let member = &sections.overlay.member;
        let own = member.public_v4.as_ref().is_some_and(|own| address.value == IpAddr::V4(own.value))
            || member.public_v6.as_ref().is_some_and(|own| address.value == IpAddr::V6(own.value));
        if vxlan && own {
            let text =
                format!("{} port {} is where the gateway receives VXLAN; use another port", address.value, port.value);
            findings.error(&address.place, text);
        }
        claim_external(claimed, (protocol, address.value, port.value), &address.place, findings);
    }
}

fn claim_external(
    claimed: &mut Claimed,
    frontend: (Protocol, IpAddr, u16),
    place: &crate::config::problem::Place,
    findings: &mut Findings<'_>,
) {
    if let Some(first) = claimed.external.claim(frontend, place) {
        let (protocol, address, port) = frontend;
        let text = format!("{address} port {port} for {protocol} is also {first}; give each service its own");
        findings.error(place, text);
    }
}

fn backends(sections: &Sections<'_>, service: &ServiceSection<'_>, peers: &Prefixes, findings: &mut Findings<'_>) {
    let Some(list) = &service.backends else { return };
    let mut seen = Unique::default();
    for backend in &list.items {
        let endpoint = backend.value;
        if let Some(first) = seen.claim(endpoint, &backend.place) {
            findings.error(&backend.place, format!("{endpoint} is also {first}; name each backend once"));
        }
        if peers.whole && peers.containing(endpoint.address).is_none() {
            let text = format!(
                "{endpoint} lies in no peer's subnet, so no packet could reach it; add the peer that has {}, or use a \
                 pod's address",
                endpoint.address
            );
            findings.error(&backend.place, text);
        }
    }
    let (count, slots) = (list.written, sections.table_size());
    if count as u64 >= slots {
        let text = format!("{count} backends are too many for {slots} slots; use a selector.table_size above {count}");
        findings.error(&list.place, text);
    }
}

/// Replies to preserved client addresses reach the gateway only in VXLAN.
fn kept(sections: &Sections<'_>, service: &ServiceSection<'_>, findings: &mut Findings<'_>) {
    let Some(word) = service.client_address.as_ref().filter(|word| word.value == ClientAddress::Preserve) else {
        return;
    };
    if let Some(peer) = sections.peers.iter().find(|peer| peer.backend == Backend::HostGw) {
        let text = format!(
            "\"preserve\" cannot be used where replies come by plain route, and {} has the backend \"host-gw\"; use \
             \"translate\", or \"vxlan\" for every peer",
            peer.table.place.path
        );
        findings.error(&word.place, text);
    }
}

/// Clients and backends speak the same family: addresses are translated, not families.
fn families(sections: &Sections<'_>, service: &ServiceSection<'_>, findings: &mut Findings<'_>) {
    let Some(list) = &service.backends else { return };
    if list.written == 0 {
        let text = "the list is empty, so every packet for the service will be dropped (no-backend)";
        findings.warning(&list.place, text);
        return;
    }
    let frontends_known = [&service.external, &sections.uplink_addresses].into_iter().flatten().all(List::is_whole);
    if !frontends_known || !(service.table.has("node_port") || service.external.is_some()) {
        return;
    }
    for (family, of_family) in
        [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6 as fn(&IpAddr) -> bool)]
    {
        let external = service.external.iter().flat_map(List::values).any(of_family);
        let node = service.table.has("node_port");
        let named = sections.uplink_addresses.as_ref().map(|addresses| addresses.values().any(of_family));
        let backend = list.items.iter().find(|backend| of_family(&backend.value.address));
        match backend {
            // Without configured addresses the interface may have some of this family.
            Some(backend) if !(external || (node && named.unwrap_or(true))) => {
                let text = format!(
                    "{} is {family}, but the service has no {family} frontend; use a backend of the other family, or add \
                     an {family} address in front",
                    backend.value
                );
                findings.error(&backend.place, text);
            }
            None if external || (node && named == Some(true)) => {
                let text = format!("no backend is {family}, so clients over {family} will be dropped (no-backend)");
                findings.warning(&list.place, text);
            }
            _ => {}
        }
    }
}
