"""The four groups: made once, and later given what a release brings, without undoing what an operator changed."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from ocr import groups
from ocr.models import GivenPermission

pytestmark = pytest.mark.django_db


def permissions_of(name):
    held = Group.objects.get(name=name).permissions.select_related("content_type")
    return {f"{each.content_type.app_label}.{each.codename}" for each in held}


def take(name, codename):
    Group.objects.get(name=name).permissions.remove(Permission.objects.get(codename=codename))


@pytest.fixture(autouse=True)
def as_they_came():
    call_command("make_groups", reset=True)


def test_a_group_has_exactly_its_permissions_of_the_table():
    for name, permissions in groups.GROUPS.items():
        assert permissions_of(name) == set(permissions)


def test_migrate_makes_a_missing_group_and_leaves_a_changed_one():
    take("Clerk", "add_ktpextraction")
    Group.objects.get(name="Auditor").delete()
    call_command("migrate", verbosity=0)
    assert permissions_of("Clerk") == set()
    assert permissions_of("Auditor") == set(groups.GROUPS["Auditor"])


def test_a_new_release_adds_what_it_brings_and_undoes_no_change(monkeypatch, capsys):
    take("Operator", "delete_chatsession")
    Group.objects.get(name="Operator").permissions.add(Permission.objects.get(codename="export_ktpextraction"))
    changed = permissions_of("Operator")
    brought = {**groups.GROUPS, "Operator": (*groups.GROUPS["Operator"], "ocr.view_auditentry")}
    monkeypatch.setattr(groups, "GROUPS", brought)

    call_command("make_groups")
    assert permissions_of("Operator") == changed | {"ocr.view_auditentry"}
    assert capsys.readouterr().out.splitlines()[-1] == "Operator: ocr.view_auditentry"

    take("Operator", "view_auditentry")
    call_command("make_groups")
    assert permissions_of("Operator") == changed
    assert "There is nothing to give" in capsys.readouterr().out


def test_a_group_from_before_this_was_recorded_gets_what_it_lacks_once():
    GivenPermission.objects.all().delete()
    take("Auditor", "freeze_ktp")
    call_command("make_groups")
    assert permissions_of("Auditor") == set(groups.GROUPS["Auditor"])
    take("Auditor", "freeze_ktp")
    call_command("make_groups")
    assert "ocr.freeze_ktp" not in permissions_of("Auditor")


def test_a_group_that_was_deleted_comes_back_whole():
    take("Clerk", "add_ktpextraction")
    Group.objects.get(name="Clerk").delete()
    call_command("make_groups")
    assert permissions_of("Clerk") == {"ocr.add_ktpextraction"}


def test_reset_takes_what_was_added():
    Group.objects.get(name="Clerk").permissions.add(Permission.objects.get(codename="review_ktp"))
    call_command("make_groups", reset=True)
    assert permissions_of("Clerk") == {"ocr.add_ktpextraction"}


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_ends_before_the_table_of_the_groups_makes_none():
    Group.objects.get(name="Clerk").delete()
    call_command("migrate", "ocr", "0018", verbosity=0)
    try:
        assert not Group.objects.filter(name="Clerk").exists()
    finally:
        call_command("migrate", verbosity=0)
    assert permissions_of("Clerk") == set(groups.GROUPS["Clerk"])
