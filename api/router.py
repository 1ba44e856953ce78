"""Finds the row of the route table that a request is for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from urllib.parse import quote

from windlass.lib.version import API_VERSION, MIN_API_VERSION

from .errors import Refused
from .head import Version
from .route import Route

OLDEST: Version = (1, 15)  # accepted in paths, though we announce MIN_API_VERSION
_NAME = re.compile(r"\{(\w+)(\*)?\}")


def numbers(version: str) -> Version:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


CURRENT = numbers(API_VERSION)


def checked_version(version: Version | None) -> Version:
    """The version that a request asks for, ours where it names none. Raises Refused, as Docker words it."""
    if version is None:
        return CURRENT
    if version > CURRENT:
        raise Refused(
            400,
            f"client version {version[0]}.{version[1]} is too new. Maximum supported API version is {API_VERSION}",
        )
    if version < OLDEST:
        raise Refused(
            400,
            f"client version {version[0]}.{version[1]} is too old. Minimum supported API version is "
            f"{MIN_API_VERSION}, please upgrade your client to a newer version",
        )
    return version


class Router:
    """The rows, findable by path. Rows are tried in order; the first whose path, method and condition fit is taken."""

    def __init__(self, rows: Iterable[Route]) -> None:
        self.rows = tuple(rows)
        self._exact: defaultdict[str, list[Route]] = defaultdict(list)
        self._patterns: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
        for row in self.rows:
            if "{" in row.path:
                self._patterns[_key(row.path)].append(row)
            else:
                self._exact[row.path].append(row)

    def find(self, method: str, path: str, query: Mapping[str, object]) -> tuple[Route, dict[str, str]]:
        """The row for a request, and the names in its path.

        Raises Refused: 301 to the clean path, 404 for a path that nobody has, 405 for another method's path.
        """
        if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
            raise _not_found(path)
        found = self._at(path)
        wanted = "GET" if method == "HEAD" and all(row.method != "HEAD" for row, _ in found) else method
        for row, names in found:
            if row.method == wanted and (not row.when or row.when in query):
                return row, names
        if found:
            methods = {row.method for row, _ in found}
            allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
            raise Refused(405, f"{path} takes {allowed}, not {method}", ("Allow", allowed))
        raise _not_found(path)

    def _at(self, path: str) -> list[tuple[Route, dict[str, str]]]:
        found: list[tuple[Route, dict[str, str]]] = [(row, {}) for row in self._exact.get(path, ())]
        first, last = _key(path)
        for key in ((first, last), (first, "")):
            for row in self._patterns.get(key, ()):
                if match := _pattern(row.path).match(path):
                    found.append((row, match.groupdict()))
        return found


def _key(path: str) -> tuple[str, str]:
    """The first and the last segment; a `{name}` at the end is "", which is tried for every path."""
    first, _, rest = path[1:].partition("/")
    last = rest.rpartition("/")[2]
    return first, "" if last.startswith("{") else last


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """`{name}` takes one segment, `{name*}` several: image names have slashes.

    Compiled when first asked for: all at once would take 7 ms of every start.
    """
    parts, end = [], 0
    for match in _NAME.finditer(path):
        parts += [re.escape(path[end : match.start()]), f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"]
        end = match.end()
    return re.compile("".join(parts) + re.escape(path[end:]) + r"\Z")


def _not_found(path: str) -> Refused:
    """404, or for a path that is not clean a 301, as Docker's router has it; no file path is ever made of it."""
    segments = path.split("/")
    if "" in segments[1:] or "." in segments or ".." in segments:
        clean: list[str] = []
        for segment in segments:
            if segment == "..":
                del clean[-1:]
            elif segment not in ("", "."):
                clean.append(segment)
        if "/" + "/".join(clean) != path:
            return Refused(301, "the path is not clean", ("Location", quote("/" + "/".join(clean))))
    return Refused(404, "page not found")
