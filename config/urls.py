from __future__ import annotations

from django.contrib import admin
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path

from config.api import api
from config.home import home

admin.site.site_header = "Sambung"
admin.site.site_title = "Sambung"
admin.site.index_title = "Sessions, workers and KTP readings"

urlpatterns = [
    path("", home, name="home"),
    # The admin and the API pages name no icon of their own; browsers ask here.
    path("favicon.ico", lambda request: redirect(static("icon.svg"))),
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("ocr/", include("ocr.urls")),
    path("", api.urls),
]
