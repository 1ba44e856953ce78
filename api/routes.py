"""The table of all routes: the Docker API's 1.51, what is left of older ones, and our own under /engine/v1.

A row whose job nobody has registered answers 501; so the table has every job's row, built or not.
"""

from __future__ import annotations

from . import wire
from .route import Route

NO_SWARM = (
    503,
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again.",
)
NO_PLUGINS = (501, "plugins in containers are not supported: a plugin here is a Python module, see `windlass plugins`")
NO_BUILDKIT = (
    404,
    "BuildKit is not part of this engine: set DOCKER_BUILDKIT=0 to build with the classic builder, or use buildx "
    "with its docker-container driver",
)
NO_CHECKPOINTS = (404, "checkpoints are not supported")
TAR = "application/x-tar"
STREAMS = ("stdin", "stdout", "stderr", "stream", "logs", "detachKeys")
AUTH = ("X-Registry-Auth=auth",)
BUILD = (
    "dockerfile", "t", "extrahosts", "remote", "q", "nocache", "cachefrom", "pull", "rm", "forcerm", "memory",
    "memswap", "cpushares", "cpusetcpus", "cpuperiod", "cpuquota", "buildargs", "shmsize", "squash", "labels",
    "networkmode", "platform", "target", "outputs", "version",
)  # fmt: skip

SYSTEM = (
    Route("GET", "/version", "version"),
    Route("GET", "/info", "info"),
    Route("GET", "/events", "events", query=("since", "until", "filters"), kind="raw", cancel=True, live=True),
    Route("GET", "/system/df", "system_df", query=("type",), render=wire.disk_usage),
    Route("POST", "/auth", "auth", body="json"),
)

CONTAINERS = (
    Route(
        "GET", "/containers/json", "containers", query=("all", "limit", "size", "since", "before", "filters")
    ),
    Route("GET", "/containers/ps", "containers", query=("all", "limit", "size", "since", "before", "filters")),
    Route("POST", "/containers/create", "create", query=("name", "platform"), body="json", ok=201),
    Route("POST", "/containers/prune", "containers_prune", query=("filters",)),
    Route("GET", "/containers/{name}/json", "container_inspect", query=("size",)),
    Route("GET", "/containers/{name}/top", "top", query=("ps_args",)),
    Route(
        "GET", "/containers/{name}/logs", "logs",
        query=("follow", "stdout", "stderr", "since", "until", "timestamps", "tail", "details"),
        fixed=(("frames", True),), kind="raw", content_type=wire.STREAM, cancel=True, live=True,
    ),
    Route("GET", "/containers/{name}/changes", "container_changes"),
    Route("GET", "/containers/{name}/export", "export", kind="raw", content_type=TAR, cancel=True),
    Route(
        "GET", "/containers/{name}/stats", "stats", query=("stream", "one-shot=one_shot"), kind="raw",
        cancel=True, live=True,
    ),
    Route("POST", "/containers/{name}/resize", "resize", query=("h", "w")),
    Route("POST", "/containers/{name}/start", "start", query=("detachKeys",), ok=204),
    Route("POST", "/containers/{name}/stop", "stop", query=("t", "signal"), ok=204),
    Route("POST", "/containers/{name}/restart", "restart", query=("t", "signal"), ok=204),
    Route("POST", "/containers/{name}/kill", "kill", query=("signal",), ok=204),
    Route("POST", "/containers/{name}/update", "container_update", body="json"),
    Route("POST", "/containers/{name}/rename", "container_rename", query=("name=new_name",), ok=204),
    Route("POST", "/containers/{name}/pause", "pause", ok=204),
    Route("POST", "/containers/{name}/unpause", "unpause", ok=204),
    Route("POST", "/containers/{name}/attach", "attach", query=STREAMS, kind="hijack", cancel=True, live=True),
    Route("GET", "/containers/{name}/attach/ws", refuse=(501, "attach over a WebSocket is not built yet")),
    Route(
        "POST", "/containers/{name}/wait", "wait", query=("condition",), early=True, cancel=True, live=True
    ),
    Route("DELETE", "/containers/{name}", "delete", query=("v", "force", "link"), ok=204),
    Route("HEAD", "/containers/{name}/archive", "container_archive_stat", query=("path",), headers_of=wire.path_stat),
    Route("GET", "/containers/{name}/archive", "container_archive", query=("path",), kind="raw", content_type=TAR,
          cancel=True, headers_of=wire.path_stat),
    Route("PUT", "/containers/{name}/archive", "container_extract",
          query=("path", "noOverwriteDirNonDir", "copyUIDGID"), body="stdin"),
    Route("POST", "/containers/{name}/copy", "container_copy", body="json", kind="raw", content_type=TAR, cancel=True),
    Route("GET", "/containers/{name}/checkpoints", refuse=NO_CHECKPOINTS),
    Route("POST", "/containers/{name}/checkpoints", refuse=NO_CHECKPOINTS),
    Route("DELETE", "/containers/{name}/checkpoints/{checkpoint}", refuse=NO_CHECKPOINTS),
    Route("POST", "/commit", "commit", query=("container", "repo", "tag", "comment", "author", "pause", "changes"),
          body="json:config", ok=201),
)  # fmt: skip

EXECS = (
    Route("POST", "/containers/{name}/exec", "execCreate", body="json", ok=201),
    Route("POST", "/exec/{name}/start", "execStart", body="json", kind="hijack", unless="Detach", live=True),
    Route("POST", "/exec/{name}/resize", "execResize", query=("h", "w")),
    Route("GET", "/exec/{name}/json", "exec_inspect"),
)

IMAGES = (
    Route("GET", "/images/json", "images", render=wire.images,
          query=("all", "filters", "filter", "shared-size=shared_size", "digests", "manifests")),
    Route("POST", "/images/create", "import", when="fromSrc", body="stdin", kind="progress", cancel=True,
          query=("fromSrc", "repo", "tag", "message", "changes", "platform"), render=wire.status),
    Route("POST", "/images/create", "pull", query=("fromImage", "tag", "platform"), headers=AUTH, kind="progress",
          cancel=True),
    Route("POST", "/images/load", "load", query=("quiet", "platform"), body="stdin", kind="progress", cancel=True),
    Route("GET", "/images/get", "image_export", query=("names", "platform"), kind="raw", content_type=TAR,
          cancel=True),
    Route("GET", "/images/search", "search", query=("term", "limit", "filters"), headers=AUTH, cancel=True),
    Route("POST", "/images/prune", "images_prune", query=("filters",)),
    Route("GET", "/images/{name*}/json", "image_inspect", query=("manifests", "platform"), render=wire.image),
    Route("GET", "/images/{name*}/history", "history", query=("platform",)),
    Route("GET", "/images/{name*}/get", "image_export", query=("platform",), kind="raw", content_type=TAR,
          cancel=True),
    Route("POST", "/images/{name*}/push", "push", query=("tag", "platform"), headers=AUTH, kind="progress",
          cancel=True),
    Route("POST", "/images/{name*}/tag", "tag", query=("repo", "tag", "force"), ok=201),
    Route("DELETE", "/images/{name*}", "image_delete", query=("force", "noprune", "platforms")),
    Route("GET", "/distribution/{name*}/json", "distribution_inspect", headers=AUTH),
    Route("POST", "/build", "build", query=BUILD, headers=("X-Registry-Config=auths",), body="stdin",
          kind="progress", cancel=True),
    Route("POST", "/build/prune", "build_prune",
          query=("keep-storage", "reserved-space", "max-used-space", "min-free-space", "all", "filters")),
    Route("POST", "/build/cancel", "build_cancel", query=("id",), ok=204),
    Route("POST", "/session", refuse=NO_BUILDKIT),
    Route("POST", "/grpc", refuse=NO_BUILDKIT),
)  # fmt: skip

VOLUMES = (
    Route("GET", "/volumes", "volumes", query=("filters",)),
    Route("POST", "/volumes/create", "volume_create", body="json", ok=201),
    Route("POST", "/volumes/prune", "volume_prune", query=("filters",), older=(((1, 42), "all", True),)),
    Route("GET", "/volumes/{name}", "volume_inspect"),
    Route("PUT", "/volumes/{name}", refuse=NO_SWARM),
    Route("DELETE", "/volumes/{name}", "volume_delete", query=("force",), ok=204),
)

NETWORKS = (
    Route("GET", "/networks", "networks", query=("filters",)),
    Route("POST", "/networks/create", "network_create", body="json", ok=201),
    Route("POST", "/networks/prune", "networks_prune", query=("filters",)),
    Route("GET", "/networks/{name}", "network_inspect", query=("verbose", "scope")),
    Route("DELETE", "/networks/{name}", "network_delete", ok=204),
    Route("POST", "/networks/{name}/connect", "network_connect", body="json"),
    Route("POST", "/networks/{name}/disconnect", "network_disconnect", body="json"),
)

PLUGINS = (
    Route("GET", "/plugins", answer=[]),
    *(
        Route(method, path, refuse=NO_PLUGINS)
        for method, path in (
            ("GET", "/plugins/privileges"), ("POST", "/plugins/pull"), ("POST", "/plugins/create"),
            ("GET", "/plugins/{name*}/json"), ("DELETE", "/plugins/{name*}"), ("POST", "/plugins/{name*}/enable"),
            ("POST", "/plugins/{name*}/disable"), ("POST", "/plugins/{name*}/upgrade"),
            ("POST", "/plugins/{name*}/push"), ("POST", "/plugins/{name*}/set"),
        )
    ),
)  # fmt: skip

SWARM = tuple(
    Route(method, path, refuse=NO_SWARM)
    for methods, path in (
        ("GET", "/swarm"), ("POST", "/swarm/init"), ("POST", "/swarm/join"), ("POST", "/swarm/leave"),
        ("POST", "/swarm/update"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/unlock"),
        ("GET", "/nodes"), ("GET DELETE", "/nodes/{name}"), ("POST", "/nodes/{name}/update"),
        ("GET", "/services"), ("POST", "/services/create"), ("GET DELETE", "/services/{name}"),
        ("POST", "/services/{name}/update"), ("GET", "/services/{name}/logs"),
        ("GET", "/tasks"), ("GET", "/tasks/{name}"), ("GET", "/tasks/{name}/logs"),
        ("GET", "/secrets"), ("POST", "/secrets/create"), ("GET DELETE", "/secrets/{name}"),
        ("POST", "/secrets/{name}/update"),
        ("GET", "/configs"), ("POST", "/configs/create"), ("GET DELETE", "/configs/{name}"),
        ("POST", "/configs/{name}/update"),
    )
    for method in methods.split()
)  # fmt: skip

OWN = (
    Route("GET", "/engine/v1/commands", "commands"),
    Route("GET", "/engine/v1/jobs", "jobs"),
    Route("GET", "/engine/v1/describe/{name}", "describe"),
    Route("DELETE", "/engine/v1/jobs/{id}", "cancel", ok=204),
    Route("POST", "/engine/v1/jobs/{name}", "job", kind="own", cancel=True),
    Route("GET", "/engine/v1/openapi.json", "openapi", kind="own"),
)

ROUTES: tuple[Route, ...] = SYSTEM + CONTAINERS + EXECS + IMAGES + VOLUMES + NETWORKS + PLUGINS + SWARM + OWN
