"""The operator's view of the workers: what each does, why one failed, and what may be asked of it."""

from __future__ import annotations

import dataclasses
import datetime
import re

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from inference.models import ModelWorker
from inference.worker.load import WorkerLoad
from sessions_app.admin import formatting

pytestmark = pytest.mark.django_db

LIST = "/admin/inference/modelworker/"
State = ModelWorker.State
RIGHTS = ("view_modelworker", "reload_modelworker", "drain_modelworker", "delete_modelworker")


def signed_in(*codenames: str) -> Client:
    user = User.objects.create_user("-".join(codenames), is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    assert user.user_permissions.count() == len(codenames)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in(*RIGHTS)


@pytest.fixture
def viewer() -> Client:
    return signed_in("view_modelworker")


def worker(name: str, state: str = State.READY, *, silent_for: int = 0, **columns: object) -> ModelWorker:
    heard = timezone.now() - datetime.timedelta(seconds=silent_for)
    return ModelWorker.objects.create(name=name, model="tiny", state=state, heartbeat_at=heard, **columns)


def ask(client: Client, action: str, *names: str) -> str:
    body = {"action": action, "_selected_action": names}
    return client.post(LIST, body, follow=True).content.decode()


def names(**columns: object) -> list[str]:
    return sorted(ModelWorker.objects.filter(**columns).values_list("pk", flat=True))


# --- what is shown ---


def test_the_list_shows_how_far_a_model_has_loaded(operator: Client) -> None:
    worker("a", State.LOADING, progress="loading the weights: 30 of 60 (50%)")
    assert "30 of 60 (50%)" in operator.get(LIST).content.decode()


def test_the_list_and_the_page_of_a_worker_say_why_it_failed(operator: Client) -> None:
    worker("a", State.FAILED, error="a file is missing")
    assert "a file is missing" in operator.get(LIST).content.decode()
    assert "a file is missing" in operator.get(f"{LIST}a/change/").content.decode()


def test_a_long_error_is_cut_in_the_list_alone(operator: Client) -> None:
    worker("a", State.FAILED, error="missing " * 60 + "the end")
    assert "the end" not in operator.get(LIST).content.decode()
    assert "the end" in operator.get(f"{LIST}a/change/").content.decode()


def test_an_error_is_shown_as_text(operator: Client) -> None:
    worker("a", State.FAILED, error="<script>alert(1)</script>")
    for address in (LIST, f"{LIST}a/change/"):
        assert "<script>alert(1)" not in operator.get(address).content.decode()


@pytest.mark.parametrize(
    ("columns", "condition"),
    [
        ({}, "Ready"),
        ({"state": State.LOADING}, "Loading"),
        ({"drain": True, "running": 2}, "Draining"),
        ({"drain": True}, "Drained"),
        ({"drain": True, "state": State.FAILED}, "Failed"),
        ({"state": State.STOPPED}, "Stopped"),
        ({"silent_for": 3600}, "Gone"),
        ({"silent_for": 3600, "state": State.STOPPED}, "Stopped"),
    ],
)
def test_the_state_takes_drain_and_heartbeat_into_account(
    operator: Client, columns: dict[str, object], condition: str
) -> None:
    worker("a", **columns)  # type: ignore[arg-type]
    assert f">{condition}</span>" in operator.get(LIST).content.decode()


def cells(client: Client, name: str) -> dict[str, str]:
    """The row of a worker, by the names of the columns."""
    html = client.get(LIST).content.decode()
    [row] = [row for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL) if f">{name}<" in row]
    found = re.findall(r'data-label="([^"]*)">(.*?)</t[dh]>', row, re.DOTALL)
    return {label: re.sub(r"<[^>]*>", "", value) for label, value in found}


def test_the_list_shows_how_busy_each_worker_is(operator: Client) -> None:
    gib = 2**30
    load = WorkerLoad(5, 16, 300, 1200, "cuda:0", 12 * gib, 80 * gib, 212.345)
    worker("busy", load=dataclasses.asdict(load))
    shown = cells(operator, "busy")
    assert {name: shown[name] for name in ("Batch", "KV memory", "Tok/s", "Device")} == {
        "Batch": "5 of 16",
        "KV memory": "25%",
        "Tok/s": "212.3",
        "Device": "cuda:0, 12.0 / 80.0 GiB",
    }


@pytest.mark.parametrize("load", [None, {}, {"rows": "many"}])
def test_a_worker_that_reports_no_load_is_listed(operator: Client, load: object) -> None:
    worker("old", running=3, load=load)
    shown = cells(operator, "old")
    assert (shown["Batch"], shown["KV memory"], shown["Device"]) == ("3", "–", "–")


def test_a_heartbeat_says_how_long_ago_and_in_full_when(operator: Client) -> None:
    row = worker("a", silent_for=125)
    html = operator.get(LIST).content.decode()
    assert cells(operator, "a")["Heartbeat"] == "2 min ago"
    assert f'<time datetime="{row.heartbeat_at.isoformat()}" title="{formatting.moment(row.heartbeat_at)}">' in html


# --- reload ---


def test_only_a_live_worker_that_failed_is_asked_to_load_again(operator: Client) -> None:
    worker("failed", State.FAILED)
    worker("ready")
    worker("gone", State.FAILED, silent_for=3600)
    told = ask(operator, "reload_selected", "failed", "ready", "gone")
    assert "1 worker loads its model again." in told
    assert "2 workers were left alone" in told
    assert names(try_again=True) == ["failed"]


# --- drain and resume ---


def test_only_live_workers_are_drained(operator: Client) -> None:
    worker("a")
    worker("gone", silent_for=3600)
    told = ask(operator, "drain_selected", "a", "gone")
    assert "1 worker takes no more sessions." in told
    assert "1 worker was left alone" in told
    assert names(drain=True) == ["a"]


# --- remove ---


def test_ended_workers_are_removed_and_live_ones_left_alone(operator: Client) -> None:
    worker("ready")
    worker("failed", State.FAILED)
    worker("stopped", State.STOPPED)
    worker("gone", silent_for=3600)
    told = ask(operator, "remove_selected", "ready", "failed", "stopped", "gone")
    assert "2 workers were removed." in told
    assert "2 workers were left alone" in told
    assert names() == ["failed", "ready"]


def test_a_live_worker_cannot_be_deleted_by_address_or_by_djangos_action(operator: Client) -> None:
    worker("ready")
    address = f"{LIST}ready/delete/"
    assert address not in operator.get(f"{LIST}ready/change/").content.decode()
    assert operator.get(address).status_code == httpx.codes.FORBIDDEN
    assert operator.post(address, {"post": "yes"}).status_code == httpx.codes.FORBIDDEN
    operator.post(LIST, {"action": "delete_selected", "_selected_action": ["ready"], "post": "yes"})
    assert names() == ["ready"]


def test_an_ended_worker_is_deleted_from_its_page(operator: Client) -> None:
    worker("gone", silent_for=3600)
    address = f"{LIST}gone/delete/"
    assert address in operator.get(f"{LIST}gone/change/").content.decode()
    operator.post(address, {"post": "yes"})
    assert names() == []


# --- who may, and what is kept of it ---


@pytest.mark.parametrize("action", ["reload_selected", "drain_selected", "resume_selected", "remove_selected"])
def test_who_may_only_look_is_offered_no_action(viewer: Client, action: str) -> None:
    worker("failed", State.FAILED)
    worker("drained", drain=True)
    worker("gone", silent_for=3600)
    pages = [LIST, *(f"{LIST}{name}/change/" for name in ("failed", "drained", "gone"))]
    assert not [page for page in pages if action in viewer.get(page).content.decode()]
    ask(viewer, action, "failed", "drained", "gone")
    assert names(try_again=True) == []
    assert names(drain=True) == ["drained"]
    assert names() == ["drained", "failed", "gone"]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("right", "action"),
    [
        ("reload_modelworker", "reload_selected"),
        ("drain_modelworker", "drain_selected"),
        ("delete_modelworker", "remove_selected"),
    ],
)
def test_each_action_has_a_permission_of_its_own(right: str, action: str) -> None:
    worker("a")
    page = signed_in("view_modelworker", right).get(LIST).content.decode()
    offered = {name for name in ("reload_selected", "drain_selected", "remove_selected") if name in page}
    assert offered == {action}


@pytest.mark.parametrize(
    ("columns", "offered"),
    [
        ({}, {"drain_selected"}),
        ({"state": State.FAILED}, {"drain_selected", "reload_selected"}),
        ({"drain": True}, {"resume_selected"}),
        ({"silent_for": 3600}, set()),
    ],
)
def test_the_page_of_a_worker_has_a_button_for_what_it_can_follow(
    operator: Client, columns: dict[str, object], offered: set[str]
) -> None:
    row = worker("gpu-1:7:a", **columns)  # type: ignore[arg-type]
    page = operator.get(f"{LIST}{quote(row.pk)}/change/").content.decode()
    actions = ("reload_selected", "drain_selected", "resume_selected", "remove_selected")
    assert {action for action in actions if action in page} == offered


def test_what_was_asked_of_a_worker_is_in_its_history(operator: Client) -> None:
    worker("a", State.FAILED)
    for action in ("drain_selected", "resume_selected", "reload_selected"):
        ask(operator, action, "a")
    entries = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    assert list(entries) == [("a", "Drained."), ("a", "Resumed."), ("a", "Reload requested.")]
    assert "Reload requested." in operator.get(f"{LIST}a/history/").content.decode()


def test_a_removal_is_logged(operator: Client) -> None:
    worker("gone", silent_for=3600)
    ask(operator, "remove_selected", "gone")
    assert [entry.object_id for entry in LogEntry.objects.all() if entry.is_deletion()] == ["gone"]
