"""Unpack the pictures of a zip archive in memory. Names in the archive are never used as paths.

An archive may unpack to a million times its size, or list a million entries. So its directory is checked before
``zipfile`` reads it, and every entry is unpacked up to a limit only.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from django.conf import settings

from inference.api.body import Upload
from inference.errors import ApiError, InvalidMedia, TooLarge
from ocr.card_image import check_size

BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
#: maximum size of the archive's directory in bytes; enough for a thousand pictures with long names
MAX_DIRECTORY_BYTES = 2**18
#: maximum entries of an archive, including folders and skipped files
MAX_ENTRIES = 1000
_END = struct.Struct("<4s4H2LH")
_END_MARK, _ZIP64_MARK = b"PK\x05\x06", b"PK\x06\x07"
_MAX_COMMENT_BYTES = 2**16
#: size of the zip64 end locator, which comes directly before the end record
_ZIP64_LOCATOR_BYTES = 20
#: values in the end record which mean that the real number is in the zip64 record
_ELSEWHERE = (0xFFFF, 0xFFFFFFFF)
#: errors that zipfile and zlib raise for damaged or unsupported archives
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def is_archive(file: IO[bytes]) -> bool:
    file.seek(0)
    beginning = file.read(4)
    file.seek(0)
    return beginning in BEGINNINGS


def unpack(file: IO[bytes], param: str) -> Iterator[Upload | ApiError]:
    """The pictures in the archive's order; an entry that cannot be used yields an error in its place.

    Folders and files that operating systems add (``__MACOSX``, names that begin with a dot) are skipped. Raises
    InvalidMedia for a file that is not an archive, and TooLarge for more than ``MAX_ENTRIES`` entries.
    """
    _check_directory(file, param)
    try:
        with zipfile.ZipFile(file) as archive:
            # The end record may state fewer entries than the directory has.
            if len(archive.filelist) > MAX_ENTRIES:
                raise _too_many(param)
            for entry in archive.infolist():
                parts = entry.filename.replace("\\", "/").split("/")
                if entry.is_dir() or parts[-1].startswith(".") or parts[0] == "__MACOSX":
                    continue
                yield _unpacked(archive, entry, parts[-1], param)
    except _BROKEN:
        raise InvalidMedia("The archive is damaged.", param=param) from None


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, param: str) -> Upload | ApiError:
    if entry.flag_bits & 0x1:
        return InvalidMedia("The entry is encrypted.", param=param, code="encrypted_entry")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return InvalidMedia("The entry is compressed in a way other than deflate.", param=param)
    try:
        with archive.open(entry) as packed:
            # Do not rely on the size in the directory: it may be wrong.
            data = packed.read(settings.OCR_MAX_UPLOAD_BYTES + 1)
    except _BROKEN:
        return InvalidMedia("The entry is damaged.", param=param)
    try:
        check_size(len(data))
    except TooLarge as error:
        return error
    if data.startswith(BEGINNINGS):
        return InvalidMedia("The entry is an archive itself. Send its pictures.", param=param, code="nested_archive")
    return Upload(name, data)


def _check_directory(file: IO[bytes], param: str) -> None:
    """Refuse an archive whose directory is too large to be read into memory."""
    size = file.seek(0, os.SEEK_END)
    tail_bytes = min(size, _ZIP64_LOCATOR_BYTES + _END.size + _MAX_COMMENT_BYTES)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    file.seek(0)
    at = len(tail) - _END.size
    if not (at >= 0 and tail[at:].startswith(_END_MARK) and tail.endswith(b"\0\0")):
        at = tail.rfind(_END_MARK)
    if at < 0 or len(tail) - at < _END.size:
        raise InvalidMedia("The archive is damaged.", param=param)
    end: tuple[Any, ...] = _END.unpack_from(tail, at)
    *numbers, entries, directory_bytes, begins_at, _comment_bytes = end[1:]
    # A zip64 record would replace these numbers, and no archive within our limits needs one.
    has_zip64 = tail[max(0, at - _ZIP64_LOCATOR_BYTES) : at].startswith(_ZIP64_MARK) or any(
        number in _ELSEWHERE for number in (*numbers, entries, directory_bytes, begins_at)
    )
    if has_zip64 or entries > MAX_ENTRIES or directory_bytes > MAX_DIRECTORY_BYTES:
        raise _too_many(param)


def _too_many(param: str) -> TooLarge:
    return TooLarge("The archive lists too many entries.", param=param)
