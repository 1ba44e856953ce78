"""message.h and message.py say the same numbers: the one is the contract, the other its mirror."""

import re
from pathlib import Path

import pytest

from windlass.execdriver.native import message
from windlass.execdriver.native.message import Attach, Log, Op, OpList, Place, Rec, Stdio, Tree

HEADER = (Path(message.__file__).resolve().parent / "c/message.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)


def numbers(prefix: str) -> dict[str, int]:
    """Every `PREFIX_NAME = 1` of the header's enums."""
    return {name: int(value) for name, value in re.findall(rf"\b{prefix}_(\w+) = (\d+)", CODE)}


@pytest.mark.parametrize(
    ("prefix", "enum"),
    [("OP", Op), ("REC", Rec), ("LOG", Log), ("STDIO", Stdio), ("ATTACH", Attach), ("TREE", Tree), ("PLACE", Place)],
)
def test_both_halves_give_a_name_the_same_number(prefix: str, enum: type[Op]) -> None:
    mirrored = {member.name: member.value for member in enum}
    assert numbers(prefix) == mirrored
    assert mirrored


@pytest.mark.parametrize("name", ["OPLIST_MAGIC", "OPLIST_VERSION", "OPLIST_MAX", "PROTOCOL_VERSION", "NONE"])
def test_both_halves_define_the_same_constants(name: str) -> None:
    found = re.search(rf"#define {name} (.+)", CODE)
    assert found
    assert eval(found[1].strip().replace("u", "")) == getattr(message, name)


def test_a_record_has_the_size_of_the_struct() -> None:
    found = re.search(r"uint8_t data\[(\d+)\]", CODE)
    assert found
    assert 2 + 2 + 4 + 8 + int(found[1]) == message.RECORD_SIZE


def test_an_op_is_a_multiple_of_eight_bytes_and_names_itself() -> None:
    ops = OpList()
    ops.add(Op.HOSTNAME, "a")
    ops.add(Op.EXEC, "true", "X=1", a=1, what="the program")
    assert len(ops.encode()) % 8 == 0
    assert ops.names == ["hostname", "the program"]


def test_a_nul_in_a_string_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        OpList().add(Op.HOSTNAME, "a\0b")
