"""`windlass ps` and `windlass images`."""

from __future__ import annotations

import json
import time

from windlass.client.session import quoted

from .command import arguments
from .flags import Flag
from .table import duration, size, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from windlass.client.http import Client

SHORT = 12  # digits of an id for people
QUIET = Flag("-q --quiet", "quiet", bool, "Only display IDs")
WHOLE = Flag("--no-trunc", "whole", bool, "Don't truncate output")
FILTER = Flag("-f --filter", "filters", list, "Filter output based on conditions provided", "filter")


def filters(given: list[str]) -> str:
    """`key=value` filters as the API takes them, ready for a query."""
    values: dict[str, list[str]] = {}
    for each in given:
        key, _, value = each.partition("=")
        values.setdefault(key, []).append(value)
    return quoted(json.dumps(values))


def ps(client: Client, words: list[str]) -> int:
    flags = [Flag("-a --all", "all", bool, "Show all containers (default shows just running)"), QUIET, WHOLE, FILTER]
    values, _ = arguments("ps", words, flags)
    query = f"all={int(values.get('all', False))}&filters={filters(values.get('filters', []))}"
    containers = client.json("GET", f"/containers/json?{query}")
    ids = [each["Id"] if values.get("whole") else each["Id"][:SHORT] for each in containers]
    if values.get("quiet"):
        print("\n".join(ids), end="\n" if ids else "")
        return 0
    head = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES")
    rows = [_container(id, each, bool(values.get("whole"))) for id, each in zip(ids, containers, strict=True)]
    print(table(head, rows))
    return 0


def _container(id: str, each: dict[str, Any], whole: bool) -> tuple[str, ...]:
    command = each["Command"] if whole or len(each["Command"]) <= 20 else each["Command"][:19] + "…"
    names = ",".join(name.lstrip("/") for name in each["Names"])
    return id, each["Image"], f'"{command}"', _ago(each["Created"]), each["Status"], names


def images(client: Client, words: list[str]) -> int:
    flags = [Flag("-a --all", "all", bool, "Show all images (default hides intermediate images)"), QUIET, WHOLE, FILTER]
    values, _ = arguments("images", words, flags)
    query = f"all={int(values.get('all', False))}&filters={filters(values.get('filters', []))}"
    found = client.json("GET", f"/images/json?{query}")
    rows = [row for each in found for row in _image(each, bool(values.get("whole")))]
    if values.get("quiet"):
        print("\n".join(dict.fromkeys(row[2] for row in rows)), end="\n" if rows else "")
        return 0
    print(table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows))
    return 0


def _image(each: dict[str, Any], whole: bool) -> list[tuple[str, ...]]:
    id = each["Id"] if whole else each["Id"].removeprefix("sha256:")[:SHORT]
    names = [tag.rpartition(":") for tag in each.get("RepoTags") or ["<none>:<none>"]]
    return [(name, tag, id, _ago(each["Created"]), size(each["Size"])) for name, _, tag in names]


def _ago(created: int) -> str:
    return f"{duration(time.time() - created)} ago"
