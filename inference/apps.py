from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = _("Inference")

    def ready(self) -> None:
        from inference import checks  # noqa: F401  (registers the system checks)
        from inference.readiness import why_sessions_wait
        from sessions_app import queue_reasons, signals, thumbnails

        queue_reasons.explained_by(why_sessions_wait)
        thumbnails.made_by(_make_thumbnail)
        signals.web_server_starts.connect(_begin_decoding)
        signals.web_server_ended.connect(_end_decoding)


def _begin_decoding(**kwargs: Any) -> None:
    # Imported only here, because commands that do not serve requests need no decoders.
    from inference.media.decoding import decoding_pool

    decoding_pool().start()


def _end_decoding(**kwargs: Any) -> None:
    from inference.media.decoding import decoding_pool

    decoding_pool().stop()


def _make_thumbnail(kind: str, data: bytes, longest_side: int) -> bytes:
    # As above.
    from inference.errors import ApiError
    from inference.media.decode import make_thumbnail
    from sessions_app.thumbnails import NoThumbnail

    try:
        return make_thumbnail(kind, data, longest_side)
    except ApiError as exc:
        raise NoThumbnail from exc
