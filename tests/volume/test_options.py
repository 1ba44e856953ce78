"""The local driver's options: what mount(2) will be given."""

import pytest

from windlass.engine.errors import Internal
from windlass.kernel.mount import MS
from windlass.volume.options import Device


@pytest.mark.parametrize(
    ("kind", "device", "words", "flags", "data"),
    [
        ("tmpfs", "tmpfs", "size=1m,uid=5,ro", MS.RDONLY, "size=1m,uid=5"),
        ("none", "/srv", "bind", MS.BIND, ""),
        ("none", "/srv", "rbind,rw,noexec", MS.BIND | MS.REC | MS.NOEXEC, ""),
        ("ext4", "/dev/x", "ro,rw,,defaults", MS(0), ""),
        ("nfs", ":/a", "addr=10.0.0.1,nolock", MS(0), "addr=10.0.0.1,nolock"),
        ("cifs", "//h/a", "addr=::1", MS(0), "addr=::1"),
        ("other", "x", "addr=name", MS(0), "addr=name"),
    ],
)
async def test_words_that_are_flags_and_words_of_the_file_system(
    kind: str, device: str, words: str, flags: MS, data: str
) -> None:
    found = await Device.of({"type": kind, "device": device, "o": words})
    assert found == Device(device, kind, flags, data)


async def test_a_name_of_a_network_is_resolved_since_the_kernel_knows_none() -> None:
    device = await Device.of({"type": "nfs4", "device": ":/a", "o": "addr=localhost"})
    assert device.data in ("addr=127.0.0.1", "addr=::1")


async def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(Internal, match="error resolving passed in network volume address: no-such.invalid"):
        await Device.of({"type": "nfs", "device": ":/a", "o": "addr=no-such.invalid"})
