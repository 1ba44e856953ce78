"""A container engine in a script's own process: no daemon, no socket.

python examples/script.py FOLDER      FOLDER keeps the engine's data; root is needed
"""

import sys
from pathlib import Path

from busybox import rootfs

import windlass


def main(folder: str) -> None:
    with windlass.open(data_root=Path(folder, "data"), exec_root=Path(folder, "run")) as engine:
        engine.job("import", repo="busybox").run(stdin=rootfs())
        command = ["sh", "-c", "echo hello from $(hostname), process $$"]
        engine.job("create", "hello", Image="busybox", Hostname="script", Cmd=command).run()
        engine.job("start", "hello").run()
        status = engine.job("wait", "hello").run().StatusCode
        sys.stdout.write(engine.job("logs", "hello", stdout=True).output().decode())
        engine.job("delete", "hello").run()
        print("exit status", status)


if __name__ == "__main__":
    main(sys.argv[1])
