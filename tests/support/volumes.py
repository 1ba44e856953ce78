"""Root file systems that have something where a volume goes."""

import io
import tarfile

from .images import busybox_rootfs

Entry = bytes | str | None | tarfile.TarInfo  # a file, a link's target, a folder, or anything


def rootfs_with(entries: dict[str, Entry]) -> bytes:
    """Return busybox's root file system with more in it; folders come before what is in them."""
    buffer = io.BytesIO(busybox_rootfs())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, content in entries.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name, data = name, None
            if isinstance(content, bytes):
                info.size, info.mode, data = len(content), 0o644, io.BytesIO(content)
            elif content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            archive.addfile(info, data)
    return buffer.getvalue()


def special(kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = kind
    for name, value in fields.items():
        setattr(info, name, value)
    return info
