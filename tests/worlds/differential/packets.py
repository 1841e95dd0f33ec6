"""Sends the same packets to whatever gateway is there, and prints what it made of them.

packets.py send INTERFACE GATEWAY_MAC
packets.py show UPLINK_CAPTURE UNDERLAY_CAPTURE UPLINK_MAC UNDERLAY_MAC

`show` prints one line for every distinct frame that left the gateway. What a gateway or a pod may choose freely is
replaced by a word: the translated source, and in replies the pod's sequence numbers, time stamps and identification.
Checksums are left out; they have a test of their own.
"""

import sys

from scapy.all import (
    DNS, DNSQR, ICMP, IP, TCP, UDP, VXLAN, Ether, ICMPv6PacketTooBig, IPerror, IPerror6, IPv6, Raw, bind_layers, rdpcap, sendp,
)

CLIENT, CLIENT6 = "192.0.2.10", "2001:db8:1::10"
GATEWAY, GATEWAY6 = "192.0.2.1", "2001:db8:1::1"
POOL = ("10.77.200.", "fd77:0:0:200:")
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (123456789, 0)), ("NOP", None), ("WScale", 10)]

bind_layers(UDP, VXLAN, dport=8472)


def packets():
    """The packets, each with a source port or sequence number of its own."""
    port = iter(range(20000, 30000))
    for ip in (
        lambda **f: IP(src=CLIENT, dst=GATEWAY, **{k: v for k, v in f.items() if k != "label"}),
        lambda **f: IPv6(src=CLIENT6, dst=GATEWAY6, **{NAMES6[k]: v for k, v in f.items() if k in NAMES6}),
    ):
        def tcp(options, kind="S", payload=b"", window=64240, **fields):
            sport = next(port)
            return ip(**fields) / TCP(
                sport=sport, dport=30080, seq=sport * 1000, flags=kind, window=window, options=options
            ) / Raw(payload)

        def udp(dport, payload, **fields):
            return ip(**fields) / UDP(sport=next(port), dport=dport) / payload

        # Connections: options as they are, a segment size that is too large, one that is not, none, fast open.
        yield tcp(OPTIONS)
        yield tcp(OPTIONS, tos=0xB8, id=0x1234, flags="DF")
        yield tcp([("MSS", 536)], ttl=3)
        yield tcp([("MSS", 8960), ("EOL", None)], window=1)
        yield tcp([])
        yield tcp([("NOP", None), ("NOP", None), ("MSS", 1410), ("WScale", 0), ("NOP", None)], kind="SEC")
        yield tcp(OPTIONS, payload=b"early data" * 10)
        # Datagrams: empty, odd, full; marked and unmarked, few hops left.
        for length in (0, 1, 17, 18, 19, 511, 1400 if ip().version == 4 else 1382):
            yield udp(30007, Raw(bytes((n * 3 + length) & 255 for n in range(length))))
        yield udp(30007, Raw(b"marked"), tos=0x02, ttl=17, id=0)
        yield udp(30007, Raw(b"congested"), tos=0x03, flags="DF", id=77)
        yield udp(30007, Raw(b"expedited"), tos=0xB9, label=0xABCDE)
        yield udp(30053, DNS(id=7, rd=1, qd=DNSQR(qname="who.example", qtype="TXT")))
        # Too large for the overlay, and not to be fragmented.
        yield udp(30007, Raw(bytes(1472 if ip().version == 4 else 1452)), flags="DF", id=99)
    # No checksum, which RFC 768 allows over IPv4.
    yield IP(src=CLIENT, dst=GATEWAY) / UDP(sport=next(port), dport=30007, chksum=0) / Raw(b"unchecked")


NAMES6 = {"tos": "tc", "ttl": "hlim", "label": "fl"}


def send(interface, gateway):
    for packet in packets():
        frame = bytes(Ether(dst=gateway) / packet)
        # A wire pads short frames; whoever forwards has to cut that off again.
        sendp(Ether(frame.ljust(60, b"\0")), iface=interface, verbose=False)


def place(address, towards_pod):
    return "TRANSLATED" if towards_pod and address.startswith(POOL) else address


def show_ip(ip, towards_pod, choice):
    """The inner packet, or what a client gets."""
    if ip.version == 4:
        identification = ip.id if towards_pod else choice
        line = [f"ipv4 tos={ip.tos:#x} id={identification} flags={ip.flags} frag={ip.frag} ttl={ip.ttl} len={ip.len} options={ip.options}"]
        end = ip.len - ip.ihl * 4
    else:
        label = ip.fl if towards_pod else choice
        line = [f"ipv6 tc={ip.tc:#x} label={label} hlim={ip.hlim} len={ip.plen}"]
        end = ip.plen
    line.append(f"{place(ip.src, towards_pod)} > {ip.dst}")
    body = bytes(ip.payload)[:end]
    if TCP in ip:
        tcp = ip[TCP]
        options = tcp.options if towards_pod else [(n, choice if n == "Timestamp" else v) for n, v in tcp.options]
        source = choice if towards_pod else tcp.sport
        line.append(f"tcp {source} > {tcp.dport} seq={tcp.seq if towards_pod else choice} ack={tcp.ack} flags={tcp.flags}")
        line.append(f"window={tcp.window} urgent={tcp.urgptr} options={options} data={body[tcp.dataofs * 4:].hex()}")
    elif UDP in ip:
        udp = ip[UDP]
        source = choice if towards_pod else udp.sport
        line.append(f"udp {source} > {udp.dport} len={udp.len} summed={udp.chksum != 0} data={body[8:].hex()}")
    elif ICMP in ip or ICMPv6PacketTooBig in ip:
        error = ip[ICMP] if ICMP in ip else ip[ICMPv6PacketTooBig]
        quoted = ip[IPerror] if ICMP in ip else ip[IPerror6]
        mtu = error.nexthopmtu if ICMP in ip else error.mtu
        # How much is quoted, and in which class the error travels, is the sender's own affair.
        return f"error type={error.type} code={error.code} mtu={mtu} {ip.src} > {ip.dst} about {quoted.src} > {quoted.dst} {bytes(quoted.payload)[:4].hex()}"
    return " ".join(line)


def show(uplink, underlay, uplink_mac, underlay_mac):
    lines = set()
    for frame in rdpcap(underlay):
        if frame.src != underlay_mac or VXLAN not in frame:
            continue
        outer, vxlan, inner = frame.payload, frame[VXLAN], frame[VXLAN].payload
        hops, traffic = (outer.ttl, outer.tos) if outer.version == 4 else (outer.hlim, outer.tc)
        # A congested packet keeps its mark outside as well (RFC 6040 section 4.1); Linux sets ECT(0) there again.
        traffic = traffic & ~1 if traffic & 3 == 3 else traffic
        lines.add(
            f"to node: {outer.src} > {outer.dst} port={outer[UDP].dport} hops={hops} class={traffic:#x}"
            f" vxlan={bytes(vxlan)[:8].hex()} {inner.src} > {inner.dst} {show_ip(inner.payload, True, 'CHOSEN')}"
        )
    for frame in rdpcap(uplink):
        if frame.src == uplink_mac and (TCP in frame or UDP in frame or IPerror in frame or IPerror6 in frame):
            lines.add(f"to client: {frame.src} > {frame.dst} {show_ip(frame.payload, False, 'CHOSEN')}")
    print("\n".join(sorted(lines)))


if __name__ == "__main__":
    {"send": send, "show": show}[sys.argv[1]](*sys.argv[2:])
