//! The file's content with the position of every value, before the rules that span fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use toml::de::DeTable;
use weirgate::fragment::Limits;
use weirgate::net::{Endpoint, Mac, Protocol, Vni};
use weirgate::snapshot::{
    Admission, ClientAddress, Echo, MssLimit, NODE_PORTS, OuterDscp, PastLimit, Policy, RemovedBackend, Timeouts,
};
use weirgate::time::Span;
use weirgate::wire::Dscp;

use super::fields;
use super::problem::{Findings, Located};
use super::read::{Either, List, Ports, Table, refuse_unknown_tables};
use super::{Backend, CONTROL_SOCKET, Config, Masquerade, Overlay, Peer, Poll, Service};

/// How many addresses of each own subnet the SNAT pool has by default.
const POOL_DEFAULT: usize = 4;

#[derive(Debug)]
pub(super) struct Sections<'t> {
    poll: Poll,
    workers: Option<u64>,
    first_core: usize,
    control_socket: String,
    uplink: Option<String>,
    pub(super) uplink_addresses: Option<List<IpAddr>>,
    pub(super) node_ports: (u16, u16),
    underlay: Option<String>,
    pub(super) overlay: OverlaySection<'t>,
    pub(super) peers: Vec<PeerSection<'t>>,
    pub(super) services: Vec<ServiceSection<'t>>,
    mss: MssLimit,
    dscp: Option<Dscp>,
    outer_dscp: OuterDscp,
    pub(super) masquerade: MasqueradeSection<'t>,
    flows_v4: u32,
    flows_v6: u32,
    fragments: Limits,
    flows_memory: Option<String>,
    timeouts: Timeouts,
    admission: Admission,
    echo: Echo,
    pub(super) table_size: Option<Located<u64>>,
    seed: u64,
}

#[derive(Debug)]
pub(super) struct OverlaySection<'t> {
    pub(super) table: Table<'t>,
    pub(super) backend: Backend,
    pub(super) networks: Option<List<IpNet>>,
    pub(super) member: Member,
    vni: u32,
    pub(super) port: u16,
    mtu: Option<u64>,
    pub(super) snat_pool: Option<List<IpAddr>>,
}

/// What the gateway and its peers have in common: subnets of the overlay, and their underlay addresses.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) subnets: Option<List<IpNet>>,
    pub(super) public_v4: Option<Located<Ipv4Addr>>,
    pub(super) public_v6: Option<Located<Ipv6Addr>>,
    pub(super) vtep_v4: Option<Located<Mac>>,
    pub(super) vtep_v6: Option<Located<Mac>>,
}

#[derive(Debug)]
pub(super) struct PeerSection<'t> {
    pub(super) table: Table<'t>,
    pub(super) member: Member,
    pub(super) backend: Backend,
}

#[derive(Debug)]
pub(super) struct ServiceSection<'t> {
    pub(super) table: Table<'t>,
    pub(super) name: Option<Located<String>>,
    pub(super) protocol: Option<Protocol>,
    pub(super) port: Option<Located<u16>>,
    pub(super) node_port: Option<Located<u16>>,
    pub(super) external: Option<List<IpAddr>>,
    pub(super) client_address: Option<Located<ClientAddress>>,
    removed_backend: RemovedBackend,
    dscp: Option<Dscp>,
    pub(super) backends: Option<List<Endpoint>>,
}

#[derive(Debug)]
pub(super) struct MasqueradeSection<'t> {
    pub(super) table: Table<'t>,
    pub(super) addresses: Option<List<IpAddr>>,
    pub(super) first_port: u16,
    pub(super) last_port: u16,
    exempt: Option<List<IpNet>>,
}

impl Member {
    fn read(table: &Table<'_>, findings: &mut Findings<'_>) -> Self {
        Self {
            subnets: table.many("subnets", findings),
            public_v4: table.one("public_ip", findings),
            public_v6: table.one("public_ipv6", findings),
            vtep_v4: table.one("vtep_mac", findings),
            vtep_v6: table.one("vtep_mac_v6", findings),
        }
    }

    pub(super) fn subnets(&self) -> &[Located<IpNet>] {
        self.subnets.as_ref().map_or(&[], |list| &list.items)
    }
}

/// The number of a field, or its default. Every allowed value fits the type.
fn number<T: TryFrom<u64>>(table: &Table<'_>, name: &str, default: T, findings: &mut Findings<'_>) -> T {
    let number = table.one::<u64>(name, findings).and_then(|located| located.value.try_into().ok());
    number.unwrap_or(default)
}

fn backend(table: &Table<'_>, default: Backend, findings: &mut Findings<'_>) -> Backend {
    match table.one::<String>("backend", findings) {
        Some(word) if word.value == Backend::HostGw.name() => Backend::HostGw,
        Some(_) => Backend::Vxlan,
        None => default,
    }
}

/// The codepoint of a number that has been checked.
fn codepoint(number: u64) -> Dscp {
    u8::try_from(number).ok().and_then(Dscp::new).unwrap_or_default()
}

fn dscp(table: &Table<'_>, findings: &mut Findings<'_>) -> Option<Dscp> {
    table.one::<u64>("dscp", findings).map(|located| codepoint(located.value))
}

/// Reads every table; `end` is the length of the file.
pub(super) fn read<'t>(document: &'t DeTable<'t>, end: usize, findings: &mut Findings<'_>) -> Sections<'t> {
    refuse_unknown_tables(document, findings);
    let gateway = Table::single(document, &fields::GATEWAY, end, findings);
    let uplink = Table::single(document, &fields::UPLINK, end, findings);
    let underlay = Table::single(document, &fields::UNDERLAY, end, findings);
    let policy = Table::single(document, &fields::POLICY, end, findings);
    let masquerade = Table::single(document, &fields::MASQUERADE, end, findings);
    let flows = Table::single(document, &fields::FLOWS, end, findings);
    let fragments = Table::single(document, &fields::FRAGMENTS, end, findings);
    let timeouts = Table::single(document, &fields::TIMEOUTS, end, findings);
    let selector = Table::single(document, &fields::SELECTOR, end, findings);
    let overlay = overlay(Table::single(document, &fields::OVERLAY, end, findings), findings);
    let peers = Table::repeated(document, &fields::PEER, findings)
        .into_iter()
        .map(|table| PeerSection {
            member: Member::read(&table, findings),
            backend: backend(&table, overlay.backend, findings),
            table,
        })
        .collect();
    let services = Table::repeated(document, &fields::SERVICE, findings)
        .into_iter()
        .map(|table| ServiceSection {
            name: table.one("name", findings),
            protocol: table
                .one::<String>("protocol", findings)
                .and_then(|word| Protocol::named().find(|(_, name)| *name == word.value).map(|(protocol, _)| protocol)),
            port: table.one("port", findings),
            node_port: table.one("node_port", findings),
            external: table.many("external_addresses", findings),
            client_address: table.one::<String>("client_address", findings).map(|word| Located {
                value: if word.value == "preserve" { ClientAddress::Preserve } else { ClientAddress::Translate },
                place: word.place,
            }),
            removed_backend: match table.one::<String>("removed_backend", findings) {
                Some(word) if word.value == "reset" => RemovedBackend::Reset,
                _ => RemovedBackend::Continue,
            },
            dscp: dscp(&table, findings),
            backends: table.many("backends", findings),
            table,
        })
        .collect();
    Sections {
        poll: match gateway.one::<String>("poll", findings) {
            Some(word) if word.value == "busy" => Poll::Busy,
            _ => Poll::Adaptive,
        },
        workers: gateway.one("workers", findings).map(|located| located.value),
        first_core: number(&gateway, "first_core", 0, findings),
        control_socket: gateway
            .one("control_socket", findings)
            .map_or_else(|| CONTROL_SOCKET.to_owned(), |located| located.value),
        uplink: uplink.one("interface", findings).map(|located| located.value),
        uplink_addresses: uplink.many("addresses", findings),
        node_ports: uplink
            .one::<Ports>("node_ports", findings)
            .map_or(NODE_PORTS, |ports| (ports.value.0, ports.value.1)),
        underlay: underlay.one("interface", findings).map(|located| located.value),
        overlay,
        peers,
        services,
        mss: match policy.one("mss", findings).map(|located| located.value) {
            Some(Either::Word(word)) if word == "auto" => MssLimit::Path,
            Some(Either::Number(most)) => u16::try_from(most).map_or(MssLimit::Off, MssLimit::Bytes),
            _ => MssLimit::Off,
        },
        dscp: dscp(&policy, findings),
        outer_dscp: match policy.one("outer_dscp", findings).map(|located| located.value) {
            Some(Either::Word(_)) => OuterDscp::Copy,
            Some(Either::Number(number)) => OuterDscp::Fixed(codepoint(number)),
            None => OuterDscp::default(),
        },
        masquerade: MasqueradeSection {
            addresses: masquerade.many("addresses", findings),
            first_port: number(&masquerade, "first_port", 1024, findings),
            last_port: number(&masquerade, "last_port", 65_535, findings),
            exempt: masquerade.many("non_masquerade", findings),
            table: masquerade,
        },
        flows_v4: number(&flows, "capacity_v4", 65_536, findings),
        flows_v6: number(&flows, "capacity_v6", 65_536, findings),
        fragments: read_fragments(&fragments, findings),
        flows_memory: flows.one("memory", findings).map(|located| located.value),
        timeouts: read_timeouts(&timeouts, findings),
        admission: read_admission(&flows, findings),
        echo: read_echo(&policy, findings),
        table_size: selector.one("table_size", findings),
        seed: number(&selector, "seed", 0, findings),
    }
}

fn overlay<'t>(table: Table<'t>, findings: &mut Findings<'_>) -> OverlaySection<'t> {
    OverlaySection {
        backend: backend(&table, Backend::Vxlan, findings),
        networks: table.many("networks", findings),
        member: Member::read(&table, findings),
        vni: number(&table, "vni", 1, findings),
        port: table.one("port", findings).map_or(8472, |located| located.value),
        mtu: table.one("mtu", findings).map(|located| located.value),
        snat_pool: table.many("snat_pool", findings),
        table,
    }
}

fn read_fragments(table: &Table<'_>, findings: &mut Findings<'_>) -> Limits {
    let default = Limits::default();
    let mut figure = |name, default: u32| number(table, name, default, findings);
    let datagrams = figure("datagrams", default.datagrams);
    let held_bytes = figure("held_kib", default.held_bytes / 1024).saturating_mul(1024);
    let wait = Span::from_millis(figure("wait_ms", (default.wait.0 / Span::from_millis(1).0) as u32).into());
    Limits { datagrams, held_bytes, wait }
}

fn read_admission(table: &Table<'_>, findings: &mut Findings<'_>) -> Admission {
    let default = Admission::default();
    let mut figure = |name, default: u32| number(table, name, default, findings);
    Admission {
        half_open_per_client: figure("half_open_per_client", default.half_open_per_client),
        new_flows_per_second: figure("new_per_second", default.new_flows_per_second),
        past_limit: match table.one::<String>("past_limit", findings) {
            Some(word) if word.value == "stateless" => PastLimit::Stateless,
            _ => PastLimit::Drop,
        },
    }
}

fn read_echo(table: &Table<'_>, findings: &mut Findings<'_>) -> Echo {
    let default = Echo::default();
    Echo {
        services: table.one::<String>("echo", findings).map_or(default.services, |word| word.value == "on"),
        per_second: number(table, "echo_per_second", default.per_second, findings),
    }
}

fn read_timeouts(table: &Table<'_>, findings: &mut Findings<'_>) -> Timeouts {
    let default = Timeouts::default();
    let mut seconds = |name, default: u32| number(table, name, default, findings);
    Timeouts {
        tcp_syn_sent_seconds: seconds("tcp_syn_sent", default.tcp_syn_sent_seconds),
        tcp_syn_received_seconds: seconds("tcp_syn_recv", default.tcp_syn_received_seconds),
        tcp_established_seconds: seconds("tcp_established", default.tcp_established_seconds),
        tcp_fin_wait_seconds: seconds("tcp_fin_wait", default.tcp_fin_wait_seconds),
        tcp_close_wait_seconds: seconds("tcp_close_wait", default.tcp_close_wait_seconds),
        tcp_last_ack_seconds: seconds("tcp_last_ack", default.tcp_last_ack_seconds),
        tcp_time_wait_seconds: seconds("tcp_time_wait", default.tcp_time_wait_seconds),
        tcp_reset_seconds: seconds("tcp_reset", default.tcp_reset_seconds),
        tcp_syn_sent2_seconds: seconds("tcp_syn_sent2", default.tcp_syn_sent2_seconds),
        udp_seconds: seconds("udp", default.udp_seconds),
        udp_stream_seconds: seconds("udp_stream", default.udp_stream_seconds),
        icmp_seconds: seconds("icmp", default.icmp_seconds),
        sctp_cookie_wait_seconds: seconds("sctp_cookie_wait", default.sctp_cookie_wait_seconds),
        sctp_cookie_echoed_seconds: seconds("sctp_cookie_echoed", default.sctp_cookie_echoed_seconds),
        sctp_established_seconds: seconds("sctp_established", default.sctp_established_seconds),
        sctp_shutdown_sent_seconds: seconds("sctp_shutdown_sent", default.sctp_shutdown_sent_seconds),
        sctp_shutdown_received_seconds: seconds("sctp_shutdown_recd", default.sctp_shutdown_received_seconds),
        sctp_shutdown_ack_sent_seconds: seconds("sctp_shutdown_ack_sent", default.sctp_shutdown_ack_sent_seconds),
        sctp_closed_seconds: seconds("sctp_closed", default.sctp_closed_seconds),
    }
}

impl MasqueradeSection<'_> {
    fn assemble(&self, networks: &List<IpNet>) -> Option<Masquerade> {
        Some(Masquerade {
            addresses: self.addresses.iter().flat_map(List::values).copied().collect(),
            ports: (self.first_port, self.last_port),
            exempt: self.exempt.as_ref().unwrap_or(networks).values().copied().collect(),
        })
    }
}

impl Sections<'_> {
    /// The number of slots of each lookup table.
    pub(super) fn table_size(&self) -> u64 {
        self.table_size.as_ref().map_or(65_537, |located| located.value)
    }

    /// The plain configuration; `None` where a required field is absent, which has been reported.
    pub(super) fn assemble(&self) -> Option<Config> {
        let overlay = &self.overlay;
        let own: Vec<IpNet> = overlay.member.subnets.as_ref()?.values().copied().collect();
        let networks = overlay.networks.as_ref()?;
        let services = self.services.iter().map(|service| {
            Some(Service {
                name: service.name.as_ref()?.value.clone(),
                protocol: service.protocol?,
                port: service.port.as_ref().map(|port| port.value),
                node_port: service.node_port.as_ref().map(|port| port.value),
                external: service.external.iter().flat_map(List::values).copied().collect(),
                policy: Policy {
                    client_address: service.client_address.as_ref().map_or_else(Default::default, |word| word.value),
                    removed_backend: service.removed_backend,
                    dscp: service.dscp.or(self.dscp),
                },
                backends: service.backends.as_ref()?.values().copied().collect(),
            })
        });
        let peers = self.peers.iter().map(|peer| {
            Some(Peer {
                subnets: peer.member.subnets.as_ref()?.values().copied().collect(),
                public_v4: peer.member.public_v4.as_ref().map(|located| located.value),
                public_v6: peer.member.public_v6.as_ref().map(|located| located.value),
                vtep_v4: peer.member.vtep_v4.as_ref().map(|located| located.value),
                vtep_v6: peer.member.vtep_v6.as_ref().map(|located| located.value),
                backend: peer.backend,
            })
        });
        Some(Config {
            poll: self.poll,
            workers: self.workers.and_then(|count| u8::try_from(count).ok()),
            first_core: self.first_core,
            control_socket: self.control_socket.clone().into(),
            uplink: self.uplink.clone()?,
            uplink_addresses: self.uplink_addresses.as_ref().map(|list| list.values().copied().collect()),
            underlay: self.underlay.clone()?,
            overlay: Overlay {
                backend: overlay.backend,
                networks: overlay.networks.as_ref()?.values().copied().collect(),
                vni: Vni::new(overlay.vni)?,
                port: overlay.port,
                mtu: overlay.mtu.and_then(|mtu| u16::try_from(mtu).ok()),
                public_v4: overlay.member.public_v4.as_ref().map(|located| located.value),
                public_v6: overlay.member.public_v6.as_ref().map(|located| located.value),
                vtep_v4: overlay.member.vtep_v4.as_ref().map(|located| located.value),
                vtep_v6: overlay.member.vtep_v6.as_ref().map(|located| located.value),
                snat_pool: match &overlay.snat_pool {
                    Some(list) => list.values().copied().collect(),
                    None => own.iter().flat_map(default_pool).collect(),
                },
                subnets: own,
            },
            peers: peers.collect::<Option<_>>()?,
            services: services.collect::<Option<_>>()?,
            node_ports: self.node_ports,
            mss: self.mss,
            outer_dscp: self.outer_dscp,
            masquerade: self.masquerade.assemble(networks)?,
            flows_v4: self.flows_v4,
            flows_v6: self.flows_v6,
            fragments: self.fragments,
            flows_memory: self.flows_memory.clone().map(Into::into),
            timeouts: self.timeouts,
            admission: self.admission,
            echo: self.echo,
            table_size: u32::try_from(self.table_size()).ok()?,
            seed: self.seed,
        })
    }
}

/// The default SNAT pool of a subnet: the addresses after the first, which is the gateway's own, and
/// the second, which on other nodes is the bridge.
pub(super) fn default_pool(subnet: &IpNet) -> impl Iterator<Item = IpAddr> {
    (2..).take(POOL_DEFAULT).map(address_at(*subnet))
}

/// A subnet's address at this offset from its first.
pub(super) fn address_at(subnet: IpNet) -> impl Fn(u32) -> IpAddr {
    move |index| match subnet {
        IpNet::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.network().to_bits().wrapping_add(index))),
        IpNet::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.network().to_bits().wrapping_add(u128::from(index)))),
    }
}
