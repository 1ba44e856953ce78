"""Job `distribution_inspect`: what a registry tells of an image, without pulling it."""

from __future__ import annotations

from typing import Any

from windlass.engine import Job
from windlass.engine.params import parse_json
from windlass.jobs.registry import Distribution, DistributionInspect

from . import errors, manifest, names
from .errors import BadImage, RegistryError
from .fetch import Source, opened, resolve
from .settings import Settings

PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


async def distribution_inspect(settings: Settings, job: Job[DistributionInspect]) -> Distribution:
    """Tell an image's digest and platforms, as its registry has them."""
    params = job.params
    ref = names.parse(params.name).tagged()
    endpoints = await resolve(job, ref, params.auth)
    async with opened(settings, endpoints, ref.familiar) as source:
        try:
            document, value = await source.document(ref.digest or ref.tag)
            platforms = _of_index(value) if manifest.is_index(value) else [await _of_image(source, value)]
        except RegistryError as exc:
            raise errors.of_pull(exc, ref) from exc
    descriptor = {"mediaType": document.media_type, "digest": document.digest, "size": len(document.content)}
    return Distribution(descriptor, platforms)


def _of_index(value: dict[str, Any]) -> list[dict[str, Any]]:
    items = value["manifests"]
    if not isinstance(items, list):
        raise BadImage("invalid manifest: an index's manifests are no list")
    return [
        _shown(item["platform"]) for item in items if isinstance(item, dict) and isinstance(item.get("platform"), dict)
    ]


async def _of_image(source: Source, value: dict[str, Any]) -> dict[str, Any]:
    config = parse_json(await source.blob(manifest.config_of(value)), "an image's configuration")
    if not isinstance(config, dict):
        raise BadImage("invalid image: its configuration is no JSON object")
    return _shown(config)


def _shown(platform: dict[str, Any]) -> dict[str, Any]:
    return {key: platform[key] for key in PLATFORM if platform.get(key)}
