"""USER from an image's own files, which may be anything: read as overlayfs would show them, and never trusted."""

import os
from pathlib import Path

import pytest

from windlass.daemon import users
from windlass.daemon.users import find_account, read_file
from windlass.engine.errors import BadParameter
from windlass.lib.rootfs import Directory, Overlay

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:44:web:/srv:/bin/sh\n1000:x:7:7::/odd:\nno:x:y:z::\n"
)
GROUP = "root:x:0:\nwheel:x:10:root,web\nstaff:x:50:web\n\nbad:x:\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (10,), "/root"),
        ("web", 33, 44, (10, 50), "/srv"),
        ("33", 33, 44, (10, 50), "/srv"),
        ("web:staff", 33, 50, (), "/srv"),
        ("web:7", 33, 7, (), "/srv"),
        ("1000", 1000, 0, (), "/"),  # a number is a number, though somebody is called so
        ("4294967294", 4294967294, 0, (), "/"),
        (":staff", 0, 50, (), "/root"),
    ],
)
def test_a_user_in_numbers(image: Path, text: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    account = find_account(Directory(str(image)), text)
    assert (account.user.uid, account.user.gid, account.user.groups, account.home) == (uid, gid, groups, home)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("web:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("4294967295", "uids and gids must be in range"),
        ("no", "unable to find user no"),
        ("+1", "unable to find user"),
        ("٣", "unable to find user"),
    ],
)
def test_who_is_not_there_is_refused(image: Path, text: str, words: str) -> None:
    with pytest.raises(BadParameter, match=words.replace("+", "\\+")):
        find_account(Directory(str(image)), text)


def test_further_groups_are_by_name_or_number(image: Path) -> None:
    assert find_account(Directory(str(image)), "web:7", ("staff", "99")).user.groups == (50, 99)


def test_an_image_without_files_has_numbers_only(tmp_path: Path) -> None:
    assert find_account(Directory(str(tmp_path)), "5:6").user.uid == 5
    with pytest.raises(BadParameter):
        find_account(Directory(str(tmp_path)), "web")


# -- files that are traps --------------------------------------------------------------------------------------------


def test_a_fifo_is_not_opened(image: Path) -> None:
    (image / "etc" / "passwd").unlink()
    os.mkfifo(image / "etc" / "passwd")
    assert read_file(Directory(str(image)), "etc/passwd") == b""


@pytest.mark.root
def test_a_device_is_not_opened(image: Path) -> None:
    (image / "etc" / "passwd").unlink()
    os.mknod(image / "etc" / "passwd", 0o020666, os.makedev(1, 5))
    assert read_file(Directory(str(image)), "etc/passwd") == b""


def test_a_link_leads_nowhere_outside(image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("host") / "secret"
    secret.write_text("root:x:1:1::/:\n")
    (image / "etc" / "passwd").unlink()
    for target in (str(secret), "../" * 20 + str(secret)):
        (image / "etc" / "passwd").symlink_to(target)
        assert read_file(Directory(str(image)), "etc/passwd") == b""
        (image / "etc" / "passwd").unlink()


def test_a_link_inside_is_followed(image: Path) -> None:
    (image / "etc").rename(image / "real")
    (image / "etc").symlink_to("/usr/../real")
    (image / "usr").mkdir()
    (image / "real" / "passwd").rename(image / "real" / "users")
    (image / "real" / "passwd").symlink_to("./users")
    assert read_file(Directory(str(image)), "etc/passwd") == PASSWD.encode()


def test_links_in_a_circle_end(image: Path) -> None:
    (image / "etc" / "passwd").unlink()
    (image / "etc" / "passwd").symlink_to("passwd")
    assert read_file(Directory(str(image)), "etc/passwd") == b""


def test_of_a_huge_file_only_the_beginning_is_read(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_SIZE", 10)
    assert read_file(Directory(str(image)), "etc/passwd") == PASSWD.encode()[:10]


# -- layers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def layers(tmp_path: Path) -> Overlay:
    for name in ("upper", "work", "top", "bottom"):
        (tmp_path / name / "etc").mkdir(parents=True)
    return Overlay((str(tmp_path / "top"), str(tmp_path / "bottom")), str(tmp_path / "upper"), str(tmp_path / "work"))


def test_the_topmost_file_counts(layers: Overlay) -> None:
    Path(layers.lower[1], "etc/passwd").write_text("bottom")
    assert read_file(layers, "etc/passwd") == b"bottom"
    Path(layers.lower[0], "etc/passwd").write_text("top")
    assert read_file(layers, "etc/passwd") == b"top"
    Path(layers.upper, "etc/passwd").write_text("upper")
    assert read_file(layers, "etc/passwd") == b"upper"


@pytest.mark.root
def test_a_whiteout_hides_what_is_below(layers: Overlay) -> None:
    Path(layers.lower[1], "etc/passwd").write_text("bottom")
    os.mknod(Path(layers.upper, "etc/passwd"), 0o020000, 0)
    assert read_file(layers, "etc/passwd") == b""


@pytest.mark.root
def test_an_opaque_folder_hides_what_is_below(layers: Overlay) -> None:
    Path(layers.lower[1], "etc/passwd").write_text("bottom")
    os.setxattr(Path(layers.lower[0], "etc"), "trusted.overlay.opaque", b"y")
    assert read_file(layers, "etc/passwd") == b""


def test_a_file_where_a_folder_was_hides_it(layers: Overlay) -> None:
    Path(layers.lower[1], "etc/passwd").write_text("bottom")
    Path(layers.lower[0], "etc").rmdir()
    Path(layers.lower[0], "etc").write_text("a file")
    Path(layers.upper, "etc").rmdir()
    assert read_file(layers, "etc/passwd") == b""
