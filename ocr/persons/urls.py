"""The addresses of the auditor's pages, below ``/admin/ocr/person/``."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods, require_POST

from ocr.persons import views


def person_urls(site: AdminSite) -> list[URLPattern]:
    """Names begin with ``admin:ktp_person``."""
    view, form = site.admin_view, require_http_methods(["GET", "HEAD", "POST"])
    return [
        path("ocr/person/", view(form(views.person)), name="ktp_person"),
        path("ocr/person/export/", view(require_POST(views.export_chosen)), name="ktp_person_export"),
        path("ocr/person/hold/", view(require_POST(views.hold)), name="ktp_person_hold"),
        path("ocr/person/erase/", view(require_POST(views.erase_chosen)), name="ktp_person_erase"),
        path("ocr/person/receipt/", view(require_POST(views.download_receipt)), name="ktp_person_receipt"),
        path("ocr/person/verify/", view(form(views.verify_receipt)), name="ktp_person_verify"),
    ]
