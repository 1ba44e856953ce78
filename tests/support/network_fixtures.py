"""Fixtures of tests of networks: names that clean up, a subnet, one more address of the host.

A plugin, `pytest_plugins = ["tests.support.network_fixtures"]`, since several modules use them.
"""

import random
import secrets
from collections.abc import Callable, Iterator

import pytest
from pyroute2 import IPRoute

from .cli import Docker
from .wire import Wire


@pytest.fixture
def new_network(wire: Wire, new_name: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Return a maker of network names; networks still called so afterwards are removed, with their containers."""
    made: list[str] = []

    def make() -> str:
        made.append(f"compat-{secrets.token_hex(4)}")
        return made[-1]

    yield make
    for name in made:
        remove_network(wire, name)


def remove_network(wire: Wire, name: str) -> None:
    """Remove a network and the containers that are in it, if there is one."""
    answer = wire.get(f"/networks/{name}")
    if answer.status == 200:
        for id in answer.json["Containers"] or {}:
            wire.delete(f"/containers/{id}", force=1, v=1)
        wire.delete(f"/networks/{name}")


@pytest.fixture
def network(docker: Docker, new_network: Callable[[], str]) -> str:
    """Return the name of a bridge network that was made with nothing but its name."""
    name = new_network()
    docker.ok("network", "create", name)
    return name


@pytest.fixture
def subnet() -> str:
    """Return the first three numbers of a /24 that nobody else is likely to use."""
    return f"10.{random.randrange(100, 250)}.{random.randrange(256)}"


@pytest.fixture
def own_network(docker: Docker, new_network: Callable[[], str], subnet: str) -> str:
    """Return the name of a network with the subnet, in which containers may choose their addresses."""
    name = new_network()
    docker.ok("network", "create", "--subnet", f"{subnet}.0/24", "--gateway", f"{subnet}.1", name)
    return name


@pytest.fixture
def host_address() -> Iterator[str]:
    """Give the host one more address, as a second network card would, and return it."""
    address = f"198.51.100.{random.randrange(1, 255)}"
    with IPRoute() as route:
        lo = route.link_lookup(ifname="lo")[0]
        route.addr("add", index=lo, address=address, prefixlen=32)
        try:
            yield address
        finally:
            route.addr("del", index=lo, address=address, prefixlen=32)
