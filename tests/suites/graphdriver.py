"""What every graph driver must do: a driver's own test derives from this and gives the fixture `driver`."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest

from windlass.graphdriver.driver import Change, Driver, LayerError
from windlass.graphdriver.layers import chain_id
from windlass.kernel.mount import mount, unmount
from windlass.lib.rootfs import Directory, Overlay

pytestmark = pytest.mark.root


def tar(*members: tuple[str, object], pax: dict[str, str] | None = None) -> bytes:
    """A tar of (name, content): bytes are a file, None a folder, str a symbolic link, a TarInfo itself."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=pax or {}) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name, data = name, None
            if isinstance(content, bytes):
                info.size, data, info.mode = len(content), io.BytesIO(content), 0o644
            elif content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            archive.addfile(info, data)
    return buffer.getvalue()


def special(
    kind: bytes, *, link: str = "", mode: int = 0o644, major: int = 0, minor: int = 0, pax: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.pax_headers = pax or {}
    info.type, info.linkname, info.mode, info.devmajor, info.devminor = kind, link, mode, major, minor
    return info


async def stream(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class Rooted:
    """A root file system that a test looks at, mounted where it has to be."""

    def __init__(self, rootfs: Overlay | Directory, at: Path) -> None:
        self._rootfs = rootfs
        self._at = at

    def __enter__(self) -> Path:
        if isinstance(self._rootfs, Directory):
            return Path(self._rootfs.path)
        self._at.mkdir(exist_ok=True)
        lower = ":".join(self._rootfs.lower)
        options = f"lowerdir={lower},upperdir={self._rootfs.upper},workdir={self._rootfs.work}"
        mount("overlay", str(self._at), "overlay", options=options)
        return self._at

    def __exit__(self, *exc: object) -> None:
        if isinstance(self._rootfs, Overlay):
            unmount(str(self._at))


class GraphDriverSuite:
    """Behaviour that all drivers share."""

    @pytest.fixture
    def container(self, driver: Driver, tmp_path: Path) -> Callable[..., object]:
        """Make container layer N on a chain of layers and open its root."""

        async def open_(*layers: bytes, number: int = 0) -> Rooted:
            parent = None
            for layer in layers:
                parent, _ = await driver.apply(None, parent, stream(layer))
            id = f"{number:064x}"
            await driver.create(id, parent)
            return Rooted(await driver.rootfs(id), tmp_path / f"mnt{number}")

        return open_

    async def test_a_layers_id_is_its_chain_id(self, driver: Driver) -> None:
        one, two = tar(("a", b"1")), tar(("b", b"2"))
        first, applied = await driver.apply(None, None, stream(one))
        assert applied.diff_id == f"sha256:{hashlib.sha256(one).hexdigest()}"
        assert first == applied.diff_id.removeprefix("sha256:")
        second, applied = await driver.apply(None, first, stream(two))
        expected = hashlib.sha256(f"sha256:{first} {applied.diff_id}".encode()).hexdigest()
        assert second == expected == chain_id(first, applied.diff_id)
        assert await driver.layers() == {first, second}

    async def test_applying_a_layer_twice_gives_the_same(self, driver: Driver) -> None:
        data = tar(("a", b"12345"))
        first = await driver.apply(None, None, stream(data))
        assert await driver.apply(None, None, stream(data)) == first
        assert await driver.apply(first[0], None, stream(data)) == first
        assert first[1].size == 5

    async def test_another_content_than_announced_is_refused(self, driver: Driver) -> None:
        with pytest.raises(LayerError, match="announced"):
            await driver.apply("ab" * 32, None, stream(tar(("a", b"1"))))
        assert await driver.layers() == set()
        id, _ = await driver.apply(None, None, stream(tar(("a", b"1"))))
        with pytest.raises(LayerError, match="announced"):
            await driver.apply(id, None, stream(tar(("b", b"1"))))

    async def test_a_file_system_arrives_whole(self, driver: Driver, container: Callable[..., object]) -> None:
        program = tarfile.TarInfo("bin/program")
        program.mode, program.uid, program.gid, program.mtime = 0o4755, 12, 34, 1_000_000_000
        program.pax_headers = {"SCHILY.xattr.user.note": "hello", "SCHILY.xattr.trusted.evil": "x"}
        root = await container(  # type: ignore[operator]
            tar(
                ("bin", None),
                ("bin/program", program),
                ("bin/same", special(tarfile.LNKTYPE, link="bin/program")),
                ("etc/deep/file", b"x" * 300_000),
                ("link", "../../outside"),
                ("fifo", special(tarfile.FIFOTYPE)),
                ("null", special(tarfile.CHRTYPE, mode=0o666, major=1, minor=3)),
                ("l" * 250, b"long"),
                ("/".join(["d" * 90] * 5) + "/f", b"deep"),
            )
        )
        with root as path:
            info = (path / "bin/program").stat()
            assert (info.st_mode & 0o7777, info.st_uid, info.st_gid, info.st_mtime) == (0o4755, 12, 34, 1e9)
            assert info.st_ino == (path / "bin/same").stat().st_ino
            assert os.getxattr(path / "bin/program", "user.note") == b"hello"
            assert "trusted.evil" not in os.listxattr(path / "bin/program")
            assert (path / "etc/deep/file").read_bytes() == b"x" * 300_000
            assert (path / "link").readlink() == Path("../../outside")
            assert stat.S_ISFIFO((path / "fifo").lstat().st_mode)
            assert (path / "null").lstat().st_rdev == os.makedev(1, 3)
            assert (path / ("l" * 250)).read_bytes() == b"long"
            assert (path / "/".join(["d" * 90] * 5) / "f").read_bytes() == b"deep"

    async def test_layers_cover_each_other(self, container: Callable[..., object]) -> None:
        root = await container(  # type: ignore[operator]
            tar(("keep", b"1"), ("gone", b"1"), ("change", b"1"), ("dir/a", b"1"), ("dir/b", b"1"), ("d", None)),
            tar((".wh.gone", b""), ("change", b"2"), ("dir/.wh..wh..opq", b""), ("dir/c", b"2"), ("d", b"file now")),
        )
        with root as path:
            assert sorted(p.name for p in path.iterdir()) == ["change", "d", "dir", "keep"]
            assert (path / "change").read_bytes() == b"2"
            assert [p.name for p in (path / "dir").iterdir()] == ["c"]
            assert (path / "d").read_bytes() == b"file now"

    async def test_an_opaque_mark_after_the_files_spares_them(self, container: Callable[..., object]) -> None:
        root = await container(  # type: ignore[operator]
            tar(("dir/a", b"1"), ("dir/sub/x", b"1")),
            tar(("dir/new", b"2"), ("dir/sub/y", b"2"), ("dir/.wh..wh..opq", b"")),
        )
        with root as path:
            assert sorted(str(p.relative_to(path)) for p in path.rglob("*")) == [
                "dir",
                "dir/new",
                "dir/sub",
                "dir/sub/y",
            ]

    async def test_a_whiteout_is_about_the_layers_below_wherever_it_stands(
        self, container: Callable[..., object]
    ) -> None:
        """OCI image-spec, layer.md: whiteouts apply to lower layers only, never to files of the same one."""
        below = tar(*[(f"{name}/old", b"1") for name in "abcd"], ("file", b"1"), ("plain", b"1"))
        above = tar(
            (".wh.a", b""), ("a", None), ("a/new", b"2"),  # hidden first, then made again
            ("b", None), ("b/new", b"2"), (".wh.b", b""),  # the other way round
            (".wh.c", b""), ("c/new", b"2"),  # made again without an entry of its own
            ("file", b"2"), (".wh.file", b""),
            (".wh.plain", b""), ("plain", b"2"),
            (".wh.d", b""), (".wh.d", b""), (".wh.nobody", b""), (".wh..wh.aufs", b""),
        )  # fmt: skip
        with await container(below, above) as path:  # type: ignore[operator]
            found = {str(p.relative_to(path)) for p in path.rglob("*")}
            assert found == {"a", "a/new", "b", "b/new", "c", "c/new", "file", "plain"}
            assert (path / "file").read_bytes() == (path / "plain").read_bytes() == b"2"

    async def test_a_later_entry_replaces_an_earlier_one(self, container: Callable[..., object]) -> None:
        with await container(  # type: ignore[operator]
            tar(
                ("x", b"1"),
                ("x", b"22"),
                ("d/deep/file", b"1"),
                ("d", b"file"),
                ("f", b"1"),
                ("f", None),
                ("f/inside", b"1"),
                ("l", "nowhere"),
                ("l", b"file"),
            )  # fmt: skip
        ) as path:
            assert sorted(str(p.relative_to(path)) for p in path.rglob("*")) == ["d", "f", "f/inside", "l", "x"]
            assert (path / "x").read_bytes() == b"22"
            assert (path / "d").read_bytes() == (path / "l").read_bytes() == b"file"

    async def test_times_of_folders_are_the_archives(self, container: Callable[..., object]) -> None:
        folder = special(tarfile.DIRTYPE, mode=0o755)
        folder.mtime = -1.25  # before 1970, in pax alone
        with await container(tar(("d", folder), ("d/file", b"1"))) as path:  # type: ignore[operator]
            assert (path / "d").stat().st_mtime_ns == -1_250_000_000

    async def test_overlays_own_attributes_do_not_come_from_an_archive(self, container: Callable[..., object]) -> None:
        """`trusted.overlay.*` and `user.overlay.*` steer the union: redirect, opaque, whiteout."""
        folder = special(tarfile.DIRTYPE, mode=0o755)
        names = ("trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "security.selinux")
        folder.pax_headers = {f"SCHILY.xattr.{name}": "y" for name in names}
        with await container(tar(("d/below", b"1")), tar(("d", folder), ("d/above", b"1"))) as path:  # type: ignore[operator]
            assert sorted(p.name for p in (path / "d").iterdir()) == ["above", "below"]

    async def test_folders_nested_deeper_than_any_recursion_can_be_removed(
        self, driver: Driver, container: Callable[..., object]
    ) -> None:
        with await container(tar(("a", b"1"))) as path:  # type: ignore[operator]
            fd = os.open(path, os.O_RDONLY)
            for _ in range(3000):
                os.mkdir("d", dir_fd=fd)
                below = os.open("d", os.O_RDONLY, dir_fd=fd)
                os.close(fd)
                fd = below
            os.close(fd)
        with pytest.raises(OSError, match="nested"):
            await driver.changes("0" * 64)
        await driver.remove("0" * 64)
        await driver.sweep()
        assert await driver.containers() == set()

    async def test_what_changed_is_told_with_the_folders_around_it(
        self, driver: Driver, container: Callable[..., object]
    ) -> None:
        layer = tar(("d/sub/file", b"1"), ("e/x", b"1"), ("e/y", b"1"), ("link", "d"))
        with await container(layer) as path:  # type: ignore[operator]
            (path / "d/sub/file").write_bytes(b"22")
            for name in "xy":
                (path / "e" / name).unlink()
            (path / "e").rmdir()
            (path / "e").mkdir()
            (path / "e/x").write_bytes(b"new")
            (path / "link").unlink()
            (path / "link").symlink_to("/etc")
        kinds = {change.path: change.kind for change in await driver.changes("0" * 64)}
        assert kinds == {"/d": 0, "/d/sub": 0, "/d/sub/file": 0, "/e": 0, "/e/x": 0, "/e/y": 2, "/link": 0}

    async def test_a_container_writes_into_its_own_layer_only(
        self, driver: Driver, container: Callable[..., object]
    ) -> None:
        layer = tar(("a", b"1"), ("dir/b", b"1"), ("gone", b"1"))
        with await container(layer, number=1) as path:  # type: ignore[operator]
            (path / "a").write_bytes(b"other")
            (path / "dir/new").write_bytes(b"new")
            (path / "gone").unlink()
        with await container(layer, number=2) as path:  # type: ignore[operator]
            assert (path / "a").read_bytes() == b"1"
            assert (path / "gone").exists()
        changes = await driver.changes(f"{1:064x}")
        assert changes == [Change("/a", 0), Change("/dir", 0), Change("/dir/new", 1), Change("/gone", 2)]
        assert await driver.changes(f"{2:064x}") == []

    async def test_removing_twice_is_fine_and_leaves_nothing(self, driver: Driver) -> None:
        id, _ = await driver.apply(None, None, stream(tar(("a", b"1"))))
        await driver.create("1" * 64, id)
        assert (await driver.layers(), await driver.containers()) == ({id}, {"1" * 64})
        for _ in range(2):
            await driver.remove("1" * 64)
            await driver.remove(id)
        assert await driver.layers() == await driver.containers() == set()
        with pytest.raises(FileNotFoundError):
            await driver.rootfs("1" * 64)

    async def test_a_container_layer_needs_its_parent_and_a_name_of_its_own(self, driver: Driver) -> None:
        with pytest.raises(FileNotFoundError):
            await driver.create("1" * 64, "2" * 64)
        await driver.create("1" * 64, None)
        with pytest.raises(FileExistsError):
            await driver.create("1" * 64, None)
        for unsafe in ("", "../x", "1" * 63, "G" * 64, "1" * 64 + "\n"):
            with pytest.raises(ValueError, match="64 hexadecimal"):
                await driver.has(unsafe)

    HOSTILE: ClassVar[dict[str, bytes]] = {
        "parent": tar(("../outside", b"x")),
        "parent-inside": tar(("a/../../outside", b"x")),
        "hardlink-out": tar(("h", special(tarfile.LNKTYPE, link="../canary"))),
        "hardlink-absolute": tar(("h", special(tarfile.LNKTYPE, link="/etc/hostname-of-the-host"))),
        "whiteout-of-parent": tar((".wh...", b"")),
        "whiteout-of-itself": tar((".wh..", b"")),
        "whiteout-of-nothing": tar((".wh.", b"")),
        "zero-device": tar(("c", special(tarfile.CHRTYPE))),
        "truncated": tar(("a", b"x" * 5000))[:3000],
        "garbage": b"no tar at all" * 1000,
        "checksum": b"X" + tar(("a", b"x"))[1:],
        "sparse": tar(("s", special(tarfile.REGTYPE, pax={"GNU.sparse.realsize": "8000000000"}))),
        "long-component": tar(("n" * 300, b"x")),
    }

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_a_hostile_archive_is_refused_and_leaves_nothing(
        self, driver: Driver, name: str, tmp_path: Path
    ) -> None:
        canary = tmp_path / "canary"
        canary.write_text("untouched")
        with pytest.raises(LayerError, match="invalid layer: "):
            await driver.apply(None, None, stream(self.HOSTILE[name]))
        assert await driver.layers() == set()
        assert canary.read_text() == "untouched"
        assert canary.stat().st_nlink == 1

    TRAPS: ClassVar[dict[str, list[tuple[str, object]]]] = {
        "symlink-parent": [("l", "TMP"), ("l/canary", b"owned")],
        "symlink-chain": [("a", "b"), ("b", "TMP"), ("a/canary", b"owned")],
        "symlink-leaf": [("canary", "TMP/canary"), ("canary", b"owned")],
        "symlink-dir-meta": [("l", "TMP"), ("l", None)],
        "whiteout-through-link": [("l", "TMP"), ("l/.wh.canary", b"")],
        "opaque-through-link": [("l", "TMP"), ("l/.wh..wh..opq", b"")],
        "absolute": [("TMP/canary", b"owned")],
    }

    @pytest.mark.parametrize("name", TRAPS)
    async def test_a_link_leads_nowhere_but_into_the_layer(self, driver: Driver, name: str, tmp_path: Path) -> None:
        """What a link names is resolved inside the layer; the archive may be refused, the host is never touched."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "canary").write_text("untouched")
        before = outside.stat()
        there = str(outside)
        members = [
            (path.replace("TMP", there), content.replace("TMP", there) if isinstance(content, str) else content)
            for path, content in self.TRAPS[name]
        ]
        try:
            await driver.apply(None, None, stream(tar(*members)))
        except LayerError:
            assert await driver.layers() == set()
        assert (outside / "canary").read_text() == "untouched"
        assert [p.name for p in outside.iterdir()] == ["canary"]
        assert outside.stat().st_mode == before.st_mode
