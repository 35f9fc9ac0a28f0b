"""The auditor's addresses below ``/admin/ocr/audit/``."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from ocr.audit import pages


def audit_urls(site: AdminSite) -> list[URLPattern]:
    """Names begin with ``admin:ktp_audit``."""
    view = site.admin_view
    return [
        path("ocr/audit/", view(require_safe(pages.log)), name="ktp_audit"),
        path("ocr/audit/breach/", view(require_safe(pages.breached)), name="ktp_audit_breach"),
    ]
