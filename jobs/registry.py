"""The registry family: resolve_image, pull, push, auth, registry_login, search, distribution_inspect.

`auth` is what clients send as X-Registry-Auth: base64url of a JSON object with `username` and `password`, an
`identitytoken` or a `registrytoken`; empty for none.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

AuthText = Annotated[str, Meta(description="Credentials: base64url of JSON; empty: none.")]
SECRET = frozenset({"auth", "password", "identitytoken", "registrytoken"})


class Credentials(msgspec.Struct, frozen=True):
    """Who we are to one registry: a user and a password, or a token."""

    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        return f"<Credentials of {self.username or 'a token'}>"


class Endpoint(msgspec.Struct, frozen=True):
    """One place to look for an image. Credentials go to this scheme, host and port, and nowhere else.

    With `addresses` only these are connected to, whatever the name means by then.
    """

    url: Annotated[str, Meta(description="Scheme, host and port: https://registry.example.com:5000")]
    repository: Annotated[str, Meta(description="The image's name there, without a tag.")]
    addresses: list[str] = []
    verify: Annotated[bool, Meta(description="Check the certificate.")] = True
    credentials: Credentials | None = None
    is_mirror: bool = False


class Resolution(msgspec.Struct, frozen=True):
    """Where an image is to be had, in the order in which to try, and what for."""

    endpoints: list[Endpoint]
    platform: Annotated[str, Meta(description="OS[/ARCH[/VARIANT]]; empty: the host's.")] = ""


class ResolveImage(Signature[Resolution], frozen=True):
    """Tell where an image is to be had: mirrors first, then the registry that its name says.

    Replace or wrap it to send names elsewhere. It is asked for every pull, push and look-up.
    """

    NAME: ClassVar[str] = "resolve_image"
    LOCAL: ClassVar[bool] = True
    READONLY: ClassVar[bool] = True
    SECRET: ClassVar[frozenset[str]] = SECRET
    name: Annotated[str, Meta(description="Canonical reference: docker.io/library/busybox:latest")]
    auth: AuthText = ""
    platform: str = ""
    push: Annotated[bool, Meta(description="To write: mirrors are left out.")] = False


class Pull(Signature[None], frozen=True):
    """Pull an image, or with neither tag nor digest all tags of a repository."""

    NAME: ClassVar[str] = "pull"
    SECRET: ClassVar[frozenset[str]] = SECRET
    fromImage: Annotated[str, Meta(description="Reference.")]
    tag: Annotated[str, Meta(description="Tag or digest; stronger than the reference's.")] = ""
    platform: Annotated[str, Meta(description="OS[/ARCH[/VARIANT]]; empty: the host's.")] = ""
    auth: AuthText = ""


class Push(Signature[None], frozen=True):
    """Push an image under the name that it has here; without a tag all of the repository's."""

    NAME: ClassVar[str] = "push"
    SECRET: ClassVar[frozenset[str]] = SECRET
    name: Annotated[str, Meta(description="Repository; a tag in it is ignored by clients' wish.")]
    tag: Annotated[str, Meta(description="Tag; empty: all tags.")] = ""
    platform: Annotated[str, Meta(description="JSON of an OCI platform that the image must have.")] = ""
    auth: AuthText = ""


class AuthResult(msgspec.Struct, frozen=True):
    """The answer to a login."""

    Status: str
    IdentityToken: str = ""


class Auth(Signature[AuthResult], frozen=True):
    """Check credentials, as `docker login` does. Raises Unauthorized."""

    NAME: ClassVar[str] = "auth"
    SECRET: ClassVar[frozenset[str]] = SECRET
    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    serveraddress: Annotated[str, Meta(description="Host or URL; empty: Docker Hub.")] = ""
    identitytoken: str = ""
    registrytoken: str = ""


class RegistryLogin(Signature[str], frozen=True):
    """Log in to one registry; give its identity token, empty where it has none. Raises Unauthorized."""

    NAME: ClassVar[str] = "registry_login"
    LOCAL: ClassVar[bool] = True
    SECRET: ClassVar[frozenset[str]] = SECRET
    host: Annotated[str, Meta(description="HOST[:PORT]")]
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class SearchResult(msgspec.Struct, frozen=True):
    """One repository that a search found."""

    name: str = ""
    description: str = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class Search(Signature[list[SearchResult]], frozen=True):
    """Search a registry for images: `term`, or `HOST/term`."""

    NAME: ClassVar[str] = "search"
    READONLY: ClassVar[bool] = True
    SECRET: ClassVar[frozenset[str]] = SECRET
    term: str
    limit: Annotated[int, Meta(description="1 to 100; 0: 25.")] = 0
    filters: dict[str, list[str] | dict[str, bool]] = {}
    auth: AuthText = ""


class Distribution(msgspec.Struct, frozen=True):
    """What a registry tells of an image (Docker API: DistributionInspect)."""

    Descriptor: dict[str, Any]
    Platforms: list[dict[str, Any]]


class DistributionInspect(Signature[Distribution], frozen=True):
    """Tell an image's digest and platforms, as its registry has them."""

    NAME: ClassVar[str] = "distribution_inspect"
    READONLY: ClassVar[bool] = True
    SECRET: ClassVar[frozenset[str]] = SECRET
    name: Annotated[str, Meta(description="Reference.")]
    auth: AuthText = ""
