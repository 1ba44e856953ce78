"""Making a user namespace, with its maps, before there is a container in it.

A process of windlass-shim unshares; its maps are written from here, since only who is root outside may map what it
likes; descriptors keep the namespaces when the process has gone. See `c/userns.c`.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

from windlass.execdriver.driver import IdMap


def make_user_namespace(program: str, uids: IdMap, gids: IdMap, *, network: bool, within: str = "") -> tuple[int, int]:
    """Return descriptors of a new user namespace and of a network namespace in it (-1 when not asked for).

    `within` is the path of a user namespace to be taken instead. Blocks until both are there. Raises OSError.
    """
    with ExitStack() as undo:
        process, said = _spawn(undo, program, network, within)
        if os.read(said, 1) != b"\0":
            raise OSError(errno.EPERM, "a user namespace could not be made: is user.max_user_namespaces 0?")
        for name, ids in () if within else (("uid_map", uids), ("gid_map", gids)):
            Path(f"/proc/{process}/{name}").write_text("".join(f"{a} {b} {n}\n" for a, b, n in ids))
        flags = os.O_RDONLY | os.O_CLOEXEC
        user = os.open(f"/proc/{process}/ns/user", flags)
        try:
            return user, os.open(f"/proc/{process}/ns/net", flags) if network else -1
        except OSError:
            os.close(user)
            raise


def _spawn(undo: ExitStack, program: str, network: bool, within: str) -> tuple[int, int]:
    """Start the process, which ends with `undo`; return its pid, and where it says that it is ready."""
    ours_in, theirs_out = os.pipe()
    undo.callback(os.close, ours_in)
    theirs_in, ours_out = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, theirs_in, 0), (os.POSIX_SPAWN_DUP2, theirs_out, 1)]
    arguments = ["windlass-shim", "userns", "net" if network else "", within]
    try:
        pid = os.posix_spawn(program, arguments, {}, file_actions=actions)
    except OSError:
        os.close(ours_out)
        raise
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    undo.callback(os.waitpid, pid, 0)
    undo.callback(os.close, ours_out)  # then it ends
    return pid, ours_in
