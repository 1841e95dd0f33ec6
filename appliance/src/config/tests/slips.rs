//! Slips in the file, each with the sentence that it brings.

use super::findings;

/// One edit of the right file and the one error that it must bring, to the letter.
const ONE_ERROR: &[(&str, &str, &str)] = &[
    // What a value is.
    (
        "node_port = 30080",
        "node_port = 70000",
        "w.toml:36:13: service[0].node_port: 70000 is not a port; use 1 to 65535, such as 30080",
    ),
    (
        "node_port = 30080",
        "node_port = \"30080\"",
        "w.toml:36:13: service[0].node_port: \"30080\" is not a port; use 1 to 65535, such as 30080",
    ),
    (
        "node_port = 30080",
        "node_port = -1",
        "w.toml:36:13: service[0].node_port: -1 is not a port; use 1 to 65535, such as 30080",
    ),
    ("port = 80", "port = 0", "w.toml:35:8: service[0].port: 0 is not a port; use 1 to 65535, such as 80"),
    (
        "workers = 2",
        "workers = 65",
        "w.toml:3:11: gateway.workers: 65 is not a whole number from 1 to 64; use one such as 1",
    ),
    (
        "poll = \"busy\"",
        "poll = \"bussy\"",
        "w.toml:2:8: gateway.poll: \"bussy\" is not \"adaptive\" or \"busy\"; did you mean \"busy\"?",
    ),
    ("poll = \"busy\"", "poll = \"spin\"", "w.toml:2:8: gateway.poll: \"spin\" is not \"adaptive\" or \"busy\""),
    (
        "poll = \"busy\"",
        "control_socket = \"run/x\"",
        "w.toml:2:18: gateway.control_socket: \"run/x\" is not an absolute path of at most 98 bytes; use one such as \
         \"/run/weirgate/control.sock\"",
    ),
    (
        "\"up0\"",
        "\"interface-too-long\"",
        "w.toml:6:13: uplink.interface: \"interface-too-long\" is not an interface name; use 1 to 15 bytes without \
         blanks, slashes and colons, such as \"eth0\"",
    ),
    (
        "\"192.0.2.1\"",
        "\"192.0.2.256\"",
        "w.toml:7:14: uplink.addresses[0]: \"192.0.2.256\" is not an IP address; use one such as \"192.0.2.1\"",
    ),
    (
        "\"192.0.2.1\"",
        "\"127.0.0.1\"",
        "w.toml:7:14: uplink.addresses[0]: \"127.0.0.1\" is a loopback address; use one such as \"192.0.2.1\"",
    ),
    (
        "[\"192.0.2.1\", \"2001:db8:1::1\"]",
        "\"192.0.2.1\"",
        "w.toml:7:13: uplink.addresses: \"192.0.2.1\" is not a list; use one such as [\"192.0.2.1\", \
         \"2001:db8:1::1\"]",
    ),
    (
        "\"10.99.0.50\"",
        "\"fd99::51\"",
        "w.toml:15:13: overlay.public_ip: \"fd99::51\" is not an IPv4 address; use one such as \"10.99.0.50\"",
    ),
    (
        "\"fd99::50\"",
        "\"10.99.0.51\"",
        "w.toml:16:15: overlay.public_ipv6: \"10.99.0.51\" is not an IPv6 address; use one such as \"fd99::50\"",
    ),
    (
        "\"10.77.74.0/24\"",
        "\"10.77.74.9/24\"",
        "w.toml:21:12: peer[0].subnets[0]: \"10.77.74.9/24\" has bits set behind its first 24; use \"10.77.74.0/24\"",
    ),
    (
        "\"10.77.0.0/16\"",
        "\"10.77.0.0\"",
        "w.toml:13:13: overlay.networks[0]: \"10.77.0.0\" is not a subnet; use ADDRESS/LENGTH, such as \"10.77.0.0/16\"",
    ),
    (
        "\"96:b5:c3:d1:0b:f4\"",
        "\"97:b5:c3:d1:0b:f4\"",
        "w.toml:24:12: peer[0].vtep_mac: \"97:b5:c3:d1:0b:f4\" is a group address; use one of a single host, such \
         as \"96:b5:c3:d1:0b:f4\"",
    ),
    (
        "\"96:b5:c3:d1:0b:f4\"",
        "\"00:00:00:00:00:00\"",
        "w.toml:24:12: peer[0].vtep_mac: \"00:00:00:00:00:00\" belongs to no host; use one such as \
         \"96:b5:c3:d1:0b:f4\"",
    ),
    (
        "\"96:b5:c3:d1:0b:f4\"",
        "\"96-b5-c3-d1-0b-f4\"",
        "w.toml:24:12: peer[0].vtep_mac: \"96-b5-c3-d1-0b-f4\" is not a link address; use six pairs of hexadecimal \
         digits, such as \"96:b5:c3:d1:0b:f4\"",
    ),
    (
        "\"10.77.4.10:80\"",
        "\"10.77.4.10\"",
        "w.toml:38:31: service[0].backends[1]: \"10.77.4.10\" has no port; use ADDRESS:PORT, such as \
         \"10.77.74.10:80\"",
    ),
    (
        "\"10.77.4.10:80\"",
        "\"web-1:80\"",
        "w.toml:38:31: service[0].backends[1]: \"web-1:80\" is not an address with a port; use ADDRESS:PORT, with \
         brackets around an IPv6 address, such as \"10.77.74.10:80\"",
    ),
    (
        "\"10.77.4.10:80\"",
        "\"10.77.4.10:0\"",
        "w.toml:38:31: service[0].backends[1]: \"10.77.4.10:0\" has port 0; use 1 to 65535, such as \"10.77.74.10:80\"",
    ),
    (
        "name = \"dns\"",
        "name = \"d n s\"",
        "w.toml:41:8: service[1].name: \"d n s\" is not a name; use 1 to 63 letters, digits, '-', '_', '.', '/' or \
         ':', such as \"web\"",
    ),
    (
        "[overlay]",
        "[overlay]\nvni = 16777216",
        "w.toml:13:7: overlay.vni: 16777216 is not a whole number from 1 to 16777215; use one such as 1",
    ),
    (
        "[overlay]",
        "[flows]\ncapacity_v4 = 1\n[overlay]",
        "w.toml:13:15: flows.capacity_v4: 1 is not a whole number from 1024 to 16777215; use one such as 65536",
    ),
    (
        "[overlay]",
        "[timeouts]\nudp = 0\n[overlay]",
        "w.toml:13:7: timeouts.udp: 0 is not a whole number from 1 to 2592000; use one such as 120",
    ),
    (
        "[overlay]",
        "[selector]\nseed = -5\n[overlay]",
        "w.toml:13:8: selector.seed: -5 is not a whole number from 0 to 9223372036854775807; use one such as 0",
    ),
    (
        "[overlay]",
        "[selector]\ntable_size = 1000\n[overlay]",
        "w.toml:13:14: selector.table_size: 1000 is not a prime; use a prime such as 1009",
    ),
    (
        "[overlay]",
        "[selector]\ntable_size = 3\n[overlay]",
        "w.toml:40:12: service[0].backends: 3 backends are too many for 3 slots; use a selector.table_size above 3",
    ),
    // What the file may have.
    (
        "interface = \"up0\"",
        "interfcae = \"up0\"\ninterface = \"up0\"",
        "w.toml:6:1: uplink.interfcae: unknown field; did you mean interface?",
    ),
    (
        "workers = 2",
        "colour = 2",
        "w.toml:3:1: gateway.colour: unknown field; use one of poll, workers, first_core, control_socket",
    ),
    ("[gateway]", "[gatway]\n[gateway]", "w.toml:1:2: gatway: unknown table; did you mean gateway?"),
    (
        "[gateway]\npoll = \"busy\"\nworkers = 2\n",
        "gateway = 5\n",
        "w.toml:1:11: gateway: 5 is not a table; use [gateway] on a line of its own",
    ),
    ("interface = \"un0\"", "", "w.toml:9:1: underlay.interface: missing; add a line such as interface = \"eth1\""),
    (
        "[underlay]\ninterface = \"un0\"",
        "",
        "w.toml:44:1: underlay: missing; add the table [underlay] with interface = \"eth1\"",
    ),
    ("protocol = \"udp\"", "", "w.toml:40:1: service[1].protocol: missing; add a line such as protocol = \"tcp\""),
    (
        "backend = \"host-gw\"",
        "backend = \"hostgw\"\nvtep_mac = \"0a:00:00:00:00:01\"",
        "w.toml:30:11: peer[1].backend: \"hostgw\" is not \"vxlan\" or \"host-gw\"; did you mean \"host-gw\"?",
    ),
    // The overlay.
    (
        "\"10.77.0.0/16\", \"fd77::/48\"",
        "\"10.77.0.0/16\", \"fd77::/48\", \"10.64.0.0/10\"",
        "w.toml:13:42: overlay.networks[2]: 10.64.0.0/10 overlaps overlay.networks[0] (10.77.0.0/16); use the wider \
         one only",
    ),
    (
        "\"10.77.4.0/24\"",
        "\"10.78.4.0/24\", \"10.77.4.0/24\"",
        "w.toml:28:12: peer[1].subnets[0]: 10.78.4.0/24 lies in none of overlay.networks[0] (10.77.0.0/16), \
         overlay.networks[1] (fd77::/48); use a subnet of one",
    ),
    (
        "\"10.77.4.0/24\"",
        "\"10.77.4.0/24\", \"10.77.74.128/25\"",
        "w.toml:28:28: peer[1].subnets[1]: 10.77.74.128/25 overlaps peer[0].subnets[0] (10.77.74.0/24); give each \
         member its own subnet",
    ),
    (
        "\"10.77.4.0/24\"",
        "\"10.77.4.0/24\", \"10.77.192.0/20\"",
        "w.toml:28:28: peer[1].subnets[1]: 10.77.192.0/20 overlaps overlay.subnets[0] (10.77.200.0/24); give each \
         member its own subnet",
    ),
    (
        "\"10.77.200.0/24\"",
        "\"10.77.200.0/30\"",
        "w.toml:14:12: overlay.subnets[0]: 10.77.200.0/30 leaves no room for a SNAT pool; use a /29 or \
         wider",
    ),
    (
        "\"10.99.0.12\"",
        "\"10.99.0.11\"",
        "w.toml:29:13: peer[1].public_ip: 10.99.0.11 is also peer[0].public_ip; give each member its own underlay \
         address",
    ),
    (
        "\"10.99.0.12\"",
        "\"10.77.9.9\"",
        "w.toml:29:13: peer[1].public_ip: 10.77.9.9 lies inside overlay.networks[0] (10.77.0.0/16); use an address \
         outside the overlay",
    ),
    (
        "\"96:b5:c3:d1:0b:f4\"",
        "\"0a:58:0a:4d:c8:06\"",
        "w.toml:24:12: peer[0].vtep_mac: 0a:58:0a:4d:c8:06 is also overlay.vtep_mac_v6; give each VTEP \
         its own link address",
    ),
    (
        "vtep_mac = \"96:b5:c3:d1:0b:f4\"\n",
        "",
        "w.toml:20:1: peer[0].vtep_mac: missing though packets for an IPv4 subnet (10.77.74.0/24) travel in VXLAN; \
         add a line such as vtep_mac = \"96:b5:c3:d1:0b:f4\"",
    ),
    (
        "backend = \"host-gw\"\n",
        "",
        "w.toml:27:1: peer[1].vtep_mac: missing though packets for an IPv4 subnet (10.77.4.0/24) travel in VXLAN; \
         add a line such as vtep_mac = \"96:b5:c3:d1:0b:f4\"",
    ),
    (
        "public_ipv6 = \"fd99::50\"\n",
        "",
        "w.toml:12:1: overlay.public_ipv6: missing though there is an IPv6 subnet (fd77:0:0:200::/64); add a line \
         such as public_ipv6 = \"fd99::50\"",
    ),
    (
        "[overlay]",
        "[overlay]\nsnat_pool = [\"10.77.200.0\", \"10.77.200.3\", \"fd77:0:0:200::3\"]",
        "w.toml:13:14: overlay.snat_pool[0]: 10.77.200.0 is the first address of 10.77.200.0/24, which is \
         the gateway's own; use one such as 10.77.200.2",
    ),
    (
        "[overlay]",
        "[overlay]\nsnat_pool = [\"10.77.200.255\", \"10.77.200.3\", \"fd77:0:0:200::3\"]",
        "w.toml:13:14: overlay.snat_pool[0]: 10.77.200.255 is the broadcast address of 10.77.200.0/24; use one such \
         as 10.77.200.2",
    ),
    (
        "[overlay]",
        "[overlay]\nsnat_pool = [\"10.77.201.9\", \"10.77.200.3\", \"fd77:0:0:200::3\"]",
        "w.toml:13:14: overlay.snat_pool[0]: 10.77.201.9 lies outside the gateway's own subnets; use one such as \
         10.77.200.2",
    ),
    (
        "[overlay]",
        "[overlay]\nsnat_pool = [\"10.77.200.3\", \"10.77.200.3\", \"fd77:0:0:200::3\"]",
        "w.toml:13:29: overlay.snat_pool[1]: 10.77.200.3 is also overlay.snat_pool[0]; name each address once",
    ),
    (
        "[overlay]",
        "[overlay]\nsnat_pool = [\"10.77.200.3\"]",
        "w.toml:13:13: overlay.snat_pool: names no address inside fd77:0:0:200::/64; add one such as \
         \"fd77:0:0:200::2\"",
    ),
    // Services.
    (
        "\"192.0.2.1\"",
        "\"10.77.1.1\", \"192.0.2.1\"",
        "w.toml:7:14: uplink.addresses[0]: 10.77.1.1 lies inside overlay.networks[0] (10.77.0.0/16); use an address \
         outside the overlay",
    ),
    (
        "name = \"dns\"",
        "name = \"web\"",
        "w.toml:41:8: service[1].name: \"web\" is also service[0].name; give each service its own name",
    ),
    (
        "node_port = 30053",
        "node_port = 8472",
        "w.toml:43:13: service[1].node_port: 8472 is the overlay's VXLAN port; use another such as 30080",
    ),
    (
        "node_port = 30053",
        "port = 8472\nexternal_addresses = [\"192.0.2.9\", \"10.99.0.50\"]\nnode_port = 30053",
        "w.toml:44:36: service[1].external_addresses[1]: 10.99.0.50 port 8472 is where the gateway receives VXLAN; use \
         another port",
    ),
    (
        "node_port = 30053",
        "port = 8472\nexternal_addresses = [\"192.0.2.9\", \"fd99::50\"]\nnode_port = 30053",
        "w.toml:44:36: service[1].external_addresses[1]: fd99::50 port 8472 is where the gateway receives VXLAN; use \
         another port",
    ),
    (
        "node_port = 30053\n",
        "",
        "w.toml:40:1: service[1].node_port: missing though there are no external addresses, so no client could reach it; \
         add a line such as node_port = 30080",
    ),
    (
        "port = 80\n",
        "",
        "w.toml:32:1: service[0].port: missing though there are external addresses; add a line such as port = 80",
    ),
    (
        "\"203.0.113.10\"",
        "\"203.0.113.10\", \"203.0.113.10\"",
        "w.toml:37:39: service[0].external_addresses[1]: 203.0.113.10 port 80 for tcp is also \
         service[0].external_addresses[0]; give each service its own",
    ),
    (
        "\"10.77.4.10:80\"",
        "\"10.77.74.10:80\"",
        "w.toml:38:31: service[0].backends[1]: 10.77.74.10:80 is also service[0].backends[0]; name each backend once",
    ),
    (
        "\"10.77.4.10:80\"",
        "\"10.77.5.10:80\"",
        "w.toml:38:31: service[0].backends[1]: 10.77.5.10:80 lies in no peer's subnet, so no packet could reach it; \
         add the peer that has 10.77.5.10, or use a pod's address",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[masquerade]\naddresses = [\"198.51.100.7\", \"203.0.113.10\"]\n[[service]]\nname = \"web\"",
        "w.toml:33:30: masquerade.addresses[1]: 203.0.113.10 is also service[0].external_addresses[0]; use one that \
         serves nothing else",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[masquerade]\naddresses = [\"10.77.4.9\"]\n[[service]]\nname = \"web\"",
        "w.toml:33:14: masquerade.addresses[0]: 10.77.4.9 lies inside overlay.networks[0] (10.77.0.0/16); use an address \
         outside the overlay",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[masquerade]\naddresses = []\n[[service]]\nname = \"web\"",
        "w.toml:33:13: masquerade.addresses: the list is empty; name an address such as [\"198.51.100.7\"], or remove the \
         table",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[masquerade]\naddresses = [\"198.51.100.7\"]\nfirst_port = 2000\nlast_port = 2063\n[[service]]\nname = \"web\"",
        "w.toml:32:1: masquerade: 2000 to 2063 is too few for 64 workers; use a range such as 1024 to 65535",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[policy]\nmss = \"atuo\"\n[[service]]\nname = \"web\"",
        "w.toml:33:7: policy.mss: \"atuo\" is not \"off\", \"auto\" or a whole number from 536 to 65495; use one such as \
         \"auto\"",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[policy]\nmss = 500\n[[service]]\nname = \"web\"",
        "w.toml:33:7: policy.mss: 500 is not \"off\", \"auto\" or a whole number from 536 to 65495; use one such as \
         \"auto\"",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[policy]\nouter_dscp = 64\n[[service]]\nname = \"web\"",
        "w.toml:33:14: policy.outer_dscp: 64 is not \"copy\" or a whole number from 0 to 63; use one such as \"copy\"",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[policy]\necho = true\n[[service]]\nname = \"web\"",
        "w.toml:33:8: policy.echo: true is not \"on\" or \"off\"; use one such as \"on\"",
    ),
    (
        "[[service]]\nname = \"web\"",
        "[policy]\necho_per_second = 10000001\n[[service]]\nname = \"web\"",
        "w.toml:33:19: policy.echo_per_second: 10000001 is not a whole number from 0 to 10000000; use one such as 1000",
    ),
    (
        "port = 80\n",
        "port = 80\ndscp = 64\n",
        "w.toml:36:8: service[0].dscp: 64 is not a whole number from 0 to 63; use one such as 46",
    ),
    (
        "\n[underlay]",
        "node_ports = \"30000\"\n[underlay]",
        "w.toml:8:14: uplink.node_ports: \"30000\" is not a range of ports; use FIRST-LAST, each 1 to 65535, such as \
         \"30000-32767\"",
    ),
    (
        "\n[underlay]",
        "node_ports = \"32767-30000\"\n[underlay]",
        "w.toml:8:14: uplink.node_ports: \"32767-30000\" ends before it begins; use \"30000-32767\"",
    ),
    (
        "port = 80\n",
        "port = 80\nclient_address = \"preserves\"\n",
        "w.toml:36:18: service[0].client_address: \"preserves\" is not \"translate\" or \"preserve\"; did you mean \"preserve\"?",
    ),
    (
        "port = 80\n",
        "port = 80\nclient_address = \"preserve\"\n",
        "w.toml:36:18: service[0].client_address: \"preserve\" cannot be used where replies come by plain route, and peer[1] has \
         the backend \"host-gw\"; use \"translate\", or \"vxlan\" for every peer",
    ),
];

#[test]
fn each_slip_brings_one_sentence_that_says_what_would_work() {
    let told = |edit: &(&str, &str)| findings(&[*edit]).0;
    let wrong: Vec<_> = ONE_ERROR.iter().filter(|(from, to, sentence)| told(&(*from, *to)) != [*sentence]).collect();
    for (from, to, sentence) in &wrong {
        eprintln!("after {from:?} became {to:?}\n  expected {sentence}\n  told {:#?}", told(&(*from, *to)));
    }
    assert!(wrong.is_empty(), "{} sentences differ", wrong.len());
}
