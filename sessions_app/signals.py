"""Where other apps hook in without sessions_app knowing them."""

from __future__ import annotations

from django.dispatch import Signal

#: sent in every pass of the sweeper, before anything expires, in the thread that sweeps
swept = Signal()

#: sent before what a private session says is shown, with its ``session_id``, ``what`` is shown ("transcript", "live",
#: "chunks", "media", "export", "events"), and the ``user`` or else the API's ``caller``. If a receiver fails, it is not
#: shown.
private_text_shown = Signal()

#: sent when ``manage.py rotate_keys`` has finished, with the id of the ``first`` key and the number of ``rows`` written
keys_rotated = Signal()

#: sent before a web server listens, and when it has ended, in the thread that runs it
web_server_starts = Signal()
web_server_ended = Signal()
