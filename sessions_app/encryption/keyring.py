"""The keys of stored data: the first of ``DATA_KEYS`` encrypts, all of them decrypt.

A stored value names its key, so that keys can be replaced while the server runs (``manage.py rotate_keys``).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils import timezone

from sessions_app.errors import ApiError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
#: a key's name in the database, where it is stored beside every value
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
#: purposes of the keys that are derived from a data key; a new format needs new names
ENCRYPTION, LOOKUP = b"sambung data 1", b"sambung lookup 1"


class WrongKey(ValueError):
    """An item of ``DATA_KEYS`` is none. The message does not contain it."""


class DataKeyMissing(ApiError):
    """The server has no data key, or not the one that a stored value was encrypted with."""

    status = 503
    type = "server_error"
    code = "data_key_missing"

    def __init__(self, key_id: str = "") -> None:
        lack = f"lacks the data key {key_id}, with which this was encrypted" if key_id else "has no data key"
        super().__init__(
            f"This server {lack}. Identity cards are neither read nor shown without it. Its operator sets DATA_KEYS."
        )
        self.key_id = key_id


class Damaged(Exception):
    """A stored value was changed, or belongs to another column."""


class DataKey:
    """One key: it encrypts, and it computes lookups, each with a key derived for that purpose."""

    def __init__(self, key_id: str, secret: bytes) -> None:
        self.id = key_id
        self._cipher = AESGCM(_derive(secret, ENCRYPTION))
        self._lookup_key = _derive(secret, LOOKUP)

    def encrypt(self, plain: bytes, place: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def decrypt(self, sealed: bytes, place: str) -> bytes:
        """Raises ``Damaged``."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise Damaged(place)
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
        except InvalidTag:
            raise Damaged(place) from None

    def lookup(self, content: bytes, place: str) -> str:
        """HMAC-SHA256 in hex: equal for equal contents of a place, and computable only with the key."""
        return hmac.digest(self._lookup_key, place.encode() + b"\0" + content, "sha256").hex()


class Keyring:
    """The keys, the first of which encrypts."""

    def __init__(self, keys: Sequence[DataKey]) -> None:
        self.first = keys[0]
        self._by_id = {key.id: key for key in keys}

    @property
    def ids(self) -> list[str]:
        return list(self._by_id)

    def encrypt(self, plain: bytes, place: str) -> tuple[str, bytes]:
        """The id of the key, and the nonce, ciphertext and tag. ``place`` is the table and column of the value."""
        return self.first.id, self.first.encrypt(plain, place)

    def decrypt(self, key_id: str, sealed: bytes, place: str) -> bytes:
        """Raises ``DataKeyMissing`` and ``Damaged``."""
        key = self._by_id.get(key_id)
        if key is None:
            raise DataKeyMissing(key_id)
        return key.decrypt(sealed, place)

    def lookups(self, content: bytes, place: str) -> list[str]:
        """The lookups of ``content`` by every key, that of the first key first: rows may have any of them."""
        return [key.lookup(content, place) for key in self._by_id.values()]


def ring() -> Keyring:
    """The keys of ``DATA_KEYS``; where it is empty, those of the file beside an SQLite database.

    Raises ``DataKeyMissing`` where there are none, and ``WrongKey``.
    """
    if settings.DATA_KEYS:
        return parse(tuple(settings.DATA_KEYS))
    path = key_file()
    if path is None:
        raise DataKeyMissing
    return _in_file(path)


def has_keys() -> bool:
    """Whether data can be encrypted."""
    try:
        ring()
    except (DataKeyMissing, WrongKey):
        return False
    return True


@functools.lru_cache(maxsize=8)
def parse(items: tuple[str, ...]) -> Keyring:
    """Items as in ``DATA_KEYS``: an id, a colon, and the base64 of 32 random bytes. Raises ``WrongKey``."""
    keys = [_parse_item(number, item) for number, item in enumerate(items, start=1)]
    if len({key.id for key in keys}) < len(keys):
        raise WrongKey("two keys have the same id")
    return Keyring(keys)


def new_item(key_id: str = "") -> str:
    """A new key in the form of ``DATA_KEYS``. Its id is today's date if none is given."""
    key_id = key_id or f"k{timezone.now():%Y%m%d}"
    return f"{key_id}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


def key_file() -> Path | None:
    """The file of the keys of a server whose database is an SQLite file; None for any other database."""
    database = settings.DATABASES["default"]
    return Path(f"{database['NAME']}.keys") if database["ENGINE"].endswith("sqlite3") else None


def make_key_file() -> None:
    """Make the key of a server with an SQLite database, if it has none: readable by its owner only.

    Raises OSError. Of two processes at once, one makes it.
    """
    path = key_file()
    if settings.DATA_KEYS or path is None or path.exists():
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{new_item()}\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces the file of another process.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


@functools.lru_cache(maxsize=2)
def _in_file(path: Path) -> Keyring:
    try:
        items = path.read_text().split()
    except FileNotFoundError:
        raise DataKeyMissing from None
    if not items:
        raise DataKeyMissing
    return parse(tuple(items))


def _parse_item(number: int, item: str) -> DataKey:
    key_id, colon, encoded = item.partition(":")
    if not colon or not KEY_ID.fullmatch(key_id):
        raise WrongKey(f"key {number} does not begin with an id of letters, digits, - and _, and a colon")
    try:
        secret = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise WrongKey(f"key {number} ({key_id}) is not base64") from None
    if len(secret) != KEY_BYTES:
        raise WrongKey(f"key {number} ({key_id}) has {len(secret)} bytes; it needs {KEY_BYTES}")
    if len(set(secret)) < KEY_BYTES // 4:
        raise WrongKey(f"key {number} ({key_id}) is not random")
    return DataKey(key_id, secret)


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(secret)
