"""Workers in the admin: what each has loaded and when it was last heard. They write themselves; nobody edits them."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from inference.models import ModelWorker


@admin.register(ModelWorker)
class ModelWorkerAdmin(admin.ModelAdmin[ModelWorker]):
    list_display = ("name", "model", "state", "alive", "running", "progress", "started_at", "heartbeat_at")
    list_filter = ("state", "model")
    search_fields = ("name", "model")
    readonly_fields = ("name", "model", "state", "progress", "error", "running", "started_at", "heartbeat_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ModelWorker | None = None) -> bool:
        return False

    @admin.display(boolean=True, description="Alive")
    def alive(self, worker: ModelWorker) -> bool:
        return worker.is_alive
