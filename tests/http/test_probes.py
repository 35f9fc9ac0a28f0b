"""``/live``, ``/ready`` and ``/metrics``: what they say, and to whom."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.http import HttpResponse
from django.test import AsyncClient, Client

from inference import fleet, readiness
from inference.api import auth
from inference.models import ModelWorker
from tests.scraped import parsed

pytestmark = pytest.mark.django_db(transaction=True)

State = ModelWorker.State


class FromAddress(AsyncClient):
    """Comes from that address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def _base_scope(self, **request: Any) -> dict[str, Any]:
        scope = super()._base_scope(**request)  # type: ignore[misc]
        # Of two hosts, the one that the test has asked for.
        hosts = [header for header in scope["headers"] if header[0] == b"host"]
        others = [header for header in scope["headers"] if header[0] != b"host"]
        return {**scope, "client": [self.address, 50_000], "headers": [*others, *hosts[-1:]]}


def get(path: str, *, address: str = "127.0.0.1", method: str = "GET", **headers: str) -> HttpResponse:
    async def ask() -> Any:
        async with asyncio.timeout(30):
            return await FromAddress(address).generic(method, path, headers=headers)

    return asyncio.run(ask())


def checks(response: HttpResponse) -> dict[str, Any]:
    body = json.loads(response.content)
    assert (response.status_code == 200) == body["ready"]
    assert set(body["checks"]) == {"database", "model", "broker"}
    return dict(body["checks"])


@pytest.fixture
def ready_worker() -> ModelWorker:
    return ModelWorker.objects.create(name="a", model="tiny", state=State.READY)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> Any:
        raise OperationalError("connection to 10.0.0.5 refused, password was secret")

    monkeypatch.setattr(readiness, "read_model_health", fail)
    monkeypatch.setattr(fleet, "_read", fail)


# --- /live and /ready ---


@pytest.mark.usefixtures("away")
def test_a_process_whose_database_is_away_is_alive() -> None:
    assert get("/live").status_code == 200


def test_a_server_with_a_model_is_ready(ready_worker: ModelWorker) -> None:
    response = get("/ready")
    assert response.status_code == 200
    assert all(check == {"ok": True, "reason": None} for check in checks(response).values())


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (None, "No worker is running"),
        ({"state": State.LOADING, "progress": "weights 2 of 4"}, "weights 2 of 4"),
        ({"state": State.FAILED, "error": "out of memory"}, "out of memory"),
        ({"state": State.READY, "drain": True}, "take no more sessions"),
    ],
)
def test_without_a_model_it_is_not_and_says_why(columns: dict[str, Any] | None, reason: str) -> None:
    if columns is not None:
        ModelWorker.objects.create(name="a", model="tiny", **columns)
    response = get("/ready")
    assert response.status_code == 503
    found = checks(response)
    assert found["database"]["ok"] and found["broker"]["ok"] and not found["model"]["ok"]
    assert reason in found["model"]["reason"]


def test_of_two_workers_one_that_takes_sessions_is_enough(ready_worker: ModelWorker) -> None:
    ModelWorker.objects.create(name="b", model="tiny", state=State.READY, drain=True)
    assert get("/ready").status_code == 200


@pytest.mark.usefixtures("away")
def test_without_its_database_it_is_not_ready_and_gives_nothing_away() -> None:
    response = get("/ready")
    assert response.status_code == 503
    assert not checks(response)["database"]["ok"] and not checks(response)["model"]["ok"]
    assert b"secret" not in response.content and b"10.0.0.5" not in response.content


def test_without_its_broker_it_is_not_ready(ready_worker: ModelWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://user:secret@127.0.0.1:1/0")
    response = get("/ready")
    assert response.status_code == 503
    assert checks(response)["broker"] == {"ok": False, "reason": "Redis does not answer."}
    assert checks(response)["model"]["ok"]


@pytest.mark.redis
def test_with_its_broker_it_is(ready_worker: ModelWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import services

    monkeypatch.setattr(settings, "REDIS_URL", services.REDIS_URL)
    assert get("/ready").status_code == 200


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
def test_probes_call_the_server_by_address_and_over_plain_http(
    path: str, ready_worker: ModelWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SECURE_SSL_REDIRECT", True)
    monkeypatch.setattr(settings, "API_KEYS", ["right"])
    for host in ("10.0.0.7", "10.0.0.7:3000", "[fd00::1]:3000"):
        assert get(path, host=host).status_code == 200
        assert get(path, host=host, method="HEAD").content == b""
    assert Client().get(path, headers={"host": "10.0.0.7"}).status_code == 200


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
def test_errors_of_probes_have_the_apis_shape(path: str) -> None:
    refused = get(path, method="POST")
    assert refused.status_code == 405
    assert json.loads(refused.content)["error"]["code"] == "method_not_allowed"


# --- /metrics ---


#: what Prometheus sends by default
OF_PROMETHEUS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"  # noqa: E501


@pytest.mark.parametrize("accept", ["", OF_PROMETHEUS, "text/plain;version=1.0.0", "application/openmetrics-text"])
def test_what_is_shown_has_its_names_whatever_the_reader_asks_for_and_is_kept_nowhere(accept: str) -> None:
    response = get("/metrics", accept=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response["Cache-Control"] == "no-store"
    found = parsed(response.content.decode())
    assert {"sambung:num_requests_waiting", "sambung:listeners"} <= found.names
    assert not [name for name in found.names if name.startswith("sambung_")]


@pytest.mark.usefixtures("away")
def test_a_database_that_is_away_fails_no_scrape() -> None:
    response = get("/metrics")
    found = parsed(response.content.decode())
    assert response.status_code == 200
    assert found["sambung:database_up"] == 0
    assert "sambung:num_requests_waiting" not in found
    assert "sambung:listeners" in found


def test_a_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*args: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(fleet, "in_db", hang)
    monkeypatch.setattr(fleet, "DATABASE_SECONDS", 0.05)
    found = parsed(get("/metrics").content.decode())
    assert found["sambung:database_up"] == 0


@pytest.mark.parametrize("address", ["203.0.113.9", "10.1.2.3", "fd00::1"])
def test_without_a_token_only_this_machine_reads(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = get("/metrics", address=address)
    assert refused.status_code == 403
    assert "METRICS_TOKEN" in json.loads(refused.content)["error"]["message"]
    monkeypatch.setattr(settings, "METRICS_ALLOWED_NETWORKS", ["203.0.113.0/24", "10.1.2.3", "fd00::/8"])
    assert get("/metrics", address=address).status_code == 200
    assert get("/metrics", address="198.51.100.1").status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_has_several_addresses(address: str) -> None:
    assert get("/metrics", address=address).status_code == 200


def test_whoever_comes_through_a_proxy_is_not_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get("/metrics", x_forwarded_for="203.0.113.9").status_code == 403
    assert get("/metrics", x_forwarded_for="127.0.0.1").status_code == 403
    assert get("/metrics", forwarded="for=127.0.0.1").status_code == 403
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", ["127.0.0.1"])
    assert get("/metrics", x_forwarded_for="203.0.113.9").status_code == 403
    assert get("/metrics", x_forwarded_for="127.0.0.1, 203.0.113.9").status_code == 403
    monkeypatch.setattr(settings, "METRICS_ALLOWED_NETWORKS", ["203.0.113.9"])
    assert get("/metrics", x_forwarded_for="203.0.113.9").status_code == 200


def test_a_page_whose_name_leads_here_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get("/metrics", host="evil.example").status_code == 400
    assert get("/metrics", host="localhost").status_code == 200
    monkeypatch.setattr(settings, "METRICS_TOKEN", "right")
    assert get("/metrics", host="prometheus.internal", authorization="Bearer right").status_code == 200


def test_with_a_token_the_token_decides_and_the_address_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_TOKEN", "right")
    monkeypatch.setattr(settings, "API_KEYS", ["key"])
    auth.failures.cache_clear()
    for wrong in ("Bearer wrong", "Bearer key", "Bearer rightx", "Basic right", "right", "Bearer é", "Bearer "):
        refused = get("/metrics", authorization=wrong)
        assert refused.status_code == 401
        assert refused["WWW-Authenticate"] == "Bearer"
    assert get("/metrics").status_code == 401
    assert get("/metrics", address="203.0.113.9", authorization="bearer right").status_code == 200
    assert get("/v1/models", authorization="Bearer right").status_code == 401
    auth.failures.cache_clear()


def test_tokens_cannot_be_tried_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_TOKEN", "right")
    auth.failures.cache_clear()
    answers = {
        get("/metrics", authorization=f"Bearer {n}").status_code for n in range(settings.API_KEY_MAX_FAILURES + 2)
    }
    assert answers == {401, 429}
    assert get("/metrics", authorization="Bearer right").status_code == 200
    auth.failures.cache_clear()


def test_requests_are_counted_by_route_and_never_by_path() -> None:
    get("/v1/sessions/some-id-of-a-session/events")
    get("/v1/models/any/name/at/all")
    get("/no-such/page")
    get("/static/icon.svg")
    get("/admin/login/")
    text = get("/metrics").content.decode()
    endpoints = {
        sample.split('endpoint="')[1].split('"')[0] for sample in parsed(text) if "http_requests_total{" in sample
    }
    routes = {"/v1/sessions/<session_id>/events", "/v1/models/<path:model_id>"}
    assert {*routes, "unknown", "static", "admin"} <= endpoints
    for part in ("some-id", "any/name", "no-such", "icon"):
        assert part not in text
    assert parsed(text)['sambung:http_requests_total{endpoint="/v1/sessions/<session_id>/events",status="404"}'] >= 1
