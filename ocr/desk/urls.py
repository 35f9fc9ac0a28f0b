"""The desk's addresses below ``/admin/ocr/review/``. The admin's site wraps the views as it does its own."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST, require_safe

from ocr.desk import accuracy, card, finding, queue


def desk_urls(site: AdminSite) -> list[URLPattern]:
    """Names begin with ``admin:ktp_review``."""
    view = site.admin_view
    return [
        path("ocr/review/", view(require_safe(queue.queue)), name="ktp_review"),
        path("ocr/review/next/", view(require_POST(queue.next_card)), name="ktp_review_next"),
        path("ocr/review/logged-in/", view(require_safe(queue.logged_in)), name="ktp_review_logged_in"),
        path("ocr/review/accuracy/", view(require_safe(accuracy.accuracy)), name="ktp_review_accuracy"),
        path("ocr/find/", view(require_POST(finding.find)), name="ktp_find"),
        path("ocr/review/<uuid:pk>/", view(card.card), name="ktp_review_card"),
        path("ocr/review/<uuid:pk>/undo/", view(require_POST(card.undo)), name="ktp_review_undo"),
    ]
