"""Requests to one endpoint: with its credentials there, without them where it redirects.

    Session(settings, endpoint, scope)  ─▶ send(method, path) ─▶ a response whose body is still to be read

What holds for every request:
  - The endpoint's addresses, where it has some, are connected to and no others.
  - Authorization goes to the endpoint's scheme, host and port only; a password also to the authorization server that
    it names, unless that would be in plain text.
  - At most REDIRECTS redirects, to http and https only, and never from https to http.
  - A peer that says nothing for STALL seconds is given up.
"""

from __future__ import annotations

import errno
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import trio

from windlass.engine.errors import Denied, JobError
from windlass.jobs.registry import Credentials, Endpoint
from windlass.lib.version import VERSION

from . import auth, proxies, tls
from .errors import RegistryError, Unreachable, refusal
from .settings import Settings

if TYPE_CHECKING:
    import httpx

STALL = 30.0  # seconds
CONNECT = 10.0
REDIRECTS = 10
ERROR_MAX = 64 << 10  # bytes of an error that are looked at
TOKEN_MAX = 256 << 10
REDIRECT = frozenset({301, 302, 303, 307, 308})

Content = Callable[[], AsyncIterator[bytes]]


class Session:
    """Connections to an endpoint and what it redirects to; use it in `async with`. `scopes` are what tokens are for."""

    def __init__(self, settings: Settings, endpoint: Endpoint, *scopes: str, wants_refresh_token: bool = False) -> None:
        self.endpoint = endpoint
        self.scopes = list(scopes)
        self.was_reached = False
        self.refresh_token = ""
        self._wants_refresh_token = wants_refresh_token
        self._settings = settings
        self._origin = _origin(endpoint.url)
        self._addresses = list(endpoint.addresses)
        self._clients: dict[tuple[str, str | None], httpx.AsyncClient] = {}
        self._authorization = ""
        self._logging_in = trio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Session:
        await trio.to_thread.run_sync(_import_httpx)
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await self._stack.__aexit__(None, None, None)

    # -- requests ------------------------------------------------------------------------------------------------

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: Content | bytes | None = None
    ) -> httpx.Response:
        """Send a request to `path`, or to a URL that the registry gave; return the answer, to be read and closed.

        Raises RegistryError for a refusal, Unreachable when nobody answers, Denied for what it must not follow.
        """
        url = urljoin(f"{self.endpoint.url}/", path)
        refused = False
        for _ in range(REDIRECTS + 1):
            used = self._authorization if _origin(url) == self._origin else ""
            response = await self._once(method, url, {**(headers or {}), **_if("Authorization", used)}, content)
            if response.status_code in REDIRECT and "location" in response.headers:
                await response.aclose()
                url = redirected(url, response.headers["location"])
                if response.status_code == 303 and method != "HEAD":
                    method, content = "GET", None
            elif response.status_code == 401 and _origin(url) == self._origin and not refused:
                refused = True
                body = await _close(response)
                await self._authorize(response, used, refusal(401, body, f'{method.title()} "{url}"'))
            elif response.status_code >= 400:
                raise self._refused(method, url, response, await _close(response))
            else:
                return response
        raise Denied(f'{method.title()} "{path}": stopped after {REDIRECTS} redirects')

    async def read(
        self, method: str, path: str, limit: int, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, bytes]:
        """Send a request and read the answer, which may have `limit` bytes: its headers and its body."""
        response = await self.send(method, path, headers)
        return response.headers, await body_of(response, limit)

    def _refused(self, method: str, url: str, response: httpx.Response, body: bytes) -> RegistryError:
        error = refusal(response.status_code, body, f'{method.title()} "{url}"')
        error.retry_after = response.headers.get("retry-after", "")
        return error

    async def _once(
        self, method: str, url: str, headers: dict[str, str], content: Content | bytes | None
    ) -> httpx.Response:
        """One request to one URL, whatever the answer; tried on each address until one takes the connection."""
        addresses = self._addresses if _origin(url) == self._origin and self._addresses else [""]
        for address in addresses:
            try:
                response = await self._try(method, url, address, headers, content)
            except Unreachable as exc:
                if not exc.never_connected or address == addresses[-1]:
                    raise
            else:
                if address:
                    self._addresses = [address]
                if _origin(url) == self._origin:
                    self.was_reached = True
                return response
        raise AssertionError("there is always an address")

    async def _try(
        self, method: str, url: str, address: str, headers: dict[str, str], content: Content | bytes | None
    ) -> httpx.Response:
        import httpx

        parts = urlsplit(url)
        target, extensions = url, {}
        if address:
            host = f"[{address}]" if ":" in address else address
            target = parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()
            extensions = {"sni_hostname": parts.hostname}
        try:
            client = await self._client(parts.scheme, parts.netloc)
            body = content() if callable(content) else content
            request = client.build_request(
                method, target, headers={"Host": parts.netloc, **headers}, content=body, extensions=extensions
            )
            return await client.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL, ValueError) as exc:
            never = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
            why = f"dial tcp {urlsplit(target).netloc}: connect: {reason(exc)}" if never else reason(exc)
            raise Unreachable(f'{method.title()} "{url}": {why}', never_connected=never) from exc

    async def _client(self, scheme: str, netloc: str) -> httpx.AsyncClient:
        import httpx

        proxy = proxies.find(f"{scheme}://{netloc}")
        key = (netloc if scheme == "https" else "", proxy)
        if key not in self._clients:
            verify: ssl.SSLContext | bool = False
            if scheme == "https":
                checked = self.endpoint.verify or f"{scheme}://{netloc}" != self.endpoint.url
                verify = await trio.to_thread.run_sync(tls.context, self._settings.certificates, netloc, checked)
            client = httpx.AsyncClient(
                verify=verify,
                proxy=proxy,
                trust_env=False,
                timeout=httpx.Timeout(STALL, connect=CONNECT, pool=None),
                headers={"User-Agent": f"windlass/{VERSION}", "Accept-Encoding": "identity"},
            )
            self._clients.setdefault(key, await self._stack.enter_async_context(client))
        return self._clients[key]

    # -- authorization -------------------------------------------------------------------------------------------

    async def _authorize(self, response: httpx.Response, used: str, error: RegistryError) -> None:
        """Find what the registry takes for an Authorization. Raises `error`, or Denied, when there is nothing."""
        async with self._logging_in:
            if self._authorization != used:  # somebody else was here meanwhile
                return
            credentials = self.endpoint.credentials
            for challenge in auth.challenges(response.headers.get_list("www-authenticate")):
                if challenge.scheme == "bearer":
                    self._authorization = await self._bearer(challenge, credentials)
                    return
                if credentials is not None and credentials.username and not used:
                    self._authorization = auth.basic(credentials)
                    return
                if credentials is None or not credentials.username:
                    raise Denied(
                        f'{response.request.method.title()} "{self.endpoint.url}/v2/": no basic auth credentials'
                    )
            raise error

    async def _bearer(self, challenge: auth.Challenge, credentials: Credentials | None) -> str:
        if credentials is not None and credentials.registrytoken:
            return f"Bearer {credentials.registrytoken}"
        realm = urljoin(self.endpoint.url, challenge.parameters.get("realm", ""))
        if urlsplit(realm).scheme not in ("https", urlsplit(self.endpoint.url).scheme):
            raise Denied(f"refusing to ask for a token at {realm:.200}: it is no https URL")
        token = await self._ask_for_token(realm, challenge.parameters.get("service", ""), credentials)
        self.refresh_token = token.refresh_token or self.refresh_token
        return f"Bearer {token.token or token.access_token}"

    async def _ask_for_token(self, realm: str, service: str, credentials: Credentials | None) -> auth.Token:
        pairs = [("service", service), *(("scope", scope) for scope in self.scopes)]
        if credentials is not None and credentials.identitytoken:
            form = {
                "grant_type": "refresh_token", "refresh_token": credentials.identitytoken, "client_id": auth.CLIENT,
                "service": service, "scope": " ".join(self.scopes),
            }  # fmt: skip
            body = urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = await self._once("POST", realm, headers, body)
        else:
            headers = {}
            if credentials is not None and credentials.username:
                pairs += [("account", credentials.username), ("client_id", auth.CLIENT)]
                pairs += [("offline_token", "true")] if self._wants_refresh_token else []
                headers = {"Authorization": auth.basic(credentials)}
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(pairs)}"
            response = await self._once("GET", url, headers, None)
        if response.status_code != 200:
            refused = self._refused("GET", realm, response, await _close(response))
            raise Denied(str(refused)) if response.status_code in (401, 403) else refused
        return auth.parse_token(await body_of(response, TOKEN_MAX), realm)


async def body_of(response: httpx.Response, limit: int) -> bytes:
    """The body of an answer. Raises JobError when it has more than `limit` bytes, Unreachable when it is cut."""
    import httpx

    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > limit:
                raise JobError(f'{response.request.method.title()} "{_shown(response)}": more than {limit} bytes')
    except httpx.TransportError as exc:
        raise Unreachable(f'{response.request.method.title()} "{_shown(response)}": {reason(exc)}') from exc
    finally:
        with trio.CancelScope(shield=True):
            await response.aclose()
    return bytes(data)


async def _close(response: httpx.Response) -> bytes:
    """What a refusal says, as far as it is of interest."""
    try:
        return await body_of(response, ERROR_MAX)
    except JobError:
        return b""


def reason(exc: BaseException) -> str:
    """Why a connection failed, in the system's words rather than the library's."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, BaseExceptionGroup):
            seen = seen.exceptions[0]
            continue
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"tls: failed to verify certificate: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return f"tls: {(seen.reason or str(seen)).lower().replace('_', ' ')}"
        if isinstance(seen, OSError) and seen.errno and seen.errno in errno.errorcode:
            return os.strerror(seen.errno).lower()
        if isinstance(seen, OSError) and seen.strerror:  # the resolver's
            return seen.strerror.lower()
        seen = seen.__cause__ or seen.__context__
    name = type(exc).__name__
    if name.endswith("Timeout"):
        return "timed out: the server said nothing" if name != "ConnectTimeout" else "connection timed out"
    return str(exc) or name


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises Denied for what is not to be followed."""
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise Denied(f"refusing a redirect from {_origin(url)} to {target:.200}: neither http nor https")
    if scheme == "http" and urlsplit(url).scheme == "https":
        raise Denied(f"refusing a redirect from {_origin(url)} to {target:.200}: from https to http")
    return target


def _origin(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port or default}"


def _shown(response: httpx.Response) -> str:
    return str(response.request.url.copy_with(query=None))


def _if(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}


def _import_httpx() -> None:
    """Import the library, which takes 130 ms, and keep it from telling the log of addresses that are secrets."""
    import_module("httpx")
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
