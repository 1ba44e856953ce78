"""What pyproject.toml cannot say: one cffi module, and three static executables beside their callers."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("src/windlass/execdriver/native")
FLAGS = ["-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static"]
BRIEF = ("copyup", "files", "unpack")  # modes that work on files and end


def compiler() -> list[str]:
    """musl's gcc where it is: a 60 KB binary and 17 KB of memory a container; else the system's, and fatter."""
    if cc := os.environ.get("WINDLASS_CC"):
        return cc.split()
    if not shutil.which("musl-gcc"):
        print("windlass-shim: no musl-gcc, building against glibc: about 58 KB of memory a container, not 17")
        return ["cc"]
    # musl brings no kernel headers: the system's come after its own.
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    return ["musl-gcc", "-idirafter", "/usr/include", "-idirafter", f"/usr/include/{multiarch}"]


def build(target: Path, sources: list[str]) -> None:
    subprocess.run([*compiler(), *FLAGS, "-o", f"{target}.new", *sources, "-s"], check=True)
    Path(f"{target}.new").replace(target)


class BuildExt(build_ext):
    """Builds the cffi modules, then the executables into the package."""

    def run(self) -> None:
        super().run()
        in_place = self.inplace or self.editable_mode
        where = NATIVE if in_place else Path(self.build_lib, *NATIVE.parts[1:])
        where.mkdir(parents=True, exist_ok=True)
        # The network helper runs once a daemon, what works on files for a moment, the shim once a container: whose
        # pages must be few.
        network = sorted(str(path) for path in (NATIVE / "c").glob("net*.c"))
        others = sorted({str(path) for path in (NATIVE / "c").glob("*.c")} - set(network))
        build(where / "windlass-files", others)
        build(where / "windlass-shim", [path for path in others if not Path(path).name.startswith(BRIEF)])
        build(where / "windlass-net", [str(NATIVE / "c" / "main.c"), str(NATIVE / "c" / "sys.c"), *network])


setup(
    cffi_modules=["src/windlass/kernel/sys_build.py:ffibuilder", "src/windlass/kernel/nft_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
    # One wheel for every Python from 3.11 on: the extension keeps to the limited API, the shim knows no Python.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
