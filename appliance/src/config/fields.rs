//! Every field of the configuration file, described once: the reader, its error messages and
//! `docs/configuration.md` all come from here.

use super::kind::Kind;

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// The table's name.
    pub name: &'static str,
    /// Whether the file may have many such tables (`[[name]]`).
    pub repeated: bool,
    /// Whether the file must have it.
    pub required: bool,
    /// What it describes.
    pub meaning: &'static str,
    /// Its fields, in the order of the documentation.
    pub fields: &'static [Field],
}

/// A field of a table.
#[derive(Debug)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// What one value is.
    pub kind: Kind,
    /// Whether the field holds a list of such values.
    pub list: bool,
    /// What applies where the field is absent.
    pub absent: Absent,
    /// A valid value, in the file's notation.
    pub example: &'static str,
    /// What the field decides, and its constraints beyond its kind.
    pub meaning: &'static str,
}

/// What a missing field means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// It is an error.
    Error,
    /// It is an error in this case.
    ErrorIf(&'static str),
    /// This applies instead.
    Default(&'static str),
}

/// flannel's names for how packets are carried between nodes.
pub const BACKENDS: &[&str] = &["vxlan", "host-gw"];

/// The most services that a gateway can have.
pub const SERVICES_MAX: usize = 65_536;

/// The most peers that a gateway can have.
pub const PEERS_MAX: usize = 16_384;

const fn field(name: &'static str, kind: Kind, absent: Absent, example: &'static str, meaning: &'static str) -> Field {
    Field { name, kind, list: false, absent, example, meaning }
}

const fn list(name: &'static str, kind: Kind, absent: Absent, example: &'static str, meaning: &'static str) -> Field {
    Field { name, kind, list: true, absent, example, meaning }
}

/// Every section, in the order of the documentation.
pub const SECTIONS: &[Section] =
    &[GATEWAY, UPLINK, UNDERLAY, OVERLAY, PEER, SERVICE, POLICY, MASQUERADE, FLOWS, FRAGMENTS, TIMEOUTS, SELECTOR];

use Absent::{Default, Error, ErrorIf};

/// `[gateway]`
pub const GATEWAY: Section = Section {
    name: "gateway",
    repeated: false,
    required: false,
    meaning: "The process itself.",
    fields: &[
        field(
            "poll",
            Kind::Word(&["adaptive", "busy"]),
            Default("`\"adaptive\"`"),
            "\"adaptive\"",
            "`\"busy\"`: a worker never yields its core, for cores with nothing else to do. `\"adaptive\"`: it yields \
             between frames and sleeps after an idle spell, for machines that are shared.",
        ),
        field(
            "workers",
            Kind::Number(1, 64),
            Default("the smallest of the ports' queue counts and the number of cores"),
            "1",
            "Threads that forward. Each serves one queue of each port, so no more than the ports have queues.",
        ),
        field(
            "first_core",
            Kind::Number(0, 1023),
            Default("`0`"),
            "0",
            "The core of the first worker; the others get the cores after it. A worker whose core does not exist runs on \
             any core, and the log warns of it.",
        ),
        field(
            "control_socket",
            Kind::SocketPath,
            Default("`\"/run/weirgate/control.sock\"`"),
            "\"/run/weirgate/control.sock\"",
            "The Unix socket that `weirgate status` connects to. Created with mode 0600, removed at the end.",
        ),
    ],
};

/// `[uplink]`
pub const UPLINK: Section = Section {
    name: "uplink",
    repeated: false,
    required: true,
    meaning: "The link to the clients.",
    fields: &[
        field("interface", Kind::Interface, Error, "\"eth0\"", "The interface on which clients' packets arrive."),
        list(
            "addresses",
            Kind::Address,
            Default("the interface's own addresses, followed as they change"),
            "[\"192.0.2.1\", \"2001:db8:1::1\"]",
            "The addresses on which node ports answer. Outside the overlay's networks, each once.",
        ),
        field(
            "node_ports",
            Kind::Ports,
            Default("`\"30000-32767\"`"),
            "\"30000-32767\"",
            "The cluster's `--service-node-port-range`. Where services listen at a masquerade address, no flow is \
             masqueraded to a port of this range. A service's `node_port` outside of the range is reported as a warning.",
        ),
    ],
};

/// `[underlay]`
pub const UNDERLAY: Section = Section {
    name: "underlay",
    repeated: false,
    required: true,
    meaning: "The link to the nodes.",
    fields: &[field(
        "interface",
        Kind::Interface,
        Error,
        "\"eth1\"",
        "The interface that leads to the nodes. It may be the uplink's.",
    )],
};

/// `[overlay]`
pub const OVERLAY: Section = Section {
    name: "overlay",
    repeated: false,
    required: true,
    meaning: "The container network, and the gateway's place in it. IPv4 pods are reached over an IPv4 underlay and \
              IPv6 pods over an IPv6 underlay, as flannel does.",
    fields: &[
        field(
            "backend",
            Kind::Word(BACKENDS),
            Default("`\"vxlan\"`"),
            "\"vxlan\"",
            "How packets cross the underlay, unless a peer says otherwise: in VXLAN (RFC 7348), or with `\"host-gw\"` \
             unencapsulated, by plain route.",
        ),
        list(
            "networks",
            Kind::Subnet,
            Error,
            "[\"10.77.0.0/16\", \"fd77::/48\"]",
            "The whole container network. No two may overlap.",
        ),
        list(
            "subnets",
            Kind::Subnet,
            Error,
            "[\"10.77.200.0/24\", \"fd77:0:0:200::/64\"]",
            "The gateway's own part of it: inside a network, apart from every peer's, at least a /29 or a /125.",
        ),
        field(
            "vni",
            Kind::Number(1, 0xff_ffff),
            Default("`1`"),
            "1",
            "The VXLAN network identifier: the same on every node.",
        ),
        field("port", Kind::Port, Default("`8472`"), "8472", "The UDP port of VXLAN: the same on every node."),
        field(
            "mtu",
            Kind::Number(1280, 9000),
            Default("the underlay's MTU less the encapsulation"),
            "1450",
            "The largest packet inside VXLAN, where that is less than the underlay could carry. A smaller MTU of a \
             route to a peer (`ip route add ... mtu 1400`), less the encapsulation, takes precedence. So does the MTU of \
             a route to clients, for packets to them.",
        ),
        field(
            "public_ip",
            Kind::Ipv4,
            ErrorIf("there is an IPv4 subnet"),
            "\"10.99.0.50\"",
            "The gateway's IPv4 address on the underlay, which peers send to. Outside the networks.",
        ),
        field("public_ipv6", Kind::Ipv6, ErrorIf("there is an IPv6 subnet"), "\"fd99::50\"", "The same for IPv6."),
        field(
            "vtep_mac",
            Kind::Mac,
            ErrorIf("there is an IPv4 subnet and VXLAN is used"),
            "\"0a:58:0a:4d:c8:00\"",
            "The link address of the gateway's VTEP over IPv4. It identifies the gateway to its peers, so it is unique \
             in the whole network.",
        ),
        field(
            "vtep_mac_v6",
            Kind::Mac,
            ErrorIf("there is an IPv6 subnet and VXLAN is used"),
            "\"0a:58:0a:4d:c8:06\"",
            "The same over IPv6: another address, since flannel has a device for each family.",
        ),
        list(
            "snat_pool",
            Kind::Address,
            Default("the third to sixth address of each own subnet (`.2` to `.5`)"),
            "[\"10.77.200.2\", \"fd77:0:0:200::2\"]",
            "The SNAT pool: the addresses that pods see in place of clients' addresses. Inside the own subnets, never a \
             subnet's first address, which is the gateway's own.",
        ),
    ],
};

/// `[[peer]]`
pub const PEER: Section = Section {
    name: "peer",
    repeated: true,
    required: false,
    meaning: "A node of the container network. At most 16384.",
    fields: &[
        list(
            "subnets",
            Kind::Subnet,
            Error,
            "[\"10.77.74.0/24\", \"fd77:0:0:74::/64\"]",
            "The node's pods: inside a network, apart from every other subnet.",
        ),
        field(
            "public_ip",
            Kind::Ipv4,
            ErrorIf("the peer has an IPv4 subnet"),
            "\"10.99.0.11\"",
            "The node's IPv4 address on the underlay: its own alone, outside the networks.",
        ),
        field("public_ipv6", Kind::Ipv6, ErrorIf("the peer has an IPv6 subnet"), "\"fd99::11\"", "The same for IPv6."),
        field(
            "vtep_mac",
            Kind::Mac,
            ErrorIf("the peer has an IPv4 subnet and its backend is VXLAN"),
            "\"96:b5:c3:d1:0b:f4\"",
            "The link address of the node's `flannel.1`: its own alone.",
        ),
        field(
            "vtep_mac_v6",
            Kind::Mac,
            ErrorIf("the peer has an IPv6 subnet and its backend is VXLAN"),
            "\"96:b5:c3:d1:0b:f6\"",
            "The link address of the node's `flannel-v6.1`: its own alone.",
        ),
        field(
            "backend",
            Kind::Word(BACKENDS),
            Default("that of the overlay"),
            "\"vxlan\"",
            "How packets reach this node, where it differs from the overlay's `backend`.",
        ),
    ],
};

/// `[[service]]`
pub const SERVICE: Section = Section {
    name: "service",
    repeated: true,
    required: false,
    meaning: "A service: where clients reach it and who answers. At most 65536. Clients reach it at `node_port` of \
              the uplink's addresses, or at `port` of the external addresses; it has at least one of the two.",
    fields: &[
        field("name", Kind::Name, Error, "\"web\"", "What status and logs call it. Each name once."),
        field("protocol", Kind::Word(&["tcp", "udp", "sctp"]), Error, "\"tcp\"", "The transport protocol."),
        field("port", Kind::Port, ErrorIf("there are external addresses"), "80", "The port on the external addresses."),
        field(
            "node_port",
            Kind::Port,
            Default("no node port"),
            "30080",
            "The port on the uplink's addresses: each protocol and port once, and for UDP not the overlay's `port`.",
        ),
        list(
            "external_addresses",
            Kind::Address,
            Default("none"),
            "[\"203.0.113.10\"]",
            "Addresses at which clients reach the service at `port`. Outside the overlay's networks; each address, \
             protocol and port once.",
        ),
        field(
            "client_address",
            Kind::Word(&["translate", "preserve"]),
            Default("`\"translate\"`"),
            "\"translate\"",
            "The source address that backends see. `\"translate\"`: an address of `snat_pool`, so replies return to the \
             gateway by themselves. `\"preserve\"`: the client's address is preserved. Every node with a backend then needs a \
             route to the clients over the overlay through this gateway (`ip route add 192.0.2.0/24 via 10.77.200.0 dev \
             flannel.1 onlink`). No peer may have the backend `\"host-gw\"`: over it, replies to clients look like any \
             other traffic. Pods that use the service through the gateway are translated in any case.",
        ),
        field(
            "removed_backend",
            Kind::Word(&["continue", "reset"]),
            Default("`\"continue\"`"),
            "\"continue\"",
            "What happens to open TCP connections to a backend that is removed from `backends`. `\"continue\"`: they go on \
             for as long as the backend answers. `\"reset\"`: a segment from either end is answered with a TCP reset, unless the \
             service is removed as a whole.",
        ),
        field(
            "dscp",
            Kind::Number(0, 63),
            Default("that of `[policy]`"),
            "46",
            "The differentiated services codepoint of packets towards the service's backends, in the packet itself.",
        ),
        list(
            "backends",
            Kind::Endpoint,
            Error,
            "[\"10.77.74.10:80\", \"[fd77:0:0:74::10]:80\"]",
            "The pods that answer: each inside a peer's subnet, of a family in which clients can reach the service, \
             each once, fewer than `table_size`.",
        ),
    ],
};

/// `[policy]`
pub const POLICY: Section = Section {
    name: "policy",
    repeated: false,
    required: false,
    meaning: "What is done to packets beyond translating them.",
    fields: &[
        field(
            "mss",
            Kind::Either(&["off", "auto"], 536, 65_495),
            Default("`\"off\"`"),
            "\"auto\"",
            "The limit to which the gateway lowers the maximum segment size in the SYNs of both ends of a TCP connection. \
             `\"auto\"`: what fits the smaller MTU of the two paths, to pods and to clients, as `TCPMSS \
             --clamp-mss-to-pmtu` does. A number of bytes: for a path that is narrower beyond them. The size is never \
             raised, and the option is never added to a SYN without it.",
        ),
        field(
            "dscp",
            Kind::Number(0, 63),
            Default("as the client set it"),
            "0",
            "The differentiated services codepoint of packets towards pods, for services without a `dscp` of their own. \
             Congestion marks stay as they are.",
        ),
        field(
            "outer_dscp",
            Kind::Either(&["copy"], 0, 63),
            Default("`0`"),
            "\"copy\"",
            "The codepoint of VXLAN's outer header: that of the packet inside, or always this one. Decapsulated packets \
             keep their own (RFC 2983, pipe model).",
        ),
        field(
            "echo",
            Kind::Word(&["on", "off"]),
            Default("`\"on\"`"),
            "\"on\"",
            "Whether the gateway answers pings of services' external addresses, fragmented ones included. The kernel \
             answers pings of the interfaces' addresses. With `\"off\"` the kernel gets the others as well.",
        ),
        field(
            "echo_per_second",
            Kind::Number(0, 10_000_000),
            Default("`1000`"),
            "1000",
            "Pings that each worker answers in a second, with a tenth of that at once; further ones are dropped \
             (`echo-limit`). Pings of the overlay's own addresses have a budget of their own. `0` for no limit.",
        ),
    ],
};

/// `[masquerade]`
pub const MASQUERADE: Section = Section {
    name: "masquerade",
    repeated: false,
    required: false,
    meaning: "Pods' own connections to the outside: TCP, UDP and echo. Without it no pod's packet leaves through the \
              gateway. The pods' nodes need a route to the outside over the overlay (`ip route add default via \
              10.77.200.0 dev flannel.1 onlink`, or to some networks only); nodes of peers with the backend \
              `\"host-gw\"` route to the gateway's underlay address instead. All that their pods send outside is the \
              gateway's then: answers to connections that reach them past the gateway, too, unless `non_masquerade` has \
              their destinations.",
    fields: &[
        list(
            "addresses",
            Kind::Address,
            Error,
            "[\"198.51.100.7\", \"2001:db8:7::7\"]",
            "The addresses that pods' packets leave with (masquerade): at most 64 of each family. They serve nothing else, \
             since everything sent to them is the gateway's: none may be an address of the uplink, the underlay or a \
             service. The outside must send packets for them to the gateway: by a route, or because the uplink's \
             interface has them too.",
        ),
        field(
            "first_port",
            Kind::Number(1, 65_535),
            Default("`1024`"),
            "1024",
            "The first port, or echo identifier, that pods' flows are masqueraded to.",
        ),
        field(
            "last_port",
            Kind::Number(1, 65_535),
            Default("`65535`"),
            "65535",
            "The last one: at least 64 after the first, so that every worker has some. Towards one destination a pod may \
             use a quarter of an address's ports (`ports-exhausted` past that), so that no pod uses them up. With more \
             addresses each pod has more.",
        ),
        list(
            "non_masquerade",
            Kind::Subnet,
            Default("the overlay's networks"),
            "[\"10.77.0.0/16\", \"fd77::/48\"]",
            "Destinations to which the gateway forwards no pod's packet (`not-masqueraded`): pods reach each other \
             without the gateway. What comes by a plain route (`\"host-gw\"`) is left to the kernel there.",
        ),
    ],
};

/// `[flows]`
pub const FLOWS: Section = Section {
    name: "flows",
    repeated: false,
    required: false,
    meaning: "The flow tables, allocated at the start. In a full table a new flow evicts one that is half-open, \
              unanswered, ended or never assured; where there is none, the new flow is refused. Assured connections \
              are never evicted.",
    fields: &[
        field(
            "capacity_v4",
            Kind::Number(1024, 16_777_215),
            Default("`65536`"),
            "65536",
            "Flows over IPv4 that each worker has room for.",
        ),
        field(
            "capacity_v6",
            Kind::Number(1024, 16_777_215),
            Default("`65536`"),
            "65536",
            "Flows over IPv6 that each worker has room for.",
        ),
        field(
            "half_open_per_client",
            Kind::Number(0, 16_777_215),
            Default("`4096`"),
            "4096",
            "The limit on TCP and SCTP flows of one client, in each worker and family, whose handshake is not finished. \
             It applies once such flows take a quarter of the table, or all flows three quarters. A further one then \
             evicts its client's oldest if no other client's is older, and is dropped otherwise (`half-open-limit`). A \
             client is an IPv4 address, an IPv6 /64, or a pod. `0` for no limit.",
        ),
        field(
            "new_per_second",
            Kind::Number(0, 10_000_000),
            Default("`0`"),
            "0",
            "New flows that each worker creates in a second, with a tenth of that at once; further ones are dropped \
             (`new-flow-limit`). `0` for no limit.",
        ),
        field(
            "past_limit",
            Kind::Word(&["drop", "stateless"]),
            Default("`\"drop\"`"),
            "\"drop\"",
            "What happens to a packet that would create a flow past `new_per_second`, or in a table in which nothing can \
             be evicted. `\"drop\"`: it is dropped. `\"stateless\"`: stateless forwarding, to the backend that the hash \
             selects, for services with `client_address = \"preserve\"`, one address and port in the packet's family, and \
             backends that belong to no other service; other services' packets are dropped. TCP segments for such a \
             service that belong to no flow are forwarded in the same manner. Packets that such a backend sends from its \
             port without a flow count as replies.",
        ),
        field(
            "memory",
            Kind::Directory,
            Default("reserved huge pages in a mounted hugetlbfs where enough are free, otherwise `/dev/shm/weirgate`"),
            "\"/dev/shm/weirgate\"",
            "The directory for the workers' flow tables: files that outlive the process, so that the next one continues \
             its connections. In a tmpfs or a hugetlbfs. Created if missing; an orderly stop leaves nothing in it.",
        ),
    ],
};

/// `[fragments]`
pub const FRAGMENTS: Section = Section {
    name: "fragments",
    repeated: false,
    required: false,
    meaning: "Fragmented datagrams. Fragments are forwarded as they arrive, after the first one, which has the ports. \
              Fragments that arrive before it wait. Where there is no room, those that have waited longest are dropped.",
    fields: &[
        field(
            "datagrams",
            Kind::Number(16, 65_536),
            Default("`1024`"),
            "1024",
            "Fragmented datagrams that each worker can track at a time; each takes about two kibibytes.",
        ),
        field(
            "held_kib",
            Kind::Number(4, 1_048_576),
            Default("`1024`"),
            "1024",
            "Kibibytes of fragments that each worker can hold until the first one of their datagram arrives.",
        ),
        field(
            "wait_ms",
            Kind::Number(100, 30_000),
            Default("`2000`"),
            "2000",
            "Milliseconds that a fragment waits for the first one, and that a datagram is tracked after its last \
             fragment.",
        ),
    ],
};

const SECONDS: Kind = Kind::Number(1, 2_592_000);

/// `[timeouts]`
pub const TIMEOUTS: Section = Section {
    name: "timeouts",
    repeated: false,
    required: false,
    meaning: "Idle timeouts: seconds without a packet after which a flow is over. Its entry and its port may stay taken \
              for up to 8 seconds more, but no packet matches it any more.",
    fields: &[
        field("tcp_syn_sent", SECONDS, Default("`120`"), "120", "TCP after the client's SYN."),
        field(
            "tcp_syn_recv",
            SECONDS,
            Default("`60`"),
            "60",
            "TCP after the server's answer to the SYN, until the client acknowledges that answer.",
        ),
        field(
            "tcp_established",
            SECONDS,
            Default("`86400`"),
            "86400",
            "TCP while open; RFC 5382 asks for 7440 or more.",
        ),
        field(
            "tcp_fin_wait",
            SECONDS,
            Default("`7440`"),
            "7440",
            "TCP after one side's FIN, until the other side acknowledges it: never longer than `tcp_established`.",
        ),
        field(
            "tcp_close_wait",
            SECONDS,
            Default("`3600`"),
            "3600",
            "TCP after one side's FIN was acknowledged: the other side may go on sending.",
        ),
        field("tcp_last_ack", SECONDS, Default("`30`"), "30", "TCP after both sides' FINs."),
        field("tcp_time_wait", SECONDS, Default("`120`"), "120", "TCP after the last acknowledgement."),
        field(
            "tcp_reset",
            SECONDS,
            Default("`240`"),
            "240",
            "TCP after a reset, until packets from both sides show that the connection is alive; RFC 7857 asks for 240.",
        ),
        field("tcp_syn_sent2", SECONDS, Default("`120`"), "120", "TCP after a SYN of both sides."),
        field(
            "udp",
            SECONDS,
            Default("`120`"),
            "120",
            "UDP until the client has sent again after a reply; RFC 4787 asks for 120 or more.",
        ),
        field("udp_stream", SECONDS, Default("`300`"), "300", "UDP from then on."),
        field("icmp", SECONDS, Default("`60`"), "60", "Echo requests and their replies; RFC 5508 asks for 60 or more."),
        field("sctp_cookie_wait", SECONDS, Default("`3`"), "3", "SCTP after the client's INIT."),
        field("sctp_cookie_echoed", SECONDS, Default("`3`"), "3", "SCTP after the client's cookie."),
        field("sctp_established", SECONDS, Default("`210`"), "210", "SCTP while open."),
        field("sctp_shutdown_sent", SECONDS, Default("`3`"), "3", "SCTP that the client shuts down."),
        field("sctp_shutdown_recd", SECONDS, Default("`3`"), "3", "SCTP that the server shuts down."),
        field("sctp_shutdown_ack_sent", SECONDS, Default("`3`"), "3", "SCTP whose shutdown was acknowledged."),
        field("sctp_closed", SECONDS, Default("`10`"), "10", "SCTP after its end."),
    ],
};

/// `[selector]`
pub const SELECTOR: Section = Section {
    name: "selector",
    repeated: false,
    required: false,
    meaning: "How new flows are spread over backends. Gateways with the same values pick the same backends.",
    fields: &[
        field(
            "table_size",
            Kind::Number(3, 655_373),
            Default("`65537`"),
            "65537",
            "Slots of each service's lookup table: a prime, larger than the number of its backends; a hundred times \
             larger spreads evenly.",
        ),
        field(
            "seed",
            Kind::Number(0, i64::MAX as u64),
            Default("`0`"),
            "0",
            "Seed of the selection: equal on all gateways of one network.",
        ),
    ],
};
