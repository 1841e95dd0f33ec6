//! Following the kernel, in a network namespace of each test's own. Needs root.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_io::{Timer, block_on};
use futures_lite::{FutureExt, future};
use weirgate::net::{Mac, PortId};
use weirgate_appliance::control::netlink::{Effect, Hop, Kernel, KernelError, Model, Neighbour, Route};

use crate::namespace::{Network, ip};

fn address(text: &str) -> IpAddr {
    text.parse().expect("the test writes addresses")
}

fn ports(model: &Model) -> Vec<u32> {
    model.ports.iter().map(|port| port.ifindex).collect()
}

/// A model that follows the kernel for as long as the test asks it to.
struct Follower {
    kernel: Kernel,
    model: Model,
    peers: BTreeSet<IpAddr>,
}

impl Follower {
    async fn start(kernel: Kernel, peers: &[&str]) -> Result<Self, KernelError> {
        let links = kernel.links().await?;
        let mut model = Model::new(&["up0", "un0"], &links).expect("both interfaces are there");
        for event in kernel.state().await? {
            model.apply(event);
        }
        let peers = peers.iter().map(|peer| address(peer)).collect();
        model.replace_routes(&kernel.routes().await?);
        let hops = kernel.next_hops(&ports(&model), &peers).await?;
        model.replace_next_hops(hops);
        Ok(Self { kernel, model, peers })
    }

    /// Follows until the model is as wanted, six seconds at most; returns the effects seen.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Model) -> bool) -> Effect {
        let deadline = Instant::now() + Duration::from_secs(6);
        let mut effect = Effect::default();
        while !wanted(&self.model) {
            let timeout = async {
                Timer::at(deadline).await;
                None
            };
            let events = self.kernel.next().or(timeout).await;
            let Some(events) = events else { panic!("{what} did not come about: {:#?}", self.model) };
            let step = events.into_iter().map(|event| self.model.apply(event)).fold(Effect::default(), Effect::and);
            if step.routes {
                self.model.replace_routes(&self.kernel.routes().await.expect("routes are reported"));
                let hops =
                    self.kernel.next_hops(&ports(&self.model), &self.peers).await.expect("next hops are reported");
                self.model.replace_next_hops(hops);
            }
            effect = effect.and(step);
        }
        effect
    }
}

fn with_kernel(peers: &[&str], test: impl AsyncFnOnce(Follower)) {
    let (connection, kernel) = Kernel::open().expect("netlink opens");
    let conversation = async {
        connection.await;
        panic!("the conversation with the kernel ended");
    };
    let work = async {
        let follower = Follower::start(kernel, peers).await.expect("the kernel reports its state");
        test(follower).await;
    };
    block_on(future::or(work, conversation));
}

/// Where the model's route for exactly this prefix leads, if there is one.
fn leads(model: &Model, prefix: &str) -> Option<Option<Route>> {
    model.routes.get(&prefix.parse::<ipnet::IpNet>().expect("the test writes prefixes")).copied()
}

fn world() {
    for (port, far, number) in [("up0", "up1", 1), ("un0", "un1", 2)] {
        ip(&format!("link add {port} address 02:00:00:00:0{number}:01 type veth peer name {far}"));
        ip(&format!("link set {far} address 02:00:00:00:0{number}:02 up"));
        ip(&format!("link set {port} up"));
    }
    ip("address add 192.0.2.1/24 dev up0");
    ip("address add 10.99.0.50/24 dev un0");
    ip("address add fd99::50/64 dev un0 nodad");
}

#[test]
fn routes_and_next_hops_are_followed_as_they_change() {
    let _network = Network::new();
    world();
    with_kernel(&["10.99.0.11", "10.98.0.12", "fd99::11", "10.97.0.1"], async |mut follower| {
        let (uplink, underlay) = (PortId(0), PortId(1));
        let on_link = |text| Hop { port: underlay, neighbour: address(text), mtu: None };
        assert_eq!(follower.model.next_hops[&address("10.99.0.11")], on_link("10.99.0.11"));
        assert_eq!(follower.model.next_hops[&address("fd99::11")], on_link("fd99::11"));
        assert!(!follower.model.next_hops.contains_key(&address("10.98.0.12")), "{:?}", follower.model.next_hops);

        let prefix = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
        ip("route add 10.98.0.0/24 via 10.99.0.2");
        let effect = follower
            .until("a next hop through a router", |m| {
                m.next_hops.get(&address("10.98.0.12")) == Some(&on_link("10.99.0.2"))
            })
            .await;
        assert!(effect.routes);
        assert_eq!(
            follower.model.routes[&prefix("10.98.0.0/24")].and_then(|route| route.via),
            Some(address("10.99.0.2"))
        );

        // The kernel does not announce the route that a replacement removes.
        ip("route replace 10.98.0.0/24 via 10.99.0.3");
        follower
            .until("another router", |m| m.next_hops.get(&address("10.98.0.12")) == Some(&on_link("10.99.0.3")))
            .await;
        assert!(follower.model.neighbours_needed().any(|needed| needed == (underlay, address("10.99.0.3"))));

        // The MTU of a route applies to next hops through it as well.
        ip("route replace 10.98.0.0/24 via 10.99.0.3 mtu 1300");
        let small = Hop { mtu: Some(1300), ..on_link("10.99.0.3") };
        follower.until("an MTU", |m| m.next_hops.get(&address("10.98.0.12")) == Some(&small)).await;
        assert_eq!(leads(&follower.model, "10.98.0.0/24").flatten().and_then(|route| route.mtu), Some(1300));
        ip("route add fd98::/64 via fd99::11 mtu lock 1400");
        follower.until("an MTU", |m| leads(m, "fd98::/64").flatten().is_some_and(|r| r.mtu == Some(1400))).await;

        ip("route add default via 192.0.2.254");
        follower.until("a default route", |m| m.routes.contains_key(&prefix("0.0.0.0/0"))).await;
        let through_uplink = Hop { port: uplink, neighbour: address("192.0.2.254"), mtu: None };
        assert_eq!(follower.model.next_hops[&address("10.97.0.1")], through_uplink);

        ip("route add default via 10.99.0.9 metric 5000");
        ip("route del default via 192.0.2.254");
        follower
            .until("the second best", |m| leads(m, "0.0.0.0/0").flatten().is_some_and(|r| r.port == underlay))
            .await;

        ip("route add 10.99.0.11/32 dev up0 table 77");
        ip("route add unreachable 10.97.0.1/32");
        follower.until("an unreachable peer", |m| !m.next_hops.contains_key(&address("10.97.0.1"))).await;
        assert!(!follower.model.routes.contains_key(&prefix("10.99.0.11/32")), "another table's route");

        // IPv4 routes of a link that goes down vanish without a message each.
        ip("link set un0 down");
        follower.until("no next hop without the link", |m| !m.next_hops.contains_key(&address("10.99.0.11"))).await;
        follower.until("the port down", |m| m.ports[1].present && !m.ports[1].link.up).await;
    });
}

#[test]
fn routes_that_lead_through_no_port_stand_before_shorter_prefixes() {
    let _network = Network::new();
    world();
    // Without IPv6 only the link's own messages show routes that come and go with it.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("a setting");
    ip("link add mgmt0 type veth peer name mgmt1");
    ip("link set mgmt1 up");
    ip("link set mgmt0 up");
    ip("address add 198.51.100.1/24 dev mgmt0");
    ip("route add default via 198.51.100.254");
    with_kernel(&[], async |mut follower| {
        const NOWHERE: Option<Option<Route>> = Some(None);
        let through = |via: Option<&str>| Some(Some(Route { port: PortId(0), via: via.map(address), mtu: None }));
        assert_eq!(leads(&follower.model, "198.51.100.0/24"), NOWHERE);
        assert_eq!(leads(&follower.model, "0.0.0.0/0"), NOWHERE);
        assert_eq!(leads(&follower.model, "192.0.2.0/24"), through(None));

        // The management interface's default is the kernel's choice, and does not hide the uplink's.
        ip("route add default via 192.0.2.254 metric 5000");
        follower.until("the uplink's default", |m| leads(m, "0.0.0.0/0") == through(Some("192.0.2.254"))).await;

        for (number, kind) in ["blackhole", "unreachable", "prohibit", "throw"].into_iter().enumerate() {
            for prefix in [format!("203.0.113.{}/28", 16 * number), format!("2001:db8:{number}::/48")] {
                ip(&format!("route add {kind} {prefix}"));
                follower.until(&format!("{kind} {prefix}"), |m| leads(m, &prefix) == NOWHERE).await;
                ip(&format!("route del {kind} {prefix}"));
                follower.until(&format!("no {kind} {prefix}"), |m| leads(m, &prefix).is_none()).await;
            }
        }
        // A refusal of the same prefix counts by its metric.
        ip("route add blackhole 203.0.113.0/24 metric 10");
        ip("route add 203.0.113.0/24 via 192.0.2.9 metric 20");
        ip("route add unreachable 203.0.113.0/24 metric 4294967295");
        follower.until("a refusal before a router", |m| leads(m, "203.0.113.0/24") == NOWHERE).await;
        ip("route del blackhole 203.0.113.0/24 metric 10");
        let router = through(Some("192.0.2.9"));
        follower.until("a router before the last refusal", |m| leads(m, "203.0.113.0/24") == router).await;

        // Without a carrier the prefix is still the interface's, until the kernel is configured to skip it.
        ip("link set mgmt1 down");
        let default = |m: &Model| leads(m, "0.0.0.0/0") == through(Some("192.0.2.254"));
        ip("route add 203.0.113.128/25 via 192.0.2.9");
        follower.until("what came after the carrier went", |m| leads(m, "203.0.113.128/25").is_some()).await;
        assert_eq!(leads(&follower.model, "198.51.100.0/24"), NOWHERE);
        std::fs::write("/proc/sys/net/ipv4/conf/mgmt0/ignore_routes_with_linkdown", "1").expect("a setting");
        ip("route del 203.0.113.128/25 via 192.0.2.9");
        follower.until("a dead route passed over", |m| leads(m, "198.51.100.0/24").is_none() && default(m)).await;
        ip("link set mgmt1 up");
        follower.until("the carrier back", |m| leads(m, "198.51.100.0/24") == NOWHERE).await;

        // IPv4 routes of a link that goes down vanish without a message each.
        ip("link set mgmt0 down");
        follower.until("the shorter prefix alone", |m| leads(m, "198.51.100.0/24").is_none() && default(m)).await;
    });
}

#[test]
fn neighbours_are_followed_and_resolved_on_request() {
    let network = Network::new();
    world();
    ip("address add fd00::1/64 dev up0 nodad");
    ip(&format!("link set up1 netns {}", network.namespaces.name("far")));
    network.namespaces.shell(
        "far",
        "ip link set up1 up; ip address add 192.0.2.7/24 dev up1; ip address add fd00::7/64 dev up1 nodad",
    );
    with_kernel(&[], async |mut follower| {
        let neighbour = |text: &'static str| move |m: &Model| m.neighbour(PortId(0), address(text));
        let known = Neighbour::Known(Mac([2, 0, 0, 0, 0, 9]));

        ip("neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev up0 nud permanent");
        let effect = follower.until("a neighbour", |m| neighbour("192.0.2.9")(m) == known).await;
        assert!(effect.snapshot && !effect.routes);
        ip("neighbour change 192.0.2.9 lladdr 02:00:00:00:00:0a dev up0 nud stale");
        let stale = Neighbour::Stale(Mac([2, 0, 0, 0, 0, 10]));
        follower.until("another link address", |m| neighbour("192.0.2.9")(m) == stale).await;
        ip("neighbour del 192.0.2.9 dev up0");
        follower.until("no neighbour", |m| neighbour("192.0.2.9")(m).mac().is_none()).await;

        let ifindex = follower.model.ports[0].ifindex;
        follower.kernel.resolve(ifindex, address("192.0.2.7")).await.expect("the kernel takes the request");
        let far = Neighbour::Known(Mac([2, 0, 0, 0, 1, 2]));
        follower.until("the far end's answer", |m| neighbour("192.0.2.7")(m) == far).await;
        follower.kernel.resolve(ifindex, address("fd00::7")).await.expect("the kernel takes the request");
        follower.until("the far end's answer over IPv6", |m| neighbour("fd00::7")(m) == far).await;

        // Nobody has this address: the kernel asks, and reports when it gives up.
        follower.kernel.resolve(ifindex, address("192.0.2.99")).await.expect("the kernel takes the request");
        follower.kernel.resolve(ifindex, address("192.0.2.99")).await.expect("asking again meanwhile is no error");
        follower.until("no answer", |m| neighbour("192.0.2.99")(m) == Neighbour::Failed).await;
    });
}

#[test]
fn changes_of_the_ports_are_followed() {
    let _network = Network::new();
    world();
    with_kernel(&[], async |mut follower| {
        let addresses = |m: &Model, port: usize| m.ports[port].addresses.clone();
        assert!(addresses(&follower.model, 0).contains(&address("192.0.2.1")));
        ip("link set up0 mtu 1400");
        follower.until("a smaller MTU", |m| m.ports[0].link.mtu == 1400).await;
        ip("link set up0 address 02:00:00:00:01:09");
        follower.until("another link address", |m| m.ports[0].link.mac == Some(Mac([2, 0, 0, 0, 1, 9]))).await;
        ip("address add 198.51.100.1/24 dev up0");
        follower.until("an address", |m| addresses(m, 0).contains(&address("198.51.100.1"))).await;
        ip("address del 192.0.2.1/24 dev up0");
        follower.until("no address", |m| !addresses(m, 0).contains(&address("192.0.2.1"))).await;
        ip("link set up1 down");
        follower.until("no carrier", |m| !m.ports[0].link.up).await;
        ip("link del up0");
        follower.until("no port", |m| !m.ports[0].present).await;
        assert_eq!(follower.model.ports[0].link.mtu, 1400, "what was known of it stays");
    });
}
