"""Our table in the kernel's packet filter: made, changed by elements, kept when somebody else wipes it.

`nft flush ruleset`, a firewall's reload and suchlike take our table away, and with it what keeps bridges apart. The
kernel tells listeners of every transaction: the objects that it touched, then its generation number. A transaction
that touched what is ours and whose number is not one of our own is answered by making everything anew.

Beside Docker: its FORWARD chain drops what it does not know, and an accept in our table does not undo that, so accept
rules for our bridges, marked by a comment, are kept in DOCKER-USER, behind the user's own.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from windlass.kernel.nft import Nft, NftError

from . import rules
from .rules import LinkRule, NetworkRules, Port
from .thread import NetworkThread

logger = logging.getLogger("windlass.network")

NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEWGEN, _GETGEN = 15, 16
_DELTABLE = 2
_CHAIN_MESSAGES, _RULE_MESSAGES = (3, 5), (6, 8)
_HEADER = struct.Struct("=IHHII")
_UNKNOWN = -1  # the generation of what the listener has lost

SETTLE = 0.2  # seconds between the first sign of a disturbance and its repair
PATIENCE = 8.0  # the longest, when somebody undoes our repairs again and again
QUIET = 30.0  # seconds without a repair after which that is forgotten
CHAIN = "DOCKER-USER"


class Firewall:
    """One daemon's table. `forwarding`: it may turn on the host's forwarding of packets when a network needs it."""

    def __init__(self, thread: NetworkThread, table: str, forwarding: bool = True) -> None:
        self._thread = thread
        self._table = table
        self._forwarding = forwarding
        self._nft: Nft | None = None
        self._generations: socket.socket | None = None
        self._own: deque[int] = deque(maxlen=4096)  # generations that we made
        self._networks: list[NetworkRules] = []
        self._ports: dict[Port, None] = {}
        self._links: dict[LinkRule, None] = {}
        self._is_applied = False

    # -- what the network subsystem asks for -------------------------------------------------------------------------

    async def apply(self, networks: Iterable[NetworkRules], ports: Iterable[Port], links: Iterable[LinkRule]) -> None:
        """Make the table say this and nothing else, in one transaction. Raises NftError."""
        await self._thread.run(self._apply, list(networks), list(ports), list(links))

    async def add_port(self, *ports: Port) -> None:
        """Publish ports: one element each, in one transaction. Raises NftError, e.g. when one is another's."""
        await self._thread.run(self._add, self._ports, ports, lambda each: rules.add_port(self._table, each))

    async def delete_port(self, *ports: Port) -> None:
        """Publish ports no longer. Missing ones are fine."""
        await self._thread.run(self._delete, self._ports, ports, lambda each: rules.delete_port(self._table, each))

    async def add_link(self, *links: LinkRule) -> None:
        """Let containers connect that may not otherwise. Raises NftError."""
        await self._thread.run(self._add, self._links, links, lambda each: rules.add_link(self._table, *_parts(each)))

    async def delete_link(self, *links: LinkRule) -> None:
        """Take links back. Missing ones are fine."""

        def text(each: LinkRule) -> str:
            return rules.delete_link(self._table, *_parts(each))

        await self._thread.run(self._delete, self._links, links, text)

    async def remove(self) -> None:
        """Take the table and our rules elsewhere away."""
        await self._thread.run(self._remove)

    async def warnings(self) -> list[str]:
        """What other firewalls here do to our containers' packets, in sentences."""
        return await self._thread.run(self._warnings)

    async def watch(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make anew what somebody else has changed or deleted; for ever."""
        listener = trio.socket.from_stdlib_socket(await self._thread.run(_listener))
        with listener:
            task_status.started()
            suspects: set[int] = set()
            reader = _Reader(self._table)
            delay, due, last = SETTLE, float("inf"), float("-inf")
            while True:
                with trio.move_on_at(due):
                    suspects |= await _receive(listener, reader)
                    if suspects and due == float("inf"):
                        due = trio.current_time() + delay
                    continue
                if await self._thread.run(self._repair, suspects):
                    # Alone it is repaired at once; who does it again and again does not get a daemon that spins.
                    now = trio.current_time()
                    delay = min(delay * 2, PATIENCE) if now - last < QUIET else SETTLE
                    last = now
                suspects, due = set(), float("inf")

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _apply(self, networks: list[NetworkRules], ports: list[Port], links: list[LinkRule]) -> None:
        self._run(rules.ruleset(self._table, networks, ports, links))
        self._remember(networks, ports, links)
        self._is_applied = True
        for key, value in _sysctls(networks, self._forwarding):
            _set(key, value)
        self._keep_docker_user([each.bridge for each in networks])

    def _remember(self, networks: list[NetworkRules], ports: list[Port], links: list[LinkRule]) -> None:
        # In place: calls that wait for the thread hold on to these.
        self._networks[:] = networks
        self._ports.clear()
        self._ports.update(dict.fromkeys(ports))
        self._links.clear()
        self._links.update(dict.fromkeys(links))

    def _again(self) -> None:
        self._apply(list(self._networks), list(self._ports), list(self._links))

    def _add(self, held: dict[Any, None], new: Iterable[Any], text: Callable[[Any], str]) -> None:
        new = [each for each in new if each not in held]
        if not new:
            return
        if not self._is_applied:
            held.update(dict.fromkeys(new))
            return
        try:
            self._run("".join(map(text, new)))
        except NftError:
            if self._has_table():
                raise
            # It has just been wiped, and nobody has made it anew yet.
            held.update(dict.fromkeys(new))
            try:
                self._again()
            except BaseException:
                for each in new:
                    held.pop(each, None)
                raise
        held.update(dict.fromkeys(new))

    def _delete(self, held: dict[Any, None], old: Iterable[Any], text: Callable[[Any], str]) -> None:
        for each in old:
            if each in held:
                del held[each]
                with suppress(NftError):  # wiped with the table
                    self._run(text(each))

    def _remove(self) -> None:
        self._is_applied = False
        self._remember([], [], [])
        self._run(rules.remove(self._table))
        self._keep_docker_user([])

    def _repair(self, suspects: set[int]) -> bool:
        if not self._is_applied or suspects <= set(self._own):
            return False
        logger.warning("somebody changed the packet filter's table %s: making it anew", self._table)
        try:
            self._again()
        except NftError:
            logger.exception("the packet filter's table %s cannot be made", self._table)
        return True

    def _run(self, text: str) -> None:
        before = self._generation()
        self._filter().run(text)
        after = self._generation()
        if after == before + 1:
            self._own.append(after)  # or else somebody came between, and one needless repair follows

    def _filter(self) -> Nft:
        if self._nft is None:
            self._nft = Nft()
        return self._nft

    def _generation(self) -> int:
        """Return the number of the kernel's last transaction on nftables."""
        if self._generations is None:
            self._generations = _netfilter()
        self._generations.send(_HEADER.pack(20, _SUBSYSTEM << 8 | _GETGEN, 1, 0, 0) + bytes(4))
        for kind, _, body in _messages(self._generations.recv(4096)):
            if kind == _NEWGEN:
                return _number(body)
        return _UNKNOWN

    def _has_table(self) -> bool:
        try:
            self._filter().run(f"list chain inet {self._table} forward")
        except NftError:
            return False
        return True

    def _listing(self, command: str) -> list[dict[str, Any]]:
        """Return the objects of a listing; none when what it lists is not there."""
        try:
            found: list[dict[str, Any]] = json.loads(self._filter().json(command) or "{}").get("nftables", [])
        except (NftError, ValueError):
            return []
        return found

    # -- others' tables ----------------------------------------------------------------------------------------------

    def _keep_docker_user(self, bridges: list[str]) -> None:
        wanted = {f"{self._table}: {way} {each}": (way, each) for each in bridges for way in ("iifname", "oifname")}
        for family in ("ip", "ip6"):
            objects = self._listing(f"list chain {family} filter {CHAIN}")
            present = [each["rule"] for each in objects if "rule" in each]
            if not any("chain" in each for each in objects):
                continue
            commands = []
            missing = dict(wanted)
            for rule in present:
                comment = str(rule.get("comment", ""))
                if comment.startswith(f"{self._table}: ") and missing.pop(comment, None) is None:
                    commands.append(f"delete rule {family} filter {CHAIN} handle {rule['handle']}")
            last = present[-1] if present and _returns(present[-1]) else None
            how, where = ("insert", f" handle {last['handle']}") if last else ("add", "")
            for comment, (way, bridge) in missing.items():
                rule_text = f'{way} "{bridge}" counter accept comment "{comment}"'
                commands.append(f"{how} rule {family} filter {CHAIN}{where} {rule_text}")
            if commands:
                try:
                    self._run("\n".join(commands) + "\n")
                except NftError as exc:
                    logger.warning("accept rules in %s %s: %s, ignoring", family, CHAIN, exc)

    def _warnings(self) -> list[str]:
        found = []
        objects = self._listing("list chains")
        chains = [each["chain"] for each in objects if "chain" in each]
        docker = {(each["family"], each["table"]) for each in chains if each["name"] == CHAIN}
        for chain in chains:
            where = chain["family"], chain["table"]
            if chain.get("hook") != "forward" or where == ("inet", self._table) or where in docker:
                continue
            name = f"{chain['family']} {chain['table']} {chain['name']}"
            if chain.get("policy") == "drop" and chain["family"] in ("ip", "ip6", "inet"):
                found.append(f"the packet filter's chain {name} drops what it does not know: containers are cut off")
            elif chain["table"] == "firewalld":
                found.append(f"firewalld's chain {name} may reject containers' packets: put their bridges in a zone")
        if _legacy_drops():
            found.append("iptables-legacy's FORWARD chain has the policy DROP: containers are cut off")
        return found


def _parts(link: LinkRule) -> tuple[str, str, str, int]:
    return link.parent, link.child, link.proto, link.port


def _returns(rule: dict[str, Any]) -> bool:
    """True for the RETURN that Docker puts last."""
    return all("counter" in each or "return" in each for each in rule.get("expr", [{}]))


def _legacy_drops() -> bool:
    """True when the old iptables, which nftables does not show, drops what it forwards."""
    try:
        names = Path("/proc/thread-self/net/ip_tables_names").read_text()
    except OSError:
        return False
    if "filter" not in names.split() or not shutil.which("iptables-legacy"):
        return False
    done = subprocess.run(["iptables-legacy", "-S", "FORWARD"], capture_output=True, text=True, check=False)
    return "-P FORWARD DROP" in done.stdout and CHAIN not in done.stdout


# -- sysctls ---------------------------------------------------------------------------------------------------------


def _sysctls(networks: Iterable[NetworkRules], forwarding: bool) -> Iterator[tuple[str, str]]:
    """What the rules take for granted, by file below /proc/sys/net."""
    networks = list(networks)
    for network in networks:
        if not network.internal:
            # So that what comes from 127.0.0.1 of the host may leave by the bridge; chain `raw` guards the way back.
            yield f"ipv4/conf/{network.bridge}/route_localnet", "1"
        if not network.icc:
            yield f"ipv4/conf/{network.bridge}/proxy_arp_pvlan", "1"
            yield f"ipv4/neigh/{network.bridge}/proxy_delay", "0"
    if forwarding and any(not each.internal or not each.icc for each in networks):
        yield "ipv4/ip_forward", "1"
    if forwarding and any(subnet.version == 6 for each in networks if not each.internal for subnet in each.subnets):
        # A router takes no advertisements, unless it is told to: the host must not lose its own default route.
        for interface in sorted(Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra")):
            if interface.parent.name not in ("all", "default") and interface.read_text().strip() == "1":
                yield f"ipv6/conf/{interface.parent.name}/accept_ra", "2"
        yield "ipv6/conf/all/forwarding", "1"


def _set(key: str, value: str) -> None:
    path = Path("/proc/sys/net", key)
    try:
        before = path.read_text().strip()
        if before != value:
            path.write_text(value)
            logger.info("%s was %s and is now %s", path, before, value)
    except OSError as exc:
        logger.warning("%s cannot be set to %s: %s, ignoring", path, value, os.strerror(exc.errno or 0))


# -- listening -------------------------------------------------------------------------------------------------------


class _Reader:
    """Takes what the kernel tells apart; keeps what a transaction has touched until its number comes."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._is_touched = False

    def feed(self, data: bytes) -> set[int]:
        """Return the generations that touched what is ours."""
        suspects = set()
        for kind, family, body in _messages(data):
            if kind == _NEWGEN:
                if self._is_touched:
                    suspects.add(_number(body))
                self._is_touched = False
            elif not self._is_touched:
                self._is_touched = self._is_ours(kind, family, _attributes(body))
        return suspects

    def _is_ours(self, kind: int, family: int, attributes: dict[int, bytes]) -> bool:
        table = _string(attributes.get(1, b""))
        if family == 1:  # inet
            return table == self._table
        if table != "filter" or family not in (socket.AF_INET, socket.AF_INET6):
            return False
        if kind == _DELTABLE:
            return True
        attribute = 3 if kind in _CHAIN_MESSAGES else 2 if kind in _RULE_MESSAGES else 0
        return _string(attributes.get(attribute, b"")) == CHAIN


def _netfilter() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)


def _listener() -> socket.socket:
    listener = _netfilter()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    listener.bind((0, 1 << (_GROUP_NFTABLES - 1)))
    return listener


async def _receive(listener: trio.socket.SocketType, reader: _Reader) -> set[int]:
    try:
        return reader.feed(await listener.recv(1 << 18))
    except OSError:
        # ENOBUFS: so much happened that some of it is lost.
        return {_UNKNOWN}


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Take nfnetlink messages of nftables apart: kind, family, attributes."""
    at = 0
    while at + 20 <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if kind >> 8 == _SUBSYSTEM:
            yield kind & 0xFF, data[at + 16], data[at + 20 : at + length]
        at += max((length + 3) & ~3, _HEADER.size)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    return found


def _number(body: bytes) -> int:
    """The generation of a NEWGEN message."""
    return int.from_bytes(_attributes(body).get(1, b""), "big")


def _string(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")
