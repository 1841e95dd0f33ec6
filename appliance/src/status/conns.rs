//! What `weirgate conns` reports: flows, the filter that selects them, and the line that a person reads.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weirgate::flow::State;
use weirgate::net::Protocol;

/// A flow.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Conn {
    /// `tcp`, `udp`, ..., or the protocol's number.
    pub protocol: String,
    /// The protocol's number.
    pub protocol_number: u8,
    /// Its state, as `conntrack` calls it, such as `ESTABLISHED`; empty for a protocol without states.
    pub state: String,
    /// Seconds until its idle timeout.
    pub timeout_seconds: u32,
    /// Whether it is assured, so that it is not among the first to be evicted from a full table.
    pub assured: bool,
    /// Whether the backend has answered.
    pub replied: bool,
    /// The service's name; empty where the configuration no longer has the service.
    pub service: String,
    /// The worker that has it.
    pub worker: u32,
    /// The original direction, as the client sends.
    pub original: ConnTuple,
    /// The reply direction, as the backend answers.
    pub reply: ConnTuple,
}

/// A direction of a flow.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct ConnTuple {
    /// The sender.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// IP packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Display for Conn {
    /// As `conntrack -L` prints a flow, with service and worker at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {} {} ", self.protocol, self.protocol_number, self.timeout_seconds)?;
        if !self.state.is_empty() {
            write!(f, "{} ", self.state)?;
        }
        self.original.fmt(f)?;
        if !self.replied {
            f.write_str("[UNREPLIED] ")?;
        }
        self.reply.fmt(f)?;
        if self.assured {
            f.write_str("[ASSURED] ")?;
        }
        let service = if self.service.is_empty() { "-" } else { &self.service };
        write!(f, "service={service} worker={}", self.worker)
    }
}

impl fmt::Display for ConnTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, source_port, destination_port, packets, bytes } = self;
        write!(
            f,
            "src={source} dst={destination} sport={source_port} dport={destination_port} packets={packets} bytes={bytes} "
        )
    }
}

/// Which flows to show: those that match every field.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub struct Filter {
    /// Of the service with this name.
    pub service: Option<String>,
    /// From these clients.
    pub client: Option<AddressFilter>,
    /// To these backends.
    pub backend: Option<AddressFilter>,
    /// In this state.
    pub state: Option<InState>,
    /// Of this protocol.
    pub protocol: Option<OfProtocol>,
}

impl Filter {
    /// Whether the flow matches.
    #[must_use]
    pub fn picks(&self, conn: &Conn) -> bool {
        let among = |wanted: &Option<AddressFilter>, address, port| {
            wanted.as_ref().is_none_or(|wanted| wanted.contains(address, port))
        };
        self.service.as_ref().is_none_or(|service| *service == conn.service)
            && among(&self.client, conn.original.source, conn.original.source_port)
            && among(&self.backend, conn.reply.source, conn.reply.source_port)
            && self.state.is_none_or(|InState(state)| state.name() == conn.state)
            && self.protocol.is_none_or(|OfProtocol(protocol)| protocol.0 == conn.protocol_number)
    }
}

/// An address, an address with a port, or a subnet.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct AddressFilter {
    subnet: IpNet,
    port: Option<u16>,
}

impl AddressFilter {
    fn contains(&self, address: IpAddr, port: u16) -> bool {
        self.subnet.contains(&address) && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl FromStr for AddressFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { subnet: address.into(), port: None });
        }
        if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self { subnet: socket.ip().into(), port: Some(socket.port()) });
        }
        match text.parse::<IpNet>() {
            Ok(subnet) => Ok(Self { subnet, port: None }),
            Err(_) => {
                Err("not an address; use one such as 10.77.74.10, 10.77.74.10:80, [fd77::10]:80 or 10.77.74.0/24"
                    .to_owned())
            }
        }
    }
}

/// A state, and those of other protocols with the same name.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct InState(State);

impl FromStr for InState {
    type Err = String;

    /// In small letters or large ones, with `-` or `_`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.replace('-', "_");
        let named = || State::ALL.iter().filter(|state| !state.name().is_empty());
        named().find(|state| state.name().eq_ignore_ascii_case(&wanted)).copied().map(Self).ok_or_else(|| {
            let known: BTreeSet<String> = named().map(|state| state.name().to_ascii_lowercase()).collect();
            format!("no such state; use one of {}", Vec::from_iter(known).join(", "))
        })
    }
}

/// A protocol that flows have.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct OfProtocol(Protocol);

impl FromStr for OfProtocol {
    type Err = String;

    /// By name or number.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_it =
            |(protocol, name): &(Protocol, &str)| name.eq_ignore_ascii_case(text) || text == protocol.0.to_string();
        Protocol::named().find(is_it).map(|(protocol, _)| Self(protocol)).ok_or_else(|| {
            let known: Vec<String> =
                Protocol::named().map(|(protocol, name)| format!("{name} ({})", protocol.0)).collect();
            format!("no protocol that flows have; use one of {}", known.join(", "))
        })
    }
}

/// What the gateway is asked with is read as the command line is.
macro_rules! text_of {
    ($($filter:ty: |$value:ident| $text:expr;)+) => {$(
        impl TryFrom<String> for $filter {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$filter> for String {
            fn from($value: $filter) -> Self {
                $text
            }
        }
    )+};
}

text_of! {
    AddressFilter: |filter| match filter.port {
        Some(port) => std::net::SocketAddr::new(filter.subnet.addr(), port).to_string(),
        None => filter.subnet.to_string(),
    };
    InState: |of| of.0.name().to_owned();
    OfProtocol: |of| of.0.to_string();
}

/// The last line of a list that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct ConnsEnd {
    /// How many flows were listed.
    pub listed: u64,
}

/// Appends the flow's line of JSON.
pub(crate) fn push_line(out: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *out, line).expect("a flow is plain data");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Conn {
        let tuple = |source: &str, destination: &str, packets| {
            let socket = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
            let (source, destination) = (socket(source), socket(destination));
            ConnTuple {
                source: source.ip(),
                destination: destination.ip(),
                source_port: source.port(),
                destination_port: destination.port(),
                packets,
                bytes: packets * 100,
            }
        };
        Conn {
            protocol: "tcp".into(),
            protocol_number: 6,
            state: "ESTABLISHED".into(),
            timeout_seconds: 86_399,
            assured: true,
            replied: true,
            service: "web".into(),
            worker: 1,
            original: tuple("192.0.2.10:40000", "192.0.2.1:30080", 5),
            reply: tuple("10.77.74.10:80", "10.77.200.2:50001", 4),
        }
    }

    #[test]
    fn a_line_reads_like_conntrack() {
        assert_eq!(
            conn().to_string(),
            "tcp      6 86399 ESTABLISHED src=192.0.2.10 dst=192.0.2.1 sport=40000 dport=30080 packets=5 bytes=500 \
             src=10.77.74.10 dst=10.77.200.2 sport=80 dport=50001 packets=4 bytes=400 [ASSURED] service=web worker=1"
        );
        let silent = Conn {
            protocol: "udp".into(),
            state: String::new(),
            replied: false,
            assured: false,
            service: String::new(),
            ..conn()
        };
        let line = silent.to_string();
        assert!(line.contains("bytes=500 [UNREPLIED] src=10.77.74.10"), "{line}");
        assert!(line.ends_with("bytes=400 service=- worker=1") && !line.contains("ESTABLISHED"), "{line}");
    }

    #[test]
    fn a_filter_picks_what_all_its_parts_pick() {
        let all = Filter::default();
        assert!(all.picks(&conn()));
        let filter = |text: &str| Some(text.parse::<AddressFilter>().unwrap());
        let state = |text: &str| Some(text.parse::<InState>().unwrap());
        let protocol = |text: &str| Some(text.parse::<OfProtocol>().unwrap());
        for (filter, expected) in [
            (Filter { service: Some("web".into()), ..all.clone() }, true),
            (Filter { service: Some("dns".into()), ..all.clone() }, false),
            (Filter { client: filter("192.0.2.0/24"), ..all.clone() }, true),
            (Filter { client: filter("192.0.2.10"), backend: filter("10.77.74.10:80"), ..all.clone() }, true),
            (Filter { client: filter("192.0.2.10"), backend: filter("10.77.74.10:81"), ..all.clone() }, false),
            (Filter { backend: filter("fd77::/48"), ..all.clone() }, false),
            (Filter { client: filter("192.0.2.10:40000"), ..all.clone() }, true),
            (Filter { client: filter("192.0.2.10:30080"), ..all.clone() }, false),
            (Filter { state: state("established"), ..all.clone() }, true),
            (Filter { state: state("fin-wait"), ..all.clone() }, false),
            (Filter { protocol: protocol("6"), ..all.clone() }, true),
            (Filter { protocol: protocol("TCP"), ..all.clone() }, true),
            (Filter { protocol: protocol("udp"), ..all.clone() }, false),
        ] {
            assert_eq!(filter.picks(&conn()), expected, "{filter:?}");
            let json = serde_json::to_string(&filter).unwrap();
            assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
        }
        assert!("10.77.74".parse::<AddressFilter>().unwrap_err().contains("10.77.74.10:80"));
    }

    #[test]
    fn a_word_that_no_flow_can_have_is_refused_with_those_that_it_can() {
        for name in State::ALL.iter().map(|state| state.name()).filter(|name| !name.is_empty()) {
            for written in [name.to_owned(), name.to_lowercase(), name.to_lowercase().replace('_', "-")] {
                assert_eq!(String::from(written.parse::<InState>().unwrap()), name);
            }
        }
        for wrong in ["", "stablished", "established ", "tcp"] {
            assert_eq!(
                wrong.parse::<InState>().unwrap_err(),
                "no such state; use one of close_wait, closed, cookie_echoed, cookie_wait, established, fin_wait, \
                 last_ack, reset, shutdown_ack_sent, shutdown_recd, shutdown_sent, syn_recv, syn_sent, syn_sent2, time_wait"
            );
        }
        for wrong in ["", "tpc", "47", "256", "06"] {
            assert_eq!(
                wrong.parse::<OfProtocol>().unwrap_err(),
                "no protocol that flows have; use one of icmp (1), tcp (6), udp (17), icmpv6 (58), sctp (132)"
            );
        }
        assert!(serde_json::from_str::<Filter>("{\"state\": \"stablished\"}").is_err());
    }

    #[test]
    fn the_last_line_is_no_flow() {
        let mut out = Vec::new();
        push_line(&mut out, &ConnsEnd { listed: 3 });
        assert_eq!(out, b"{\"listed\":3}\n");
        assert!(serde_json::from_slice::<ConnsEnd>(&serde_json::to_vec(&conn()).unwrap()).is_err());
    }
}
