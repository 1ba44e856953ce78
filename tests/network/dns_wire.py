"""DNS messages for tests."""

from __future__ import annotations

import ipaddress
import random
import socket
import struct

A, PTR, AAAA = 1, 12, 28
FORMERR, SERVFAIL, NOTIMP = 1, 2, 4


def labels(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def query(name: str, kind: int, edns: int = 0) -> bytes:
    head = struct.pack("!6H", random.getrandbits(16), 0x0100, 1, 0, 0, bool(edns))
    options = b"\0" + struct.pack("!HHIH", 41, edns, 0, 0) if edns else b""
    return head + labels(name) + struct.pack("!2H", kind, 1) + options


def response(question: bytes, address: str) -> bytes:
    end = question.index(b"\0", 12) + 5
    record = struct.pack("!3HIH", 0xC00C, A, 1, 60, 4) + socket.inet_aton(address)
    return question[:2] + b"\x81\x80" + struct.pack("!4H", 1, 1, 0, 0) + question[12:end] + record


def reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


class Message:
    """An answer, taken apart."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.id, flags, questions, answers, _, _ = struct.unpack_from("!6H", raw)
        self.rcode, self.truncated = flags & 15, bool(flags & 0x200)
        at = 12
        self.name = ""
        if questions:
            self.name, at = self._name(at)
            at += 4
        self.answers: list[str] = []
        self.ttls: list[int] = []
        for _ in range(answers):
            _, at = self._name(at)
            kind, _, ttl, size = struct.unpack_from("!2HIH", raw, at)
            at += 10
            data = raw[at : at + size]
            self.answers.append(self._name(at)[0] if kind == PTR else str(ipaddress.ip_address(data)))
            self.ttls.append(ttl)
            at += size

    def _name(self, at: int) -> tuple[str, int]:
        parts = []
        while size := self.raw[at]:
            if size >= 0xC0:
                return ".".join([*parts, self._name((size & 0x3F) << 8 | self.raw[at + 1])[0]]), at + 2
            parts.append(self.raw[at + 1 : at + 1 + size].decode())
            at += 1 + size
        return ".".join(parts), at + 1


def ask(server: tuple[str, int], message: bytes) -> Message:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(15)
        sock.connect(server)
        sock.send(message)
        return Message(sock.recv(65536))


def ask_tcp(server: tuple[str, int], message: bytes) -> Message:
    with socket.create_connection(server, timeout=15) as sock, sock.makefile("rb") as stream:
        sock.sendall(struct.pack("!H", len(message)) + message)
        (size,) = struct.unpack("!H", stream.read(2))
        return Message(stream.read(size))
