from __future__ import annotations

from django.urls import path

from ocr import views

app_name = "ocr"

urlpatterns = [
    path("", views.upload, name="upload"),
    path("<uuid:pk>/", views.result, name="result"),
    path("<uuid:pk>/image/", views.image, name="image"),
]
