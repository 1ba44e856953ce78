"""Detach keys, as the Docker API says them: `ctrl-p,ctrl-q`, `ctrl-e,x`."""

from __future__ import annotations

from windlass.engine.errors import BadParameter

DEFAULT = b"\x10\x11"
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_keys(text: str) -> bytes:
    """Return the bytes that the keys send; the default for an empty text. Raises BadParameter."""
    return b"".join(_parse_key(key, text) for key in text.split(",")) if text else DEFAULT


def _parse_key(key: str, text: str) -> bytes:
    if len(key) == 1 and key.isascii():
        return key.encode()
    control = key.lower().removeprefix("ctrl-")
    if len(control) == 1 and len(key) == 6 and control in _CONTROL:
        return bytes([_CONTROL.index(control)])
    raise BadParameter(f"Invalid detach keys ({text}) provided: unknown character: '{key}'", key="detachKeys")
