"""Choose where a worker gets its engine from."""

from __future__ import annotations

from django.conf import settings

from inference.backends.base import EngineSource


def engine_source() -> EngineSource:
    """The source that ``INFERENCE_ENGINE`` names."""
    # Imported here, because a worker needs only one of them.
    if settings.INFERENCE_ENGINE == "openai":
        from inference.backends.upstream.source import UpstreamSource

        return UpstreamSource()
    from inference.backends.local import LocalSource

    return LocalSource()
