"""nftables (nft(8)) by libnftables(3): a transaction costs a third of a millisecond, where starting `nft` costs three.

The library is opened when the first context is made. It is an optional one: without it, `nft -f -` does the same.
A context's netlink socket belongs to the network namespace that its maker was in, and stays there.
"""

from __future__ import annotations

import subprocess
from typing import Any

from ._nft import ffi, lib

_OUTPUT_JSON = 1 << 4


class NftError(OSError):
    """The kernel or the parser refused a transaction; nothing of it was done. The message is libnftables'."""


class Nft:
    """A context of libnftables: made, used and closed in one thread."""

    def __init__(self) -> None:
        self._context: Any = None
        if lib.nft_open():
            self._context = lib.nft_ctx_new(0)
            lib.nft_ctx_buffer_output(self._context)
            lib.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> str:
        """Run commands in nft's language as one transaction; return what they print. Raises NftError. Blocks."""
        return self._run(text) if self._context is not None else _spawn(["-f", "-"], text)

    def json(self, text: str) -> str:
        """Run one listing command and return its answer in JSON (libnftables-json(5)). Raises NftError. Blocks."""
        if self._context is None:
            return _spawn(["-j", "-f", "-"], text)
        lib.nft_ctx_output_set_flags(self._context, _OUTPUT_JSON)
        try:
            return self._run(text)
        finally:
            lib.nft_ctx_output_set_flags(self._context, 0)

    def close(self) -> None:
        if self._context is not None:
            lib.nft_ctx_free(self._context)
            self._context = None

    def _run(self, text: str) -> str:
        failed = lib.nft_run_cmd_from_buffer(self._context, text.encode())
        output = ffi.string(lib.nft_ctx_get_output_buffer(self._context)).decode()
        error = ffi.string(lib.nft_ctx_get_error_buffer(self._context)).decode(errors="replace")
        if failed:
            raise NftError(error.strip() or "libnftables gave no reason")
        return str(output)


def _spawn(flags: list[str], text: str) -> str:
    try:
        done = subprocess.run(["nft", *flags], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NftError("neither libnftables.so.1 nor nft(8) is here: nftables is needed for networks") from None
    if done.returncode:
        raise NftError(done.stderr.strip() or f"nft ended with {done.returncode}")
    return done.stdout
