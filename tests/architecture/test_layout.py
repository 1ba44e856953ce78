"""What the import contracts of pyproject.toml cannot say."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "windlass"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Of the project, and no part of the program.
BESIDE = {"tests", "bench", "docs", "scripts", "examples", "src", "build", "dist"}
MOST_LINES = 600


def has_python(folder: Path) -> bool:
    return any(folder.rglob("*.py"))


def subsystems() -> list[Path]:
    folders = (path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(folder for folder in folders if folder.name not in BESIDE and has_python(folder))


def modules() -> list[Path]:
    """Return every module of the program, by its real path."""
    own = [path for path in PACKAGE.glob("*.py") if not path.is_symlink()]
    return sorted([*own, *(path for folder in subsystems() for path in folder.rglob("*.py"))])


def sources() -> list[Path]:
    """Return every Python file of the project."""
    return [
        *modules(),
        *(path for name in ("tests", "bench", "examples") for path in sorted((ROOT / name).rglob("*.py"))),
    ]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (level, module) of each import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def outside(path: Path) -> set[str]:
    return {module for level, module in imports(path) if level == 0}


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("folder", subsystems(), ids=name)
def test_a_folder_with_python_code_has_its_link(folder: Path) -> None:
    link = PACKAGE / ("builtins.py" if folder.name == "builtins" else folder.name)
    target = folder / "builtins.py" if folder.name == "builtins" else folder
    assert link.is_symlink(), f"ln -s ../../{folder.name} src/windlass/{folder.name}"
    assert link.resolve() == target.resolve()
    assert not link.readlink().is_absolute()


@pytest.mark.parametrize("folder", subsystems(), ids=name)
def test_a_folder_with_python_code_has_its_place_in_the_layers(folder: Path) -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert folder.name in {part.strip() for layer in layers for part in layer.split("|")}


def test_every_link_leads_to_a_folder_with_python_code() -> None:
    linked = {path.resolve() for path in PACKAGE.iterdir() if path.is_symlink()}
    assert linked == {f / "builtins.py" if f.name == "builtins" else f for f in subsystems()}


def test_builtins_is_no_package() -> None:
    """A package of this name at the root can never be imported, and stops mypy."""
    assert not (ROOT / "builtins" / "__init__.py").exists()


def test_every_folder_of_modules_is_a_package() -> None:
    """A wheel holds packages only, and a folder without __init__.py would be missing from it."""
    folders = {path.parent for path in modules()} - {PACKAGE, ROOT / "builtins"}
    assert [name(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in sources()}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_module_says_what_it_is() -> None:
    assert [name(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_the_engine_imports_the_standard_library_trio_and_msgspec_only() -> None:
    allowed = {*sys.stdlib_module_names, "trio", "msgspec"}
    ours = [path for path in modules() if path.is_relative_to(ROOT / "engine")]
    assert ours
    assert {name(path): outside(path) for path in ours if {top(module) for module in outside(path)} - allowed} == {}


def test_nobody_imports_a_bare_folder_name() -> None:
    """`import engine` from the project's root makes a second copy of every class: write `windlass.engine`."""
    folders = {folder.name for folder in subsystems()} - {"builtins"}
    assert [name(path) for path in sources() if {top(module) for module in outside(path)} & folders] == []


def test_inside_a_folder_imports_are_relative() -> None:
    def neighbours(path: Path) -> set[str]:
        own = ".".join(("windlass", *path.relative_to(ROOT).parent.parts, ""))
        return {module for module in outside(path) if f"{module}.".startswith(own)}

    assert {name(path): found for path in modules() if (found := neighbours(path))} == {}


def test_only_the_network_imports_pyroute2() -> None:
    """Its import costs 190 ms and 13 MB: it comes in the background, in one place."""
    assert {
        name(path) for path in modules() if "pyroute2" in map(top, outside(path)) and "network" not in path.parts
    } == set()
