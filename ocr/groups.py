"""The four roles as groups of permissions. ``docs/ktp.md`` has them as a table."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

from ocr.given_permissions import GivenPermission

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


def make_groups(*, using: str = "default") -> dict[str, list[str]]:
    """Create missing groups with their permissions. A group that exists is left as it is.

    Returns the permissions that were given, by group.
    """
    given = {}
    for name in GROUPS:
        group, is_new = Group.objects.using(using).get_or_create(name=name)
        if is_new:
            given[name] = _give(group, using)
    return given


def add_new_permissions(*, using: str = "default") -> dict[str, list[str]]:
    """Create missing groups, and give each group the permissions that no release has given it before.

    Permissions that an operator removed or added stay so. For a group from before this was recorded, what was removed
    is unknown: it gets everything that it lacks. Returns as ``make_groups``, without groups that got nothing.
    """
    made = make_groups(using=using)
    groups = Group.objects.using(using).filter(name__in=GROUPS)
    given = {group.name: _give(group, using) for group in groups}
    return {name: permissions for name, permissions in (given | made).items() if permissions}


def reset_groups(*, using: str = "default") -> None:
    """Give every group exactly its permissions of ``GROUPS``, as on a fresh database."""
    with transaction.atomic(using=using):
        for name in GROUPS:
            group, _ = Group.objects.using(using).get_or_create(name=name)
            group.permissions.clear()
            GivenPermission.objects.using(using).filter(group=group).delete()
            _give(group, using)


def _give(group: Group, using: str) -> list[str]:
    """Give the group those of its permissions that it was never given, and record that; those that it lacked."""
    records = GivenPermission.objects.using(using)
    before = set(records.filter(group=group).values_list("permission", flat=True))
    wanted = _permissions(GROUPS[group.name], using)
    new = {name: permission for name, permission in wanted.items() if name not in before}
    held = set(group.permissions.values_list("pk", flat=True))
    with transaction.atomic(using=using):
        group.permissions.add(*new.values())
        records.bulk_create([GivenPermission(group=group, permission=name) for name in new], ignore_conflicts=True)
    return sorted(name for name, permission in new.items() if permission.pk not in held)


def _permissions(names: tuple[str, ...], using: str) -> dict[str, Permission]:
    wanted = Q()
    for name in names:
        app, _, codename = name.partition(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    found = Permission.objects.using(using).select_related("content_type").filter(wanted)
    return {f"{permission.content_type.app_label}.{permission.codename}": permission for permission in found}
