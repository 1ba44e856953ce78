"""Job `tag`: one more name for an image."""

from __future__ import annotations

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.images import Tag
from windlass.lib import reference

from .events import tell
from .lists import parsed
from .store import Store


async def tag(store: Store, job: Job[Tag]) -> None:
    """Give an image one more name."""
    params = job.params
    image = await store.find(params.name)
    if params.tag and not reference.is_tag(params.tag):
        raise BadParameter(f"invalid tag format: {params.tag!r:.200}", key="tag")
    name = parsed(f"{params.repo}:{params.tag}" if params.tag else params.repo)
    if name.digest:
        raise BadParameter("refusing to create a tag with a digest reference", key="repo")
    if name.familiar_name == "sha256":
        raise BadParameter("refusing to create an ambiguous tag using digest algorithm as name", key="repo")
    await store.set_tag(image.id, name)
    await tell(job, "tag", image.id, name.familiar)
