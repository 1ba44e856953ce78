"""What `info` says of other packet filters, by a daemon on a host of its own."""

import os
import subprocess

import pytest

from tests.support.host import hosted

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")]


def test_info_warns_of_a_filter_that_cuts_containers_off() -> None:
    with hosted() as daemon:
        assert not any("packet filter" in each for each in daemon.wire.get("/info").json["Warnings"])
        table = "table inet fw { chain passing { type filter hook forward priority 0; policy drop; }; }"
        subprocess.run(daemon.machine.command("nft", table), check=True)
        [warning] = [each for each in daemon.wire.get("/info").json["Warnings"] if "packet filter" in each]
        assert warning.startswith("WARNING: ") and "inet fw passing" in warning
        subprocess.run(daemon.machine.command("nft", "delete table inet fw"), check=True)
