"""Names of images: what Docker's grammar takes, refuses, and makes of them."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from windlass.lib import reference
from windlass.lib.reference import InvalidReference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/you/tool", "docker.io/you/tool:latest", "you/tool:latest"),
        ("you/tool:a_B.c-9", "docker.io/you/tool:a_B.c-9", "you/tool:a_B.c-9"),
        ("localhost/tool", "localhost/tool:latest", "localhost/tool:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/a/b__c", "localhost:5000/a/b__c:latest", "localhost:5000/a/b__c:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
        (f"a@sha256:{HEX}", f"docker.io/library/a@sha256:{HEX}", f"a@sha256:{HEX}"),
        (f"a:1@sha256:{HEX}", f"docker.io/library/a:1@sha256:{HEX}", f"a:1@sha256:{HEX}"),
    ],
)
def test_a_name_has_a_full_and_a_familiar_form(text: str, full: str, familiar: str) -> None:
    name = reference.parse(text).tagged()
    suffix = (f":{name.tag}" if name.tag else "") + (f"@{name.digest}" if name.digest else "")
    assert name.repository + suffix == full
    assert name.familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "x:", ":x", "/x", "x/", "a//b", "a b", "-x", "x-", "_x", "a..b", "a___b", "x:-y", "x:" + "t" * 129,
        "a@b", "a@sha256:", f"a@sha256:{HEX[1:]}", f"a@sha512:{HEX}", f"a@sha256:{HEX.upper()}", "../x", "a/../b",
        "x\n", "x:1\n", "ä", "x:ä", "a\0b", "https://a/b", "[::1/a", HEX, "a/" + "b" * 256, "٣:1", "x:٣",
    ],
)  # fmt: skip
def test_a_broken_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        reference.parse(text)


def test_capitals_are_named_as_the_fault() -> None:
    with pytest.raises(InvalidReference, match=r"repository name \(library/Busybox\) must be lowercase"):
        reference.parse("Busybox")


PARTS = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
DOMAINS = st.sampled_from(["", "localhost/", "docker.io/", "a.example:5000/", "[fe80::1]:1/", "UP/"])
TAGS = st.from_regex(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?", fullmatch=True)


@given(DOMAINS, st.lists(PARTS, min_size=1, max_size=4), TAGS, st.booleans())
def test_both_forms_of_a_name_mean_the_same(domain: str, parts: list[str], tag: str, pinned: bool) -> None:
    assume(domain or len(parts) == 1 or "." not in parts[0])  # with a dot it would be a domain
    name = reference.parse(f"{domain}{'/'.join(parts)}{tag}" + (f"@sha256:{HEX}" if pinned else ""))
    assert reference.parse(name.familiar) == name
    suffix = name.familiar.removeprefix(name.familiar_name)
    assert reference.parse(name.repository + suffix) == name
    assert reference.parse(name.repository).repository == name.repository


def test_a_name_that_would_look_like_a_registrys_stays_whole() -> None:
    assert reference.parse("docker.io/a.b/c").familiar == "docker.io/a.b/c"


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = reference.parse(text)
    except InvalidReference:
        return
    assert name.repository.isascii() and ".." not in name.path and name.path == name.path.lower()
