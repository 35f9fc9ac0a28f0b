"""``benchmarks.loop.fed`` on a machine whose name server never answers for names under ``dead.example``.

The system's resolver cannot be pointed elsewhere for one process, so it is replaced where Python asks it.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

from django.core.management import execute_from_command_line

from benchmarks.abuse.media_host import DEAD_SUFFIX
from benchmarks.loop import fed

#: as long as glibc tries with two name servers: five seconds each, twice
RESOLVER_SECONDS = 20.0

_look_up = socket.getaddrinfo


def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
    if str(host).endswith(DEAD_SUFFIX):
        time.sleep(RESOLVER_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _look_up(host, *arguments, **options)


if __name__ == "__main__":
    socket.getaddrinfo = look_up
    fed.start_feeding()
    execute_from_command_line(sys.argv)
