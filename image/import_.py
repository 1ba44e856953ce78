"""Job `import`: an image of one layer out of a tar, from the client or from a URL."""

from __future__ import annotations

from collections.abc import AsyncIterator

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Unavailable
from windlass.engine.events import Progress
from windlass.jobs.images import Import
from windlass.lib import reference
from windlass.lib.reference import InvalidReference, Reference

from . import changes, config
from .apply import CHUNK, apply, stdin
from .events import tell
from .keep import keeping
from .store import Store


async def import_(store: Store, job: Job[Import]) -> str:
    """Make an image of one layer from a tar."""
    params = job.params
    name = new_name(params.repo, params.tag)
    run = config.check_run(changes.apply({}, params.changes))
    architecture, variant = config.platform_of(params.platform)
    chunks = stdin(job) if params.fromSrc == "-" else _fetch(params.fromSrc, job)
    comment = params.message or f"Imported from {params.fromSrc}"
    async with store.work(), keeping(store) as keeper:
        layer, diff_id = await apply(store, keeper, None, None, chunks)
        raw = config.make([diff_id], run, architecture=architecture, variant=variant, comment=comment)
        id = await store.add(raw, [layer], [name] if name else [])
    await tell(job, "import", id, name.familiar if name else "")
    return id


async def _fetch(url: str, job: Job[Import]) -> AsyncIterator[bytes]:
    """The body at `url`. Raises BadParameter for another scheme, Unavailable when it cannot be had."""
    import httpx  # 128 ms that only this needs

    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise BadParameter(f"cannot import from {url}: only http and https are supported", key="fromSrc")
    job.emit(Progress(f"Downloading from {address}"))
    try:
        async with (
            httpx.AsyncClient(follow_redirects=True, timeout=60) as client,
            client.stream("GET", address) as answer,
        ):
            if answer.status_code >= 400:
                raise Unavailable(f"cannot import from {url}: HTTP status {answer.status_code}")
            async for chunk in answer.aiter_bytes(CHUNK):
                yield chunk
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unavailable(f"cannot import from {url}: {exc}") from exc


def new_name(repo: str, tag: str) -> Reference | None:
    """What a new image is to be called, None for nothing. Raises BadParameter."""
    if not repo:
        return None
    try:
        name = reference.parse(f"{repo}:{tag}" if tag else repo)
    except InvalidReference as exc:
        raise BadParameter(str(exc), key="repo") from None
    if name.digest:
        raise BadParameter("cannot import digest reference", key="repo")
    return name.tagged()
