"""What only an engine of jobs has: `jobs`, `commands`, `describe`, `plugins`."""

from __future__ import annotations

from .command import JSON, arguments, call, dump
from .flags import UsageError
from .table import duration, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from windlass.client.http import Client


def jobs(client: Client, words: list[str]) -> int:
    values, _ = arguments("jobs", words, [JSON])
    running = call(client, "jobs")
    if values.get("json"):
        dump(running)
        return 0
    rows = [
        (
            str(each["id"]),
            each["name"],
            "" if each["parent"] is None else str(each["parent"]),
            duration(each["age"]),
            " ".join(f"{key}={value}" for key, value in each["env"].items())[:60],
        )
        for each in running
    ]
    print(table(("ID", "NAME", "PARENT", "AGE", "ENV"), rows))
    return 0


def commands(client: Client, words: list[str]) -> int:
    arguments("commands", words)
    print("\n".join(call(client, "commands")))
    return 0


def plugins(client: Client, words: list[str]) -> int:
    arguments("plugins", words)
    print("\n".join(["PLUGIN", *call(client, "plugins")]))
    return 0


def describe(client: Client, words: list[str]) -> int:
    values, names = arguments("describe", words, [JSON], takes="JOB", most=1)
    if not names:
        raise UsageError('"windlass describe" requires exactly 1 argument.')
    told = call(client, "describe", names[0])
    if values.get("json"):
        dump(told)
        return 0
    print(f"{told['name']}: {told['doc']}")
    schema = told["params"].get("$defs", {}).get(told["params"].get("$ref", "").rpartition("/")[2], {})
    required = schema.get("required", [])
    rows = [
        (key, _type(field), "required" if key in required else repr(field.get("default")), field.get("description", ""))
        for key, field in schema.get("properties", {}).items()
    ]
    if rows:
        print("\n" + table(("KEY", "TYPE", "DEFAULT", "WHAT"), rows))
    return 0


def _type(field: dict[str, object]) -> str:
    """A JSON Schema's type in a word or two."""
    if isinstance(ref := field.get("$ref"), str):
        return ref.rpartition("/")[2]
    if isinstance(choices := field.get("anyOf"), list):
        return "|".join(_type(choice) for choice in choices)
    items = field.get("items")
    word = str(field.get("type", "any"))
    return f"{word} of {_type(items)}" if isinstance(items, dict) else word
