"""Overlay2, through the suite that every graph driver runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suites.graphdriver import GraphDriverSuite
from tests.support.shim import FILES
from windlass.graphdriver.overlay2 import Overlay2


@pytest.mark.root
class TestOverlay2(GraphDriverSuite):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Overlay2:
        return Overlay2(tmp_path / "layers", FILES)
