"""Files of the server's own disk, readable only inside the one folder that the operator has named."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings

from inference.errors import InvalidMedia
from inference.media.inline import too_large


def read_local(reference: str, *, limit: int, param: str) -> bytes:
    """Read a path or ``file://`` URL under ``MEDIA_LOCAL_ROOT``; a relative path counts from there.

    Raises InvalidMedia with a message that names no path of the server.
    """
    if not settings.MEDIA_LOCAL_ROOT:
        raise InvalidMedia(
            "This is neither a URL nor base64, and files on the server cannot be read: "
            "send an http(s) URL, a data URL or base64.",
            param=param,
        )
    root = Path(settings.MEDIA_LOCAL_ROOT).resolve()
    try:
        # Not strict: what lies outside must read the same whether it exists or not.
        path = (root / _path_of(reference, param)).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of symlinks, a NUL, a name too long
        raise _no_such_file(param) from None
    if not path.is_relative_to(root):
        raise InvalidMedia("The path is outside the folder that this server may read from.", param=param)
    try:
        # Links are already resolved: one that appears now is an attempt to leave the folder. A pipe must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise _no_such_file(param) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_such_file(param)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError:
        raise _no_such_file(param) from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise too_large(limit, param)
    return data


def _path_of(reference: str, param: str) -> str:
    if not reference.lower().startswith("file:"):
        return reference
    parts = urlsplit(reference)
    if parts.netloc not in ("", "localhost"):
        raise InvalidMedia("A file:// URL must name no host: file:///path.", param=param)
    return unquote(parts.path)


def _no_such_file(param: str) -> InvalidMedia:
    return InvalidMedia("There is no readable file at this path.", param=param)
