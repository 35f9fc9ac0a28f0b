"""Personal data for commands: asked for without showing it, or read from standard input; never an argument."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

#: positional arguments that no command has: somebody wrote the NIK behind the option
HIDDEN = "refused"
#: of a line of standard input
MAX_ANSWER_CHARS = 1000


class Refusing(argparse.Action):
    """A flag without a value. A value is refused with the reason, and is not repeated in the message."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        kwargs.setdefault("nargs", "?")
        super().__init__(option_strings, dest, default=False, **kwargs)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values:
            raise CommandError(
                f"{option_string or 'The command'} takes no value here. Other users of this machine see the arguments "
                "of a command, and the shell keeps them in its history. Give the option alone: you are asked for it, "
                "or it is read from standard input. Remove the line from the history of your shell now."
            )
        setattr(namespace, self.dest, True)


def ask_hidden(what: str) -> str:
    """One line: typed without being shown, or the first line of standard input. Raises CommandError for none."""
    try:
        answer = getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline(MAX_ANSWER_CHARS)
    except EOFError:
        answer = ""
    if not (answer := answer.strip()):
        raise CommandError(f"No {what} was given on standard input.")
    return answer


def confirm(question: str) -> None:
    """Raises CommandError unless the operator types "yes", or where nobody can."""
    if not sys.stdin.isatty():
        raise CommandError("Nobody can be asked here. Give --yes to erase without a question.")
    if input(f"{question} Type yes: ").strip().lower() != "yes":
        raise CommandError("Nothing was erased.")
