//! Rules about the overlay's members: subnets, underlay addresses, VTEPs, the SNAT pool.

use std::net::IpAddr;

use ipnet::IpNet;
use weirgate::net::{Mac, POOL_MAX};

use super::{Prefixes, Unique, outside};
use crate::config::Backend;
use crate::config::fields::PEERS_MAX;
use crate::config::problem::{Findings, Located};
use crate::config::read::Table;
use crate::config::sections::{Member, Sections, address_at};

/// The longest prefix of an own subnet, by family, that still has addresses for a pool.
const OWN_LENGTH_MAX: (u8, u8) = (29, 125);

/// The fewest ports with which every worker has some.
const PORTS_MIN: u16 = 64;

/// The overlay's networks, checked against each other.
pub(super) fn networks(sections: &Sections<'_>, findings: &mut Findings<'_>) -> Prefixes {
    let mut networks = Prefixes::default();
    let Some(list) = &sections.overlay.networks else { return networks };
    if list.written == 0 {
        findings.error(&list.place, "the list is empty; name the container network, such as [\"10.77.0.0/16\"]");
    }
    networks.whole = list.is_whole() && list.written > 0;
    for network in &list.items {
        if let Err((other, path)) = networks.claim(network.value, &network.place) {
            let text = format!("{} overlaps {path} ({other}); use the wider one only", network.value);
            findings.error(&network.place, text);
        }
    }
    networks
}

/// Values that no two members may share.
#[derive(Default)]
struct Claimed {
    subnets: Prefixes,
    publics: Unique<IpAddr>,
    macs: Unique<Mac>,
}

/// Checks the gateway's own membership and every peer's.
pub(super) fn check(sections: &Sections<'_>, networks: &Prefixes, findings: &mut Findings<'_>) {
    let mut claimed = Claimed::default();
    let overlay = &sections.overlay;
    if overlay.table.is_present() {
        let vxlan = overlay.backend == Backend::Vxlan
            || sections.peers.iter().any(|peer| peer.backend == Backend::Vxlan && !peer.member.subnets().is_empty());
        member(&overlay.table, &overlay.member, vxlan, networks, &mut claimed, findings);
        own(sections, findings);
    }
    for peer in &sections.peers {
        member(&peer.table, &peer.member, peer.backend == Backend::Vxlan, networks, &mut claimed, findings);
    }
    if let Some(beyond) = sections.peers.get(PEERS_MAX) {
        let count = sections.peers.len();
        findings.error(&beyond.table.place, format!("{count} peers are too many; use at most {PEERS_MAX}"));
    }
}

fn member(
    table: &Table<'_>,
    member: &Member,
    vxlan: bool,
    networks: &Prefixes,
    claimed: &mut Claimed,
    findings: &mut Findings<'_>,
) {
    if let Some(list) = &member.subnets
        && list.written == 0
    {
        findings.error(&list.place, "the list is empty; name at least one subnet, such as [\"10.77.74.0/24\"]");
    }
    for subnet in member.subnets() {
        match networks.containing(subnet.value.network()) {
            Some((network, _)) if network.contains(&subnet.value) => {}
            _ if !networks.whole => {}
            _ => {
                let networks: Vec<String> =
                    networks.taken.values().map(|(network, path)| format!("{path} ({network})")).collect();
                let text = format!("{} lies in none of {}; use a subnet of one", subnet.value, networks.join(", "));
                findings.error(&subnet.place, text);
            }
        }
        if let Err((other, path)) = claimed.subnets.claim(subnet.value, &subnet.place) {
            let text = format!("{} overlaps {path} ({other}); give each member its own subnet", subnet.value);
            findings.error(&subnet.place, text);
        }
    }
    let v4 = member.public_v4.as_ref().map(|l| Located { value: IpAddr::V4(l.value), place: l.place.clone() });
    let v6 = member.public_v6.as_ref().map(|l| Located { value: IpAddr::V6(l.value), place: l.place.clone() });
    for public in [v4, v6].into_iter().flatten() {
        outside(networks, &public, findings);
        if let Some(first) = claimed.publics.claim(public.value, &public.place) {
            let text = format!("{} is also {first}; give each member its own underlay address", public.value);
            findings.error(&public.place, text);
        }
    }
    for mac in [&member.vtep_v4, &member.vtep_v6].into_iter().flatten() {
        if let Some(first) = claimed.macs.claim(mac.value, &mac.place) {
            let text = format!("{} is also {first}; give each VTEP its own link address", mac.value);
            findings.error(&mac.place, text);
        }
    }
    needed(table, member, vxlan, findings);
}

/// Each family in which a member has a subnet needs an underlay address.
fn needed(table: &Table<'_>, member: &Member, vxlan: bool, findings: &mut Findings<'_>) {
    let families = [
        ("IPv4", "public_ip", "vtep_mac", member.subnets().iter().find(|subnet| matches!(subnet.value, IpNet::V4(_)))),
        ("IPv6", "public_ipv6", "vtep_mac_v6", member.subnets().iter().find(|s| matches!(s.value, IpNet::V6(_)))),
    ];
    for (family, public, vtep, subnet) in families {
        let Some(Located { value: subnet, .. }) = subnet else { continue };
        if !table.has(public) {
            table.missing(public, &format!(" though there is an {family} subnet ({subnet})"), findings);
        }
        if vxlan && !table.has(vtep) {
            let why = format!(" though packets for an {family} subnet ({subnet}) travel in VXLAN");
            table.missing(vtep, &why, findings);
        }
    }
}

fn own(sections: &Sections<'_>, findings: &mut Findings<'_>) {
    let own = sections.overlay.member.subnets();
    for subnet in own {
        let longest = if matches!(subnet.value, IpNet::V4(_)) { OWN_LENGTH_MAX.0 } else { OWN_LENGTH_MAX.1 };
        if subnet.value.prefix_len() > longest {
            let text = format!("{} leaves no room for a SNAT pool; use a /{longest} or wider", subnet.value);
            findings.error(&subnet.place, text);
        }
    }
    let Some(pool) = &sections.overlay.snat_pool else { return };
    let mut seen = Unique::default();
    for address in &pool.items {
        let home = own.iter().find(|subnet| subnet.value.contains(&address.value)).map(|subnet| subnet.value);
        let text = match home {
            None if own.is_empty() => continue,
            None => {
                let like = own.iter().map(|subnet| subnet.value).find(|subnet| alike(*subnet, address.value));
                let like = address_at(like.unwrap_or(own[0].value))(2);
                format!("{} lies outside the gateway's own subnets; use one such as {like}", address.value)
            }
            Some(subnet) if subnet.network() == address.value => {
                let like = address_at(subnet)(2);
                format!(
                    "{} is the first address of {subnet}, which is the gateway's own; use one such as {like}",
                    address.value
                )
            }
            Some(subnet @ IpNet::V4(_)) if subnet.broadcast() == address.value => {
                let like = address_at(subnet)(2);
                format!("{} is the broadcast address of {subnet}; use one such as {like}", address.value)
            }
            Some(_) => match seen.claim(address.value, &address.place) {
                Some(first) => format!("{} is also {first}; name each address once", address.value),
                None => continue,
            },
        };
        findings.error(&address.place, text);
    }
    // A family with a subnet but without a pool address could not be translated.
    for subnet in own {
        let served = !pool.is_whole() || pool.values().any(|address| alike(subnet.value, *address));
        if !served {
            let like = address_at(subnet.value)(2);
            let text = format!("names no address inside {}; add one such as \"{like}\"", subnet.value);
            findings.error(&pool.place, text);
        }
    }
}

/// Whether the address is of the subnet's family.
const fn alike(subnet: IpNet, address: IpAddr) -> bool {
    matches!((subnet, address), (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), IpAddr::V6(_)))
}

/// Checks the masquerade addresses: they must serve nothing else.
pub(super) fn masquerade(sections: &Sections<'_>, networks: &Prefixes, findings: &mut Findings<'_>) {
    let masquerade = &sections.masquerade;
    let (first, last) = (masquerade.first_port, masquerade.last_port);
    if last.saturating_sub(first) < PORTS_MIN {
        let text = format!("{first} to {last} is too few for 64 workers; use a range such as 1024 to 65535");
        findings.error(&masquerade.table.place, text);
    }
    let Some(list) = &masquerade.addresses else { return };
    if list.written == 0 {
        findings
            .error(&list.place, "the list is empty; name an address such as [\"198.51.100.7\"], or remove the table");
    }
    let mut seen = Unique::<IpAddr>::default();
    for address in sections.uplink_addresses.iter().flat_map(|list| &list.items) {
        seen.claim(address.value, &address.place);
    }
    for address in sections.services.iter().flat_map(|service| &service.external).flat_map(|list| &list.items) {
        seen.claim(address.value, &address.place);
    }
    let member = &sections.overlay.member;
    let v4 = member.public_v4.as_ref().map(|l| (IpAddr::V4(l.value), &l.place));
    let v6 = member.public_v6.as_ref().map(|l| (IpAddr::V6(l.value), &l.place));
    for (address, place) in [v4, v6].into_iter().flatten() {
        seen.claim(address, place);
    }
    for address in &list.items {
        outside(networks, address, findings);
        if let Some(first) = seen.claim(address.value, &address.place) {
            let text = format!("{} is also {first}; use one that serves nothing else", address.value);
            findings.error(&address.place, text);
        }
    }
    for of_family in [IpAddr::is_ipv4 as fn(&IpAddr) -> bool, IpAddr::is_ipv6] {
        let mut family = list.items.iter().filter(|address| of_family(&address.value));
        if let Some(beyond) = family.nth(POOL_MAX) {
            let text = format!("{} is one too many of its family; use at most {POOL_MAX}", beyond.value);
            findings.error(&beyond.place, text);
        }
    }
}
