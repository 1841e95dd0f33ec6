//! rtnetlink messages (rtnetlink(7)) as events and routes of the model's.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHopFlags, RouteType,
    RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use weirgate::net::Mac;

use super::model::{Event, KernelRoute, Link, Neighbour};

/// The event of an unsolicited message; `None` where it does not concern the gateway.
pub(super) fn event(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => match inner {
            RouteNetlinkMessage::NewLink(message) => link(&message),
            RouteNetlinkMessage::DelLink(message) => gone(&message),
            RouteNetlinkMessage::NewAddress(message) => {
                address(&message).map(|(ifindex, address)| Event::Address { ifindex, address })
            }
            RouteNetlinkMessage::DelAddress(message) => {
                address(&message).map(|(ifindex, address)| Event::AddressGone { ifindex, address })
            }
            RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message, false),
            RouteNetlinkMessage::DelNeighbour(message) => neighbour(&message, true),
            RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
                concerns_routing(&message).then_some(Event::Routes)
            }
            RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Event::Routes),
            _ => None,
        },
        NetlinkPayload::Overrun(_) => Some(Event::Lost),
        _ => None,
    }
}

/// `IFLA_*` of a link; bridges repeat theirs under their own family, without news.
pub(super) fn link(message: &LinkMessage) -> Option<Event> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link { name: String::new(), mac: None, mtu: 0, up: false };
    link.up = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            _ => {}
        }
    }
    Some(Event::Link { ifindex: message.header.index, link })
}

fn gone(message: &LinkMessage) -> Option<Event> {
    let whole = message.header.interface_family == AddressFamily::Unspec;
    whole.then_some(Event::LinkGone { ifindex: message.header.index })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac).filter(|mac| mac.is_assignable())
}

/// The interface and its own address: `IFA_LOCAL` where the link has a peer's as `IFA_ADDRESS`.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some((message.header.index, *address)),
            AddressAttribute::Address(address) => found = Some((message.header.index, *address)),
            _ => {}
        }
    }
    found
}

/// An entry of the neighbour table, except those of groups and proxies.
pub(super) fn neighbour(message: &NeighbourMessage, gone: bool) -> Option<Event> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut link_address = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => link_address = mac(bytes),
            _ => {}
        }
    }
    let address = address.filter(|address| !address.is_multicast() && !address.is_unspecified())?;
    let neighbour = match (message.header.state, link_address) {
        _ if gone => Neighbour::Gone,
        (NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => {
            Neighbour::Known(mac)
        }
        // Being confirmed right now: usable until the kernel gives up.
        (NeighbourState::Delay | NeighbourState::Probe, Some(mac)) => Neighbour::Known(mac),
        (NeighbourState::Stale, Some(mac)) => Neighbour::Stale(mac),
        (NeighbourState::Incomplete, _) => Neighbour::Asked,
        _ => Neighbour::Failed,
    };
    Some(Event::Neighbour { ifindex: message.header.ifindex, address, neighbour })
}

/// Whether an added or removed route can change where the gateway's packets go. Cached clones
/// and the local table's own entries do not.
fn concerns_routing(message: &RouteMessage) -> bool {
    !message.header.flags.contains(RouteFlags::Cloned)
        && !matches!(message.header.kind, RouteType::Local | RouteType::Broadcast | RouteType::Multicast)
}

/// A route of the main table, through interfaces or a refusal.
///
/// Routes that the kernel itself skips (`RTNH_F_DEAD`) do not count. Without a carrier (`RTNH_F_LINKDOWN`
/// alone) a route still holds its prefix, and comes last among those of the same one.
pub(super) fn route(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut destination = None;
    let mut metric = 0;
    let mut oif = None;
    let mut via = None;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(ifindex) => oif = Some(*ifindex),
            RouteAttribute::MultiPath(next_hops) => {
                for hop in next_hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead)) {
                    let has_carrier = !hop.flags.contains(RouteNextHopFlags::Linkdown);
                    hops.push((has_carrier, hop.interface_index, hop.attributes.iter().find_map(router)));
                }
            }
            other => via = via.or_else(|| router(other)),
        }
    }
    let ours = table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && header.tos == 0
        && !header.flags.intersects(RouteFlags::Cloned | RouteFlags::Dead);
    if !ours {
        return None;
    }
    let destination = match (destination, header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => IpAddr::from([0; 4]),
        (None, AddressFamily::Inet6) => IpAddr::from([0; 16]),
        (None, _) => return None,
    };
    // Link-local destinations mean another host on each link; no client of the gateway's has one.
    if matches!(destination, IpAddr::V6(v6) if v6.is_unicast_link_local()) || destination.is_multicast() {
        return None;
    }
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?.trunc();
    match header.kind {
        RouteType::Unicast => {}
        // After the main table there is no table that a `throw` could continue in.
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            return Some(KernelRoute { prefix, metric, mtu: None, hops: Vec::new() });
        }
        _ => return None,
    }
    if let Some(ifindex) = oif {
        hops.insert(0, (!header.flags.contains(RouteFlags::Linkdown), ifindex, via));
    }
    hops.sort_by_key(|(has_carrier, ..)| !has_carrier);
    match hops.first() {
        Some((true, ..)) => {}
        Some((false, ..)) => metric = u32::MAX,
        None => return None,
    }
    let hops = hops.into_iter().map(|(_, ifindex, via)| (ifindex, via)).collect();
    Some(KernelRoute { prefix, metric, mtu: mtu(message), hops })
}

/// Interface, router and MTU of the kernel's answer to "how would you reach this?".
pub(super) fn hop(message: &RouteMessage) -> Option<(u32, Option<IpAddr>, Option<u16>)> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let oif = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    })?;
    Some((oif, message.attributes.iter().find_map(router), mtu(message)))
}

/// The route's own MTU (`RTAX_MTU`), independent of its link's. The kernel reports 0 for none.
fn mtu(message: &RouteMessage) -> Option<u16> {
    let metrics = message.attributes.iter().filter_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    metrics.flatten().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu != 0 => Some(u16::try_from(*mtu).unwrap_or(u16::MAX)),
        _ => None,
    })
}

fn router(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
