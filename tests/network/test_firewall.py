"""The table in the kernel: kept, changed by elements, made anew; in a namespace of the test's own."""

import os
import re
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from windlass.kernel.nft import Nft, NftError
from windlass.kernel.ns import Namespace, unshare
from windlass.network.firewall import Firewall
from windlass.network.netlink import Netlink
from windlass.network.rules import LinkRule, NetworkRules, Port
from windlass.network.thread import NetworkThread

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")]

TABLE = "windlass_test"
NETWORK = NetworkRules("a" * 64, "wl0", (ip_network("172.30.0.0/16"), ip_network("fd00:30::/64")))


class Host:
    """A network thread whose host is a namespace of its own, and what an administrator does there."""

    def __init__(self, thread: NetworkThread, nft: Nft) -> None:
        self.thread = thread
        self.nft = nft
        self.firewall = Firewall(thread, TABLE)

    async def list(self, what: str = f"table inet {TABLE}") -> str:
        """What nft(8) lists; where /etc/protocols is missing it knows TCP by its number."""
        return re.sub(r"\b6 \. (?=\d)", "tcp . ", await self.thread.run(self.nft.run, f"list {what}"))

    async def do(self, text: str) -> None:
        await self.thread.run(self.nft.run, text)

    async def sysctl(self, key: str) -> str:
        return await self.thread.run(lambda: Path("/proc/sys/net", key).read_text().strip())


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    thread = NetworkThread()
    thread.start()
    await thread.run(unshare, Namespace.NEWNET)
    netlink = await thread.run(Netlink)
    await thread.run(netlink.create_bridge, "wl0", [ip_interface("172.30.0.1/16")])
    await thread.run(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))
    yield Host(thread, await thread.run(Nft))
    await thread.run(netlink.close)
    thread.close()


def port(number: int = 8080, address: str = "172.30.0.2") -> Port:
    return Port("tcp", ip_address("0.0.0.0"), number, ip_address(address), 80, "wl0")


async def test_elements_come_and_go_and_a_missing_one_is_fine(host: Host) -> None:
    await host.firewall.apply([NETWORK], [port(1)], [])
    await host.firewall.add_port(port(2), port(3))
    await host.firewall.delete_port(port(1), port(4))
    shown = await host.list(f"map inet {TABLE} all4")
    assert "tcp . 1 " not in shown
    assert "tcp . 2 :" in shown
    assert "tcp . 3 :" in shown
    link = LinkRule("172.30.0.2", "172.30.0.3", "tcp", 80)
    await host.firewall.add_link(link)
    assert "172.30.0.2 . 172.30.0.3 . tcp . 80" in await host.list(f"set inet {TABLE} links4")
    await host.firewall.delete_link(link)
    assert "172.30.0.3" not in await host.list(f"set inet {TABLE} links4")


async def test_a_port_that_is_anothers_is_refused_and_forgotten(host: Host) -> None:
    await host.firewall.apply([NETWORK], [port(1)], [])
    with pytest.raises(NftError):
        await host.firewall.add_port(port(1, "172.30.0.9"))
    await host.do("flush ruleset")
    await host.firewall.add_port(port(2))
    assert "tcp . 1 : 172.30.0.2 . 80" in await host.list(), "a wiped table is made anew by what is next added"


async def test_removing_leaves_nothing(host: Host) -> None:
    await host.firewall.apply([NETWORK], [port()], [])
    await host.firewall.remove()
    await host.firewall.remove()
    assert await host.list("ruleset") == ""


async def test_two_daemons_have_a_table_each(host: Host) -> None:
    other = Firewall(host.thread, "windlass_other")
    await host.firewall.apply([NETWORK], [port()], [])
    await other.apply([], [], [])
    await host.firewall.remove()
    assert "windlass_other" in await host.list("tables")


async def test_our_own_changes_are_nobodys_disturbance(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the table would be made anew for ever. The number of repairs is counted once all of them are looked at."""
    looked: list[tuple[set[int], bool]] = []
    repair = Firewall._repair

    def counted(self: Firewall, suspects: set[int]) -> bool:
        looked.append((suspects, repair(self, suspects)))
        return looked[-1][1]

    monkeypatch.setattr(Firewall, "_repair", counted)
    await host.firewall.apply([NETWORK], [], [])
    async with trio.open_nursery() as nursery:
        await nursery.start(host.firewall.watch)
        await host.do("add table inet somebody_elses")
        for number in range(1, 21):
            await host.firewall.add_port(port(number))
        await host.firewall.apply([NETWORK], [port()], [])
        with trio.fail_after(30):
            while sum(len(suspects) for suspects, _ in looked) < 21:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert not any(repaired for _, repaired in looked)


async def test_docker_coming_later_gets_our_rules(host: Host) -> None:
    """Docker makes DOCKER-USER when it starts; the user's rules in it stay before ours, its RETURN behind."""
    await host.firewall.apply([NETWORK], [], [])
    async with trio.open_nursery() as nursery:
        await nursery.start(host.firewall.watch)
        await host.do("table ip filter { chain DOCKER-USER { ip saddr 192.0.2.1 drop; counter return; }; }")
        with trio.fail_after(30):
            while (shown := await host.list("chain ip filter DOCKER-USER")).count("accept") < 2:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert shown.index("192.0.2.1") < shown.index("accept") < shown.rindex("accept") < shown.index("return")
    assert f'comment "{TABLE}: iifname wl0"' in shown
    await host.firewall.remove()
    shown = await host.list("chain ip filter DOCKER-USER")
    assert "accept" not in shown
    assert "192.0.2.1" in shown


async def test_others_who_drop_what_we_forward_are_told_of(host: Host) -> None:
    await host.firewall.apply([NETWORK], [], [])
    assert await host.firewall.warnings() == []
    await host.do("table inet fw { chain passing { type filter hook forward priority 0; policy drop; }; }")
    [warning] = await host.firewall.warnings()
    assert "inet fw passing" in warning


async def test_sysctls_are_set_for_our_bridge_alone_and_only_when_needed(host: Host) -> None:
    internal = NetworkRules("b" * 64, "wl0", NETWORK.subnets, internal=True)
    await host.firewall.apply([internal], [], [])
    assert await host.sysctl("ipv4/ip_forward") == "0"
    assert await host.sysctl("ipv4/conf/wl0/route_localnet") == "0"
    await host.firewall.apply([NETWORK], [], [])
    assert await host.sysctl("ipv4/ip_forward") == "1"
    assert await host.sysctl("ipv6/conf/all/forwarding") == "1"
    assert await host.sysctl("ipv4/conf/wl0/route_localnet") == "1"
    assert await host.sysctl("ipv4/conf/all/route_localnet") == "0"


async def test_without_the_library_nft_does_the_same(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def nft_open(self) -> int:
            return 0

    absent: Any = Absent()
    monkeypatch.setattr("windlass.kernel.nft.lib", absent)
    await host.firewall.apply([NETWORK], [port()], [])
    await host.firewall.add_port(port(9))
    with pytest.raises(NftError, match="Error"):
        await host.thread.run(Nft().run, "nonsense")
    monkeypatch.undo()
    assert "tcp . 9 :" in await host.list()
