"""The small web server of a worker's metrics: who may read, and that nobody can hold it up."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from django.conf import settings

from inference.worker import metrics
from tests.live.stack import free_port
from tests.scraped import parsed


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    port = free_port()
    monkeypatch.setattr(settings, "WORKER_METRICS_PORT", port)
    server = metrics.serve_metrics()
    assert server is not None
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def status(base_url: str, path: str = "/metrics", **headers: str) -> int:
    return httpx.get(f"{base_url}{path}", headers=headers, timeout=30).status_code


def test_this_machine_reads_by_address_and_by_its_own_name(base_url: str) -> None:
    response = httpx.get(f"{base_url}/metrics", timeout=30)
    assert response.status_code == 200
    assert "sambung:listeners" in parsed(response.text)
    assert status(base_url, Host="localhost:9100") == 200
    assert status(base_url, path="/metrics?x=1") == 200
    assert status(base_url, path="/") == 404


def test_a_page_whose_name_leads_here_reads_nothing(base_url: str) -> None:
    assert status(base_url, Host="evil.example") == 403


def test_with_a_token_the_token_decides(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_TOKEN", "right")
    assert status(base_url) == status(base_url, Authorization="Bearer wrong") == 401
    assert status(base_url, Authorization="Bearer right", Host="worker.internal") == 200


def test_a_reader_that_sends_nothing_holds_up_no_other(base_url: str) -> None:
    with socket.create_connection(("127.0.0.1", int(base_url.rpartition(":")[2]))):
        assert status(base_url) == 200


def test_a_port_that_is_taken_is_said_and_stops_no_worker(base_url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert metrics.serve_metrics() is None
    [record] = caplog.records
    assert "the metrics cannot be served at 127.0.0.1:" in record.getMessage()


def test_without_a_port_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "WORKER_METRICS_PORT", 0)
    assert metrics.serve_metrics() is None
