"""The same jobs, in a daemon: `windlass.connect` gives what `windlass.open` gives.

python examples/remote.py unix:///var/run/windlass.sock
"""

import sys

from busybox import rootfs

import windlass


def main(host: str) -> None:
    with windlass.connect(host) as engine:
        engine.job("import", repo="busybox").run(stdin=rootfs())
        command = ["sh", "-c", "echo hello from $(hostname), process $$"]
        host_config = {"NetworkMode": "none"}
        engine.job("create", "hello", Image="busybox", Hostname="remote", Cmd=command, HostConfig=host_config).run()
        engine.job("start", "hello").run()
        status = engine.job("wait", "hello").run().StatusCode
        engine.job("logs", "hello", stdout=True).run(stdout=sys.stdout.buffer)
        engine.job("delete", "hello").run()
        print("exit status", status)


if __name__ == "__main__":
    main(sys.argv[1])
