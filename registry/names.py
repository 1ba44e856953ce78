"""References as clients give them: a name, and apart from it a tag or a digest."""

from __future__ import annotations

from windlass.engine.errors import BadParameter
from windlass.lib import reference
from windlass.lib.reference import InvalidReference, Reference


def parse(name: str, tag: str = "", key: str = "name") -> Reference:
    """The reference `name`, with the tag or digest `tag` instead of its own if there is one. Raises BadParameter."""
    try:
        ref = reference.parse(name)
    except InvalidReference as exc:
        raise BadParameter(str(exc), key=key) from None
    if not tag:
        return ref
    if reference.is_digest(tag):
        return Reference(ref.domain, ref.path, "", tag)
    if not reference.is_tag(tag):
        raise BadParameter("invalid tag format" if ":" not in tag else "invalid reference format", key="tag")
    return Reference(ref.domain, ref.path, tag)


def canonical(ref: Reference) -> str:
    """The reference in full: docker.io/library/busybox:latest."""
    return ref.repository + (f":{ref.tag}" if ref.tag else "") + (f"@{ref.digest}" if ref.digest else "")
