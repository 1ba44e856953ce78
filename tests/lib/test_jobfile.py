"""Files of jobs."""

from pathlib import Path

import pytest

from windlass.lib.jobfile import JobFileError, read


def test_every_spelling_is_a_job(tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(
        '- create: {name: web, Cmd: [sleep, "60"]}\n- start: web\n- tag: [busybox, mine]\n- info\n- jobs:\n'
    )
    assert read(path) == [
        ("create", [], {"name": "web", "Cmd": ["sleep", "60"]}),
        ("start", ["web"], {}),
        ("tag", ["busybox", "mine"], {}),
        ("info", [], {}),
        ("jobs", [], {}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("create: {}", "a list of jobs is expected, not dict"),
        ("", "a list of jobs is expected, not NoneType"),
        ("- {a: 1, b: 2}", "job 1: a job is NAME: ENV"),
        ("- ok\n- 5", "job 2: a job is NAME: ENV, not 5"),
        ("- create: {1: x}", "job 1: a key must be text, not 1"),
        ("- [", "deploy.yaml: "),
        ("- !!python/object/apply:os.system [true]", "could not determine a constructor"),
    ],
)
def test_what_is_no_list_of_jobs_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(text)
    with pytest.raises(JobFileError, match=message.replace("[", r"\[")):
        read(path)
