"""Who we are, in one place: the package, the daemon and the command line read it here."""

VERSION = "0.1.0"
API_VERSION = "1.51"
MIN_API_VERSION = "1.24"


def commit() -> str:
    """The commit of the checkout that this runs from, 7 digits; empty when it was installed otherwise."""
    from pathlib import Path

    git = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            head = (git / head.removeprefix("ref: ")).read_text().strip()
    except OSError:
        return ""
    return head[:7]
