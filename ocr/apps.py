from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from inference.worker.side_threads import StoppableThread, add_to_workers
from sessions_app.signals import keys_rotated, private_text_shown, swept

if TYPE_CHECKING:
    from sessions_app.models import ChatSession


class OcrConfig(AppConfig):
    name = "ocr"
    verbose_name = _("KTP reading")

    def ready(self) -> None:
        # Models are loaded after the app registry.
        from ocr import checks, lookup  # noqa: F401  (checks registers itself)
        from sessions_app.encryption.rotation import Derived, register_derived
        from sessions_app.privacy import keep_private

        # A transcript contains all values of a card, so it is only for users who may see them in full.
        keep_private("ocr", "ocr.review_ktp", media_permission="ocr.view_ktp_image", result_url=url_of_reading_by)
        digests = Derived(("nik_lookup", "name_lookup"), ("nik", "nama"), lookup.value_lookups)
        register_derived("ocr.KtpExtraction", digests)
        register_derived("ocr.KtpImage", Derived(("sha256",), ("data",), lookup.picture_column))
        private_text_shown.connect(record_shown, dispatch_uid="ocr.record_shown")
        keys_rotated.connect(record_rotation, dispatch_uid="ocr.record_rotation")
        swept.connect(complete_finished, dispatch_uid="ocr.complete_finished")
        swept.connect(purge, dispatch_uid="ocr.purge")
        swept.connect(forget_submissions, dispatch_uid="ocr.forget_submissions")
        add_to_workers(new_courier)
        post_migrate.connect(make_missing_groups, sender=self, dispatch_uid="ocr.make_missing_groups")


def url_of_reading_by(session: ChatSession) -> str:
    """The admin page of the session's reading; "" if it was erased or has been sent to the model again."""
    from ocr.models import KtpExtraction

    pk = KtpExtraction.objects.filter(session=session.pk).values_list("pk", flat=True).first()
    return reverse("admin:ocr_ktpextraction_change", args=[pk]) if pk is not None else ""


def record_shown(*, session_id: str, what: str, user: Any, caller: str, **kwargs: Any) -> None:
    """Record in the audit log who read the text of a card's session."""
    from ocr.audit import viewing  # its models are loaded after the app registry

    viewing.note_session(session_id, what, user=user, caller=caller)


def record_rotation(*, first: str, rows: int, **kwargs: Any) -> None:
    """Record a rotation of the data keys in the audit log."""
    from ocr.audit.recording import Action, Actor, record  # as above

    record(Action.KEYS_ROTATED, actor=Actor.of_command(), facts={"first": first, "rows": rows})


def complete_finished(**kwargs: Any) -> None:
    """Complete the readings whose web process is gone. Runs after every sweep, in the thread that swept."""
    from ocr import extraction  # its models are loaded after the app registry

    extraction.complete_finished()


def purge(**kwargs: Any) -> None:
    """Erase readings and pictures at the end of their retention. Runs in every sweep, for a limited time."""
    from ocr import retention  # as above

    retention.sweep()


def new_courier() -> StoppableThread:
    """The thread that sends callbacks for readings that have ended."""
    from ocr.callbacks.courier import Courier  # as above

    return Courier()


def forget_submissions(**kwargs: Any) -> None:
    """Delete idempotency keys and batch lists of old requests."""
    from ocr import submissions  # as above

    submissions.forget_old()


def make_missing_groups(*, using: str, **kwargs: Any) -> None:
    """Create the roles in a new database. Not in a migration, because permissions are created after migrations."""
    from ocr import groups  # as above
    from ocr.given_permissions import GivenPermission

    # A migration to an earlier state, or of another app alone, ends without the table that the groups need.
    if GivenPermission._meta.db_table in connections[using].introspection.table_names():
        groups.make_groups(using=using)
