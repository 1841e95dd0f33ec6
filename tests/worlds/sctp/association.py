"""SCTP (RFC 9260) over raw sockets, for kernels that have none: as much of it as an association needs.

association.py serve NAME PORT
association.py ask ADDRESS PORT COUNT [INIT_BYTES]

`serve` echoes data, its name before it, and has cookies as long as the client's INIT. `ask` sets an association up, has
COUNT messages echoed and shuts it down, and prints the server's name and how often it had to repeat itself. Whatever comes
with a wrong checksum or tag is thrown away, and so is what is repeated. Packets are larger than the path where asked:
the host's own IP cuts and reassembles them.
"""

import os
import select
import socket
import struct
import sys
import time

DATA, INIT, INIT_ACK, SACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 0, 1, 2, 3, 6, 7, 8, 10, 11, 14
STATE_COOKIE, PADDING = 7, 0x8005


def crc32c(data):
    """Bit by bit; kept in a table of bytes."""
    register = 0xFFFFFFFF
    for byte in data:
        register = TABLE[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def remainder(register):
    for _ in range(8):
        register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register


TABLE = [remainder(byte) for byte in range(256)]


def chunk(kind, value=b"", flags=0):
    return struct.pack("!BBH", kind, flags, 4 + len(value)) + value + bytes(-len(value) % 4)


def packet(source, destination, tag, *chunks):
    head, body = struct.pack("!HHI", source, destination, tag), b"".join(chunks)
    return head + struct.pack("<I", crc32c(head + bytes(4) + body)) + body


def read(data):
    """Ports, tag and chunks; `None` where the checksum is wrong."""
    if len(data) < 16 or struct.unpack_from("<I", data, 8)[0] != crc32c(data[:8] + bytes(4) + data[12:]):
        return None
    source, destination, tag = struct.unpack_from("!HHI", data)
    chunks, at = [], 12
    while at + 4 <= len(data):
        kind, flags, length = struct.unpack_from("!BBH", data, at)
        chunks.append((kind, data[at + 4 : at + length]))
        at += (length + 3) & ~3
    return source, destination, tag, chunks


def init(kind, tag, tsn, *parameters):
    return chunk(kind, struct.pack("!IIHHI", tag, 65536, 1, 1, tsn) + b"".join(parameters))


def parameter(kind, value):
    return struct.pack("!HH", kind, 4 + len(value)) + value + bytes(-len(value) % 4)


def open_socket(family, listens=False):
    raw = socket.socket(family, socket.SOCK_RAW, 132)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if family == socket.AF_INET:
        raw.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: without DF
    elif listens:
        # IPV6_MTU: a raw socket that is not connected gets no report of what was too big.
        raw.setsockopt(socket.IPPROTO_IPV6, 24, 1280)
    return raw


def payload(family, data):
    """Raw sockets of IPv4 give the IP header too."""
    return data[(data[0] & 15) * 4 :] if family == socket.AF_INET else data


def data_chunk(tsn, message):
    return chunk(DATA, struct.pack("!IHHI", tsn, 0, 0, 0) + message, flags=3)


def sack(tsn):
    return chunk(SACK, struct.pack("!IIHH", tsn, 65536, 0, 0))


def serve(name, port):
    sockets = {open_socket(family, True): family for family in (socket.AF_INET, socket.AF_INET6)}
    associations = {}
    while True:
        for raw in select.select(list(sockets), [], [])[0]:
            data, peer = raw.recvfrom(65535)
            got = read(payload(sockets[raw], data))
            if got is None or got[1] != port:
                continue
            source, _, tag, chunks = got
            key = (peer[0], source)
            answer = answer_to(associations, key, tag, chunks, name)
            if answer:
                raw.sendto(packet(port, source, *answer), (peer[0], 0))


def answer_to(associations, key, tag, chunks, name):
    kind, value = chunks[0]
    if kind == INIT and tag == 0:
        # The cookie is all that is known until it comes back (RFC 9260 section 5.1.3).
        theirs, own = struct.unpack_from("!I", value)[0], int.from_bytes(os.urandom(4), "big") or 1
        cookie = struct.pack("!II", theirs, own).ljust(max(len(value), 8), b"c")
        return theirs, init(INIT_ACK, own, 1000, parameter(STATE_COOKIE, cookie))
    if kind == COOKIE_ECHO:
        theirs, own = struct.unpack_from("!II", value)
        if tag == own:
            associations.setdefault(key, {})[own] = theirs
    theirs = associations.get(key, {}).get(tag)
    if theirs is None:
        return None
    answers = [chunk(COOKIE_ACK)] if kind == COOKIE_ECHO else []
    for kind, value in chunks:
        if kind == DATA:
            tsn = struct.unpack_from("!I", value)[0]
            answers += [sack(tsn), data_chunk(tsn, name.encode() + b" " + value[12:])]
        elif kind == SHUTDOWN:
            answers.append(chunk(SHUTDOWN_ACK))
        elif kind in (SHUTDOWN_COMPLETE, ABORT):
            del associations[key][tag]
    return (theirs, *answers) if answers else None


class Client:
    def __init__(self, address, port):
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.raw = open_socket(self.family)
        self.raw.connect((address, 0))
        self.port, self.source = port, 20000 + int.from_bytes(os.urandom(2), "big") % 40000
        self.own, self.theirs = int.from_bytes(os.urandom(4), "big") or 1, 0
        self.repeated = 0

    def send(self, tag, *chunks):
        data = packet(self.source, self.port, tag, *chunks)
        try:
            self.raw.send(data)
        except OSError:
            # What an ICMP error has reported since: too large (fragmented from now on), or that the server is not up yet.
            self.raw.send(data)

    def receive(self):
        try:
            return read(payload(self.family, self.raw.recv(65535)))
        except OSError:
            return None

    def ask(self, tag, chunks, wanted):
        """Sends until an answer has a chunk for which `wanted` has something."""
        for attempt in range(20):
            self.repeated += attempt > 0
            self.send(tag, *chunks)
            deadline = time.monotonic() + 1
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([self.raw], [], [], left)[0]:
                    break
                got = self.receive()
                if got is None or got[:3] != (self.port, self.source, self.own):
                    continue
                for kind, value in got[3]:
                    if (found := wanted(kind, value)) is not None:
                        return found
        raise SystemExit(f"no answer to {[c[0] for c in chunks]} in twenty attempts")

    def open(self, init_bytes):
        more = [parameter(PADDING, bytes(init_bytes))] if init_bytes else []
        answer = self.ask(0, [init(INIT, self.own, 1, *more)], lambda kind, value: value if kind == INIT_ACK else None)
        self.theirs = struct.unpack_from("!I", answer)[0]
        kind, length = struct.unpack_from("!HH", answer, 16)
        assert kind == STATE_COOKIE
        cookie = answer[20 : 16 + length]
        self.ask(self.theirs, [chunk(COOKIE_ECHO, cookie)], lambda kind, _: True if kind == COOKIE_ACK else None)

    def echo(self, tsn, message):
        """Whose echo of this it was."""

        def wanted(kind, value):
            if kind != DATA or struct.unpack_from("!I", value)[0] != tsn:
                return None
            name, _, rest = value[12:].partition(b" ")
            assert rest == message, "another message"
            return name.decode()

        return self.ask(self.theirs, [data_chunk(tsn, message)], wanted)

    def close(self):
        self.ask(self.theirs, [chunk(SHUTDOWN, struct.pack("!I", 1))], lambda kind, _: True if kind == SHUTDOWN_ACK else None)
        self.send(self.theirs, chunk(SHUTDOWN_COMPLETE))


def ask(address, port, count, init_bytes=0):
    client = Client(address, port)
    client.open(init_bytes)
    # Empty, odd, full, and larger than any link.
    sizes = [0, 1, 17, 1300, 3000]
    names = {client.echo(1 + n, os.urandom(sizes[n % len(sizes)])) for n in range(count)}
    assert len(names) == 1, f"one association, several servers: {names}"
    client.close()
    print(names.pop(), client.repeated, client.source)


if __name__ == "__main__":
    order, *rest = sys.argv[1:]
    if order == "serve":
        serve(rest[0], int(rest[1]))
    else:
        ask(rest[0], *map(int, rest[1:]))
