"""What an image can put in the way of a start: links, files in place of devices, tricks with descriptors.

Each test says which public bug of container runtimes it stands for.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from errno import EBADMSG, ENODEV
from pathlib import Path

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import NAMESPACES, NONE, PATH, NewShim, Op, OpList, Rec, Record, Shim, started

pytestmark = pytest.mark.root
Ops = Callable[[OpList], None]


@pytest.fixture
def image() -> Iterator[Path]:
    """Return an image of the test's own, to spoil."""
    with harness.folder() as folder:
        yield harness.make_rootfs(folder / "image")


@pytest.fixture
def host() -> Iterator[Path]:
    """Return a folder of the host that must stay empty."""
    with harness.folder() as folder:
        yield folder
        assert list(folder.iterdir()) == []


def run(shim: Shim, ops: OpList) -> Record:
    """Start with this list; return FAILED, or EXIT."""
    control = shim.spawn(ops.encode())
    control.send(Rec.GO)
    while True:
        record = harness.close(control.receive())
        if record.type in (Rec.FAILED, Rec.EXIT):
            return record


def bare(shim: Shim, inner: Ops = lambda ops: None) -> OpList:
    """A list with a root and what `inner` does to it, up to the pivot."""
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
    ops.add(Op.PRIVATE)
    ops.add(Op.ROOT, shim.folder / "root", a=0)
    inner(ops)
    ops.add(Op.MOUNT, "/proc", "proc", "proc", "")
    ops.add(Op.PIVOT)
    return ops


def log(shim: Shim) -> str:
    return (shim.folder / "log").read_text()


@pytest.fixture
def spoilt(new_shim: NewShim, image: Path) -> Shim:
    """Return a shim whose image is `image`."""
    shim = new_shim()
    shim.root = image
    return shim


@pytest.mark.parametrize("target", ["{host}", "/../../../../../../..{host}", "/proc/1/root{host}"])
def test_a_link_for_dev_does_not_lead_nodes_to_the_host(spoilt: Shim, image: Path, host: Path, target: str) -> None:
    """CVE-2026-41579: device nodes made through a link of the image."""
    (image / "dev").rmdir()
    (image / "dev").symlink_to(target.format(host=host))

    def nodes(ops: OpList) -> None:
        ops.add(Op.MKNOD, "/dev/null", a=0o20666, b=os.makedev(1, 3))
        ops.add(Op.MKDIR, "/dev/shm", a=0o755)
        ops.add(Op.TOUCH, "/dev/console", a=0o600)
        ops.add(Op.SYMLINK, "x", "/dev/link")

    ops = bare(spoilt, nodes)
    ops.add(Op.EXEC, "/bin/true", PATH, a=1)
    run(spoilt, ops)


def test_a_mount_target_that_is_a_link_stays_in_the_root(spoilt: Shim, image: Path, host: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310."""
    (image / "mnt").symlink_to(host)

    def mount(ops: OpList) -> None:
        ops.add(Op.MKDIR, "/mnt/a/b", a=0o755)
        ops.add(Op.MOUNT, "/mnt/a/b", "tmpfs", "tmpfs", "")

    ops = bare(spoilt, mount)
    ops.add(Op.EXEC, "sh", "-c", "echo hi", PATH, a=3)
    run(spoilt, ops)
    assert str(host) not in Path("/proc/self/mounts").read_text()


def test_missing_parents_are_made_inside_however_the_path_winds(new_shim: NewShim) -> None:
    shim = new_shim()
    ops = bare(shim, lambda ops: ops.add(Op.MKDIR, "//one/../two/./three//four/", a=0o700))
    ops.add(Op.EXEC, "sh", "-c", "ls -d /two/three/four /one && ls -ld /two/three/four", PATH, a=3)
    assert run(shim, ops).a == 0
    assert "drwx------" in log(shim)


def test_a_masked_file_is_the_null_device_and_the_hosts_stays_as_it_is(spoilt: Shim, image: Path) -> None:
    """CVE-2025-31133: the cover must not be what the image has at /dev/null, nor be changed from inside."""
    (image / "dev/null").write_text("fake")
    (image / "secret").write_text("secret")
    (image / "folder").mkdir()
    (image / "folder/secret").write_text("secret")
    before = os.stat("/dev/null")

    def masks(ops: OpList) -> None:
        for path in ("/secret", "/folder", "/tmp", "/not/there"):
            ops.add(Op.MASK, path)

    ops = bare(spoilt, masks)
    ops.add(Op.EXEC, "sh", "-c", "cat /secret; ls -A /folder; chmod 0 /secret; echo x >/secret; exit 3", PATH, a=3)
    assert run(spoilt, ops).a == 3
    assert "secret\\n" not in log(spoilt).replace("chmod: /secret", "")
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)


def test_a_read_only_path_is_so_with_what_is_below(spoilt: Shim, image: Path) -> None:
    (image / "data/below").mkdir(parents=True)

    def readonly(ops: OpList) -> None:
        ops.add(Op.MOUNT, "/data/below", "tmpfs", "tmpfs", "")
        ops.add(Op.READONLY, "/data")
        ops.add(Op.READONLY, "/not/there")

    ops = bare(spoilt, readonly)
    script = "(: >/data/x) 2>/dev/null || echo 1; (: >/data/below/x) 2>/dev/null || echo 2; : >/tmp/x && echo 3"
    ops.add(Op.EXEC, "sh", "-c", script, PATH, a=3)
    run(spoilt, ops)
    assert [line.split('"')[3] for line in log(spoilt).splitlines()] == ["1\\n", "2\\n", "3\\n"]


def test_a_read_only_root_leaves_its_mounts_writable(new_shim: NewShim) -> None:
    shim = new_shim()

    def readonly(ops: OpList) -> None:
        ops.add(Op.MOUNT, "/tmp", "tmpfs", "tmpfs", "size=1m")
        ops.add(Op.READONLY_ROOT)

    ops = bare(shim, readonly)
    ops.add(Op.EXEC, "sh", "-c", ": >/tmp/x && ! (: >/x)", PATH, a=3)
    assert run(shim, ops).a == 0


@pytest.mark.parametrize("number", [*range(3, 20), 100])
def test_no_descriptor_is_a_working_directory(new_shim: NewShim, number: int) -> None:
    """CVE-2024-21626: WORKDIR /proc/self/fd/N."""
    shim = new_shim()
    failed = shim.start(["sh", "-c", "ls ../../../.."], cwd=f"/proc/self/fd/{number}").expect(Rec.FAILED)
    assert failed.data.startswith(b"chdir\0")


@pytest.mark.parametrize("path", ["/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/exe"])
def test_what_is_no_directory_is_no_working_directory(new_shim: NewShim, path: str) -> None:
    assert new_shim().start(["true"], cwd=path).expect(Rec.FAILED).data.startswith(b"chdir\0")


def test_a_working_directory_out_of_the_root_is_refused(new_shim: NewShim) -> None:
    """A process of the host that root may look at, in a container that shares the host's pids."""
    shim = new_shim()
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE, a=NAMESPACES & ~harness.NEWPID, b=NONE)
    harness.mounts(ops, shim.folder)
    ops.add(Op.CHDIR, f"/proc/{os.getpid()}/root")
    ops.add(Op.EXEC, "true", PATH, a=1)
    assert run(shim, ops).type == Rec.FAILED


def test_a_missing_working_directory_is_made_by_its_user(new_shim: NewShim) -> None:
    shim = new_shim()

    def home(ops: OpList) -> None:
        ops.add(Op.MOUNT, "/tmp", "tmpfs", "tmpfs", "mode=1777")

    ops = bare(shim, home)
    ops.add_raw(Op.GROUPS, struct.pack("<I", 1000), a=1)
    ops.add(Op.IDS, a=1000, b=1000)
    ops.add(Op.CAPS)
    ops.add(Op.CHDIR, "/tmp/a/b", b=1)
    ops.add(Op.EXEC, "sh", "-c", "pwd; ls -ldn .", PATH, a=3)
    assert run(shim, ops).a == 0
    assert '"/tmp/a/b\\n"' in log(shim)
    assert "1000     1000" in log(shim)


def test_a_sysctl_reaches_the_containers_kernel_part_only(new_shim: NewShim) -> None:
    """CVE-2025-52881: the write goes through a procfs that the image cannot cover."""
    shim = new_shim()
    before = Path("/proc/sys/kernel/msgmax").read_text()

    def cover(ops: OpList) -> None:
        ops.add(Op.MOUNT, "/proc", "tmpfs", "tmpfs", "")

    ops = bare(shim, cover)
    ops.add(Op.SYSCTL, "kernel/msgmax", "4242")
    ops.add(Op.EXEC, "cat", "/proc/sys/kernel/msgmax", PATH, a=2)
    assert run(shim, ops).a == 0
    assert '"4242\\n"' in log(shim)
    assert Path("/proc/sys/kernel/msgmax").read_text() == before


@pytest.mark.parametrize("name", ["../self/oom_score_adj", "../sysrq-trigger", "../self/root/tmp/x", "/tmp/x"])
def test_a_sysctl_is_a_file_below_proc_sys_or_nothing(new_shim: NewShim, name: str) -> None:
    shim = new_shim()
    ops = bare(shim)
    ops.add(Op.SYSCTL, name, "0")
    ops.add(Op.EXEC, "true", PATH, a=1)
    assert run(shim, ops).type == Rec.FAILED


@pytest.mark.parametrize("name", ["ptmx", "console"])
def test_a_terminal_is_not_taken_from_what_the_image_has(spoilt: Shim, image: Path, host: Path, name: str) -> None:
    """CVE-2025-52565: links in place of /dev/pts/ptmx and /dev/console."""
    (image / "dev/pts").mkdir()
    (image / "dev/pts/ptmx").write_text("")
    if name == "console":
        (image / "dev/console").symlink_to(host / "console")
    ops = bare(spoilt)
    ops.add(Op.CONSOLE)
    ops.add(Op.EXEC, "true", PATH, a=1)
    failed = run(spoilt, ops)
    assert (failed.type, failed.a) == (Rec.FAILED, ENODEV)


def test_a_console_that_is_a_link_is_bound_inside(spoilt: Shim, image: Path, host: Path) -> None:
    (image / "dev/pts").mkdir()
    (image / "dev/console").symlink_to(host / "console")

    def devpts(ops: OpList) -> None:
        ops.add(Op.MOUNT, "/dev/pts", "devpts", "devpts", "newinstance,ptmxmode=0666")

    ops = bare(spoilt, devpts)
    ops.add(Op.CONSOLE)
    ops.add(Op.EXEC, "true", PATH, a=1)
    assert run(spoilt, ops).type == Rec.FAILED


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ops: ops.add(Op.EXEC, "true", a=1),
        lambda ops: ops.add(Op.CHDIR, "/tmp"),
        lambda ops: ops.add(Op.JOIN, b=NONE),
        lambda ops: ops.add(Op.RUNDIR, "/tmp"),
    ],
)
def test_a_list_in_the_wrong_order_never_runs_on_the_host(new_shim: NewShim, wrong: Ops) -> None:
    shim = new_shim()
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
    wrong(ops)
    ops.add(Op.EXEC, "/bin/true", a=1)
    failed = run(shim, ops)
    assert (failed.type, failed.a, failed.b) == (Rec.FAILED, EBADMSG, 5)


def test_host_files_are_out_of_reach_after_the_pivot(new_shim: NewShim, host: Path) -> None:
    shim = new_shim()
    ops = bare(shim)
    ops.add(Op.WRITE, host / "x", "0")
    ops.add(Op.EXEC, "true", PATH, a=1)
    assert run(shim, ops).a == EBADMSG


def test_a_device_of_the_host_is_bound_and_a_file_is_refused(new_shim: NewShim, root: Path) -> None:
    shim, other = new_shim(), new_shim()
    ops = bare(shim, lambda ops: ops.add(Op.DEVICE, "/dev/zero", "/dev/nothing"))
    ops.add(Op.EXEC, "sh", "-c", "head -c 5 /dev/nothing | wc -c", PATH, a=3)
    assert run(shim, ops).a == 0
    assert '"5\\n"' in log(shim)
    ops = bare(other, lambda ops: ops.add(Op.DEVICE, root / "bin/busybox", "/dev/file"))
    assert run(other, ops).a == ENODEV


def test_a_bind_is_private_and_read_only_when_asked(new_shim: NewShim) -> None:
    shim = new_shim()
    (shim.folder / "source").mkdir()
    (shim.folder / "source/file").write_text("content\n")
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.OPEN_TREE, shim.folder / "source", a=1, b=1, c=1)
    ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
    ops.add(Op.PRIVATE)
    ops.add(Op.ROOT, shim.folder / "root", a=0)
    ops.add(Op.MKDIR, "/volume", a=0o755)
    ops.add(Op.BIND, "/volume", a=1)
    ops.add(Op.PIVOT)
    ops.add(Op.EXEC, "sh", "-c", "cat /volume/file; (: >/volume/x) 2>/dev/null || echo read-only", PATH, a=3)
    assert run(shim, ops).a == 0
    assert [line.split('"')[3] for line in log(shim).splitlines()] == ["content\\n", "read-only\\n"]


def test_an_exec_in_a_shared_pid_namespace_is_known_by_its_own_pid(new_shim: NewShim) -> None:
    owner, guest = new_shim(), new_shim()
    pid = started(owner.start(["sleep", "1000"]))
    ops = harness.prefix(guest.folder, guest.root)
    ops.add(Op.SETNS, f"/proc/{pid}/ns/pid", a=harness.NEWPID)
    ops.add(Op.CLONE, a=NAMESPACES & ~harness.NEWPID, b=NONE)
    harness.mounts(ops, guest.folder)
    harness.program(ops, ["sleep", "1000"])
    control = guest.spawn(ops.encode())
    control.send(Rec.GO)
    started(control)
    guest.exec(["sleep", "1000"], 1)
    number = started(control, 1)
    assert Path(f"/proc/{number}/comm").read_text() == "sleep\n"
    assert control.ask(Rec.SIGNAL, proc=1, a=9).type == Rec.OK
    assert control.expect(Rec.EXIT, 1).a == 137


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_an_overlay_is_mounted_by_a_page_of_options_where_the_kernel_is_older(
    new_shim: NewShim, image: Path, tmp_path: Path
) -> None:
    """Before Linux 6.5 there is no `lowerdir+`: the same sources with that key misspelt take the other way."""
    for path in (harness.NATIVE / "c").glob("*.[ch]"):
        (tmp_path / path.name).write_text(path.read_text().replace('"lowerdir+"', '"lowerdir-"'))
    old = tmp_path / "old-shim"
    subprocess.run(["gcc", "-std=gnu11", "-o", old, *sorted(tmp_path.glob("*.c"))], check=True)
    awkward = tmp_path / "a,b:c\\d"
    (awkward / "etc").mkdir(parents=True)
    (awkward / "etc/top").write_text("top\n")
    shim = new_shim()
    shim.binary = old
    ops = OpList()
    ops.add(Op.RUNDIR, shim.folder / "run")
    ops.add(Op.LOG, shim.folder / "log", a=1)
    ops.add(Op.OVERLAY, shim.folder / "upper", shim.folder / "work", awkward, image, a=0)
    ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
    harness.mounts(ops, shim.folder)
    harness.program(ops, ["sh", "-c", "cat /etc/top; echo new >/etc/new"])
    assert run(shim, ops).a == 0
    assert '"top\\n"' in log(shim)
    assert (shim.folder / "upper/etc/new").read_text() == "new\n"
    assert not (shim.folder / "run/overlay").exists()
