"""Listing containers: Docker's filters (daemon/list.go), limit, since, before, sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError, NotFound
from windlass.jobs.container_views import Summary, SummaryHostConfig, SummaryNetworks
from windlass.jobs.containers import Containers
from windlass.jobs.images import ImageGet
from windlass.jobs.networks import NetworkInspect
from windlass.lib import filters

from .config import command_line
from .container import Container
from .daemon import Daemon
from .lifecycle import State
from .links import children
from .ports import exposed, listed, published
from .views import networks, sizes, status_text

Values = frozenset[str]
Test = Callable[[Container, Values], bool]
STATUSES = frozenset(("created", "restarting", "running", "removing", "paused", "exited", "dead"))
HEALTH = frozenset(("starting", "healthy", "unhealthy", "none"))


async def containers(daemon: Daemon, job: Job[Containers]) -> list[Summary]:
    """List containers, the youngest first."""
    params = job.params
    wanted = _parse(params.filters)
    chosen = await _choose(daemon, params, wanted)
    links = _link_names(daemon)
    summaries = [_summary(container, links.get(container.id, [])) for container in chosen]
    if params.size:
        for number, container in enumerate(chosen):
            own, whole = await sizes(daemon.graph, container)
            summaries[number] = msgspec.structs.replace(summaries[number], SizeRw=own, SizeRootFs=whole)
    return summaries


async def _choose(daemon: Daemon, params: Containers, wanted: dict[str, Values]) -> list[Container]:
    """Pick and order the containers; limit, since, before and filters on the state look at all of them."""
    everything = sorted(daemon.containers, key=lambda each: each.definition.created_ns, reverse=True)
    is_all = params.all or params.limit > 0 or bool(params.since or params.before)
    is_all = is_all or not wanted.keys().isdisjoint(("status", "exited", "since", "before"))
    chosen = [each for each in everything if is_all or each.is_running]
    since, before = (
        _bound(daemon, given, wanted.get(name, frozenset()))
        for name, given in (("since", params.since), ("before", params.before))
    )
    if since is not None:
        chosen = [each for each in chosen if each.definition.created_ns > since]
    if before is not None:
        chosen = [each for each in chosen if each.definition.created_ns < before]
    ancestors = await _ancestors(daemon, wanted.get("ancestor", frozenset()))
    if "ancestor" in wanted:
        chosen = [each for each in chosen if not ancestors.isdisjoint((each.definition.image_id, each.config.Image))]
    if "network" in wanted:
        wanted["network"] = await _networks(daemon, wanted["network"])
    tests = [(TESTS[name], values) for name, values in wanted.items() if name in TESTS]
    chosen = [each for each in chosen if all(test(each, values) for test, values in tests)]
    return chosen[: params.limit] if params.limit > 0 else chosen


def _bound(daemon: Daemon, given: str, filtered: Values) -> int | None:
    """When the container that `since` or `before` names was created; None when none is named."""
    words = [given] if given else list(filtered)
    return daemon.containers.get(words[-1]).definition.created_ns if words else None


async def _ancestors(daemon: Daemon, names: Values) -> set[str]:
    """The ids and names that a container may have been made from; an image that is not there is no error."""
    found: set[str] = set()
    for name in names:
        try:
            image = await daemon.engine.call(ImageGet(name=name))
        except NotFound:
            continue
        found |= {image.id, name}
    return found


async def _networks(daemon: Daemon, words: Values) -> Values:
    """Names and ids of the networks that the words name, and the words, since networks may be gone."""
    found = set(words)
    for word in words:
        with suppress(JobError):
            network = await daemon.engine.call(NetworkInspect(name=word))
            found |= {network.Name, network.Id}
    return frozenset(found)


# -- filters ---------------------------------------------------------------------------------------------------------


def _parse(given: Mapping[str, list[str] | dict[str, bool]]) -> dict[str, Values]:
    """Read the filters. Raises BadParameter: `invalid filter 'x'`."""
    wanted = {}
    for name, values in given.items():
        if name not in TESTS and name not in ("since", "before", "ancestor"):
            raise BadParameter(f"invalid filter '{name}'", key="filters")
        listed = values if isinstance(values, list) else [value for value, on in values.items() if on]
        if listed:
            wanted[name] = frozenset(listed)
    _check(wanted)
    for name in ("expose", "publish"):
        if name in wanted:
            wanted[name] = frozenset(port for value in wanted[name] for port in _ports(value))
    return wanted


def _check(wanted: dict[str, Values]) -> None:
    for value in wanted.get("exited", ()):
        if not re.match(r"-?[0-9]{1,9}\Z", value, re.ASCII):
            raise BadParameter(f"invalid filter 'exited={value}'", key="filters")
    for name, allowed in (("status", STATUSES), ("health", HEALTH)):
        for value in wanted.get(name, ()):
            if value not in allowed:
                raise BadParameter(f"invalid filter '{name}={value}'", key="filters")


def _id(container: Container, values: Values) -> bool:
    return container.id.startswith(tuple(values))


def _name(container: Container, values: Values) -> bool:
    """Names are searched by regular expression, with and without the slash."""
    return any(filters.search(value, f"/{container.name}") or filters.search(value, container.name) for value in values)


def _label(container: Container, values: Values) -> bool:
    return filters.has_labels(container.config.Labels, values)


def _status(container: Container, values: Values) -> bool:
    return container.life.state in values


def _exited(container: Container, values: Values) -> bool:
    return container.life.state is State.EXITED and str(container.outcome.code) in values


def _health(container: Container, values: Values) -> bool:
    health = container.outcome.health
    return (health.Status if health else "none") in values


def _network(container: Container, values: Values) -> bool:
    found = networks(container)
    return any(name in values or settings.NetworkID in values for name, settings in found.items())


def _volume(container: Container, values: Values) -> bool:
    points = container.definition.mounts
    return any(value in (point.name or point.source, point.target) for point in points for value in values)


def _expose(container: Container, values: Values) -> bool:
    return _has_port(exposed(container.config.ExposedPorts), values)


def _publish(container: Container, values: Values) -> bool:
    ports = container.sandbox.ports if container.sandbox else published(container.host)
    return _has_port([port for port, bindings in ports.items() if bindings], values)


def _has_port(ports: Iterable[str], values: Values) -> bool:
    return not values.isdisjoint(ports)


def _ports(value: str) -> list[str]:
    """`80`, `80/udp`, `8000-8010/tcp` as a list of ports with their protocol. Raises BadParameter."""
    match = re.match(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?\Z", value, re.ASCII)
    if match is None or int(match[2] or match[1]) > 65535:
        raise BadParameter(f"invalid filter: {value!r} is no port", key="filters")
    return [f"{port}/{match[3] or 'tcp'}" for port in range(int(match[1]), int(match[2] or match[1]) + 1)]


def _always(container: Container, values: Values) -> bool:
    return True


def _is_task(container: Container, values: Values) -> bool:
    return not values <= {"true", "1"}


TESTS: dict[str, Test] = {
    "id": _id, "name": _name, "label": _label, "status": _status, "exited": _exited, "health": _health,
    "network": _network, "volume": _volume, "expose": _expose, "publish": _publish, "is-task": _is_task,
    "isolation": _always,
}  # fmt: skip


# -- one line --------------------------------------------------------------------------------------------------------


def _link_names(daemon: Daemon) -> dict[str, list[str]]:
    """The names by which other containers have links to a container, by its id."""
    names: dict[str, list[str]] = {}
    for parent in daemon.containers:
        for alias, child in children(daemon.containers, parent) if parent.host.Links else ():
            names.setdefault(child.id, []).append(f"/{parent.name}/{alias}")
    return names


def _summary(container: Container, links: list[str]) -> Summary:
    definition, host = container.definition, container.host
    return Summary(
        Id=container.id,
        Names=[f"/{container.name}", *links],
        Image=container.config.Image,
        ImageID=definition.image_id,
        Command=" ".join(_quoted(command_line(container.config))),
        Created=definition.created_ns // 10**9,
        Ports=listed(container.sandbox.ports) if container.sandbox else [],
        Labels=container.config.Labels,
        State=container.life.state.value,
        Status=status_text(container),
        HostConfig=SummaryHostConfig(NetworkMode=host.NetworkMode, Annotations=host.Annotations),
        NetworkSettings=SummaryNetworks(Networks=networks(container)),
        Mounts=[point.shown() for point in definition.mounts],
    )


def _quoted(words: tuple[str, ...]) -> Iterable[str]:
    """The program as it is, its arguments quoted where they hold a space (moby: Snapshot's Command)."""
    yield words[0]
    for word in words[1:]:
        yield f"'{word}'" if " " in word else word
