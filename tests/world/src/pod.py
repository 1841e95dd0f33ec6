"""UDP servers of a pod: echo on port 7, a small DNS responder on port 53 (RFC 1035)."""

import ipaddress
import selectors
import socket
import struct
import sys

NAME, V4, V6 = sys.argv[1:4]
A, TXT, AAAA = 1, 16, 28


def answer(query):
    """Answers A and AAAA with the pod's addresses and TXT with its name."""
    if len(query) < 12:
        return None
    end = 12
    while query[end]:
        end += query[end] + 1
    kind = struct.unpack_from("!H", query, end + 1)[0]
    question = query[12 : end + 5]
    data = {
        A: ipaddress.ip_address(V4).packed,
        AAAA: ipaddress.ip_address(V6).packed,
        TXT: bytes([len(NAME)]) + NAME.encode(),
    }.get(kind)
    header = query[:2] + struct.pack("!HHHHH", 0x8580, 1, 0 if data is None else 1, 0, 0)
    if data is None:
        return header + question
    return header + question + struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data


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
