"""Names and masks of capabilities."""

from pathlib import Path

import pytest

from windlass.kernel import caps


def test_dockers_default_set_has_its_mask() -> None:
    """Docker prints it in every container's CapBnd (moby v28.5.2)."""
    assert caps.mask(caps.DEFAULT) == 0xA80425FB
    assert len(caps.DEFAULT) == 14


def test_a_mask_and_its_names_are_the_same_thing() -> None:
    assert caps.names(caps.mask(caps.NAMES)) == frozenset(caps.NAMES)
    assert caps.names(1 << 40) == {"CAP_CHECKPOINT_RESTORE"}
    assert caps.names(1 << 63) == frozenset()


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(ValueError, match="unknown capability 'CAP_FLY'"):
        caps.mask(["CAP_FLY"])


def test_the_table_ends_where_this_kernel_does_or_later() -> None:
    assert int(Path("/proc/sys/kernel/cap_last_cap").read_text()) <= len(caps.NAMES) - 1


def test_own_is_what_the_kernel_says() -> None:
    status = Path("/proc/self/status").read_text()
    permitted = int(status.partition("CapPrm:")[2].split()[0], 16)
    assert caps.mask(caps.own()) & ~permitted == 0
