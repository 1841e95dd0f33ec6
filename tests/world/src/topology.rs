//! Addresses, links and routes.

use std::fmt::Write as _;

use crate::netns::script;
use crate::{Backend, Host, World, WorldError};

/// The client's address on the uplink.
pub const CLIENT_V4: &str = "192.0.2.10";
/// The client's IPv6 address on the uplink.
pub const CLIENT_V6: &str = "2001:db8:1::10";
/// The gateway's address on the uplink.
pub const GATEWAY_V4: &str = "192.0.2.1";
/// The gateway's IPv6 address on the uplink.
pub const GATEWAY_V6: &str = "2001:db8:1::1";
/// The gateway's address on the underlay.
pub const UNDERLAY_V4: &str = "10.99.0.50";
/// The gateway's IPv6 address on the underlay.
pub const UNDERLAY_V6: &str = "fd99::50";
/// The MAC address of the gateway's VTEP, as the nodes know it.
pub const GATEWAY_VTEP_MAC: &str = "0a:58:0a:4d:c8:00";
/// The MAC address of the gateway's VTEP for IPv6.
pub const GATEWAY_VTEP_MAC_V6: &str = "0a:58:0a:4d:c8:06";

/// External address of all services.
pub const EXTERNAL_V4: &str = "203.0.113.10";
/// External IPv6 address of all services.
pub const EXTERNAL_V6: &str = "2001:db8:113::10";

/// nodePort of the HTTP service (port 80).
pub const WEB_NODE_PORT: u16 = 30080;
/// nodePort of the DNS-like service (port 53, UDP).
pub const DNS_NODE_PORT: u16 = 30053;
/// nodePort of the UDP echo service (port 7).
pub const ECHO_NODE_PORT: u16 = 30007;
/// Node port of the service of [`World::sctp_service`](crate::World::sctp_service).
pub const SCTP_NODE_PORT: u16 = 30038;
/// The port that its pods listen at, and of its external addresses.
pub const SCTP_PORT: u16 = 38_412;

/// The last numbers of the pods' addresses in their node's subnet.
pub const POD_SUFFIXES: [&str; 2] = ["10", "11"];

/// A member of the overlay network.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Short name.
    pub name: &'static str,
    /// The first three numbers of its /24.
    pub subnet_v4: &'static str,
    /// The first four groups of its /64.
    pub subnet_v6: &'static str,
    /// Underlay address.
    pub public_v4: &'static str,
    /// IPv6 underlay address.
    pub public_v6: &'static str,
    /// MAC address of `flannel.1`.
    pub vtep_mac: &'static str,
    /// MAC address of `flannel-v6.1`.
    pub vtep_mac_v6: &'static str,
}

impl Node {
    /// The IPv4 address of one of its pods.
    #[must_use]
    pub fn pod_v4(&self, pod: usize) -> String {
        format!("{}.{}", self.subnet_v4, POD_SUFFIXES[pod])
    }

    /// The IPv6 address of one of its pods.
    #[must_use]
    pub fn pod_v6(&self, pod: usize) -> String {
        format!("{}::{}", self.subnet_v6, POD_SUFFIXES[pod])
    }
}

/// The nodes.
pub const NODES: [Node; 2] = [
    Node {
        name: "n1",
        subnet_v4: "10.77.74",
        subnet_v6: "fd77:0:0:74",
        public_v4: "10.99.0.11",
        public_v6: "fd99::11",
        vtep_mac: "96:b5:c3:d1:0b:f4",
        vtep_mac_v6: "96:b5:c3:d1:0b:f6",
    },
    Node {
        name: "n2",
        subnet_v4: "10.77.4",
        subnet_v6: "fd77:0:0:4",
        public_v4: "10.99.0.12",
        public_v6: "fd99::12",
        vtep_mac: "0a:b5:b9:10:98:4c",
        vtep_mac_v6: "0a:b5:b9:10:98:4e",
    },
];

/// The gateway as a member of the overlay network.
pub(crate) const GATEWAY: Node = Node {
    name: "gw",
    subnet_v4: "10.77.200",
    subnet_v6: "fd77:0:0:200",
    public_v4: UNDERLAY_V4,
    public_v6: UNDERLAY_V6,
    vtep_mac: GATEWAY_VTEP_MAC,
    vtep_mac_v6: GATEWAY_VTEP_MAC_V6,
};

/// Makes links, addresses and routes in the world's empty namespaces.
pub(crate) fn build(world: &World) -> Result<(), WorldError> {
    for host in Host::all() {
        // Addresses are usable at once, and the kernel of the gateway host forwards nothing by itself.
        script(
            &world.namespace(host),
            "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 net.ipv4.ip_forward=0 \
             net.ipv6.conf.default.accept_ra=0; ip link set lo up",
        )?;
    }
    links(world)?;
    script(&world.namespace(Host::Client), &client())?;
    script(&world.namespace(Host::Gateway), &gateway(world))?;
    for (index, node) in NODES.iter().enumerate() {
        let others = NODES.iter().filter(|other| other.name != node.name).chain([&GATEWAY]);
        script(&world.namespace(Host::Node(index)), &member(world.options().backend, node, "eth0", others))?;
        pods(world, index, node)?;
    }
    Ok(())
}

/// The switch, and the links of client, gateway and nodes.
fn links(world: &World) -> Result<(), WorldError> {
    let queues = world.options().queues;
    let (client, gateway) = (world.namespace(Host::Client), world.namespace(Host::Gateway));
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    let mut text = String::from("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
    let mut ports = vec!["br0", "gw0", "n1", "n2"];
    if world.options().one_interface {
        let _ = writeln!(text, "ip link add client {queues} type veth peer name cl0 netns {client} {queues}");
        ports.push("client");
    } else {
        script(&gateway, &format!("ip link add up0 {queues} type veth peer name cl0 netns {client} {queues}"))?;
    }
    let _ = writeln!(text, "ip link add gw0 {queues} type veth peer name un0 netns {gateway} {queues}");
    for (index, node) in NODES.iter().enumerate() {
        let namespace = world.namespace(Host::Node(index));
        let _ = writeln!(text, "ip link add {} type veth peer name eth0 netns {namespace}", node.name);
    }
    for port in ports {
        if port != "br0" {
            let _ = writeln!(text, "ip link set {port} master br0");
        }
        let _ = writeln!(text, "ethtool -K {port} tx off >/dev/null\nip link set {port} up");
    }
    script(&world.namespace(Host::Switch), &text)?;
    Ok(())
}

/// The receive queue of a veth device is the sender's transmit queue, and a TCP socket that has to send again takes
/// another one (`net.core.txrehash`). A network card chooses by the tuple, which stays.
fn client() -> String {
    format!(
        "sysctl -qw net.core.txrehash=0
         ethtool -K cl0 tx off >/dev/null
         ip address add {CLIENT_V4}/24 dev cl0
         ip address add {CLIENT_V6}/64 dev cl0 nodad
         ip link set cl0 up
         ip route add 203.0.113.0/24 via {GATEWAY_V4}
         ip route add 2001:db8:113::/48 via {GATEWAY_V6}"
    )
}

fn gateway(world: &World) -> String {
    let mut text = String::new();
    let uplink = world.uplink();
    if uplink != "un0" {
        let _ = writeln!(text, "ethtool -K {uplink} tx off >/dev/null");
    }
    let _ = writeln!(
        text,
        "ethtool -K un0 tx off >/dev/null
         ip address add {GATEWAY_V4}/24 dev {uplink}
         ip address add {GATEWAY_V6}/64 dev {uplink} nodad
         ip address add {UNDERLAY_V4}/24 dev un0
         ip address add {UNDERLAY_V6}/64 dev un0 nodad
         ip link set {uplink} up
         ip link set un0 up"
    );
    text
}

/// What a node needs to be a member of the overlay. The kernel gateway is one as well, with another interface.
pub(crate) fn member<'a>(
    backend: Backend,
    node: &Node,
    interface: &str,
    others: impl Iterator<Item = &'a Node>,
) -> String {
    let mut text = format!(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ethtool -K {interface} tx off >/dev/null\n"
    );
    if node.name != GATEWAY.name {
        let _ = writeln!(
            text,
            "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
             ip address add {public_v4}/24 dev {interface}
             ip address add {public_v6}/64 dev {interface} nodad
             ip link set {interface} up
             ip route add default via {UNDERLAY_V4}
             ip -6 route add default via {UNDERLAY_V6}",
            public_v4 = node.public_v4,
            public_v6 = node.public_v6,
        );
    }
    if backend == Backend::Vxlan {
        for (name, local, mac, mtu, address) in [
            ("flannel.1", node.public_v4, node.vtep_mac, 1450, format!("{}.0/32", node.subnet_v4)),
            ("flannel-v6.1", node.public_v6, node.vtep_mac_v6, 1430, format!("{}::/128", node.subnet_v6)),
        ] {
            let _ = writeln!(
                text,
                "ip link add {name} address {mac} mtu {mtu} type vxlan id 1 local {local} dev {interface} dstport 8472 nolearning
                 ethtool -K {name} tx off >/dev/null
                 ip address add {address} dev {name}
                 ip link set {name} up"
            );
        }
    }
    for other in others {
        let Node { subnet_v4, subnet_v6, public_v4, public_v6, vtep_mac, vtep_mac_v6, .. } = other;
        let _ = match backend {
            Backend::Vxlan => writeln!(
                text,
                "ip neighbour replace {subnet_v4}.0 dev flannel.1 lladdr {vtep_mac} nud permanent
                 bridge fdb replace {vtep_mac} dev flannel.1 dst {public_v4} self permanent
                 ip route replace {subnet_v4}.0/24 via {subnet_v4}.0 dev flannel.1 onlink
                 ip -6 neighbour replace {subnet_v6}:: dev flannel-v6.1 lladdr {vtep_mac_v6} nud permanent
                 bridge fdb replace {vtep_mac_v6} dev flannel-v6.1 dst {public_v6} self permanent
                 ip -6 route replace {subnet_v6}::/64 via {subnet_v6}:: dev flannel-v6.1 onlink"
            ),
            Backend::HostGw => writeln!(
                text,
                "ip route replace {subnet_v4}.0/24 via {public_v4} dev {interface}
                 ip -6 route replace {subnet_v6}::/64 via {public_v6} dev {interface}"
            ),
        };
    }
    text
}

/// The bridge of a node and its two pods.
fn pods(world: &World, index: usize, node: &Node) -> Result<(), WorldError> {
    let mtu = if world.options().backend == Backend::Vxlan { 1450 } else { 1500 };
    let (subnet_v4, subnet_v6) = (node.subnet_v4, node.subnet_v6);
    let mut text = format!(
        "ip link add cni0 mtu {mtu} type bridge stp_state 0 forward_delay 0
         ethtool -K cni0 tx off >/dev/null
         ip address add {subnet_v4}.1/24 dev cni0
         ip address add {subnet_v6}::1/64 dev cni0 nodad
         ip link set cni0 up\n"
    );
    for pod in 0..POD_SUFFIXES.len() {
        let namespace = world.namespace(Host::Pod(index, pod));
        let _ = writeln!(
            text,
            "ip link add pod{pod} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {namespace}
             ethtool -K pod{pod} tx off >/dev/null
             ip link set pod{pod} master cni0 up"
        );
    }
    script(&world.namespace(Host::Node(index)), &text)?;
    for pod in 0..POD_SUFFIXES.len() {
        script(
            &world.namespace(Host::Pod(index, pod)),
            &format!(
                "ethtool -K eth0 tx off >/dev/null
                 ip address add {}/24 dev eth0
                 ip address add {}/64 dev eth0 nodad
                 ip link set eth0 up
                 ip route add default via {subnet_v4}.1
                 ip -6 route add default via {subnet_v6}::1",
                node.pod_v4(pod),
                node.pod_v6(pod)
            ),
        )?;
    }
    Ok(())
}
