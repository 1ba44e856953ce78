"""The API's own jobs: `serveapi` and `acceptconnections`. The env is spelled as Docker 1.3 has it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from windlass.engine.signature import Signature


class ServeApi(Signature[None], frozen=True):
    """Serve the API on every host given, until it is stopped; `ready` carries the addresses.

    The sockets are bound before it is ready; requests wait until `acceptconnections` ran.
    """

    NAME: ClassVar[str] = "serveapi"
    LOCAL: ClassVar[bool] = True
    REST: ClassVar[str] = "hosts"
    hosts: Annotated[list[str], Meta(description="unix://PATH, tcp://HOST:PORT, fd:// or fd://N.")]
    Logging: Annotated[bool, Meta(description="Log every request.")] = False
    EnableCors: Annotated[bool, Meta(description="Let web pages of every origin in.")] = False
    CorsHeaders: Annotated[str, Meta(description="The origin of the web pages to let in.")] = ""
    Version: Annotated[str, Meta(description="The program's version, for the Server header.")] = ""
    SocketGroup: Annotated[str, Meta(description="The group, by name or number, that may use unix sockets.")] = ""
    Tls: Annotated[bool, Meta(description="Speak TLS on TCP.")] = False
    TlsVerify: Annotated[bool, Meta(description="Ask clients for a certificate of TlsCa's. Implies Tls.")] = False
    TlsCa: Annotated[str, Meta(description="File of the authorities that sign clients' certificates.")] = ""
    TlsCert: Annotated[str, Meta(description="File of our certificate, with its chain.")] = ""
    TlsKey: Annotated[str, Meta(description="File of our key.")] = ""
    BufferRequests: Annotated[bool, Meta(description="Let requests wait for acceptconnections.")] = False
    AllowPlainTcp: Annotated[bool, Meta(description="Listen on TCP without TLS: everybody there is root here.")] = False


class AcceptConnections(Signature[None], frozen=True):
    """Let the requests in that wait since `serveapi`; with `error`, tell them why the engine does not come up."""

    NAME: ClassVar[str] = "acceptconnections"
    LOCAL: ClassVar[bool] = True
    error: Annotated[str, Meta(description="Why start-up failed; empty when it did not.")] = ""
