//! What the gateway knows of the kernel's links, addresses, routes and neighbours: a plain value
//! that events change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weirgate::net::{Mac, PortId};

/// One event that the kernel reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link, new or changed.
    Link {
        /// The interface's index.
        ifindex: u32,
        /// Its state.
        link: Link,
    },
    /// A link is gone.
    LinkGone {
        /// The interface's index.
        ifindex: u32,
    },
    /// A link has an address.
    Address {
        /// The interface's index.
        ifindex: u32,
        /// The address.
        address: IpAddr,
    },
    /// A link has lost an address.
    AddressGone {
        /// The interface's index.
        ifindex: u32,
        /// The address.
        address: IpAddr,
    },
    /// A neighbour's entry, new or changed.
    Neighbour {
        /// The interface's index.
        ifindex: u32,
        /// The neighbour's network address.
        address: IpAddr,
        /// The state of its link address.
        neighbour: Neighbour,
    },
    /// Some route, rule or next hop changed: dump them again.
    Routes,
    /// Messages were lost: dump everything again.
    Lost,
}

/// A link's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The interface's name.
    pub name: String,
    /// Its link address, where it is Ethernet.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub up: bool,
}

/// The kernel's state of a neighbour's link address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neighbour {
    /// Usable. Confirmed lately, or permanent.
    Known(Mac),
    /// Usable, but not confirmed for a while.
    Stale(Mac),
    /// The kernel is asking.
    Asked,
    /// Nobody answered.
    Failed,
    /// No entry.
    Gone,
}

impl Neighbour {
    /// The link address, where it is usable.
    #[must_use]
    pub const fn mac(self) -> Option<Mac> {
        match self {
            Self::Known(mac) | Self::Stale(mac) => Some(mac),
            Self::Asked | Self::Failed | Self::Gone => None,
        }
    }
}

/// A route of the main table, as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelRoute {
    /// The destinations.
    pub prefix: IpNet,
    /// Its preference: the smallest wins.
    pub metric: u32,
    /// The largest packet that it takes, where it says so.
    pub mtu: Option<u16>,
    /// Interface and router of each of its next hops; none where it refuses its packets (blackhole,
    /// unreachable, prohibit).
    pub hops: Vec<(u32, Option<IpAddr>)>,
}

/// A route through one of the ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The port.
    pub port: PortId,
    /// The router; `None` where the destinations are on the link.
    pub via: Option<IpAddr>,
    /// The largest packet that it takes, where it says so.
    pub mtu: Option<u16>,
}

/// The next hop towards an underlay address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// The port.
    pub port: PortId,
    /// The neighbour: a router, or the destination itself.
    pub neighbour: IpAddr,
    /// The route's MTU, where it has one.
    pub mtu: Option<u16>,
}

/// One of the gateway's ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The interface's name at the start.
    pub name: String,
    /// The interface's index.
    pub ifindex: u32,
    /// The link as it last was.
    pub link: Link,
    /// Whether the interface is still there.
    pub present: bool,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// What an event changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Something that snapshots depend on.
    pub snapshot: bool,
    /// Routes, which have to be dumped again.
    pub routes: bool,
    /// Everything has to be dumped again.
    pub all: bool,
}

impl Effect {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { snapshot: self.snapshot | other.snapshot, routes: self.routes | other.routes, all: self.all | other.all }
    }
}

/// The effect of a change of another interface: routes through it precede shorter prefixes of ours,
/// and vanish with its link or address without a message of their own.
const ELSEWHERE: Effect = Effect { snapshot: false, routes: true, all: false };

/// The kernel's state, as far as it concerns the ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model {
    /// The ports; the index is the [`PortId`].
    pub ports: Vec<Port>,
    /// The best route of each prefix; `None` where it leads through no port.
    pub routes: BTreeMap<IpNet, Option<Route>>,
    /// The neighbours on the ports' links.
    pub neighbours: BTreeMap<(PortId, IpAddr), Neighbour>,
    /// The next hop to each peer's underlay address that is reached through a port.
    pub next_hops: BTreeMap<IpAddr, Hop>,
    /// The addresses that the host has on other interfaces, by their index.
    pub elsewhere: BTreeSet<(u32, IpAddr)>,
}

/// A port that the kernel does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoSuchPort(pub String);

impl Model {
    /// A model of these ports, an interface named twice being one port.
    ///
    /// # Errors
    /// The first interface that is not among the links.
    pub fn new(names: &[&str], links: &[(u32, Link)]) -> Result<Self, NoSuchPort> {
        let mut model = Self::default();
        for name in names {
            let found = links.iter().find(|(_, link)| link.name == *name);
            let (ifindex, link) = found.ok_or_else(|| NoSuchPort((*name).to_owned()))?;
            if model.port(*ifindex).is_none() {
                model.ports.push(Port {
                    name: (*name).to_owned(),
                    ifindex: *ifindex,
                    link: link.clone(),
                    present: true,
                    addresses: BTreeSet::new(),
                });
            }
        }
        Ok(model)
    }

    /// The port of this interface.
    #[must_use]
    pub fn port(&self, ifindex: u32) -> Option<PortId> {
        let index = self.ports.iter().position(|port| port.ifindex == ifindex)?;
        u8::try_from(index).ok().map(PortId)
    }

    /// The port by its number.
    #[must_use]
    pub fn at(&self, port: PortId) -> Option<&Port> {
        self.ports.get(usize::from(port.0))
    }

    /// The state of a neighbour's link address.
    #[must_use]
    pub fn neighbour(&self, port: PortId, address: IpAddr) -> Neighbour {
        self.neighbours.get(&(port, address)).copied().unwrap_or(Neighbour::Gone)
    }

    /// Forgets everything that a full dump reports again; ports stay, their addresses do not.
    pub fn forget(&mut self) {
        self.neighbours.clear();
        self.elsewhere.clear();
        for port in &mut self.ports {
            port.addresses.clear();
            port.present = false;
        }
    }

    /// Applies an event of the kernel's.
    pub fn apply(&mut self, event: Event) -> Effect {
        match event {
            Event::Link { ifindex, link } => self.apply_link(ifindex, link),
            Event::LinkGone { ifindex } => match self.port_mut(ifindex) {
                Some(port) if port.present => {
                    port.present = false;
                    port.link.up = false;
                    Effect { snapshot: true, routes: true, all: false }
                }
                Some(_) => Effect::default(),
                None => ELSEWHERE,
            },
            Event::Address { ifindex, address } => match self.port_mut(ifindex) {
                Some(port) => {
                    let changed = port.addresses.insert(address);
                    Effect { snapshot: changed, routes: changed, all: false }
                }
                // It makes no route lead through a port.
                None => Effect { snapshot: self.elsewhere.insert((ifindex, address)), ..Effect::default() },
            },
            Event::AddressGone { ifindex, address } => match self.port_mut(ifindex) {
                Some(port) => {
                    let changed = port.addresses.remove(&address);
                    Effect { snapshot: changed, routes: changed, all: false }
                }
                None => Effect { snapshot: self.elsewhere.remove(&(ifindex, address)), ..ELSEWHERE },
            },
            Event::Neighbour { ifindex, address, neighbour } => match self.port(ifindex) {
                Some(port) => self.apply_neighbour(port, address, neighbour),
                None => Effect::default(),
            },
            Event::Routes => Effect { routes: true, ..Effect::default() },
            Event::Lost => Effect { all: true, ..Effect::default() },
        }
    }

    /// Replaces all routes by these; returns whether any differs.
    ///
    /// Of one prefix's routes the one with the smallest metric counts. Routes through other
    /// interfaces count only where there is no other: a host's default route through its management
    /// interface does not hide the uplink's. A longer prefix counts wherever it leads.
    pub fn replace_routes(&mut self, routes: &[KernelRoute]) -> bool {
        let mut best: BTreeMap<IpNet, ((bool, u32), Option<Route>)> = BTreeMap::new();
        for route in routes {
            let through_port =
                |&(ifindex, via): &(u32, _)| Some(Route { port: self.port(ifindex)?, via, mtu: route.mtu });
            let found = route.hops.iter().find_map(through_port);
            let leads_elsewhere = found.is_none() && !route.hops.is_empty();
            let rank = (leads_elsewhere, route.metric);
            if best.get(&route.prefix).is_none_or(|(least, _)| rank < *least) {
                best.insert(route.prefix, (rank, found));
            }
        }
        let routes: BTreeMap<_, _> = best.into_iter().map(|(prefix, (_, route))| (prefix, route)).collect();
        let changed = routes != self.routes;
        self.routes = routes;
        changed
    }

    /// Replaces all next hops by these; returns whether any differs.
    pub fn replace_next_hops(&mut self, hops: BTreeMap<IpAddr, Hop>) -> bool {
        let changed = hops != self.next_hops;
        self.next_hops = hops;
        changed
    }

    /// The neighbours that the gateway's traffic needs for any client: the next hops to peers, and
    /// routers.
    pub fn neighbours_needed(&self) -> impl Iterator<Item = (PortId, IpAddr)> {
        let hops = self.next_hops.values().map(|hop| (hop.port, hop.neighbour));
        let routers = self.routes.values().flatten().filter_map(|route| Some((route.port, route.via?)));
        hops.chain(routers).collect::<BTreeSet<_>>().into_iter()
    }

    fn port_mut(&mut self, ifindex: u32) -> Option<&mut Port> {
        self.ports.iter_mut().find(|port| port.ifindex == ifindex)
    }

    fn apply_link(&mut self, ifindex: u32, link: Link) -> Effect {
        let Some(port) = self.port_mut(ifindex) else { return ELSEWHERE };
        let changed = port.link != link || !port.present;
        port.present = true;
        port.link = link;
        // IPv4 routes vanish with their link without a message of their own.
        Effect { snapshot: changed, routes: changed, all: false }
    }

    fn apply_neighbour(&mut self, port: PortId, address: IpAddr, neighbour: Neighbour) -> Effect {
        let before = match neighbour {
            Neighbour::Gone => self.neighbours.remove(&(port, address)),
            known => self.neighbours.insert((port, address), known),
        };
        let snapshot = before.and_then(Neighbour::mac) != neighbour.mac();
        Effect { snapshot, ..Effect::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn link(name: &str) -> Link {
        Link { name: name.into(), mac: Some(A), mtu: 1500, up: true }
    }

    fn model() -> Model {
        Model::new(&["up0", "un0"], &[(3, link("up0")), (4, link("lo")), (7, link("un0"))]).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(prefix: &str, metric: u32, hops: &[(u32, Option<&str>)]) -> KernelRoute {
        let hops = hops.iter().map(|(ifindex, via)| (*ifindex, via.map(address))).collect();
        KernelRoute { prefix: prefix.parse().unwrap(), metric, mtu: None, hops }
    }

    /// Where the model's route for exactly this prefix leads; there has to be one.
    fn leads(model: &Model, prefix: &str) -> Option<Route> {
        model.routes[&prefix.parse::<IpNet>().unwrap()]
    }

    #[test]
    fn an_interface_named_twice_is_one_port() {
        let links = [(3, link("up0"))];
        let model = Model::new(&["up0", "up0"], &links).unwrap();
        assert_eq!(model.ports.len(), 1);
        assert_eq!(Model::new(&["up0", "un0"], &links), Err(NoSuchPort("un0".into())));
    }

    #[test]
    fn of_other_interfaces_neighbours_change_nothing_and_addresses_are_the_host_s() {
        let mut model = model();
        let before = model.clone();
        let neighbour = Event::Neighbour { ifindex: 4, address: address("192.0.2.7"), neighbour: Neighbour::Known(B) };
        assert_eq!(model.apply(neighbour), Effect::default());
        assert_eq!(model, before);
        let own = address("198.51.100.1");
        let snapshot = Effect { snapshot: true, ..Effect::default() };
        for effect in [snapshot, Effect::default()] {
            assert_eq!(model.apply(Event::Address { ifindex: 4, address: own }), effect);
            assert_eq!(model, Model { elsewhere: [(4, own)].into(), ..before.clone() });
        }
        for effect in [Effect { snapshot: true, ..ELSEWHERE }, ELSEWHERE] {
            assert_eq!(model.apply(Event::AddressGone { ifindex: 4, address: own }), effect);
            assert_eq!(model, before);
        }
        model.apply(Event::Address { ifindex: 4, address: own });
        model.forget();
        assert!(model.elsewhere.is_empty());
    }

    #[test]
    fn only_a_neighbour_s_link_address_matters_to_a_snapshot() {
        let mut model = model();
        let client = address("192.0.2.7");
        let mut apply = |neighbour| model.apply(Event::Neighbour { ifindex: 3, address: client, neighbour }).snapshot;
        assert!(!apply(Neighbour::Asked));
        assert!(apply(Neighbour::Known(A)));
        assert!(!apply(Neighbour::Stale(A)));
        assert!(!apply(Neighbour::Known(A)));
        assert!(apply(Neighbour::Known(B)));
        assert!(apply(Neighbour::Failed));
        assert!(!apply(Neighbour::Gone));
        assert_eq!(model.neighbour(PortId(0), client), Neighbour::Gone);
    }

    #[test]
    fn a_link_that_goes_is_kept_as_it_was_and_reported_gone() {
        let mut model = model();
        let effect = model.apply(Event::LinkGone { ifindex: 7 });
        assert!(effect.snapshot && effect.routes);
        let port = model.at(PortId(1)).unwrap();
        assert!(!port.present && !port.link.up);
        assert_eq!(port.link.mac, Some(A));
        assert_eq!(model.apply(Event::LinkGone { ifindex: 7 }), Effect::default());
        assert!(model.apply(Event::Link { ifindex: 7, link: link("un0") }).snapshot);
    }

    #[test]
    fn routes_are_asked_for_when_another_interface_changes() {
        let mut model = model();
        let before = model.clone();
        let events = [
            Event::Link { ifindex: 4, link: link("lo") },
            Event::LinkGone { ifindex: 4 },
            Event::AddressGone { ifindex: 4, address: address("198.51.100.1") },
        ];
        for event in events {
            assert_eq!(model.apply(event.clone()), Effect { routes: true, ..Effect::default() }, "{event:?}");
        }
        assert_eq!(model, before);
    }

    #[test]
    fn the_best_route_through_a_port_wins_over_other_interfaces_of_any_metric() {
        let mut model = model();
        let routes = [
            route("0.0.0.0/0", 100, &[(3, Some("192.0.2.254"))]),
            route("0.0.0.0/0", 50, &[(4, Some("198.51.100.1"))]),
            route("0.0.0.0/0", 200, &[(7, Some("10.99.0.1"))]),
            route("203.0.113.0/24", 0, &[(4, None), (7, Some("10.99.0.2"))]),
        ];
        assert!(model.replace_routes(&routes));
        assert!(!model.replace_routes(&routes));
        assert_eq!(
            leads(&model, "0.0.0.0/0"),
            Some(Route { port: PortId(0), via: Some(address("192.0.2.254")), mtu: None })
        );
        assert_eq!(
            leads(&model, "203.0.113.0/24"),
            Some(Route { port: PortId(1), via: Some(address("10.99.0.2")), mtu: None })
        );
        let needed: Vec<_> = model.neighbours_needed().collect();
        assert_eq!(needed, [(PortId(0), address("192.0.2.254")), (PortId(1), address("10.99.0.2"))]);
    }

    #[test]
    fn a_longer_prefix_through_another_interface_leads_nowhere() {
        let mut model = model();
        model.replace_routes(&[
            route("0.0.0.0/0", 0, &[(3, Some("192.0.2.254"))]),
            route("198.51.100.0/24", 0, &[(4, None)]),
        ]);
        assert_eq!(leads(&model, "198.51.100.0/24"), None);
        assert_eq!(model.neighbours_needed().count(), 1);
        assert!(model.replace_routes(&[route("0.0.0.0/0", 0, &[(3, Some("192.0.2.254"))])]));
        assert!(!model.routes.contains_key(&"198.51.100.0/24".parse::<IpNet>().unwrap()));
    }

    #[test]
    fn a_refusal_counts_by_its_metric() {
        let mut model = model();
        let uplink = Some(Route { port: PortId(0), via: None, mtu: None });
        for (metric, expected) in [(10, None), (200, uplink), (u32::MAX, uplink)] {
            let mut both = [route("203.0.113.0/24", metric, &[]), route("203.0.113.0/24", 100, &[(3, None)])];
            for _ in 0..2 {
                model.replace_routes(&both);
                assert_eq!(leads(&model, "203.0.113.0/24"), expected, "a refusal of metric {metric}");
                both.reverse();
            }
        }
        model.replace_routes(&[route("203.0.113.0/24", 9, &[]), route("203.0.113.0/24", 1, &[(4, None)])]);
        assert_eq!(leads(&model, "203.0.113.0/24"), None);
    }

    #[test]
    fn a_routes_mtu_goes_with_it_and_its_change_is_one() {
        let mut model = model();
        let with = |mtu| KernelRoute { mtu, ..route("0.0.0.0/0", 0, &[(3, Some("192.0.2.254"))]) };
        for mtu in [None, Some(1400), Some(1300), None] {
            assert!(model.replace_routes(&[with(mtu)]));
            assert_eq!(leads(&model, "0.0.0.0/0").and_then(|route| route.mtu), mtu);
            let hop = Hop { port: PortId(1), neighbour: address("10.99.0.1"), mtu };
            assert!(model.replace_next_hops([(address("10.99.0.11"), hop)].into()));
        }
    }
}
