"""Mounts and namespaces of the calling thread."""

import os
import threading
from pathlib import Path

import pytest

from windlass.kernel import mount, ns


def test_what_is_mounted_is_listed() -> None:
    found = {mounted.target: mounted for mounted in mount.mounts()}
    assert found["/proc"].kind == "proc"
    assert "rw" in found["/"].options


@pytest.mark.root
def test_a_tmpfs_comes_and_goes(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    mount.mount("tmpfs", str(place), "tmpfs", mount.MS.NODEV, "size=4k")
    try:
        (mounted,) = [each for each in mount.mounts() if each.target == str(place)]
        assert "nodev" in mounted.options
        assert "size=4k" in mounted.super_options
    finally:
        mount.unmount(str(place))
    assert all(each.target != str(place) for each in mount.mounts())


@pytest.mark.root
def test_a_failure_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failed:
        mount.mount("none", str(tmp_path / "missing"), "tmpfs")
    assert failed.value.filename == str(tmp_path / "missing")
    with pytest.raises(OSError, match="umount"):
        mount.unmount(str(tmp_path))


@pytest.mark.root
def test_a_thread_leaves_its_namespace_and_joins_another() -> None:
    links: list[str] = []

    def link() -> None:
        links.append(os.readlink("/proc/thread-self/ns/net"))

    def leave_and_come_back() -> None:
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            link()
            ns.unshare(ns.Namespace.NEWNET)
            link()
            ns.setns(fd, ns.Namespace.NEWNET)
            link()
        finally:
            os.close(fd)

    thread = threading.Thread(target=leave_and_come_back)
    thread.start()
    thread.join()
    assert links[0] == links[2] != links[1]


def test_a_bad_descriptor_is_an_error() -> None:
    with pytest.raises(OSError, match="setns"):
        ns.setns(-1, ns.Namespace.NEWNET)
