"""Plugins from files, modules, folders and entry points."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from windlass.engine import Engine, plugins
from windlass.engine.plugins import PluginError

GOOD = """
from typing import ClassVar
from windlass.engine import Job, Signature

class Hello(Signature[str], frozen=True):
    NAME: ClassVar[str] = "hello"
    name: str = "world"

async def hello(job: Job[Hello]) -> str:
    return f"hello {job.params.name}"

def install(engine):
    engine.register("hello", hello)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    def write(text: str, name: str = "good.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


async def test_a_file_adds_its_jobs(plugin: Any) -> None:
    engine = Engine()
    name = plugin(GOOD)
    assert await plugins.install(engine, plugins.find([name], entry_points=False)) == [name]
    assert await engine.job("hello", "you").run() == "hello you"


async def test_install_may_be_a_coroutine_function(plugin: Any) -> None:
    engine = Engine()
    name = plugin(
        "import trio\nasync def install(engine):\n    await trio.lowlevel.checkpoint()\n    engine.provide('x', 1)"
    )
    await plugins.install(engine, plugins.find([name], entry_points=False))
    assert engine.provided("x") == (1,)


async def test_a_folders_files_come_in_the_order_of_their_names_before_those_named(tmp_path: Path, plugin: Any) -> None:
    folder = tmp_path / "plugins.d"
    folder.mkdir()
    for number in (2, 1):
        (folder / f"{number}.py").write_text(f"def install(engine): engine.provide('order', {number})")
    (folder / "notes.txt").write_text("no plugin")
    engine = Engine()
    named = plugin("def install(engine): engine.provide('order', 3)")
    await plugins.install(engine, plugins.find([named], folder, entry_points=False))
    assert engine.provided("order") == (1, 2, 3)


async def test_a_module_is_a_plugin_too(plugin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin("def install(engine): engine.provide('x', 1)", "windlass_test_module.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = Engine()
    await plugins.install(engine, plugins.find(["windlass_test_module"], entry_points=False))
    assert engine.provided("x") == (1,)


async def test_entry_points_are_found(monkeypatch: pytest.MonkeyPatch, plugin: Any, tmp_path: Path) -> None:
    plugin("def install(engine): engine.provide('x', 1)", "windlass_test_entry.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = importlib.metadata.EntryPoint("mine", "windlass_test_entry:install", plugins.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == plugins.GROUP else [])
    engine = Engine()
    assert await plugins.install(engine, plugins.find()) == ["mine"]
    assert engine.provided("x") == (1,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", r"no function install\(engine\)"),
        ("def install(engine): raise ValueError('bad day')", "ValueError: bad day"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("def install(engine) raise", "SyntaxError"),
        ("def install(engine): engine.register('commands', None)", "Conflict: commands is already registered"),
    ],
)
async def test_a_plugin_that_fails_is_named(plugin: Any, text: str, why: str) -> None:
    name = plugin(text)
    with pytest.raises(PluginError, match=why) as caught:
        await plugins.install(Engine(), plugins.find([name], entry_points=False))
    assert caught.value.plugin == name and name in str(caught.value)


async def test_a_plugin_that_is_not_there_is_named() -> None:
    with pytest.raises(PluginError, match="/nowhere/x.py"):
        await plugins.install(Engine(), plugins.find(["/nowhere/x.py"], entry_points=False))


async def test_tolerance_leaves_out_only_what_fails(plugin: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    good, bad = plugin(GOOD), plugin("raise OSError('no')", "bad.py")
    found = plugins.find([bad, good], entry_points=False)
    assert await plugins.install(engine, found, tolerant=True) == [good]
    assert "bad.py" in caplog.text and "hello" in engine.names()
