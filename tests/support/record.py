"""Record the create bodies that the docker CLI sends, as data for a test.

    python -P -m tests.support.record unix:///run/docker.sock      (from the project's folder, PYTHONPATH=.)

A proxy between the CLI and an engine keeps what goes up; each body is written as it came, byte for
byte, because the point of the test is what the CLI really sends: nulls, empty objects, Windows keys.
"""

import contextlib
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

from .cli import Docker
from .packages import PROJECT

FOLDER = PROJECT / "tests" / "data" / "create-bodies"
RUNS = {
    "plain": "run --rm busybox echo hi",
    "input": "run -i --rm --network none busybox cat",
    "terminal": "run -it --rm --network none busybox true",
    "detached": "run -d --network none busybox sleep 1",
    "create": "create --network none busybox",
    "process": "create --network none -e A=1 -l b=2 -w /tmp -u nobody:1 --group-add 50 -h ship "
    "--entrypoint sh busybox -c id",
    "limits": "create --network none -m 64m --memory-swap 128m --cpus 0.5 --cpu-shares 512 --pids-limit 50 "
    "--ulimit nofile=64:128 busybox",
    "files": "create --network none --read-only --tmpfs /scratch:size=64k --shm-size 1m "
    "--device /dev/null:/dev/mine busybox",
    "security": "create --network none --cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges --init "
    "--ipc private busybox",
    "ending": "create --network none --stop-signal USR1 --stop-timeout 5 --log-driver json-file "
    "--log-opt max-size=1m busybox",
    "healthcheck": "create --network none --health-cmd true --health-interval 5s --restart on-failure:3 busybox",
}


def pump(source: socket.socket, target: socket.socket, kept: bytearray | None) -> None:
    """Copy until the end of input, half-close, keep a copy if asked."""
    with contextlib.suppress(OSError):  # either side may be gone at the end
        while data := source.recv(65536):
            if kept is not None:
                kept += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def serve(listener: socket.socket, engine: str, sent: list[bytearray]) -> None:
    """Accept until the listener closes; each connection's bytes upwards become one entry of `sent`."""
    while True:
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(engine)
        sent.append(bytearray())
        threading.Thread(target=pump, args=(client, server, sent[-1]), daemon=True).start()
        threading.Thread(target=pump, args=(server, client, None), daemon=True).start()


def create_body(sent: list[bytearray]) -> bytes:
    """Find the body of POST /containers/create in what was sent."""
    for data in sent:
        head, _, rest = bytes(data).partition(b"/containers/create")
        if rest:
            fields, _, body = rest.partition(b"\r\n\r\n")
            size = next(int(line[15:]) for line in fields.split(b"\r\n") if line.startswith(b"Content-Length:"))
            return body[:size]
    raise LookupError("the CLI did not create a container")


def main(engine: str) -> None:
    """Run each command through the proxy and write the body that it sent."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proxy.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        sent: list[bytearray] = []
        threading.Thread(target=serve, args=(listener, engine.removeprefix("unix://"), sent), daemon=True).start()
        docker = Docker(f"unix://{path}", Path(folder))
        for name, words in RUNS.items():
            sent.clear()
            with docker.terminal(*words.split()) as terminal:
                if name == "input":
                    terminal.type(b"\x04")
                terminal.finish()
            (FOLDER / f"{name}.json").write_bytes(create_body(sent))
            print(f"{name}: {os.path.getsize(FOLDER / f'{name}.json')} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
