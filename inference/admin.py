"""Workers in the admin. A worker writes its own row; operators drain, resume, reload and remove workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from inference.models import ModelWorker, ModelWorkerQuerySet
from inference.worker.load import WorkerLoad
from sessions_app.admin import formatting

Condition = ModelWorker.Condition
#: characters of an error or of the progress in the list; the page of the worker shows all of it
NOTE_CHARS = 160


@admin.register(ModelWorker)
class ModelWorkerAdmin(admin.ModelAdmin[ModelWorker]):
    list_display = ("name", "badge", "rows", "kv_memory", "speed", "device", "model", "note", "started", "heartbeat")
    list_filter = ("state", "model")
    search_fields = ("name", "model")
    fields = (
        *("name", "badge", "running", "rows", "kv_memory", "speed", "device", "model"),
        *("progress", "error_text", "started", "heartbeat"),
    )
    readonly_fields = fields
    actions = ("drain_selected", "resume_selected", "reload_selected", "remove_selected")
    change_form_template = "admin/inference/modelworker/change_form.html"

    # --- permissions ---

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ModelWorker | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelWorker | None = None) -> bool:
        """A live worker would write its row again, without the request to drain."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.has_ended)

    def has_reload_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("inference.reload_modelworker")

    def has_drain_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("inference.drain_modelworker")

    # --- actions ---

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """``remove_selected`` replaces Django's own: it leaves live workers alone."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @admin.action(description=_("Drain selected workers: finish, take no more"), permissions=["drain"])
    def drain_selected(self, request: HttpRequest, queryset: ModelWorkerQuerySet) -> None:
        asked = self._ask(request, queryset, queryset.alive(), "Drained.", drain=True)
        if asked:
            text = ngettext("%d worker takes no more sessions.", "%d workers take no more sessions.", asked) % asked
            self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Let selected workers take sessions again"), permissions=["drain"])
    def resume_selected(self, request: HttpRequest, queryset: ModelWorkerQuerySet) -> None:
        asked = self._ask(request, queryset, queryset.alive(), "Resumed.", drain=False)
        if asked:
            text = ngettext("%d worker takes sessions again.", "%d workers take sessions again.", asked) % asked
            self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Retry loading the model on selected workers where it failed"), permissions=["reload"])
    def reload_selected(self, request: HttpRequest, queryset: ModelWorkerQuerySet) -> None:
        able = queryset.alive().filter(state=ModelWorker.State.FAILED)
        asked = self._ask(request, queryset, able, "Reload requested.", try_again=True)
        if asked:
            text = ngettext("%d worker loads its model again.", "%d workers load their models again.", asked) % asked
            self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Remove selected workers that have ended"), permissions=["delete"])
    def remove_selected(self, request: HttpRequest, queryset: ModelWorkerQuerySet) -> None:
        chosen = queryset.count()
        ended = queryset.ended()
        self.log_deletions(request, ended)
        removed, _by_model = ended.delete()
        if removed:
            text = ngettext("%d worker was removed.", "%d workers were removed.", removed) % removed
            self.message_user(request, text, messages.SUCCESS)
        self._report_unchanged(request, chosen - removed)

    def _ask(
        self, request: HttpRequest, chosen: ModelWorkerQuerySet, able: ModelWorkerQuerySet, entry: str, **columns: bool
    ) -> int:
        """Write a request into the rows of those that can follow it. Each sees it at its next heartbeat."""
        workers = list(able)
        count = chosen.count()
        ModelWorker.objects.filter(pk__in=[worker.pk for worker in workers]).update(**columns)
        for worker in workers:
            self.log_change(request, worker, entry)
        self._report_unchanged(request, count - len(workers))
        return len(workers)

    def _report_unchanged(self, request: HttpRequest, count: int) -> None:
        if count:
            text = ngettext(
                "%d worker was left alone: it cannot do this in its state.",
                "%d workers were left alone: they cannot do this in their state.",
                count,
            )
            self.message_user(request, text % count, messages.INFO)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With a button for each action that this worker can follow."""
        worker = self.get_object(request, unquote(object_id))
        permitted = self.get_actions(request)
        offered = {} if worker is None else {name: text for name, text in _offers(worker) if name in permitted}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "offered": offered})

    # --- columns ---

    @admin.display(description=_("State"), ordering="state")
    def badge(self, worker: ModelWorker) -> SafeString:
        condition = worker.condition
        return format_html('<span class="badge badge-{}">{}</span>', condition.value, condition.label)

    @admin.display(description=_("Batch"))
    def rows(self, worker: ModelWorker) -> str:
        """Rows in use and their maximum; the number of sessions when the batch is that of an upstream server."""
        load = WorkerLoad.from_json(worker.load)
        used = worker.running if load.rows is None else load.rows
        if load.max_rows is None:
            return formatting.count(used)
        return gettext("%(used)s of %(all)s") % {"used": used, "all": load.max_rows}

    @admin.display(description=_("KV memory"))
    def kv_memory(self, worker: ModelWorker) -> str:
        load = WorkerLoad.from_json(worker.load)
        return formatting.NONE if load.kv_tokens is None else formatting.share(load.kv_tokens, load.max_kv_tokens)

    @admin.display(description=_("Tok/s"))
    def speed(self, worker: ModelWorker) -> str:
        return formatting.rate(WorkerLoad.from_json(worker.load).tokens_per_second) if worker.load else formatting.NONE

    @admin.display(description=_("Device"))
    def device(self, worker: ModelWorker) -> str:
        """The device, with the used and total memory of its GPUs."""
        load = WorkerLoad.from_json(worker.load)
        if load.gpu_bytes is None or not load.max_gpu_bytes:
            return load.device or formatting.NONE
        return f"{load.device}, {load.gpu_bytes / 2**30:.1f} / {load.max_gpu_bytes / 2**30:.1f} GiB"

    @admin.display(description=_("Loading, or error"))
    def note(self, worker: ModelWorker) -> SafeString | str:
        if worker.error:
            return format_html('<span class="error-note">{}</span>', Truncator(worker.error).chars(NOTE_CHARS))
        return worker.progress or formatting.NONE

    @admin.display(description=_("Error"))
    def error_text(self, worker: ModelWorker) -> SafeString | str:
        return format_html('<span class="error-note">{}</span>', worker.error) if worker.error else formatting.NONE

    @admin.display(description=_("Started"), ordering="started_at")
    def started(self, worker: ModelWorker) -> str:
        return formatting.moment(worker.started_at)

    @admin.display(description=_("Heartbeat"), ordering="heartbeat_at")
    def heartbeat(self, worker: ModelWorker) -> SafeString:
        return format_html(
            '<time datetime="{}" title="{}">{}</time>',
            worker.heartbeat_at.isoformat(),
            formatting.moment(worker.heartbeat_at),
            gettext("%(time)s ago") % {"time": formatting.rough(timezone.now() - worker.heartbeat_at)},
        )


def _offers(worker: ModelWorker) -> list[tuple[str, str]]:
    """The actions that this worker can follow, with the texts of their buttons."""
    if worker.has_ended:
        return []
    if worker.drain:
        return [("resume_selected", gettext("Take sessions again"))]
    offers = [("drain_selected", gettext("Drain: finish, take no more"))]
    if worker.state == ModelWorker.State.FAILED:
        offers.append(("reload_selected", gettext("Load the model again")))
    return offers
