"""The front page's further addresses below ``/admin/now/``."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from config.now import views


def now_urls(site: AdminSite) -> list[URLPattern]:
    """Names begin with ``admin:now``."""
    view = site.admin_view
    return [
        path("now/", view(require_safe(views.figures)), name="now"),
        path("now/table/", view(require_safe(views.table)), name="now_table"),
        path("now/stop/<str:session_id>/", view(require_POST(views.stop_one)), name="now_stop"),
        path("now/stop/", view(require_http_methods(["GET", "HEAD", "POST"])(views.stop_many)), name="now_stop_many"),
    ]
