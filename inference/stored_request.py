"""The request that is stored with a session: all that a worker needs to answer it, independent of any API.

The process that stores a request and the worker that runs it may have different versions during an upgrade. So
every request has the version of this format that it needs, and a worker refuses versions that it does not know.

To add a field, declare it in ``StoredRequest`` or in ``inference.engine.types.Sampling``, with a default that changes
nothing and ``metadata={"since": VERSION + 1}``. Nothing else changes: ``VERSION`` follows, and requests that leave the
field at its default stay readable for older workers. Never change the default of such a field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inference.engine.types import Constraint, PromptEnding, Sampling
from inference.errors import RequestTooNew


@dataclasses.dataclass(frozen=True, slots=True)
class StoredRequest:
    """The request of one session."""

    #: as in ``GenerationRequest.messages``; the n-th image or video part is the session's n-th media row
    messages: Sequence[dict[str, Any]]
    sampling: Sampling
    #: number of answers; the first is the one that a request for one answer gets, further ones use the next seeds
    choices: int = 1
    #: as in ``GenerationRequest``
    tools: Sequence[dict[str, Any]] = dataclasses.field(default=(), metadata={"since": 2})
    one_call: bool = dataclasses.field(default=False, metadata={"since": 2})
    ending: PromptEnding = dataclasses.field(default="turn", metadata={"since": 2})
    #: whether the last message, which is the model's, is shown as the beginning of the answer
    echo: bool = dataclasses.field(default=False, metadata={"since": 2})
    constraint: Constraint | None = dataclasses.field(default=None, metadata={"since": 2})
    #: for an upstream: the members of its request for the format of the answer and for tools
    wire_format: dict[str, Any] | None = dataclasses.field(default=None, metadata={"since": 2})
    #: whether an upstream that refuses ``wire_format`` is asked again without it
    wire_format_is_optional: bool = dataclasses.field(default=False, metadata={"since": 2})

    @property
    def version(self) -> int:
        """The lowest version of the format that has every field in use."""
        return max(_since(field) for part in (self, self.sampling) for field in _fields_in_use(part))

    def to_dict(self) -> dict[str, Any]:
        """For a JSON column. Fields of version 1 are always included, later ones only when not at their default."""
        stored = {field.name: getattr(self, field.name) for field in _fields_in_use(self)}
        if self.constraint is not None:
            stored["constraint"] = dataclasses.asdict(self.constraint)
        sampling = {field.name: getattr(self.sampling, field.name) for field in _fields_in_use(self.sampling)}
        return {"version": self.version, **stored, "messages": list(self.messages), "sampling": sampling}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> StoredRequest:
        """From the result of ``to_dict``, of this version or an earlier one; a row without a version is of the first.

        Raises ``RequestTooNew`` for a later version and for fields that this one does not know, and ``LookupError`` or
        ``TypeError`` for a value that is not a request.
        """
        version = stored.get("version", 1)
        unknown = [
            *sorted(stored.keys() - _names_of(cls) - {"version"}),
            *sorted(f"sampling.{name}" for name in stored["sampling"].keys() - _names_of(Sampling)),
        ]
        if unknown or not isinstance(version, int) or version > VERSION:
            raise RequestTooNew(version=version, known=VERSION, unknown_fields=unknown)
        fields = {name: value for name, value in stored.items() if name != "version"}
        if "constraint" in fields:
            fields["constraint"] = Constraint(**fields["constraint"])
        return cls(**{**fields, "sampling": Sampling.from_json(stored["sampling"])})


def choices_of(stored: Any) -> int:
    """The number of answers of a stored request of any version; 1 when the request has been removed."""
    return int(stored.get("choices", 1)) if isinstance(stored, dict) else 1


def echoed_text(stored: Any) -> str:
    """The text to show before the answer of a stored request of any version; "" when the request has been removed."""
    if not isinstance(stored, dict) or not stored.get("echo"):
        return ""
    return "".join(part["text"] for part in stored["messages"][-1]["content"] if part["type"] == "text")


def _since(field: dataclasses.Field[Any]) -> int:
    return int(field.metadata.get("since", 1))


def _fields_in_use(part: StoredRequest | Sampling) -> Iterator[dataclasses.Field[Any]]:
    for field in dataclasses.fields(part):
        if _since(field) == 1 or getattr(part, field.name) != field.default:
            yield field


def _names_of(kind: type[StoredRequest | Sampling]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


#: the latest version of the format that this process can read and write
VERSION = max(_since(field) for kind in (StoredRequest, Sampling) for field in dataclasses.fields(kind))
