from __future__ import annotations

from django.urls import path

from ocr import progress, results, views

app_name = "ocr"

urlpatterns = [
    path("", views.upload, name="upload"),
    path("progress/", progress.progress, name="progress"),
    path("<uuid:pk>/", results.result, name="result"),
    path("<uuid:pk>/check/", results.check, name="check"),
    path("<uuid:pk>/image/", views.image, name="image"),
    path("<uuid:pk>/events/", progress.events, name="events"),
    path("<uuid:pk>/cancel/", progress.cancel, name="cancel"),
    path("<uuid:pk>/turn/", progress.turn, name="turn"),
]
