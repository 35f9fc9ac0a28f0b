"""Where other apps hook in without sessions_app knowing them."""

from __future__ import annotations

from django.dispatch import Signal

#: sent in every pass of the sweeper, before anything expires, in the thread that sweeps
swept = Signal()

#: sent before a web server listens, and when it has ended, in the thread that runs it
web_server_starts = Signal()
web_server_ended = Signal()
