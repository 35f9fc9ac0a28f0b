"""The pages of sessions and chunks in the admin."""

from __future__ import annotations

from sessions_app.admin import chunks, sessions  # noqa: F401  (registers the pages)
