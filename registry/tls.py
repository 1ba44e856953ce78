"""TLS as the host wants it: the system's CAs, and what lies in certs.d/HOST[:PORT]/.

    *.crt            CAs that are trusted for this host besides
    NAME.cert, NAME.key  a certificate of ours for it

Source: https://docs.docker.com/engine/security/certificates/.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from windlass.engine.errors import BadParameter


def context(folder: Path, host: str, verify: bool) -> ssl.SSLContext:
    """The context for HOST[:PORT]. Blocks. Raises BadParameter for files that are no certificates or lack a key."""
    found = ssl.create_default_context()
    if not verify:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    for path in _files(folder, host):
        try:
            if path.suffix == ".crt":
                found.load_verify_locations(path)
            elif path.suffix == ".cert":
                _load_pair(found, path)
            elif path.suffix == ".key" and not path.with_suffix(".cert").exists():
                raise BadParameter(f"missing client certificate {path.stem}.cert for key {path.name}")
        except (ssl.SSLError, OSError) as exc:
            raise BadParameter(f"{path} cannot be used: {exc}") from None
    return found


def _files(folder: Path, host: str) -> list[Path]:
    if "/" in host or host in ("", ".", ".."):
        return []
    try:
        return sorted((folder / host).iterdir())
    except OSError:  # most hosts have none
        return []


def _load_pair(found: ssl.SSLContext, path: Path) -> None:
    key = path.with_suffix(".key")
    if not key.exists():
        raise BadParameter(
            f"missing key {key.name} for client certificate {path.name}. CA certificates must use the extension .crt"
        )
    found.load_cert_chain(path, key)
