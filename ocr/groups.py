"""The four roles as groups of permissions. ``docs/ktp.md`` has them as a table."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

#: group → permissions, as application.codename. All but clerks also need "staff status", which a group cannot give.
GROUPS: dict[str, tuple[str, ...]] = {
    "Clerk": ("ocr.add_ktpextraction",),
    "Reviewer": (
        "ocr.view_ktpextraction",
        "ocr.change_ktpextraction",
        "ocr.view_ktp_image",
        "ocr.review_ktp",
        "ocr.view_ktpchange",
    ),
    "Operator": (
        "sessions_app.view_chatsession",
        "sessions_app.delete_chatsession",
        "sessions_app.cancel_chatsession",
        "sessions_app.requeue_chatsession",
        "sessions_app.export_chatsession",
        "sessions_app.view_chunk",
        "ocr.view_ktpcallback",
        "ocr.resend_ktpcallback",
        "inference.view_modelworker",
        "inference.reload_modelworker",
        "inference.drain_modelworker",
        "inference.delete_modelworker",
        "axes.view_accessattempt",
        "axes.delete_accessattempt",
    ),
    "Auditor": (
        "ocr.view_ktpextraction",
        "ocr.view_ktpchange",
        "ocr.view_auditentry",
        "ocr.find_person_ktp",
        "ocr.export_person_ktp",
        "ocr.erase_ktp",
        "ocr.freeze_ktp",
        "sessions_app.view_chatsession",
    ),
}


def make_groups(*, using: str = "default", restore: bool = False) -> list[str]:
    """Create missing groups; with ``restore`` also reset the others to exactly these permissions.

    Without ``restore`` a changed group is left as it is. Returns the names of the groups created or restored.
    """
    done = []
    for name, permissions in GROUPS.items():
        group, is_new = Group.objects.using(using).get_or_create(name=name)
        if is_new or restore:
            group.permissions.set(_permissions(permissions, using))
            done.append(name)
    return done


def _permissions(names: tuple[str, ...], using: str) -> list[Permission]:
    wanted = Q()
    for name in names:
        app, _, codename = name.partition(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    return list(Permission.objects.using(using).filter(wanted))
