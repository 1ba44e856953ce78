"""`docker run -it`, `attach` and `exec -it` on a real terminal: size, keys, detach, re-attach."""

import pytest

from tests.support.cli import Docker
from tests.support.terminal import Terminal

pytestmark = pytest.mark.root

PROMPT = r"/ # "
DETACH = b"\x10\x11"  # Ctrl-P Ctrl-Q


def shell(docker: Docker, name: str, image: str, *flags: str, rows: int = 24, columns: int = 80) -> Terminal:
    """Start a shell in a container on a terminal and wait for nothing."""
    words = ["run", "-it", "--name", name, "--network", "none", *flags, image, "sh"]
    return docker.terminal(*words, rows=rows, columns=columns)


def test_a_shell_on_a_terminal_echoes_answers_and_ends(docker: Docker, image: str, name: str) -> None:
    with shell(docker, name, image, "--rm") as terminal:
        terminal.expect(PROMPT)
        terminal.type("echo $((6 * 7)) on $(tty)\r")
        terminal.expect(r"42 on /dev/(pts/0|console)\r\n")
        terminal.type("exit 3\r")
        assert terminal.finish() == 3


def test_the_command_gets_the_size_of_the_terminal(docker: Docker, image: str, name: str) -> None:
    """The CLI sends the size after start, so the first look may come too early: look until it is there."""
    with shell(docker, name, image, "--rm", rows=37, columns=111) as terminal:
        terminal.expect(PROMPT)
        terminal.type("until [ \"$(stty size)\" = '37 111' ]; do :; done; echo right\\ size\r")
        terminal.expect("right size")


def test_a_resize_reaches_the_command_as_sigwinch(docker: Docker, image: str) -> None:
    """The CLI listens to SIGWINCH some time after it has sent the first size, so resize until it has heard."""
    script = "trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done"
    with docker.terminal("run", "-it", "--rm", "--network", "none", image, "sh", "-c", script) as terminal:
        terminal.expect("ready")
        for columns in range(100, 120):
            terminal.resize(50, columns)
            if terminal.sees(f"now 50 {columns}", limit=1):
                break
        else:
            pytest.fail(f"no resize came through: {terminal.seen!r}")
        terminal.type(b"\x03")
        assert terminal.finish() == 130


def test_ctrl_c_interrupts_the_command_and_not_the_client(docker: Docker, image: str, name: str) -> None:
    """The command itself says that it runs: what the shell says comes before it has handed over the terminal."""
    with shell(docker, name, image, "--rm") as terminal:
        terminal.expect(PROMPT)
        terminal.type("sh -c \"echo wai''ting; exec sleep 1000\"\r")
        terminal.expect("waiting")
        terminal.type(b"\x03")
        terminal.expect(PROMPT)
        terminal.type("echo status $?\r")
        terminal.expect("status 130")


def test_ctrl_d_ends_the_shell(docker: Docker, image: str, name: str) -> None:
    with shell(docker, name, image, "--rm") as terminal:
        terminal.expect(PROMPT)
        terminal.type(b"\x04")
        assert terminal.finish() == 0


def test_detach_keys_leave_it_running_and_attach_comes_back(docker: Docker, image: str, name: str) -> None:
    """The same shell, with the variable that was set before the detach."""
    with shell(docker, name, image) as terminal:
        terminal.expect(PROMPT)
        terminal.type("mark=kept; echo s''et\r")
        terminal.expect("set")
        terminal.type(DETACH)
        assert terminal.finish() == 0
    assert docker.inspect(name, "{{.State.Status}}") == "running"
    with docker.terminal("attach", name) as terminal:
        terminal.type("echo mark is $mark\r")
        terminal.expect("mark is kept")
        terminal.type("exit 5\r")
        assert terminal.finish() == 5


def test_other_detach_keys_can_be_chosen(docker: Docker, image: str, name: str) -> None:
    with shell(docker, name, image, "--detach-keys", "ctrl-e,x") as terminal:
        terminal.expect(PROMPT)
        terminal.type(b"\x05x")
        assert terminal.finish() == 0
    assert docker.inspect(name, "{{.State.Status}}") == "running"


def test_half_of_the_detach_keys_is_given_to_the_command(docker: Docker, image: str) -> None:
    with docker.terminal("run", "-it", "--rm", "--network", "none", image, "sh") as terminal:
        terminal.expect(PROMPT)
        terminal.type("stty raw -echo; echo re''ady; dd bs=1 count=2 2>/dev/null | od -An -tx1; stty sane\r")
        terminal.expect("ready")
        terminal.type(b"\x10a")
        terminal.expect("10 61")
        terminal.type("exit\r")
        assert terminal.finish() == 0


def test_two_clients_see_the_same_terminal(docker: Docker, image: str, name: str) -> None:
    with shell(docker, name, image) as first:
        first.expect(PROMPT)
        with docker.terminal("attach", name) as second:
            second.type("\r")
            second.expect(PROMPT)
            first.type("echo both s''ee\r")
            first.expect("both see")
            second.expect("both see")


def test_attach_without_input_only_watches(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "-dit", "--name", name, "--network", "none", image, "sh")
    with docker.terminal("attach", "--no-stdin", name) as watcher, docker.terminal("attach", name) as typist:
        watcher.expect(PROMPT)  # drawn again, because attach sets the size
        typist.type("echo seen by a''ll\r")
        typist.expect("seen by all")
        watcher.expect("seen by all")


def test_a_terminal_merges_stdout_and_stderr_with_carriage_returns(docker: Docker, image: str) -> None:
    result = docker("run", "-t", "--rm", "--network", "none", image, "sh", "-c", "echo out; echo err >&2")
    assert (result.raw, result.raw_err) == (b"out\r\nerr\r\n", b"")


def test_exec_it_opens_a_second_terminal_of_its_own_size(docker: Docker, running: str) -> None:
    with docker.terminal("exec", "-it", running, "sh", rows=33, columns=99) as terminal:
        terminal.expect(PROMPT)
        terminal.type("until [ \"$(stty size)\" = '33 99' ]; do :; done; echo right\\ size on $(tty)\r")
        terminal.expect(r"right size on /dev/pts/\d")
        terminal.type("exit 9\r")
        assert terminal.finish() == 9


def test_exec_it_ctrl_c_interrupts_the_command(docker: Docker, running: str) -> None:
    with docker.terminal("exec", "-it", running, "sh", "-c", "echo wai''ting; sleep 1000") as terminal:
        terminal.expect("waiting")
        terminal.type(b"\x03")
        assert terminal.finish() == 130
    assert docker.inspect(running, "{{.State.Status}}") == "running"


def test_detach_keys_leave_an_exec_running(docker: Docker, running: str) -> None:
    with docker.terminal("exec", "-it", running, "sh", "-c", "echo wai''ting; sleep 543") as terminal:
        terminal.expect("waiting")
        terminal.type(DETACH)
        terminal.finish()
    assert "sleep 543" in docker.ok("exec", running, "ps", "-o", "args")


def test_start_ai_attaches_to_a_created_container(docker: Docker, image: str, name: str) -> None:
    docker.ok("create", "-it", "--name", name, "--network", "none", image, "sh")
    with docker.terminal("start", "-ai", name) as terminal:
        terminal.expect(PROMPT)
        terminal.type("exit 4\r")
        assert terminal.finish() == 4


def test_i_without_a_terminal_on_t_is_refused_by_the_client(docker: Docker, image: str) -> None:
    result = docker("run", "-it", "--rm", "--network", "none", image, "true", input=b"")
    assert result.code == 1 and "the input device is not a TTY" in result.err
