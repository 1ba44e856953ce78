"""The taxonomy."""

import pytest

from windlass.engine import errors
from windlass.engine.errors import BY_CODE, JobError, from_code


def classes(root: type[JobError] = JobError) -> list[type[JobError]]:
    return [root, *(each for child in root.__subclasses__() for each in classes(child))]


def test_every_class_has_a_code_of_its_own() -> None:
    """A subsystem may refine a class, and then shares its code: only the taxonomy itself is looked at."""
    codes = [cls.code for cls in classes() if cls is not JobError and cls.__module__ == errors.__name__]
    assert len(codes) == len(set(codes)) == 12


@pytest.mark.parametrize("code", BY_CODE)
def test_an_error_survives_the_wire(code: str) -> None:
    error = from_code(code, "no such thing: x", {"id": "x"})
    assert (error.code, error.message, str(error), error.detail) == (
        code,
        "no such thing: x",
        "no such thing: x",
        {"id": "x"},
    )


def test_a_code_from_the_future_is_internal() -> None:
    assert type(from_code("too-hot", "ouch")) is errors.Internal


def test_only_a_missing_job_has_the_shells_127() -> None:
    assert {cls.code for cls in classes() if cls.exit_status == 127} == {"no-such-job"}
    assert {cls.exit_status for cls in classes()} == {1, 127}
