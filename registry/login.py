"""Jobs `auth` and `registry_login`: are these credentials good?"""

from __future__ import annotations

from windlass.engine import Job
from windlass.engine.errors import Denied, JobError, Unauthorized
from windlass.jobs.registry import Auth, AuthResult, Credentials, RegistryLogin

from .credentials import Sent, for_host, host_of
from .errors import RegistryError, Unreachable
from .resolve import origins
from .session import Session
from .settings import Settings


async def auth(job: Job[Auth]) -> AuthResult:
    """Check credentials, as `docker login` does."""
    params = job.params
    host = host_of(params.serveraddress)
    sent = Sent(params.username, params.password, params.auth, "", params.identitytoken, params.registrytoken)
    found = for_host(sent, host) or Credentials()
    login = RegistryLogin(
        host=host, username=found.username, password=found.password, identitytoken=found.identitytoken
    )
    return AuthResult("Login Succeeded", await job.engine.call(login))


async def registry_login(settings: Settings, job: Job[RegistryLogin]) -> str:
    """Log in to one registry."""
    params = job.params
    credentials = Credentials(params.username, params.password, params.identitytoken)
    endpoints = await origins(settings, params.host, credentials=credentials)
    for endpoint in endpoints:
        async with Session(settings, endpoint, wants_refresh_token=True) as session:
            try:
                await (await session.send("GET", "/v2/")).aclose()
            except Unreachable:
                if session.was_reached or endpoint is endpoints[-1]:
                    raise
            except (RegistryError, Denied) as exc:
                raise _refused(endpoint.url, exc) from exc
            else:
                return session.refresh_token
    raise AssertionError("there is always an endpoint")


def _refused(url: str, error: JobError) -> JobError:
    if isinstance(error, RegistryError) and error.status == 401:
        return Unauthorized(f"login attempt to {url}/v2/ failed with status: 401 Unauthorized")
    if isinstance(error, RegistryError) and error.status != 403:
        return error
    return Unauthorized(f'Get "{url}/v2/": {error}')
