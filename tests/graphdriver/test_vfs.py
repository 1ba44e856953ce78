"""Vfs, through the suite that every graph driver runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suites.graphdriver import GraphDriverSuite
from tests.support.shim import FILES
from windlass.graphdriver.vfs import Vfs


@pytest.mark.root
class TestVfs(GraphDriverSuite):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Vfs:
        return Vfs(tmp_path / "layers", FILES)
