"""Reads the tool calls that a model writes as JSON between two control tokens, piece by piece.

Qwen's templates (and Hermes', where the form comes from) have the model write
``<tool_call>{"name": "weather", "arguments": {"city": "Solo"}}</tool_call>`` for each call. OpenAI's streams want the
name first and then the arguments as the text of a JSON object, in pieces. A model whose template wants another form
gets a reader of its own beside this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto

WHITESPACE = " \t\r\n"
#: both names are in use for what a function is called with
ARGUMENTS = ("arguments", "parameters")
NO_ARGUMENTS = "{}"


@dataclass(frozen=True, slots=True)
class CallPiece:
    """What became certain of a call. The first piece of each call has its name, and no later one has."""

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
    """One call. The pieces depend on the characters alone, not on how these are divided among ``feed``."""

    def __init__(self, call: int = 0) -> None:
        """``call`` is its number in the answer."""
        self.raw = ""
        self._call = call
        #: the text is no call: nothing more is read of it
        self.is_broken = False
        #: the name has been given out
        self.is_begun = False
        self._place = _Place.OBJECT
        self._key = ""
        self._is_key = False
        self._value = _Value()
        self._name: str | None = None
        #: characters of the arguments that no piece has had yet
        self._arguments = ""
        self._has_arguments = False
        #: an object is given out as it comes, anything else when it is complete
        self._is_object = False

    @property
    def is_complete(self) -> bool:
        return self._place is _Place.END and self._name is not None and not self.is_broken

    def feed(self, characters: str) -> CallPiece:
        """Take the next characters and return what is certain now."""
        self.raw += characters
        for character in characters:
            if self.is_broken:
                break
            self._take(character)
        return self._piece()

    def finish(self) -> CallPiece:
        """What is left when no more characters follow: of a complete call without arguments, an empty object."""
        if self.is_complete and not self._has_arguments:
            self._has_arguments = True
            return CallPiece(arguments=NO_ARGUMENTS, call=self._call)
        return CallPiece()

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
        self._value = _Value()
        self._value.takes(character)
        is_arguments = not self._is_key and self._key in ARGUMENTS and not self._has_arguments
        self._is_object = is_arguments and character == "{"
        self._keep(character)

    def _keep(self, character: str) -> None:
        if self._is_object:
            self._arguments += character
            self._has_arguments = True

    def _end_of_value(self) -> None:
        """The value is complete; the character that follows it is still to be taken."""
        self._place = _Place.COLON if self._is_key else _Place.COMMA
        if self._is_object:
            self._is_object = False
            return
        try:
            value = json.loads(self._value.text)
        except ValueError:
            self.is_broken = True
            return
        if self._is_key:
            self._key = value
        elif self._key == "name" and isinstance(value, str) and value:
            self._name = value
        elif self._key in ARGUMENTS and value is not None and not self._has_arguments:
            # Some models write the object as a text.
            self._arguments = value if isinstance(value, str) else self._value.text
            self._has_arguments = True

    def _piece(self) -> CallPiece:
        if self._name is None:
            return CallPiece()
        name = "" if self.is_begun else self._name
        self.is_begun = True
        arguments, self._arguments = self._arguments, ""
        return CallPiece(name, arguments, self._call)


class _Value:
    """One JSON value, of which the end is looked for."""

    def __init__(self) -> None:
        self.text = ""
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._is_over = False

    def takes(self, character: str) -> bool:
        """Whether ``character`` is part of the value; the first one always is."""
        if self._is_over or (self._is_bare and (character in ",}]" or character in WHITESPACE)):
            return False
        self.text += character
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
        self._is_over = self._depth == 0 and not self._in_string and character in '"}]'
        return True

    @property
    def _is_bare(self) -> bool:
        """A number, true, false or null, which ends where something else begins."""
        return bool(self.text) and self._depth == 0 and not self._in_string and self.text[0] not in '"{['
