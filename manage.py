#!/usr/bin/env python
"""Django's command line for Sambung."""

from __future__ import annotations

import os
import sys

#: as for a wrong option: the command did not begin
WRONG_SETTINGS = 2
HELP = {"-h", "--help"}
#: they serve nobody and sign nothing, so that they run in a checkout that has no settings yet
WITHOUT_SECRET = {"build_tiny_model", "evaluate_ktp", "help", "make_data_key", "make_ktp_sandbox", "make_specimens"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if (WITHOUT_SECRET & {*sys.argv[1:2]} or HELP & {*sys.argv[1:]}) and not os.environ.get("SECRET_KEY"):
        os.environ["SECRET_KEY"] = "signs-nothing"  # noqa: S105
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as exc:
        if "--traceback" in sys.argv:
            raise
        # The message says what to correct; the thirty lines above it would be read as a bug.
        sys.stderr.write(f"{exc}\n")
        sys.exit(WRONG_SETTINGS)


if __name__ == "__main__":
    main()
