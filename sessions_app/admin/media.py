"""The pictures and videos of a request, for those who may see them: small ones on the page, and the files as sent."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.templatetags.static import static

from sessions_app import privacy, thumbnails
from sessions_app.db import release_connections
from sessions_app.encryption.sealed import check_readable
from sessions_app.models import SessionMedia

#: the only types that a browser may show from here; anything else is offered as a download
SHOWN_CONTENT_TYPES = frozenset(
    (
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/bmp",
        "video/mp4",
        "video/webm",
        "video/quicktime",
    )
)


def original(request: HttpRequest, session_id: str, position: int) -> HttpResponse:
    """One image or video of the request, as it was sent."""
    media = _visible_or_404(request, session_id, position)
    is_shown = media.content_type in SHOWN_CONTENT_TYPES
    response = _guarded(media.data, media.content_type if is_shown else "application/octet-stream")
    if not is_shown:
        response.headers["Content-Disposition"] = f'attachment; filename="{media.kind}-{position}"'
    return response


def thumbnail(request: HttpRequest, session_id: str, position: int) -> HttpResponse:
    """A small JPEG of an image, or of a video's first frame; an icon where it cannot be decoded."""
    media = _visible_or_404(request, session_id, position)
    # Decoding may wait for its turn. Do not hold a database connection meanwhile.
    release_connections()
    try:
        return _guarded(thumbnails.make_thumbnail(media.kind, bytes(media.data)), "image/jpeg")
    except thumbnails.NoThumbnail:
        return HttpResponseRedirect(static(f"sessions_app/{media.kind}.svg"))


def _visible_or_404(request: HttpRequest, session_id: str, position: int) -> SessionMedia:
    if not request.user.has_perm(privacy.VIEW_MEDIA):
        raise PermissionDenied
    media: SessionMedia = get_object_or_404(
        SessionMedia.objects.select_related("session").defer("session__request"),
        session_id=session_id,
        position=position,
    )
    if not privacy.may_see_media(request.user, media.session):
        raise PermissionDenied
    check_readable(media.data)
    privacy.tell_shown(media.session, "media", user=request.user)
    return media


def _guarded(data: bytes | memoryview, content_type: str) -> HttpResponse:
    response = HttpResponse(bytes(data), content_type=content_type)
    response.headers["Cache-Control"] = "no-store, private"
    # The bytes came from outside: nothing in them may run with the admin's origin.
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
    )
    return response
