"""How an encrypted value looks in its column, and back.

Each form names its key and is recognised, so columns may hold plain and sealed values side by side: those of an older
release, and those of sessions without personal data.

- text: ``sealed:KEY:BASE64``; the empty text stays empty
- bytes: ``\\0sealed:KEY:`` and the raw ciphertext
- a JSON object: ``{"sealed": "KEY:BASE64"}``, beside the members that queries need
- a JSON list of objects: each of them so, if it has other members
- a JSON list of numbers: the sealed text and then zeros, so that it keeps its length
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Collection
from typing import Any, TypeVar

from sessions_app.encryption import keyring
from sessions_app.encryption.keyring import Damaged, DataKeyMissing

log = logging.getLogger(__name__)

MEMBER = "sealed"
_TEXT = re.compile(r"sealed:([A-Za-z0-9_-]{1,16}):([A-Za-z0-9+/=]+)")
_BYTES = re.compile(rb"\0sealed:([A-Za-z0-9_-]{1,16}):")
_BYTES_FORM = b"\0sealed:%s:"
#: the most bytes before the ciphertext of sealed bytes; with the nonce after it they are unique
BYTES_HEAD = len(_BYTES_FORM) + 16 + keyring.NONCE_BYTES


class Unreadable:
    """In place of a value whose key is lost, or that was damaged: empty, and refused where it would be stored."""

    key_id: str = ""


U = TypeVar("U", bound=Unreadable)


class UnreadableText(Unreadable, str):
    """The empty text."""


class UnreadableBytes(Unreadable, bytes):
    """No bytes."""


class UnreadableObject(Unreadable, dict[str, Any]):
    """The members that were not encrypted."""


class UnreadableList(Unreadable, list[Any]):
    """As many -1 as it had numbers."""


def check_readable(value: Any) -> None:
    """Raises ``DataKeyMissing`` for a value that could not be decrypted."""
    if isinstance(value, Unreadable):
        raise DataKeyMissing(value.key_id)


def seal_text(text: str, place: str) -> str:
    """Raises ``DataKeyMissing``."""
    return f"sealed:{_sealed(text.encode(), place)}" if text else text


def open_text(stored: str, place: str) -> str:
    """The text; ``UnreadableText`` without its key."""
    match = _TEXT.fullmatch(stored) if stored.startswith("sealed:") else None
    if match is None:
        return stored
    try:
        return _opened(match[1], match[2], place).decode()
    except (DataKeyMissing, Damaged) as exc:
        return _unreadable(UnreadableText(), exc, match[1])


def seal_bytes(data: bytes, place: str) -> bytes:
    """Raises ``DataKeyMissing``."""
    if not data:
        return data
    key_id, sealed = keyring.ring().encrypt(data, place)
    return _BYTES_FORM % key_id.encode() + sealed


def open_bytes(stored: bytes, place: str) -> bytes:
    """The bytes; ``UnreadableBytes`` without their key."""
    match = _BYTES.match(stored)
    if match is None:
        return stored
    key_id = match[1].decode()
    try:
        return keyring.ring().decrypt(key_id, stored[match.end() :], place)
    except (DataKeyMissing, Damaged) as exc:
        return _unreadable(UnreadableBytes(), exc, key_id)


def seal_json(value: Any, place: str, keep: Collection[str] = ()) -> Any:
    """``keep`` names the members of an object that stay legible beside it. Raises ``DataKeyMissing``."""
    if isinstance(value, dict):
        kept = {name: value[name] for name in keep if name in value}
        return value if len(kept) == len(value) else {**kept, MEMBER: _sealed(_json(value), place)}
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(item, dict) for item in value):
        return [seal_json(item, place, keep) for item in value]
    return [f"sealed:{_sealed(_json(value), place)}", *[0] * (len(value) - 1)]


def open_json(stored: Any, place: str) -> Any:
    """The value; an ``Unreadable`` one without its key."""
    if isinstance(stored, dict) and MEMBER in stored:
        key_id, _, encoded = str(stored[MEMBER]).partition(":")
        try:
            return json.loads(_opened(key_id, encoded, place))
        except (DataKeyMissing, Damaged) as exc:
            kept = {name: value for name, value in stored.items() if name != MEMBER}
            return _unreadable(UnreadableObject(kept), exc, key_id)
    if not isinstance(stored, list) or not stored:
        return stored
    if isinstance(stored[0], str) and (match := _TEXT.fullmatch(stored[0])) is not None:
        try:
            return json.loads(_opened(match[1], match[2], place))
        except (DataKeyMissing, Damaged) as exc:
            return _unreadable(UnreadableList([-1] * len(stored)), exc, match[1])
    if any(isinstance(item, dict) and MEMBER in item for item in stored):
        return [open_json(item, place) for item in stored]
    return stored


def key_ids(stored: Any) -> set[str]:
    """The keys that the stored form of a value names; none of a plain value."""
    if isinstance(stored, bytes):
        found = _BYTES.match(stored)
        return {found[1].decode()} if found else set()
    if isinstance(stored, str):
        match = _TEXT.fullmatch(stored)
        return {match[1]} if match else set()
    if isinstance(stored, dict):
        return {str(stored[MEMBER]).partition(":")[0]} if MEMBER in stored else set()
    if isinstance(stored, list):
        return {key_id for item in stored if isinstance(item, str | dict) for key_id in key_ids(item)}
    return set()


def _sealed(plain: bytes, place: str) -> str:
    key_id, sealed = keyring.ring().encrypt(plain, place)
    return f"{key_id}:{base64.b64encode(sealed).decode()}"


def _opened(key_id: str, encoded: str, place: str) -> bytes:
    try:
        sealed = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise Damaged(place) from None
    return keyring.ring().decrypt(key_id, sealed, place)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _unreadable(value: U, reason: Exception, key_id: str) -> U:
    if isinstance(reason, Damaged):
        log.error("a value of %s cannot be decrypted with its key %s: it was changed, or moved there", reason, key_id)
    value.key_id = key_id
    return value
