"""Parses the tool calls that a model writes as JSON between two control tokens, piece by piece.

Qwen's templates (and Hermes', where the format comes from) make the model write
``<tool_call>{"name": "weather", "arguments": {"city": "Solo"}}</tool_call>`` for each call. OpenAI's streams have the
name first and then the arguments as the text of a JSON object, in pieces. A model with another format needs a reader of
its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto

WHITESPACE = " \t\r\n"
#: names of the member with the arguments; models use either
ARGUMENTS = ("arguments", "parameters")
NO_ARGUMENTS = "{}"
#: no function has a longer one
MAX_NAME_LENGTH = 256


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A final part of a call. Only the first piece of each call has its name."""

    name: str = ""
    #: the next characters of a JSON object
    arguments: str = ""
    #: which of the answer's calls it belongs to, from 0
    call: int = 0

    def __bool__(self) -> bool:
        return bool(self.name or self.arguments)


class _Place(Enum):
    """What the reader expects next."""

    OBJECT = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_VALUE = auto()
    COMMA = auto()
    END = auto()


class JsonCallReader:
    """Parses one call. The pieces together depend on the characters alone, not on how ``feed`` gets them.

    Only its strings are decoded, because a model may nest other values to any depth.
    """

    def __init__(self, call: int = 0) -> None:
        """``call`` is its number in the answer."""
        #: the text is not a call, and the rest of it is not parsed
        self.is_broken = False
        #: the name has been returned
        self.is_begun = False
        self._call = call
        #: all characters, kept while they may still have to be returned as text
        self._read: list[str] = []
        self._place = _Place.OBJECT
        self._key = ""
        self._is_key = False
        self._value = _Value(is_kept=True)
        self._name: str | None = None
        #: characters of the arguments that were not returned yet
        self._arguments: list[str] = []
        self._has_arguments = False
        #: an object is returned as it comes, any other value when it is complete
        self._is_object = False

    @property
    def raw(self) -> str:
        """The characters of a call whose name was not returned yet."""
        return "".join(self._read)

    @property
    def is_complete(self) -> bool:
        return self._place is _Place.END and self._name is not None and not self.is_broken

    def feed(self, characters: str) -> CallPiece:
        """Take the next characters and return what is final now."""
        if not self.is_begun:
            self._read.append(characters)
        for character in characters:
            if self.is_broken:
                break
            self._take(character)
        return self._piece()

    def finish(self) -> CallPiece:
        """The rest at the end of a call, which is an empty object for a call without arguments."""
        if self._place is _Place.IN_VALUE and self._value.is_over and not self.is_broken:
            self._end_of_value()
        piece = self._piece()
        if self.is_begun and not self._has_arguments:
            self._has_arguments = True
            return CallPiece(piece.name, NO_ARGUMENTS, self._call)
        return piece

    def _take(self, character: str) -> None:
        if self._place is _Place.IN_VALUE:
            if self._value.takes(character):
                self._keep(character)
                return
            self._end_of_value()
        if character in WHITESPACE:
            return
        match self._place, character:
            case _Place.OBJECT, "{":
                self._place = _Place.KEY
            case _Place.KEY, '"':
                self._begin_value(character)
            case _Place.COLON, ":":
                self._place = _Place.VALUE
            case _Place.VALUE, _ if character not in ",:}]":
                self._begin_value(character)
            case _Place.COMMA, ",":
                self._place = _Place.KEY
            case ((_Place.COMMA | _Place.KEY), "}"):
                self._place = _Place.END
            case _:
                self.is_broken = True

    def _begin_value(self, character: str) -> None:
        self._is_key = self._place is _Place.KEY
        self._place = _Place.IN_VALUE
        is_arguments = not self._is_key and self._key in ARGUMENTS and not self._has_arguments
        self._is_object = is_arguments and character == "{"
        is_kept = self._is_key or self._key == "name" or (is_arguments and not self._is_object)
        self._value = _Value(is_kept=is_kept)
        self._value.takes(character)
        self._keep(character)

    def _keep(self, character: str) -> None:
        if self._is_object:
            self._arguments.append(character)
            self._has_arguments = True

    def _end_of_value(self) -> None:
        """Handle a complete value; the character after it is not taken yet."""
        self._place = _Place.COLON if self._is_key else _Place.COMMA
        if self._is_object:
            self._is_object = False
            return
        written = self._value.text
        try:
            text = json.loads(written) if written.startswith('"') else None
        except ValueError:
            self.is_broken = True
            return
        if self._is_key:
            self._key = text or ""
        elif self._key == "name":
            if text and len(text) <= MAX_NAME_LENGTH:
                self._name = text
            else:
                self.is_broken = True
        elif self._key in ARGUMENTS and not self._has_arguments and written != "null":
            # Some models write the object as a text.
            self._arguments = [written if text is None else text]
            self._has_arguments = bool(self._arguments[0])

    def _piece(self) -> CallPiece:
        if self._name is None:
            return CallPiece()
        name = "" if self.is_begun else self._name
        self.is_begun = True
        self._read.clear()
        arguments = "".join(self._arguments)
        self._arguments.clear()
        return CallPiece(name, arguments, self._call)


class _Value:
    """Finds the end of one JSON value."""

    def __init__(self, *, is_kept: bool) -> None:
        """``is_kept``: whether its characters are needed."""
        self._first = ""
        self._kept: list[str] | None = [] if is_kept else None
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self.is_over = False

    @property
    def text(self) -> str:
        return "".join(self._kept or ())

    def takes(self, character: str) -> bool:
        """Whether ``character`` is part of the value; the first one always is."""
        if self.is_over or (self._is_bare and (character in ",}]" or character in WHITESPACE)):
            return False
        self._first = self._first or character
        if self._kept is not None:
            self._kept.append(character)
        if self._in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif character == "\\":
                self._is_escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        self.is_over = self._depth == 0 and not self._in_string and character in '"}]'
        return True

    @property
    def _is_bare(self) -> bool:
        """Whether it is a number, true, false or null, which ends where something else begins."""
        return bool(self._first) and self._depth == 0 and not self._in_string and self._first not in '"{['
