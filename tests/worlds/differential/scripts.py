"""Plays scripts of packets against whatever gateway is there, and prints what became of each.

scripts.py CLIENT_NAMESPACE SWITCH_NAMESPACE UPLINK_MAC UNDERLAY_MAC MODE

MODE is `clients` (whose addresses are translated), `preserved` (clients whose addresses are not) or `pods` (that begin
connections to the client).

Client and pod are this program: it writes frames to the client's `cl0`, and to the switch's port of the gateway frames
as node n2 would encapsulate them, and reads what arrives at both. After every step a datagram of another flow goes
client, pod, client, pod: what the step caused has arrived before it, however slow the machine.

Prints one line a step: its name, a tab, what kind of thing became of it, a tab, all that arrived. What a gateway may
choose is replaced by a word: the translated source address and port, and a fragmented datagram's
identification.
"""

import ctypes
import os
import select
import socket
import struct
import sys
import time

from scapy.all import (
    ICMP, IP, TCP, UDP, VXLAN, Ether, ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN, Raw, bind_layers, checksum, fragment, fragment6,
)
from scapy.layers.sctp import SCTP, crc32c

CLIENT = {4: "192.0.2.10", 6: "2001:db8:1::10"}
GATEWAY = {4: "192.0.2.1", 6: "2001:db8:1::1"}
POD = {4: "10.77.4.10", 6: "fd77:0:0:4::10"}
ROUTER = {4: "10.77.4.0", 6: "fd77:0:0:4::"}
# The SNAT pool, and the masquerade addresses.
POOL = ("10.77.200.", "fd77:0:0:200:", "198.51.100.7", "2001:db8:7::7")
OUT = {4: "198.51.100.7", 6: "2001:db8:7::7"}
FAR_ROUTER = {4: "192.0.2.99", 6: "2001:db8:1::99"}
UNDERLAY = {4: ("10.99.0.12", "10.99.0.50"), 6: ("fd99::12", "fd99::50")}
VTEP = {4: ("0a:b5:b9:10:98:4c", "0a:58:0a:4d:c8:00"), 6: ("0a:b5:b9:10:98:4e", "0a:58:0a:4d:c8:06")}
NODE_MAC = "02:00:00:00:00:02"
TYPES = {4: 0x0800, 6: 0x86DD}
SENTINEL = b"the step before this one is over"
LAYERS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
SERVICES = {"tcp": (30080, 80), "udp": (30007, 7), "sctp": (30038, 38412)}
CHUNKS = {
    "DATA": 0, "INIT": 1, "INIT ACK": 2, "SACK": 3, "HEARTBEAT": 4, "HEARTBEAT ACK": 5, "ABORT": 6, "SHUTDOWN": 7, "SHUTDOWN ACK": 8,
    "ERROR": 9, "COOKIE ECHO": 10, "COOKIE ACK": 11, "SHUTDOWN COMPLETE": 14, "AUTH": 15, "RE-CONFIG": 130, "ASCONF": 193, "unknown": 63,
}
bind_layers(UDP, VXLAN, dport=8472)


class Link:
    """A packet socket in another network namespace."""

    def __init__(self, namespace, interface, own_mac):
        with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(there.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            self.socket.bind((interface, 3))
            libc.setns(home.fileno(), 0x40000000)
        self.gateway = own_mac

    def send(self, frame):
        # A wire pads short frames.
        self.socket.send(bytes(frame).ljust(60, b"\0"))

    def receive(self, seconds):
        """The next frame from the gateway, as the IP packet in it; `None` when the time is up."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return None
            data, origin = self.socket.recvfrom(65535)
            frame = Ether(data)
            if origin[2] == socket.PACKET_OUTGOING or frame.src != self.gateway or frame.type not in (0x800, 0x86DD):
                continue
            ip = frame.payload
            if UDP in frame and VXLAN in frame:
                ip = frame[VXLAN].payload.payload
            elif ip.src in (UNDERLAY[4][1], UNDERLAY[6][1]):
                continue
            # The gateway's kernel's own packets to neighbours and groups are ignored.
            if ip.version == 6 and (ip.dst.startswith("ff") or ip.src.startswith("fe80") or ip.dst.startswith("fe80")):
                continue
            if ip.version == 6 and ip.nh == 58 and bytes(ip.payload)[0] in range(133, 138):
                continue
            # Fragments of an earlier step whose time is up: on a slow machine they would be taken for this one's.
            icmp, expired = (1, b"\x0b\x01") if ip.version == 4 else (58, b"\x03\x01")
            if (ip.proto if ip.version == 4 else ip.nh) == icmp and bytes(ip.payload).startswith(expired):
                continue
            return ip
        return None


class Play:
    def __init__(self, client_namespace, switch_namespace, uplink_mac, underlay_mac):
        self.client = Link(client_namespace, "cl0", uplink_mac)
        self.pod = Link(switch_namespace, "gw0", underlay_mac)
        self.ports = iter(range(20000, 60000))
        self.client_mac = open_mac(client_namespace, "cl0")
        self.sentinel_port = 19999
        self.count = 0
        self.name = ""
        self.seen = None
        self.sent_reset = False
        self.mode = "clients"

    def from_client(self, packet):
        self.client.send(Ether(src=self.client_mac, dst=self.client.gateway, type=TYPES[packet.version]) / Raw(bytes(packet)))

    def from_pod(self, packet):
        family = packet.version
        source, destination = UNDERLAY[family]
        outer = IP(src=source, dst=destination, id=7) if family == 4 else IPv6(src=source, dst=destination)
        udp = UDP(sport=50000, dport=8472, chksum=0) if family == 4 else UDP(sport=50000, dport=8472)
        inner = Ether(src=VTEP[family][0], dst=VTEP[family][1], type=TYPES[family]) / Raw(bytes(packet))
        self.pod.send(Ether(src=NODE_MAC, dst=self.pod.gateway) / outer / udp / VXLAN(flags=8, vni=1) / Raw(bytes(inner)))

    def settle(self):
        """Sends the sentinel client, pod, client, pod; returns what arrived before it at the pod and at the client."""
        self.count += 1
        mark = SENTINEL + b" %d" % self.count
        at_pod, at_client = [], []

        def until(link, into):
            while True:
                ip = link.receive(15)
                if ip is None:
                    raise SystemExit(f"{self.name}: the sentinel is lost")
                if UDP in ip and bytes(ip[UDP].payload) == mark:
                    return ip
                if not (UDP in ip and bytes(ip[UDP].payload).startswith(SENTINEL)):
                    into.append(ip)

        request = IP(src=CLIENT[4], dst=GATEWAY[4]) / UDP(sport=self.sentinel_port, dport=30053) / Raw(mark)
        self.from_client(request)
        ip = until(self.pod, at_pod)
        self.from_pod(IP(src=POD[4], dst=ip.src) / UDP(sport=53, dport=ip[UDP].sport) / Raw(mark))
        until(self.client, at_client)
        self.from_client(request)
        until(self.pod, at_pod)
        return at_pod, at_client

    def warm_up(self):
        """Until the gateway has resolved its neighbours."""
        for _ in range(100):
            self.from_client(IP(src=CLIENT[4], dst=GATEWAY[4]) / UDP(sport=self.sentinel_port, dport=30053) / Raw(SENTINEL))
            self.from_client(IPv6(src=CLIENT[6], dst=GATEWAY[6]) / UDP(sport=self.sentinel_port, dport=30053) / Raw(SENTINEL))
            families = set()
            while ip := self.pod.receive(0.3):
                families.add(ip.version)
                to = dict(src=POD[ip.version], dst=ip.src)
                self.from_pod((IP(**to) if ip.version == 4 else IPv6(**to)) / UDP(sport=53, dport=ip[UDP].sport) / Raw(SENTINEL))
            while self.client.receive(0.1):
                pass
            if families == {4, 6}:
                return
        raise SystemExit("the gateway forwards nothing")

    def rest_of_errors(self, family):
        """The kernel reports an address without a route a few times at once, and then once a second."""
        if family == 4 and self.mode == "clients":
            time.sleep(1.2)

    def step(self, name, send, packets):
        packets = packets if isinstance(packets, list) else [packets]
        self.sent_reset = any(TCP in packet and "R" in packet[TCP].flags for packet in packets)
        for packet in packets:
            send(packet)
        at_pod, at_client = self.settle()
        for ip in at_client if self.mode == "pods" else at_pod:
            chosen = CLIENT.values() if self.mode == "preserved" else POOL
            if ip.src.startswith(tuple(chosen)) and (TCP in ip or UDP in ip or is_sctp(ip) or is_request(ip)) and not self.is_reset(ip):
                self.seen = ip
        lines = [("pod", self.describe(ip)) for ip in at_pod] + [("client", self.describe(ip)) for ip in at_client]
        kinds = sorted({f"{kind} to {side}" for side, (kind, _) in lines}) or ["dropped"]
        texts = sorted(f"to {side}: {text}" for side, (_, text) in lines)
        print(f"{self.name}: {name}\t{', '.join(kinds)}\t{' | '.join(texts)}", flush=True)

    def describe(self, ip):
        """In a word what it is, and all of it but what was chosen."""
        place = lambda address: "POOL" if address.startswith(POOL) else address
        port = lambda at, number: "PORT" if at.startswith(POOL) else number
        ip = ip.__class__(bytes(ip)[: ip.len if ip.version == 4 else 40 + ip.plen])
        again = ip.copy()
        # A ping's answer has an identification and a flow label of the answerer's choice.
        answers = echo_of(ip) is not None and not is_request(ip)
        if ip.version == 4:
            # Fragments have an identification of the gateway's own choice.
            number = "CHOSEN" if ip.frag or ip.flags.MF or answers else ip.id
            line = [f"tos={ip.tos:#x} id={number} flags={ip.flags} frag={ip.frag} ttl={ip.ttl} len={ip.len} options={bytes(ip)[20:ip.ihl * 4].hex()}"]
            del again.chksum
        else:
            line = [f"tc={ip.tc:#x} label={'CHOSEN' if answers else ip.fl} hlim={ip.hlim} len={ip.plen} next={ip.nh}"]
        line.append(f"{place(ip.src)} > {place(ip.dst)}")
        for layer in (TCP, UDP):
            if layer in ip:
                again[layer].chksum = None
        right = bytes(again.__class__(bytes(again))) == bytes(ip)
        errors = [layer for layer in (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, ICMPv6ParamProblem) if layer in ip]
        if errors or (ICMP in ip and ip[ICMP].type in (3, 4, 5, 11, 12)):
            error = ip[errors[0]] if errors else ip[ICMP]
            mtu = getattr(error, "nexthopmtu" if ip.version == 4 else "mtu", None)
            data = bytes(ip)[28 if ip.version == 4 else 48:]
            quoted = IP(data) if ip.version == 4 else IPv6(data)
            head = 20 if ip.version == 4 else 40
            ports = [int.from_bytes(data[at:at + 2], "big") for at in (head, head + 2)]
            # How much is quoted and how far the error still may go is its sender's own affair.
            return (
                f"error {error.type}/{error.code}",
                f"error {error.type}/{error.code} mtu={mtu} {place(ip.src)} > {place(ip.dst)} about"
                f" {place(quoted.src)} {port(quoted.src, ports[0])} > {place(quoted.dst)} {port(quoted.dst, ports[1])}",
            )
        if TCP in ip:
            tcp = ip[TCP]
            line.append(f"tcp {port(ip.src, tcp.sport)} > {port(ip.dst, tcp.dport)} seq={tcp.seq} ack={tcp.ack} flags={tcp.flags}")
            line.append(f"window={tcp.window} urgent={tcp.urgptr} {tcp.options} data={bytes(tcp.payload).hex()[:64]}")
        elif UDP in ip:
            udp = ip[UDP]
            line.append(f"udp {port(ip.src, udp.sport)} > {port(ip.dst, udp.dport)} len={udp.len} summed={udp.chksum != 0}")
            line.append(f"data={bytes(udp.payload).hex()[:64]}")
            right = right or udp.chksum == 0
        elif is_sctp(ip):
            data = bytes(ip.payload)
            source, target, tag = struct.unpack_from("!HHI", data)
            right = struct.pack("!I", crc32c(data[:8] + bytes(4) + data[12:])) == data[8:12]
            line.append(f"sctp {port(ip.src, source)} > {port(ip.dst, target)} tag={tag:#x} chunks={data[12:].hex()[:64]}")
        elif (echo := echo_of(ip)) is not None:
            data = bytes(ip.payload)
            sum_at = 20 if ip.version == 4 else 40
            if ip.version == 4:
                right = checksum(data) == 0
            else:
                right = bytes(ip.__class__(bytes(ip)[:sum_at] + data[:2] + self.sum_of(ip, data) + data[4:])) == bytes(ip)
            number = "ID" if ip.src.startswith(POOL) or ip.dst.startswith(POOL) else echo.id
            line.append(f"echo {echo.type}/{echo.code} id={number} seq={echo.seq} data={data[8:].hex()[:64]}")
        else:
            body = bytearray(bytes(ip.payload))
            if IPv6ExtHdrFragment in ip:
                body[4:8] = bytes(4)
            line.append(body.hex()[:64])
        is_fragment = ip.version == 4 and (ip.frag or ip.flags.MF) or IPv6ExtHdrFragment in ip
        line.append("fragment" if is_fragment else "right" if right else "WRONG SUM")
        return "reset" if self.is_reset(ip) else "forwarded", " ".join(line)

    def sum_of(self, ip, data):
        """The checksum that an ICMPv6 message should have."""
        again = ip.__class__(bytes(ip)[:40] + data[:2] + bytes(2) + data[4:])
        echo_of(again).cksum = None
        return bytes(again)[42:44]

    def is_reset(self, ip):
        """Whether this is a reset of the gateway's own."""
        return TCP in ip and "R" in ip[TCP].flags and not self.sent_reset


def open_mac(namespace, interface):
    return os.popen(f"ip netns exec {namespace} cat /sys/class/net/{interface}/address").read().strip()


def echo_of(ip):
    """The echo that a packet is, if it is one."""
    for layer in (ICMPv6EchoRequest, ICMPv6EchoReply):
        if layer in ip and ip.nh == 58:
            return ip[layer]
    return ip[ICMP] if ICMP in ip and ip.proto == 1 and ip[ICMP].type in (0, 8) else None


def is_sctp(ip):
    return (ip.proto if ip.version == 4 else ip.nh) == 132 and SCTP in ip


def is_request(ip):
    echo = echo_of(ip)
    return echo is not None and echo.type in (8, 128)


class Flow:
    """One client's port and what both sides write on it."""

    def __init__(self, play, name, family, protocol="tcp"):
        self.play, self.family, self.protocol = play, family, protocol
        self.port = next(play.ports)
        self.service, self.target = SERVICES.get(protocol, SERVICES["udp"])
        play.name, play.seen = f"{name} over IPv{family}", None
        self.sent = {"client": self.port * 1000, "pod": self.port * 2000}
        # By which each side of an association is called.
        self.tags = {"client": self.port * 1001, "pod": self.port * 2001}

    def ip(self, side, **fields):
        seen = self.play.seen
        if side == "client":
            source, destination = CLIENT[self.family], GATEWAY[self.family]
        else:
            nobody = CLIENT if self.play.mode == "preserved" else {4: "10.77.200.2", 6: "fd77:0:0:200::2"}
            source, destination = POD[self.family], seen.src if seen else nobody[self.family]
        if self.family == 4:
            return IP(src=source, dst=destination, **{"id": 4242, **fields})
        names = {"ttl": "hlim", "tos": "tc", "nh": "nh"}
        return IPv6(src=source, dst=destination, **{names[k]: v for k, v in fields.items() if k in names})

    def ports(self, side):
        if side == "client":
            return dict(sport=self.port, dport=self.service)
        seen = self.play.seen
        layer = LAYERS.get(self.protocol, UDP)
        return dict(sport=self.target, dport=seen[layer].sport if seen and layer in seen else 45678)

    def tcp(self, side, flags, data=b"", seq=None, ack=None, chksum=None, options=(), **fields):
        """A segment; sequence numbers continue as they should unless given."""
        other = "pod" if side == "client" else "client"
        own = self.sent[side] if seq is None else seq
        tcp = TCP(
            flags=flags, seq=own, ack=(self.sent[other] if ack is None else ack) if "A" in flags else 0, window=64240,
            options=list(options), chksum=chksum, **self.ports(side),
        )
        if seq is None:
            self.sent[side] += len(data) + ("S" in flags) + ("F" in flags)
        return self.ip(side, **fields) / tcp / Raw(data)

    def udp(self, side, data=b"datagram", chksum=None, **fields):
        return self.ip(side, **fields) / UDP(chksum=chksum, **self.ports(side)) / Raw(data)

    def sctp(self, side, *chunks, tag=None, chksum=None, flags=0, **fields):
        """A packet with these chunks, and the tag of the other side unless given."""
        other = "pod" if side == "client" else "client"
        if tag is None:
            tag = 0 if chunks[:1] == ("INIT",) else self.tags[other]
        body = b"".join(self.chunk(side, chunk, flags) for chunk in chunks)
        return self.ip(side, **fields) / SCTP(tag=tag, chksum=chksum, **self.ports(side)) / Raw(body)

    def chunk(self, side, name, flags):
        values = {
            "DATA": bytes(12) + b"data", "SACK": bytes(12), "SHUTDOWN": bytes(4), "COOKIE ECHO": b"a cookie", "HEARTBEAT": b"\0\1\0\x08beat",
            "HEARTBEAT ACK": b"\0\1\0\x08beat", "ERROR": b"\0\3\0\x08\0\0\0\1", "INIT": struct.pack("!IIHHI", self.tags[side], 65536, 10, 10, 1),
        }
        values["INIT ACK"] = values["INIT"] + b"\0\7\0\x0ca cookie"
        value = values.get(name, b"")
        return struct.pack("!BBH", CHUNKS[name], flags or 3 * (name == "DATA"), 4 + len(value)) + value

    def says(self, side, *chunks, name=None, **more):
        self.step(name or f"{' + '.join(chunks)} from {side}", side, self.sctp(side, *chunks, **more))

    def associate(self, client="client", pod="pod"):
        self.says(client, "INIT")
        self.says(pod, "INIT ACK")
        self.says(client, "COOKIE ECHO", "DATA")
        self.says(pod, "COOKIE ACK", "SACK")

    def step(self, name, side, packets):
        self.play.step(name, self.play.from_client if side == "client" else self.play.from_pod, packets)

    def client(self, flags, name=None, **more):
        self.step(name or f"{flags or 'no flags'} from client", "client", self.tcp("client", flags, **more))

    def pod(self, flags, name=None, **more):
        self.step(name or f"{flags or 'no flags'} from pod", "pod", self.tcp("pod", flags, **more))

    def open(self):
        self.client("S")
        self.pod("SA")
        self.client("A")

    def error(self, kind, about, source, destination, mtu=0, chksum=None):
        """An ICMP error from `source` about a packet."""
        quoted = bytes(about)[: 576 if self.family == 4 else 1200]
        if self.family == 4:
            kinds = {"unreachable": (3, 1), "port": (3, 3), "too big": (3, 4), "time": (11, 0), "quench": (4, 0)}
            type_, code = kinds[kind]
            return IP(src=source, dst=destination, id=1) / ICMP(type=type_, code=code, nexthopmtu=mtu, chksum=chksum) / Raw(quoted)
        message = {
            "unreachable": ICMPv6DestUnreach(code=3), "port": ICMPv6DestUnreach(code=4), "too big": ICMPv6PacketTooBig(mtu=mtu),
            "time": ICMPv6TimeExceeded(code=0),
        }[kind]
        if chksum is not None:
            message.cksum = chksum
        return IPv6(src=source, dst=destination) / message / Raw(quoted)


def connections(play, family):
    flow = Flow(play, "life", family)
    flow.open()
    flow.client("PA", data=b"request")
    flow.pod("A")
    flow.pod("PA", data=b"answer")
    flow.client("A", name="A after the answer")
    flow.client("FA")
    flow.pod("FA")
    flow.client("A", name="last A")
    flow.sent["client"] += 100000
    flow.client("S", name="S on the closed flow")
    flow = Flow(play, "client resets", family)
    flow.open()
    flow.client("R")
    flow.pod("PA", name="PA from pod after it", data=b"late")
    flow.client("S", name="S after it")
    flow = Flow(play, "pod resets", family)
    flow.open()
    flow.pod("RA")
    flow.client("PA", name="PA from client after it", data=b"late")
    flow = Flow(play, "refused", family)
    flow.client("S")
    flow.pod("RA")
    flow.client("S", name="S again")
    flow = Flow(play, "SYN again", family)
    flow.client("S")
    flow.sent["client"] -= 1
    flow.client("S", name="the same S")
    flow.pod("SA")
    flow.sent["pod"] -= 1
    flow.pod("SA", name="the same SA")
    flow = Flow(play, "out of window", family)
    flow.open()
    flow.client("R", name="R far off", seq=flow.sent["client"] + 2**30)
    flow.client("PA", name="data far off", data=b"far", seq=flow.sent["client"] + 2**30)
    flow.pod("PA", name="data from pod far off", data=b"far", seq=flow.sent["pod"] + 2**30)
    flow.client("S", name="S inside", seq=flow.sent["client"] + 10)
    flow.client("PA", name="data in order after that", data=b"near")
    flow = Flow(play, "odd flags in a connection", family)
    flow.open()
    for flags in ("", "SF", "SR", "FPU", "F", "SFRPAU"):
        flow.client(flags, seq=flow.sent["client"])
    flow.client("PA", name="data after them", data=b"data")
    for flags in ("A", "PA", "R", "RA", "F", "FA", "SA", "", "SF", "SR", "FPU", "SFRPAU", "SU", "SP"):
        flow = Flow(play, f"without flow {flags or 'no flags'}", family)
        flow.client(flags)
    flow = Flow(play, "pod without flow", family)
    for flags in ("S", "SA", "A", "R"):
        flow.pod(flags)
    flow = Flow(play, "blind handshake", family)
    flow.client("S")
    flow.pod("SA")
    for flags in ("A", "FA", "PA"):
        flow.client(flags, name=f"{flags} of another number", seq=flow.sent["client"], ack=flow.sent["pod"] + 2**30)
    flow.client("A", name="A of the number")
    flow.pod("PA", data=b"greeting")


def associations(play, family):
    client, pod = "client", "pod"
    flow = Flow(play, "association", family, "sctp")
    flow.associate()
    flow.says(pod, "DATA")
    flow.says(client, "SACK", "DATA")
    for side in (client, pod):
        flow.says(side, "HEARTBEAT")
        flow.says(side, "HEARTBEAT ACK")
        flow.says(side, "ERROR")
        flow.says(side, "unknown")
        flow.says(side, "RE-CONFIG")
        flow.says(side, "ASCONF")
    flow.says(client, "SHUTDOWN")
    flow.says(pod, "DATA", name="DATA from pod after it")
    flow.says(pod, "SHUTDOWN ACK")
    flow.says(client, "SHUTDOWN COMPLETE")
    flow.tags = {side: tag + 7 for side, tag in flow.tags.items()}
    flow.says(client, "INIT", name="INIT after the end")
    flow.says(pod, "INIT ACK", name="INIT ACK after the end")
    flow = Flow(play, "association that the pod shuts down", family, "sctp")
    flow.associate()
    flow.says(pod, "SHUTDOWN")
    flow.says(client, "SHUTDOWN ACK")
    flow.says(pod, "SHUTDOWN COMPLETE")
    flow.says(client, "DATA", name="DATA from client after the end")
    for side, other in ((client, pod), (pod, client)):
        flow = Flow(play, f"association that the {side} aborts", family, "sctp")
        flow.associate()
        flow.says(side, "ABORT")
        flow.says(other, "DATA", name=f"DATA from {other} after it")
        flow.says(client, "INIT", name="INIT after it")
    flow = Flow(play, "association refused", family, "sctp")
    flow.says(client, "INIT")
    flow.says(pod, "ABORT")
    flow.says(client, "INIT", name="INIT again")
    flow = Flow(play, "association refused by a reflected tag", family, "sctp")
    flow.says(client, "INIT")
    flow.says(pod, "INIT ACK")
    flow.says(client, "COOKIE ECHO")
    flow.says(pod, "ABORT", flags=1, tag=flow.tags[pod])
    flow = Flow(play, "association begun twice", family, "sctp")
    flow.says(client, "INIT")
    flow.says(client, "INIT", name="the same INIT")
    flow.says(pod, "INIT ACK")
    flow.says(pod, "INIT ACK", name="the same INIT ACK")
    flow.says(client, "COOKIE ECHO")
    flow.says(client, "COOKIE ECHO", name="the same COOKIE ECHO")
    flow.says(pod, "COOKIE ACK")
    flow.says(pod, "COOKIE ACK", name="the same COOKIE ACK")
    flow = Flow(play, "association restarted", family, "sctp")
    flow.associate()
    flow.tags = {side: tag + 7 for side, tag in flow.tags.items()}
    for side, chunk in ((client, "INIT"), (pod, "INIT ACK"), (client, "COOKIE ECHO"), (pod, "COOKIE ACK"), (client, "DATA"), (pod, "DATA")):
        flow.says(side, chunk, name=f"{chunk} again from {side}")
    for side in (client, pod):
        for chunk in ("DATA", "SACK", "HEARTBEAT", "ABORT", "SHUTDOWN", "SHUTDOWN ACK", "SHUTDOWN COMPLETE", "COOKIE ECHO"):
            # Of these the kernel lets one pass.
            title = "a tag out of the blue" if chunk in ("HEARTBEAT", "SHUTDOWN ACK") else "another tag"
            flow = Flow(play, f"{title} with {chunk} from {side}", family, "sctp")
            flow.associate()
            flow.says(side, chunk, name="sent", tag=12345)
            flow.says(client, "DATA", name="DATA from client after it")
            flow.says(pod, "DATA", name="DATA from pod after it")
    for chunks, tag in (
        (("INIT", "DATA"), 0), (("INIT",), 77), (("INIT ACK", "DATA"), None), (("SHUTDOWN COMPLETE", "DATA"), None),
        (("DATA", "COOKIE ECHO"), None), (("DATA",), 0), (("DATA", "ABORT"), None), (("SACK", "SHUTDOWN"), None),
    ):
        title = "allowed bundle" if chunks[1:] in (("ABORT",), ("SHUTDOWN",)) else "bundle"
        flow = Flow(play, f"{title} {' + '.join(chunks)} tag {'its own' if tag is None else tag}", family, "sctp")
        flow.associate()
        flow.says(client, *chunks, name="sent", tag=tag)
        flow.says(client, "DATA", name="DATA after it")
    for chunk in CHUNKS:
        if chunk != "INIT":
            title = "out of the blue" if chunk in ("HEARTBEAT", "HEARTBEAT ACK", "SHUTDOWN ACK") else "without association"
            flow = Flow(play, f"{title} {chunk}", family, "sctp")
            flow.says(client, chunk)
    flow = Flow(play, "wrong CRC", family, "sctp")
    flow.says(client, "INIT", name="INIT with a wrong CRC", chksum=0x1234)
    flow = Flow(play, "wrong CRC in an association", family, "sctp")
    flow.associate()
    flow.says(client, "DATA", name="client's DATA with a wrong CRC", chksum=0x1234)
    flow.says(client, "ABORT", name="client's ABORT with a wrong CRC", chksum=0x1234)
    flow.says(pod, "DATA", name="pod's DATA with a wrong CRC", chksum=0x1234)
    flow.says(client, "DATA", name="DATA after them")
    flow = Flow(play, "broken chunks", family, "sctp")
    flow.associate()
    head = lambda: flow.ip(client) / SCTP(tag=flow.tags[pod], **flow.ports(client))
    for name, body in (
        ("none", b""), ("shorter than its header", b"\0\3\0\3"), ("longer than its packet", b"\0\3\0\x40" + bytes(12)),
        ("a second one of length 0", b"\3\0\0\x10" + bytes(12) + bytes(4)),
    ):
        flow.step(name, client, head() / Raw(body))
    flow.says(client, "DATA", name="DATA after them")
    flow = Flow(play, "pod without association", family, "sctp")
    for chunk in ("INIT", "INIT ACK", "DATA", "ABORT"):
        play.rest_of_errors(family)
        flow.says(pod, chunk)


def datagrams(play, family):
    flow = Flow(play, "datagrams", family, "udp")
    flow.step("request", "client", flow.udp("client"))
    flow.step("request again", "client", flow.udp("client"))
    flow.step("answer", "pod", flow.udp("pod"))
    flow.step("request after it", "client", flow.udp("client"))
    flow.step("empty", "client", flow.udp("client", b""))
    flow.step("not summed", "client", flow.udp("client", chksum=0))
    flow.step("not summed from pod", "pod", flow.udp("pod", chksum=0))
    flow.step("wrong sum", "client", flow.udp("client", chksum=0x1234))
    flow.step("wrong sum from pod", "pod", flow.udp("pod", chksum=0x1234))
    flow.step("shorter than its packet", "client", flow.ip("client") / UDP(len=12, **flow.ports("client")) / Raw(b"datagram"))
    flow.step("longer than its packet", "client", flow.ip("client") / UDP(len=99, **flow.ports("client")) / Raw(b"datagram"))
    flow.step("to no service", "client", flow.ip("client") / UDP(sport=flow.port, dport=30999) / Raw(b"datagram"))
    flow = Flow(play, "pod's datagram without flow", family, "udp")
    play.rest_of_errors(family)
    flow.step("answer", "pod", flow.udp("pod"))
    flow = Flow(play, "wrong TCP sum", family)
    flow.client("S", name="S with a wrong sum", chksum=0x1234)
    flow = Flow(play, "wrong TCP sum in a connection", family)
    flow.open()
    flow.client("PA", name="data with a wrong sum", data=b"data", chksum=0x1234)
    flow.pod("PA", name="data from pod with a wrong sum", data=b"data", chksum=0x1234)


def errors(play, family):
    for protocol in ("tcp", "udp", "sctp"):
        flow = Flow(play, f"errors about {protocol}", family, protocol)
        requests = {"tcp": lambda: flow.tcp("client", "S"), "udp": lambda: flow.udp("client"), "sctp": lambda: flow.sctp("client", "INIT")}
        flow.step("request", "client", requests[protocol]())
        inner = play.seen
        answers = {"tcp": lambda: flow.tcp("pod", "SA"), "udp": lambda: flow.udp("pod"), "sctp": lambda: flow.sctp("pod", "INIT ACK")}
        answer = answers[protocol]()
        flow.step("answer", "pod", answer)
        outside = flow.ip("pod")
        back = answer.copy()
        back.src, back.dst = GATEWAY[family], CLIENT[family]
        layer = LAYERS[protocol]
        back[layer].sport, back[layer].dport, back[layer].chksum = flow.service, flow.port, None
        pool = inner.src if inner else outside.dst
        for kind, mtu in (("unreachable", 0), ("port", 0), ("too big", 1400), ("time", 0)):
            flow.step(f"{kind} from pod", "pod", flow.error(kind, inner, POD[family], pool, mtu))
            flow.step(f"{kind} from a router", "pod", flow.error(kind, inner, ROUTER[family], pool, mtu))
            flow.step(f"{kind} from client", "client", flow.error(kind, back, CLIENT[family], GATEWAY[family], mtu))
        flow.step("wrong sum", "pod", flow.error("port", inner, POD[family], pool, chksum=0x1234))
        if family == 4:
            flow.step("source quench", "pod", flow.error("quench", inner, POD[family], pool))
        stranger = back.copy()
        stranger[layer].dport = 7777
        flow.step("about no flow", "client", flow.error("port", stranger, CLIENT[family], GATEWAY[family]))
        nested = flow.error("port", inner, POD[family], pool)
        flow.step("about an error", "pod", flow.error("port", nested, ROUTER[family], pool))
        after = {"tcp": lambda: flow.tcp("client", "A"), "udp": lambda: flow.udp("client"), "sctp": lambda: flow.sctp("client", "COOKIE ECHO")}
        flow.step("data after them", "client", after[protocol]())


def headers(play, family):
    flow = Flow(play, "headers", family, "udp")
    flow.step("request", "client", flow.udp("client"))
    flow.step("answer", "pod", flow.udp("pod"))
    for ttl in (0, 1, 2, 255):
        flow.step(f"ttl {ttl}", "client", flow.udp("client", ttl=ttl))
        flow.step(f"ttl {ttl} from pod", "pod", flow.udp("pod", ttl=ttl))
    for tos in (0x01, 0x03, 0xB8):
        flow.step(f"tos {tos:#x}", "client", flow.udp("client", tos=tos))
    full = 1450 if family == 4 else 1430
    room = full - (28 if family == 4 else 48)
    flow.step("as large as fits", "client", flow.udp("client", bytes(room), flags="DF"))
    flow.step("one byte too large", "client", flow.udp("client", bytes(room + 1), flags="DF"))
    flow.step("too large from client's link", "client", flow.udp("client", bytes(room + 30)))
    first = Flow(play, "first packet too large", family, "udp")
    first.step("request", "client", first.udp("client", bytes(room + 1), flags="DF"))
    flow = Flow(play, "headers with more", family, "udp")
    flow.step("request", "client", flow.udp("client"))
    flow.step("answer", "pod", flow.udp("pod"))
    if family == 4:
        flow.step("wrong sum", "client", broken_sum(flow.udp("client")))
        flow.step("wrong sum from pod", "pod", broken_sum(flow.udp("pod")))
        for name, option in (
            ("no-operation", b"\x01\x01\x01\x00"), ("router alert", b"\x94\x04\x00\x00"),
            ("record route", b"\x07\x07\x04\0\0\0\0\0"), ("loose source route", b"\x83\x07\x08\xc0\x00\x02\x01\x00"),
            ("a broken length", b"\x07\x63\x04\x00"),
        ):
            flow.step(f"option {name}", "client", with_options(flow.udp("client"), option))
        flow.step("longer than its frame", "client", flow.udp("client", len=900))
        flow.step("reserved flag", "client", flow.udp("client", flags=4))
    else:
        body = UDP(**flow.ports("client")) / Raw(b"datagram")
        for name, chain in (
            ("hop-by-hop", IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")])),
            ("destination options", IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")])),
        ):
            flow.step(name, "client", flow.ip("client") / chain / body)
    for name, source in (("loopback", {4: "127.0.0.1", 6: "::1"}), ("gateway", GATEWAY), ("group", {4: "224.0.0.5", 6: "ff02::5"})):
        stranger = Flow(play, f"source {name}", family, "udp")
        packet = stranger.udp("client")
        packet.src = source[family]
        stranger.step("request", "client", packet)


def with_options(packet, options):
    data = bytes(packet)
    head = bytearray(data[:20] + options)
    head[0] += len(options) // 4
    head[2:4] = (len(data) + len(options)).to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
    return Raw4(head + data[20:])


def broken_sum(packet):
    data = bytearray(bytes(packet))
    data[10] ^= 0x55
    return Raw4(data)


class Raw4:
    """An IPv4 packet as these bytes, whatever they say."""

    version = 4

    def __contains__(self, layer):
        return False

    def __init__(self, data):
        self.data = bytes(data)

    def __bytes__(self):
        return self.data


def cut(packet, size, family):
    if family == 4:
        return fragment(IP(bytes(packet)), size)
    head, rest = packet.copy(), packet.payload
    number = packet[UDP].sport + packet[UDP].dport
    head.remove_payload()
    del head.plen, head.nh
    whole = head / IPv6ExtHdrFragment(id=number, nh=17) / rest.__class__(bytes(packet)[40:])
    return fragment6(whole, size + 48)


def fragmented(play, family):
    def play_fragments(name, order, size=512, length=1300):
        flow = Flow(play, f"fragments {name}", family, "udp")
        # A number for each, lest one completes what another left.
        packet = flow.udp("client", bytes(n & 255 for n in range(length)), id=flow.port)
        packet = packet.__class__(bytes(packet))
        fragments = cut(packet, size, family)
        flow.step("sent", "client", order(fragments))
        return flow

    flow = play_fragments("in order", lambda fragments: fragments)
    flow.step("a whole answer", "pod", flow.udp("pod"))
    answer = flow.udp("pod", bytes(n & 255 for n in range(1300)))
    flow.step("an answer in fragments", "pod", cut(answer.__class__(bytes(answer)), 512, family))
    play_fragments("in reverse", lambda fragments: fragments[::-1])
    play_fragments("without the first", lambda fragments: fragments[1:])
    play_fragments("without the last", lambda fragments: fragments[:-1])
    play_fragments("with one twice", lambda fragments: fragments[:2] + fragments[1:])
    play_fragments("too large together", lambda fragments: fragments, size=1400 if family == 4 else 1300, length=4000)


class PodFlow(Flow):
    """A pod's port towards one of the client's; what the client knows the pod by is in `play.seen`."""

    service = 443

    def __init__(self, play, name, family, protocol="tcp"):
        super().__init__(play, f"pod: {name}", family, protocol)
        self.service = self.target = 443

    def ip(self, side, **fields):
        seen = self.play.seen
        source, destination = POD[self.family], CLIENT[self.family]
        if side == "client":
            source, destination = destination, seen.src if seen else OUT[self.family]
        if self.family == 4:
            return IP(src=source, dst=destination, **{"id": 4242, **fields})
        names = {"ttl": "hlim", "tos": "tc", "nh": "nh"}
        return IPv6(src=source, dst=destination, **{names[k]: v for k, v in fields.items() if k in names})

    def ports(self, side):
        if side == "pod":
            return dict(sport=self.port, dport=self.service)
        seen = self.play.seen
        layer = LAYERS.get(self.protocol, UDP)
        return dict(sport=self.service, dport=seen[layer].sport if seen and layer in seen else 45678)

    def ping(self, side, kind="request", seq=1, ident=None, data=b"echo", **fields):
        seen = self.play.seen
        if ident is None:
            ident = self.port if side == "pod" else echo_of(seen).id if seen and echo_of(seen) else 4567
        if self.family == 4:
            return self.ip(side, **fields) / ICMP(type=8 if kind == "request" else 0, id=ident, seq=seq) / Raw(data)
        layer = ICMPv6EchoRequest if kind == "request" else ICMPv6EchoReply
        return self.ip(side, **fields) / layer(id=ident, seq=seq, data=data)


def pods_connections(play, family):
    flow = PodFlow(play, "life", family)
    flow.pod("S")
    flow.client("SA")
    flow.pod("A")
    flow.pod("PA", data=b"request")
    flow.client("PA", data=b"answer")
    flow.pod("FA")
    flow.client("FA")
    flow.pod("A", name="last A")
    flow = PodFlow(play, "refused", family)
    flow.pod("S")
    flow.client("RA")
    flow.pod("S", name="S again")
    for flags in ("S", "SA", "A", "R"):
        flow = PodFlow(play, f"nobody asked for {flags}", family)
        flow.client(flags)
    flow = PodFlow(play, "without flow A", family)
    flow.pod("A")


def pods_associations(play, family):
    flow = PodFlow(play, "association", family, "sctp")
    flow.associate(client="pod", pod="client")
    for side in ("client", "pod"):
        flow.says(side, "DATA")
        flow.says(side, "HEARTBEAT")
    flow.says("client", "ABORT", name="ABORT with another tag", tag=12345)
    flow.says("client", "DATA", name="client's DATA with a wrong CRC", chksum=0x1234)
    flow.says("pod", "DATA", name="pod's DATA with a wrong CRC", chksum=0x1234)
    flow.says("client", "SHUTDOWN")
    flow.says("pod", "SHUTDOWN ACK")
    flow.says("client", "SHUTDOWN COMPLETE")
    flow = PodFlow(play, "association refused", family, "sctp")
    flow.says("pod", "INIT")
    flow.says("client", "ABORT")
    flow.says("pod", "INIT", name="INIT again")
    for chunk in ("INIT", "INIT ACK", "DATA", "ABORT"):
        flow = PodFlow(play, f"no association for {chunk}", family, "sctp")
        flow.says("client", chunk)
    flow = PodFlow(play, "without association DATA", family, "sctp")
    flow.says("pod", "DATA")


def pods_datagrams(play, family):
    flow = PodFlow(play, "datagrams", family, "udp")
    flow.step("request", "pod", flow.udp("pod"))
    flow.step("answer", "client", flow.udp("client"))
    flow.step("request after it", "pod", flow.udp("pod"))
    flow.step("empty", "pod", flow.udp("pod", b""))
    flow.step("not summed", "pod", flow.udp("pod", chksum=0))
    flow.step("wrong sum", "pod", flow.udp("pod", chksum=0x1234))
    for ttl in (0, 1, 2):
        flow.step(f"ttl {ttl}", "pod", flow.udp("pod", ttl=ttl))
        flow.step(f"ttl {ttl} from client", "client", flow.udp("client", ttl=ttl))
    flow = PodFlow(play, "nobody asked", family, "udp")
    flow.step("answer", "client", flow.udp("client"))


def pods_pings(play, family):
    flow = PodFlow(play, "ping", family, "echo")
    flow.step("request", "pod", flow.ping("pod"))
    flow.step("reply", "client", flow.ping("client", "reply"))
    flow.step("second request", "pod", flow.ping("pod", seq=2))
    flow.step("second reply", "client", flow.ping("client", "reply", seq=2))
    flow.step("the same reply", "client", flow.ping("client", "reply", seq=2))
    flow.step("as large as fits", "pod", flow.ping("pod", seq=3, data=bytes(1422 if family == 4 else 1382)))
    flow.step("reply to another", "client", flow.ping("client", "reply", ident=(echo_of(play.seen).id if play.seen else 1) ^ 1))
    flow.step("ttl 1", "pod", flow.ping("pod", seq=4, ttl=1))
    flow.step("reply from pod", "pod", flow.ping("pod", "reply", seq=5))
    other = PodFlow(play, "nobody asked", family, "echo")
    other.step("reply", "client", other.ping("client", "reply"))
    other.step("request", "client", other.ping("client"))
    if family == 4:
        timestamp = flow.ip("pod") / ICMP(type=13, id=77, seq=1)
        other.step("timestamp request", "pod", timestamp)


def pods_errors(play, family):
    for protocol in ("tcp", "udp", "echo"):
        flow = PodFlow(play, f"errors about {protocol}", family, protocol)
        make = {"tcp": lambda: flow.tcp("pod", "S"), "udp": lambda: flow.udp("pod"), "echo": lambda: flow.ping("pod")}[protocol]
        flow.step("request", "pod", make())
        outer = play.seen
        back = {
            "tcp": lambda: flow.tcp("client", "SA"), "udp": lambda: flow.udp("client"), "echo": lambda: flow.ping("client", "reply"),
        }[protocol]()
        flow.step("answer", "client", back)
        # The answer as the pod has it.
        inner = back.copy()
        inner.dst = POD[family]
        if protocol == "echo":
            echo_of(inner).id = flow.port
        else:
            inner[TCP if protocol == "tcp" else UDP].dport = flow.port
        out = outer.src if outer else OUT[family]
        for kind, mtu in (("unreachable", 0), ("port", 0), ("too big", 1400), ("time", 0)):
            flow.step(f"{kind} from client", "client", flow.error(kind, outer or inner, CLIENT[family], out, mtu))
            flow.step(f"{kind} from a router", "client", flow.error(kind, outer or inner, FAR_ROUTER[family], out, mtu))
            flow.step(f"{kind} from pod", "pod", flow.error(kind, inner, POD[family], CLIENT[family], mtu))
        flow.step("wrong sum", "client", flow.error("port", outer or inner, CLIENT[family], out, chksum=0x1234))
        flow.step("request after them", "pod", make())


def pods_parts(play, family):
    flow = PodFlow(play, "fragments", family, "udp")
    packet = flow.udp("pod", bytes(n & 255 for n in range(1300)), id=flow.port)
    flow.step("a request in order", "pod", cut(packet.__class__(bytes(packet)), 512, family))
    answer = flow.udp("client", bytes(n & 255 for n in range(1300)), id=flow.port + 1)
    flow.step("an answer in order", "client", cut(answer.__class__(bytes(answer)), 512, family))
    answer = flow.udp("client", bytes(n & 255 for n in range(1200)), id=flow.port + 2)
    flow.step("an answer in reverse", "client", cut(answer.__class__(bytes(answer)), 512, family)[::-1])


def echoes(play, family):
    """Pings for the gateway itself: its host's answers, or its own."""
    flow = Flow(play, "echoes", family, "udp")
    flow.step("request", "client", flow.udp("client"))
    pool = play.seen.src if play.seen else {4: "10.77.200.2", 6: "fd77:0:0:200::2"}[family]
    member = {4: "10.77.200.0", 6: "fd77:0:0:200::"}[family]

    def ping(source, destination, kind):
        if family == 4:
            return IP(src=source, dst=destination, id=1) / ICMP(type=8 if kind == "request" else 0, id=99, seq=1) / Raw(b"echo")
        layer = ICMPv6EchoRequest if kind == "request" else ICMPv6EchoReply
        return IPv6(src=source, dst=destination) / layer(id=99, seq=1, data=b"echo")

    flow.step("ping from client", "client", ping(CLIENT[family], GATEWAY[family], "request"))
    flow.step("reply from client", "client", ping(CLIENT[family], GATEWAY[family], "reply"))
    flow.step("ping from pod", "pod", ping(POD[family], member, "request"))
    flow.step("reply from pod", "pod", ping(POD[family], pool, "reply"))


SCENES = {
    "clients": (connections, associations, datagrams, errors, headers, fragmented, echoes),
    "preserved": (connections, associations, datagrams, errors, fragmented),
    "pods": (pods_connections, pods_associations, pods_datagrams, pods_pings, pods_errors, pods_parts),
}


def main():
    # One CPU, so that what is written first is received first.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    play = Play(*sys.argv[1:5])
    play.warm_up()
    play.mode = sys.argv[5]
    for family in (4, 6):
        for scene in SCENES[play.mode]:
            scene(play, family)


if __name__ == "__main__":
    main()
