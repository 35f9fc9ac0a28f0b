"""Model fields whose values are encrypted in the database.

An ``Encrypted…`` field encrypts everything that is stored in it. An ``Opened…`` field is for columns of which only some
rows are: their writers call ``seal``. All of them read plain and sealed values. A value whose key is lost reads as an
``Unreadable`` one, so that lists still work, and is refused where it would be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from sessions_app.encryption import sealed

if TYPE_CHECKING:
    _Field = models.Field[Any, Any]
    _CharField = models.CharField[str, str]
    _TextField = models.TextField[str, str]
    _JSONField = models.JSONField[Any, Any]
else:
    _Field, _CharField, _TextField, _JSONField = object, models.CharField, models.TextField, models.JSONField


class SealedColumn(_Field):
    """What all of them share. A value opens only in its own table and column."""

    @property
    def place(self) -> str:
        return f"{self.model._meta.db_table}.{self.column}"

    def seal(self, value: Any) -> Any:
        """The value as it is stored. Raises ``DataKeyMissing``."""
        raise NotImplementedError

    def open(self, stored: Any) -> Any:
        """The value that ``seal`` was given, or ``stored`` if that is plain."""
        raise NotImplementedError


class Encrypting(SealedColumn):
    """Encrypts on every write. No query can compare such a column, except with the empty value."""

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        if value is None or hasattr(value, "as_sql"):
            return value
        sealed.check_readable(value)
        return self.get_db_prep_value(self.seal(value), connection, prepared=True)

    def get_prep_value(self, value: Any) -> Any:
        """Of the right side of a lookup: a save does not come here."""
        if value:
            raise FieldError(f"{self.name} is encrypted: it cannot be searched. See ocr.lookup.")
        return super().get_prep_value(value)


class EncryptedCharField(Encrypting, _CharField):
    """One line of text, of ``max_length`` characters before it is encrypted."""

    def get_internal_type(self) -> str:
        return "TextField"

    def seal(self, value: Any) -> Any:
        return sealed.seal_text(str(value), self.place) if value is not None else None

    def open(self, stored: Any) -> Any:
        return sealed.open_text(stored, self.place) if stored is not None else None

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return self.open(value)


class EncryptedTextField(Encrypting, _TextField):
    """Text of any length."""

    seal, open, from_db_value = EncryptedCharField.seal, EncryptedCharField.open, EncryptedCharField.from_db_value


class OpenedJSONField(SealedColumn, _JSONField):
    """JSON. The members ``keep`` of an object stay legible beside it, for queries and for readers without the key."""

    def __init__(self, *args: Any, keep: Sequence[str] = (), **options: Any) -> None:
        self.keep = tuple(keep)
        super().__init__(*args, **options)

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, path, args, options = super().deconstruct()
        return name, path, args, {**options, "keep": self.keep} if self.keep else options

    def seal(self, value: Any) -> Any:
        return sealed.seal_json(value, self.place, self.keep)

    def open(self, stored: Any) -> Any:
        return sealed.open_json(stored, self.place)

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return self.open(super().from_db_value(value, expression, connection))


class EncryptedJSONField(Encrypting, OpenedJSONField):
    """JSON that is always encrypted, except ``keep``."""


class OpenedBinaryField(SealedColumn, models.BinaryField):
    """Bytes."""

    def seal(self, value: Any) -> Any:
        return sealed.seal_bytes(bytes(value), self.place) if value is not None else None

    def open(self, stored: Any) -> Any:
        return sealed.open_bytes(bytes(stored), self.place) if stored is not None else None

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return self.open(value)


class EncryptedBinaryField(Encrypting, OpenedBinaryField):
    """Bytes that are always encrypted."""
