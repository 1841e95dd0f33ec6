//! The kernel as gateway: nftables DNAT and masquerade into kernel VXLAN devices, as on a flannel node with
//! kube-proxy. Tests compare with it, benches race against it.

use std::fmt::Write as _;

use crate::netns::script;
use crate::topology::{EXTERNAL_V4, EXTERNAL_V6, GATEWAY, GATEWAY_V4, GATEWAY_V6, member};
use crate::{
    Backend, DNS_NODE_PORT, ECHO_NODE_PORT, Host, NODES, POD_SUFFIXES, SCTP_NODE_PORT, SCTP_PORT, WEB_NODE_PORT, World,
    WorldError,
};

/// A running kernel gateway; dropping it makes the gateway host an ordinary host again.
#[derive(Debug)]
pub struct KernelGateway<'w> {
    world: &'w World,
}

impl World {
    /// Turns the gateway host into a forwarding flannel node.
    ///
    /// - `pick`: which of the four pods a new connection gets: a fixed one, or `None` for a random one.
    ///
    /// # Errors
    /// The first command that failed.
    pub fn start_kernel_gateway(&self, pick: Option<usize>) -> Result<KernelGateway<'_>, WorldError> {
        self.start_kernel_gateway_with(pick, "")
    }

    /// The same, with additional nftables rules for source translation before the usual one.
    ///
    /// # Errors
    /// The first command that failed.
    pub fn start_kernel_gateway_with(
        &self,
        pick: Option<usize>,
        postrouting: &str,
    ) -> Result<KernelGateway<'_>, WorldError> {
        let gateway = KernelGateway { world: self };
        let backend = self.options().backend;
        script(&self.namespace(Host::Gateway), &member(backend, &GATEWAY, "un0", NODES.iter()))?;
        script(&self.namespace(Host::Gateway), &format!("nft -f - <<'END'\n{}END", rules(backend, pick, postrouting)))?;
        Ok(gateway)
    }
}

impl Drop for KernelGateway<'_> {
    fn drop(&mut self) {
        let mut text = String::from(
            "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0; nft delete table inet kernelgw
             ip link del flannel.1; ip link del flannel-v6.1;",
        );
        for node in NODES {
            let _ = write!(text, "ip route del {}.0/24; ip -6 route del {}::/64;", node.subnet_v4, node.subnet_v6);
        }
        let namespace = self.world.namespace(Host::Gateway);
        let _ = script(&namespace, &format!("set +e; {{ {text} }} 2>/dev/null; exit 0"));
    }
}

fn rules(backend: Backend, pick: Option<usize>, postrouting: &str) -> String {
    let services = [
        ("tcp", WEB_NODE_PORT, 80),
        ("udp", DNS_NODE_PORT, 53),
        ("udp", ECHO_NODE_PORT, 7),
        ("sctp", SCTP_NODE_PORT, SCTP_PORT),
    ];
    let pods: Vec<(String, String)> =
        NODES.iter().flat_map(|node| (0..POD_SUFFIXES.len()).map(|pod| (node.pod_v4(pod), node.pod_v6(pod)))).collect();
    let pods = pick.map_or(&pods[..], |pick| &pods[pick..=pick]);
    let mut text = String::from("table inet kernelgw {\n");
    let mut entry = String::new();
    for (protocol, node_port, port) in services {
        for (family, destination, external) in [("ip", GATEWAY_V4, EXTERNAL_V4), ("ip6", GATEWAY_V6, EXTERNAL_V6)] {
            let chain = format!("{family}-{node_port}");
            let mut choices = Vec::new();
            for (index, (v4, v6)) in pods.iter().enumerate() {
                let to = if family == "ip" { format!("{v4}:{port}") } else { format!("[{v6}]:{port}") };
                let _ = writeln!(text, "chain {chain}-{index} {{ meta l4proto {protocol} dnat {family} to {to}; }}");
                choices.push(format!("{index} : goto {chain}-{index}"));
            }
            let (count, choices) = (choices.len(), choices.join(", "));
            let _ = writeln!(text, "chain {chain} {{ numgen random mod {count} vmap {{ {choices} }}; }}");
            let _ = writeln!(entry, "{family} daddr {destination} {protocol} dport {node_port} goto {chain};");
            let _ = writeln!(entry, "{family} daddr {external} {protocol} dport {port} goto {chain};");
        }
    }
    // Towards a host-gw node the masquerade would use the underlay address, which no lease covers.
    let source = match backend {
        Backend::Vxlan => "oifname { \"flannel.1\", \"flannel-v6.1\" } masquerade fully-random;".to_owned(),
        Backend::HostGw => format!(
            "ip daddr 10.77.0.0/16 snat ip to {}.2 fully-random; ip6 daddr fd77::/48 snat ip6 to {}::2 fully-random;",
            GATEWAY.subnet_v4, GATEWAY.subnet_v6
        ),
    };
    let _ = writeln!(
        text,
        "chain prerouting {{ type nat hook prerouting priority dstnat;\n{entry}}}
         chain postrouting {{ type nat hook postrouting priority srcnat; {postrouting} {source} }}
         }}"
    );
    text
}
