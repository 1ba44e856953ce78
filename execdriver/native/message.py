"""The op list and the control records, as bytes: Python's half of `c/message.h`.

The numbers here and in `c/message.h` are compared by `tests/execdriver/test_message.py`.
The header tells the whole story: who interprets which op, in which process, and what each record means.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

OPLIST_MAGIC = 0x534C4457
OPLIST_VERSION = 1
OPLIST_MAX = 1 << 20
SLOTS = 128
PROTOCOL_VERSION = 1
NONE = 0xFFFFFFFF
RECORD_SIZE = 120

_HEADER = struct.Struct("<IIII")
_OP = struct.Struct("<HHIQQQ")
_RECORD = struct.Struct("<HHIQ104s")


class Op(IntEnum):
    """What the shim and its child can do; arguments in `c/message.h`."""

    RUNDIR = 1
    LOG = 2
    STDIO = 3
    OVERLAY = 4
    OPEN_TREE = 5
    OPEN_CGROUP = 6
    OOM_V1 = 7
    OOM_V2 = 8
    CLONE = 9
    OPEN_SHM = 10
    USERNS = 11
    OPEN_NS = 12
    JOIN = 16
    WRITE = 32
    SETNS = 33
    UNSHARE = 34
    PRIVATE = 35
    ROOT = 36
    MOUNT = 37
    BIND = 38
    MKDIR = 39
    MKNOD = 40
    SYMLINK = 41
    TOUCH = 42
    DEVICE = 43
    MASK = 44
    READONLY = 45
    READONLY_ROOT = 46
    PIVOT = 47
    SYSCTL = 48
    CONSOLE = 49
    HOSTNAME = 50
    DOMAINNAME = 51
    LOOPBACK = 52
    RLIMIT = 53
    KEYRING = 54
    UMASK = 55
    OOM_SCORE = 56
    BOUNDING = 57
    GROUPS = 58
    IDS = 59
    NO_NEW_PRIVS = 60
    SECCOMP = 61
    CAPS = 62
    CHDIR = 63
    EXEC = 64


class Rec(IntEnum):
    """Types of control records; arguments in `c/message.h`."""

    GO = 1
    ATTACH = 2
    STDIN_CLOSE = 3
    RESIZE = 4
    SIGNAL = 5
    STATUS = 6
    EXEC = 7
    ROTATE = 8
    STARTED = 32
    FAILED = 33
    EXIT = 34
    OOM = 35
    STATE = 36
    DETACHED = 37
    ERROR = 38
    OK = 39


class Log(IntEnum):
    NONE = 0
    JSON = 1


class Stdio(IntFlag):
    TTY = 1
    STDIN = 2
    STDIN_ONCE = 4


class Tree(IntFlag):
    RECURSIVE = 1
    TOP = 2
    SLAVE = 4
    SHARED = 8
    MAPPED = 16


class Place(IntFlag):
    MAKE = 1
    PROC = 2


class Attach(IntFlag):
    STDIN = 1
    STDOUT = 2
    STDERR = 4
    RAW = 8


class OpList:
    """Builds an op list; `names` keeps, for each op, what to call it when it fails."""

    def __init__(self) -> None:
        self._ops: list[bytes] = []
        self.names: list[str] = []

    def add(self, code: Op, *strings: str | bytes, a: int = 0, b: int = 0, c: int = 0, what: str = "") -> None:
        """Append an op whose payload is `strings`; `what` names the op for a person, where it says more than the code.

        Raises ValueError when a string holds a NUL byte.
        """
        encoded = [os.fsencode(s) for s in strings]
        if any(b"\0" in s for s in encoded):
            raise ValueError(f"{code.name}: a string has a NUL byte in it")
        self._append(code, b"".join(s + b"\0" for s in encoded), len(encoded), a, b, c, what)

    def add_raw(self, code: Op, payload: bytes, *, a: int = 0, b: int = 0, c: int = 0, what: str = "") -> None:
        """Append an op whose payload is raw bytes."""
        self._append(code, payload, 0, a, b, c, what)

    def _append(self, code: Op, payload: bytes, nstr: int, a: int, b: int, c: int, what: str) -> None:
        payload += bytes(-len(payload) % 8)
        self._ops.append(_OP.pack(code, nstr, len(payload), a, b, c) + payload)
        self.names.append(what or code.name.lower())

    def encode(self) -> bytes:
        """The list as the shim reads it. Raises ValueError when it is over OPLIST_MAX bytes."""
        body = b"".join(self._ops)
        total = _HEADER.size + len(body)
        if total > OPLIST_MAX:
            raise ValueError(f"the op list has {total} bytes, over the limit of {OPLIST_MAX}")
        return _HEADER.pack(OPLIST_MAGIC, OPLIST_VERSION, total, len(self._ops)) + body


class Record(NamedTuple):
    """One control record, with the descriptors that came or go beside it; whoever holds it owns them."""

    type: Rec
    proc: int = 0
    a: int = 0
    b: int = 0
    data: bytes = b""
    fds: tuple[int, ...] = ()


def send(sock: socket.socket, record: Record) -> None:
    """Send `record` on a SEQPACKET socket. The descriptors are duplicated: the caller still owns its own."""
    payload = _RECORD.pack(record.type, record.proc, record.a, record.b, record.data)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", record.fds))] if record.fds else []
    sock.sendmsg([payload], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> Record | None:
    """Receive one record; None at the end of the stream. Its descriptors are CLOEXEC and belong to the caller.

    Raises BlockingIOError on a non-blocking socket without a record, ValueError on a foreign datagram.
    """
    size = socket.CMSG_SPACE(4 * array.array("i").itemsize)
    payload, ancillary, _, _ = sock.recvmsg(RECORD_SIZE, size, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if not payload:
        return None
    if len(payload) != RECORD_SIZE:
        for fd in fds:
            os.close(fd)
        raise ValueError(f"a control record of {len(payload)} bytes, not {RECORD_SIZE}")
    kind_, proc, a, b, data = _RECORD.unpack(payload)
    return Record(Rec(kind_), proc, a, b, data, tuple(fds))
