"""TLS for TCP listeners: 1.2 and later; with verification, clients of our own authority only."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from windlass.engine.errors import BadParameter


def context(cert: str, key: str, ca: str, *, verify: bool) -> ssl.SSLContext:
    """A server's context. Raises BadParameter, naming the file, when one is missing or not what it should be."""
    wanted = {"TlsCert": cert, "TlsKey": key} | ({"TlsCa": ca} if verify else {})
    for name, path in wanted.items():
        if not path:
            raise BadParameter(f"TLS needs {name}", key=name)
        try:
            Path(path).read_bytes()
        except OSError as exc:
            raise BadParameter(f"{name} {path}: {exc.strerror}", key=name) from None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    _load(lambda: made.load_cert_chain(cert, key, password=_no_password), "TlsCert and TlsKey", f"{cert}, {key}")
    if verify:
        _load(lambda: made.load_verify_locations(cafile=ca), "TlsCa", ca)  # and no authority of the system's
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def _no_password() -> str:
    """Called for an encrypted key, where OpenSSL would else ask at the terminal."""
    raise BadParameter("the TLS key is encrypted: store it in clear, readable by root alone", key="TlsKey")


def _load(load: Callable[[], None], name: str, path: str) -> None:
    try:
        load()
    except ssl.SSLError as exc:
        raise BadParameter(f"{name} {path}: {exc.reason or exc}", key=name) from None


def common_name(stream: trio.SSLStream[Any]) -> str:
    """The common name in a client's certificate, "" without one."""
    certificate: dict[str, Any] = stream.getpeercert() or {}
    names = (value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName")
    return next(names, "")
