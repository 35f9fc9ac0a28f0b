"""The operator's view of the workers: what each is at, why one failed, and the wish that it tries again."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from inference.models import ModelWorker

pytestmark = pytest.mark.django_db

LIST = "/admin/inference/modelworker/"
State = ModelWorker.State


def signed_in(*codenames: str) -> Client:
    user = User.objects.create_user("-".join(codenames), is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    assert user.user_permissions.count() == len(codenames)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in("view_modelworker", "reload_modelworker")


def test_the_list_shows_how_far_a_model_has_loaded(operator: Client) -> None:
    ModelWorker.objects.create(name="a", model="tiny", progress="loading the weights: 30 of 60 (50%)")
    assert "30 of 60 (50%)" in operator.get(LIST).content.decode()


def test_the_page_of_a_worker_says_why_it_failed(operator: Client) -> None:
    ModelWorker.objects.create(name="a", model="tiny", state=State.FAILED, error="a file is missing")
    assert "a file is missing" in operator.get(f"{LIST}a/change/").content.decode()


def test_only_a_failed_worker_is_asked_to_load_again(operator: Client) -> None:
    for name, state in [("failed", State.FAILED), ("ready", State.READY)]:
        ModelWorker.objects.create(name=name, model="tiny", state=state)
    body = {"action": "load_again", "_selected_action": ["failed", "ready"]}
    told = operator.post(LIST, body, follow=True).content.decode()
    assert "1 worker loads its model again." in told
    assert "were left alone" in told
    assert list(ModelWorker.objects.filter(try_again=True).values_list("pk", flat=True)) == ["failed"]


def test_who_may_only_look_is_offered_no_action() -> None:
    ModelWorker.objects.create(name="a", model="tiny", state=State.FAILED)
    viewer = signed_in("view_modelworker")
    assert "load_again" not in viewer.get(LIST).content.decode()
    viewer.post(LIST, {"action": "load_again", "_selected_action": ["a"]})
    assert not ModelWorker.objects.filter(try_again=True).exists()
