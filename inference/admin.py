"""Workers in the admin: what each has loaded and when it was last heard. They write themselves; nobody edits them."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from inference.models import ModelWorker


@admin.register(ModelWorker)
class ModelWorkerAdmin(admin.ModelAdmin[ModelWorker]):
    list_display = ("name", "model", "state", "drain", "alive", "running", "progress", "started_at", "heartbeat_at")
    list_filter = ("state", "model")
    search_fields = ("name", "model")
    fields = ("name", "model", "state", "drain", "progress", "error", "running", "started_at", "heartbeat_at")
    readonly_fields = fields
    actions = ("load_again", "have_drained", "have_resume")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ModelWorker | None = None) -> bool:
        return False

    def has_reload_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("inference.reload_modelworker")

    @admin.action(description=_("Load the model again on selected workers"), permissions=["reload"])
    def load_again(self, request: HttpRequest, queryset: QuerySet[ModelWorker]) -> None:
        """A mark that the worker's next heartbeat sees; one whose model is there needs nothing."""
        asked = queryset.filter(state=ModelWorker.State.FAILED).update(try_again=True)
        if asked:
            text = ngettext("%d worker loads its model again.", "%d workers load their models again.", asked) % asked
            self.message_user(request, text, messages.SUCCESS)
        if asked < len(queryset):
            self.message_user(
                request, gettext("Workers whose model has not failed to load were left alone."), messages.INFO
            )

    def has_drain_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("inference.drain_modelworker")

    @admin.action(description=_("Drain selected workers: finish, take no more"), permissions=["drain"])
    def have_drained(self, request: HttpRequest, queryset: QuerySet[ModelWorker]) -> None:
        asked = queryset.update(drain=True)
        text = ngettext("%d worker takes no more sessions.", "%d workers take no more sessions.", asked) % asked
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Have selected workers take sessions again"), permissions=["drain"])
    def have_resume(self, request: HttpRequest, queryset: QuerySet[ModelWorker]) -> None:
        asked = queryset.update(drain=False)
        text = ngettext("%d worker takes sessions again.", "%d workers take sessions again.", asked) % asked
        self.message_user(request, text, messages.SUCCESS)

    @admin.display(boolean=True, description=_("Alive"))
    def alive(self, worker: ModelWorker) -> bool:
        return worker.is_alive
