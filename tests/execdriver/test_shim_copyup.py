"""`windlass-shim copyup`: what it says, and that nobody who writes to the volume meanwhile leads it astray."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from windlass.execdriver import native

pytestmark = pytest.mark.root

FILES = Path(native.__file__).with_name("windlass-files")


def copyup(volume: Path, path: str, *layers: Path) -> str:
    argv = [FILES, "copyup", volume, path, *layers]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.rstrip("\n")


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Two layers of an image: the upper one replaces a file of the lower one, and takes another away."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for layer, text in ((upper, "new"), (lower, "old")):
        (layer / "srv").mkdir(parents=True)
        (layer / "srv" / "file").write_text(text)
    (lower / "srv" / "gone").touch()
    (lower / "srv" / "kept").touch()
    os.mknod(upper / "srv" / "gone", 0o020600, 0)
    return [upper, lower]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


def test_the_layers_are_seen_as_one(volume: Path, layers: list[Path]) -> None:
    assert copyup(volume, "/srv", *layers) == "copied"
    assert sorted(os.listdir(volume)) == ["file", "kept"] and (volume / "file").read_text() == "new"


def test_what_is_there_is_kept(volume: Path, layers: list[Path]) -> None:
    (volume / "own").touch()
    assert copyup(volume, "/srv", *layers) == "kept"
    assert os.listdir(volume) == ["own"]


@pytest.mark.parametrize("path", ["/nosuch", "/nosuch/deeper", "srv/../nosuch", "../../../nosuch"])
def test_what_the_image_has_not(volume: Path, layers: list[Path], path: str) -> None:
    assert copyup(volume, path, *layers) == "missing"


@pytest.mark.parametrize("path", ["srv", "/srv/", "//srv/.", "/../../srv", "/srv/../srv"])
def test_a_path_counts_from_the_images_root(volume: Path, layers: list[Path], path: str) -> None:
    assert copyup(volume, path, *layers) == "copied"


def test_a_file_and_a_missing_layer_are_errors(volume: Path, layers: list[Path]) -> None:
    assert copyup(volume, "/srv/file", *layers) == "error 20 /srv/file"
    assert copyup(volume, "/srv", *layers, volume.parent / "nosuch").startswith("error 2 ")
    assert copyup(volume.parent / "nosuch", "/srv", *layers).startswith("error 2 ")
    assert os.listdir(volume) == []


def test_nothing_stays_mounted(volume: Path, layers: list[Path]) -> None:
    copyup(volume, "/srv", *layers)
    assert str(volume.parent) not in Path("/proc/self/mountinfo").read_text()


@contextmanager
def diverting(volume: Path, to: Path) -> Iterator[None]:
    """Whenever a folder appears in the volume, put a link in its place."""
    over = threading.Event()

    def divert() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), os.scandir(volume) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("moved"):
                        (volume / entry.name).rename(volume / f"moved-{entry.name}")
                        (volume / entry.name).symlink_to(to)

    thread = threading.Thread(target=divert)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_cve_2022_23648_a_volume_that_changes_meanwhile_leads_nowhere(
    tmp_path: Path, volume: Path, rounds: int
) -> None:
    """Another container that has the volume puts links where folders are being made (also CVE-2014-9356)."""
    layer, canary = tmp_path / "layer", tmp_path / "canary"
    canary.mkdir()
    for number in range(100):
        folder = layer / "srv" / str(number) / "sub"
        folder.mkdir(parents=True)
        (folder / "file").touch()
        os.link(folder / "file", folder.parent / "hard")
    diverted = 0
    for round in range(max(10, rounds)):
        target = volume / str(round)
        target.mkdir()
        with diverting(target, canary):
            copyup(target, "/srv", layer)
        diverted += sum(path.is_symlink() for path in target.iterdir())
    assert os.listdir(canary) == []
    assert diverted, "the race was never on"
