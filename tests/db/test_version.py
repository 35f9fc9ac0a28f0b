"""One version, written in pyproject.toml, wherever this server says which it is."""

from __future__ import annotations

import tomllib

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.live.stack import ROOT

pytestmark = pytest.mark.django_db(transaction=True)
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_health_and_the_api_document_give_the_version(client: Client):
    assert client.get("/health").json()["version"] == VERSION
    assert client.get("/openapi.json").json()["info"]["version"] == VERSION


def test_the_admin_gives_the_version_to_those_who_are_logged_in(client: Client):
    assert VERSION not in client.get("/admin/login/").content.decode()

    client.force_login(User.objects.create_superuser("operator"))

    assert f"Sambung {VERSION}" in client.get("/admin/").content.decode()
