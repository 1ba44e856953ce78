"""Fixtures with registries."""

from collections.abc import Iterator

import pytest

from .registry import Registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry that anybody may read and write."""
    found = Registry(tmp_path_factory.mktemp("registry"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def closed_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry that wants a user and a password."""
    found = Registry(tmp_path_factory.mktemp("closed-registry"), htpasswd=True)
    yield found
    found.close()
