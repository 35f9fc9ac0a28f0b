"""``manage.py``, noting when each group of chunks was committed: a line of JSON a commit in the file ``COMMIT_STAMPS``.

A line is the Unix time and, for every session in the group, its id and its first and last new index.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence

import django
from django.core.management import execute_from_command_line

django.setup()

from sessions_app import wakeups  # noqa: E402  (models need the settings)
from sessions_app.wakeups import Wakeup  # noqa: E402

publish = wakeups.publish


def publish_and_note(told: Sequence[Wakeup]) -> None:
    # It is called when the transaction is committed, by the thread that committed it.
    committed = time.time()
    publish(told)
    groups = [(wakeup.session_id, wakeup.chunks[0].index, wakeup.last_index) for wakeup in told]
    with open(os.environ["COMMIT_STAMPS"], "a") as stamps:  # noqa: PTH123  (as cheap as it gets)
        stamps.write(json.dumps([committed, groups]) + "\n")


if __name__ == "__main__":
    wakeups.publish = publish_and_note  # type: ignore[assignment]  # the argument has another name
    execute_from_command_line(sys.argv)
