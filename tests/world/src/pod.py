"""UDP servers of a pod: echo on port 7, a small DNS responder on port 53 (RFC 1035).

A and AAAA are answered with the pod's addresses and TXT with its name. TXT of a name that begins with a number, such as
`1200.example`, is answered with so many bytes, where the question allows them (RFC 6891); else it is marked as cut.
"""

import ipaddress
import selectors
import socket
import struct
import sys

NAME, V4, V6 = sys.argv[1:4]
A, TXT, AAAA, OPT = 1, 16, 28, 41
OWNER = b"\xc0\x0c"  # A pointer to the question's name.


def filled(query, question, length):
    """A message of exactly `length` bytes: TXT records and the OPT record that belongs to the question's own."""
    at = 12 + len(question)
    has_opt = query[10:12] != b"\0\0" and query[at] == 0 and struct.unpack_from("!H", query, at + 1)[0] == OPT
    limit = max(struct.unpack_from("!H", query, at + 3)[0], 512) if has_opt else 512
    opt = b"\0" + struct.pack("!HHIH", OPT, 4096, 0, 0) if has_opt else b""
    records = []
    left = length - 12 - len(question) - len(opt)
    while left:
        # A record is 12 bytes, the length of its one string, and the string; no rest is to be too small for another.
        size = min(left, 200)
        size -= 13 if 0 < left - size < 13 else 0
        text = NAME.encode().ljust(size - 13, b".")[: size - 13]
        records.append(OWNER + struct.pack("!HHIH", TXT, 1, 60, len(text) + 1) + bytes([len(text)]) + text)
        left -= size
    flags = 0x8580
    if length > limit:
        flags, records = flags | 0x0200, []
    header = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, int(has_opt))
    return header + question + b"".join(records) + opt


def answer(query):
    if len(query) < 12:
        return None
    end = 12
    while query[end]:
        end += query[end] + 1
    kind = struct.unpack_from("!H", query, end + 1)[0]
    question = query[12 : end + 5]
    first = query[13 : 13 + query[12]]
    if kind == TXT and first.isdigit():
        return filled(query, question, int(first))
    data = {
        A: ipaddress.ip_address(V4).packed,
        AAAA: ipaddress.ip_address(V6).packed,
        TXT: bytes([len(NAME)]) + NAME.encode(),
    }.get(kind)
    header = query[:2] + struct.pack("!HHHHH", 0x8580, 1, 0 if data is None else 1, 0, 0)
    if data is None:
        return header + question
    return header + question + OWNER + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def bind(port):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("::", port))
    return sock


selector = selectors.DefaultSelector()
selector.register(bind(7), selectors.EVENT_READ, lambda datagram: datagram)
selector.register(bind(53), selectors.EVENT_READ, answer)
while True:
    for key, _ in selector.select():
        datagram, peer = key.fileobj.recvfrom(65535)
        try:
            reply = key.data(datagram)
        except (IndexError, struct.error):
            continue
        if reply is not None:
            key.fileobj.sendto(reply, peer)
