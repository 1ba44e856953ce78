"""`windlass version`, `info`, `events`."""

from __future__ import annotations

import json
import sys
import time

from windlass.client.http import HTTPError
from windlass.client.session import quoted
from windlass.lib.version import API_VERSION, VERSION, commit

from .command import JSON, arguments, dump
from .flags import Flag
from .lists import FILTER, filters
from .table import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from windlass.client.http import Client


def version(client: Client, words: list[str]) -> int:
    values, _ = arguments("version", words, [JSON])
    ours = {"Version": VERSION, "ApiVersion": API_VERSION, "GitCommit": commit(), "Python": sys.version.split()[0]}
    try:
        theirs = client.json("GET", "/version")
        failure = None
    except (OSError, HTTPError) as exc:
        theirs, failure = None, exc
    if values.get("json"):
        dump({"Client": ours, "Server": theirs})
    else:
        _print("Client", ours)
        if theirs is not None:
            keys = ("Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion")
            _print("\nServer", {key: theirs.get(key, "") for key in keys})
    if failure is not None:
        raise failure
    return 0


def _print(title: str, values: dict[str, Any]) -> None:
    print(f"{title}:")
    for key, value in values.items():
        print(f" {key + ':':16} {value}")


def info(client: Client, words: list[str]) -> int:
    values, _ = arguments("info", words, [JSON])
    told = client.json("GET", "/info")
    if values.get("json"):
        dump(told)
        return 0
    print(f"Containers: {told['Containers']}")
    for state in ("Running", "Paused", "Stopped"):
        print(f" {state}: {told[f'Containers{state}']}")
    print(f"Images: {told['Images']}\nServer Version: {told['ServerVersion']}\nStorage Driver: {told['Driver']}")
    for key, value in told["DriverStatus"]:
        print(f" {key}: {value}")
    for title, key in (
        ("Logging Driver", "LoggingDriver"), ("Cgroup Version", "CgroupVersion"), ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"), ("Architecture", "Architecture"), ("CPUs", "NCPU"),
        ("Name", "Name"), ("ID", "ID"), ("Root Dir", "DockerRootDir"),
    ):  # fmt: skip
        print(f"{title}: {told[key]}")
    print(f"Total Memory: {size(told['MemTotal'])}")
    for warning in told["Warnings"]:
        print(warning, file=sys.stderr)
    return 0


def events(client: Client, words: list[str]) -> int:
    flags = [
        Flag("--since", "since", str, "Show all events created since timestamp"),
        Flag("--until", "until", str, "Stream events until this timestamp"),
        FILTER,
        JSON,
    ]
    values, _ = arguments("events", words, flags)
    query = [f"{key}={quoted(values[key])}" for key in ("since", "until") if key in values]
    query.append(f"filters={filters(values.get('filters', []))}")
    with client.request("GET", f"/events?{'&'.join(query)}") as response:
        response.check()
        for line in response.lines():
            print(line.decode() if values.get("json") else _event(json.loads(line)), flush=True)
    return 0


def _event(event: dict[str, Any]) -> str:
    seconds, nanoseconds = divmod(event["timeNano"], 10**9)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{nanoseconds:09d}{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event["Actor"]["Attributes"].items()))
    told = f"{when} {event['Type']} {event['Action']} {event['Actor']['ID']}"
    return f"{told} ({attributes})" if attributes else told
