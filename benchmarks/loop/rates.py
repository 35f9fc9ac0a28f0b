"""How the streams are fed."""

from __future__ import annotations

#: the sessions are loop-0, loop-1 …
FED_NAME = "loop"
#: events a second in every stream
FEED_RATE = 20
#: longer than any run
FEED_SECONDS = 3600
