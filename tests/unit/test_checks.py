"""Settings that would break a promise are found at start, by a check that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import checks

from inference.checks import check_deployed_settings, check_inference_settings
from ocr.checks import check_callback_secrets
from sessions_app.checks import check_redis, check_streaming_settings

POSTGRESQL = {"default": {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 0}}
SQLITE = {"default": {"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": 0}}


def found() -> list[checks.CheckMessage]:
    return check_streaming_settings(None) + check_inference_settings(None)


@pytest.mark.parametrize("databases", [SQLITE, POSTGRESQL])
def test_the_defaults_have_nothing_wrong(monkeypatch: pytest.MonkeyPatch, databases: dict[str, Any]) -> None:
    monkeypatch.setattr(settings, "DATABASES", databases)
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "check_id"),
    [
        ({"MIDDLEWARE": ["django.middleware.gzip.GZipMiddleware"]}, "sessions_app.E001"),
        ({"DATABASES": {"default": {**SQLITE["default"], "CONN_MAX_AGE": 60}}}, "sessions_app.E002"),
        ({"DATABASES": {"default": {**SQLITE["default"], "CONN_MAX_AGE": None}}}, "sessions_app.E002"),
        ({"SESSION_LEASE_SECONDS": 1.0, "CHUNK_COMMIT_SECONDS": 0.2}, "sessions_app.E003"),
        ({"DATABASES": POSTGRESQL, "DB_POOL_SIZE": 5, "DB_THREADS": 4}, "sessions_app.W001"),
        ({"DATABASES": SQLITE, "REDIS_URL": "redis://127.0.0.1/15"}, "sessions_app.W002"),
        ({"MAX_IMAGE_BYTES": 60_000_000}, "inference.W001"),
        ({"MAX_REQUEST_BYTES": 50_000_000}, "inference.W006"),
        ({"MEDIA_LOCAL_ROOT": "no/such/folder"}, "inference.E001"),
        ({"TORCH_DTYPE": "float8"}, "inference.E002"),
        ({"QUANTIZATION": "int8"}, "inference.E005"),
        ({"INFERENCE_ENGINE": "vllm"}, "inference.E006"),
        ({"INFERENCE_ENGINE": "openai"}, "inference.E007"),
        ({"INFERENCE_ENGINE": "openai", "UPSTREAM_BASE_URL": "gpu.internal:8000"}, "inference.E007"),
        ({"UPSTREAM_RESUME": "maybe"}, "inference.E008"),
        ({"DEVICE_MAP": "gpu"}, "inference.E004"),
        ({"DEVICE_MAP": "auto:1"}, "inference.E004"),
        ({"DEVICE_MAP": ""}, "inference.E004"),
        ({"MAX_TOKENS": 512, "MAX_TOKENS_LIMIT": 256}, "inference.E003"),
        ({"MAX_REASONING_TOKENS": 2048, "MAX_TOKENS_LIMIT": 2000}, "inference.W007"),
        ({"SESSION_ID_FIELD": "stop"}, "inference.E011"),
        ({"SESSION_ID_FIELD": "user"}, "inference.E011"),
        ({"SESSION_ID_FIELD": "grammar"}, "inference.E011"),
        ({"SESSION_ID_FIELD": ""}, "inference.E011"),
        ({"SESSION_ID_FIELD": "session id"}, "inference.E011"),
        ({"MAX_REASONING_TOKENS": 2048, "MAX_CONTEXT_TOKENS": 2048}, "inference.W008"),
    ],
)
def test_a_setting_that_breaks_a_promise_is_found(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], check_id: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(settings, name, value)
    [message] = found()
    assert message.id == check_id
    assert message.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"DATABASES": POSTGRESQL, "DB_POOL_SIZE": 6, "DB_THREADS": 4},
        {"DATABASES": POSTGRESQL, "REDIS_URL": "redis://127.0.0.1/15"},
        {"INFERENCE_ENGINE": "openai", "UPSTREAM_BASE_URL": "http://gpu.internal:8000/v1"},
        {"SESSION_LEASE_SECONDS": 2.0, "CHUNK_COMMIT_SECONDS": 0.2},
        *({"DEVICE_MAP": name} for name in ("auto", "balanced", "sequential", "cpu", "cuda", "cuda:1", "mps", "xpu")),
    ],
)
def test_settings_at_the_limit_pass(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(settings, name, value)
    assert found() == []


def test_an_existing_media_folder_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "MEDIA_LOCAL_ROOT", str(tmp_path))
    assert found() == []


def test_an_open_api_is_warned_of_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [message.id for message in check_deployed_settings(None)] == ["inference.W002"]
    monkeypatch.setattr(settings, "API_KEYS", ["Xk2vQ9sLw7RtB4nZc8Hd"])
    assert check_deployed_settings(None) == []


def test_a_key_that_can_be_guessed_fails_in_production_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["Xk2vQ9sLw7RtB4nZc8Hd", "pUm9dX2rT7vLq4Zs8Wn", "change-me-change-me-please"]
    monkeypatch.setattr(settings, "API_KEYS", keys)
    short, weak = check_deployed_settings(None)
    assert (short.id, weak.id) == ("inference.E009", "inference.E009")
    assert short.is_serious() and weak.is_serious()
    assert "Key 2 of API_KEYS has 19 characters" in short.msg
    assert "Key 3" in weak.msg
    assert not any(key in str(message) for key in keys for message in (short, weak))


def test_a_token_of_the_metrics_that_can_be_guessed_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_KEYS", ["Xk2vQ9sLw7RtB4nZc8Hd"])
    monkeypatch.setattr(settings, "METRICS_TOKEN", "prometheus")
    [message] = check_deployed_settings(None)
    assert message.id == "inference.E010"
    assert "METRICS_TOKEN" in message.msg
    assert "prometheus" not in str(message)


def test_an_open_api_for_every_web_page_is_warned_of_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CORS_ALLOW_ALL_ORIGINS", True)
    assert [message.id for message in check_deployed_settings(None)] == ["inference.W002", "inference.W004"]
    monkeypatch.setattr(settings, "API_KEYS", ["Xk2vQ9sLw7RtB4nZc8Hd"])
    assert check_deployed_settings(None) == []


def test_a_proxy_that_nobody_trusts_is_warned_of_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_KEYS", ["Xk2vQ9sLw7RtB4nZc8Hd"])
    monkeypatch.setattr(settings, "SECURE_HTTPS", True)
    assert [message.id for message in check_deployed_settings(None)] == ["inference.W005"]
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", ["10.0.0.2"])
    assert check_deployed_settings(None) == []


def test_a_server_that_answers_to_any_name_is_warned_of_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_KEYS", ["Xk2vQ9sLw7RtB4nZc8Hd"])
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["ai.example.org", "*"])
    [message] = check_deployed_settings(None)
    assert message.id == "inference.W003"
    assert message.hint


@pytest.mark.parametrize(
    ("address", "is_warned_of"),
    [
        ("", False),
        ("redis://127.0.0.1:6379/0", False),
        ("redis://localhost", False),
        ("redis://[::1]:6379/0", False),
        ("unix:///run/redis.sock", False),
        ("rediss://user:secret@redis.internal:6379/0", False),
        ("rediss://:secret@redis.internal:6379/0?ssl_ca_certs=/etc/ca.crt", False),
        ("rediss://redis.internal:6379/0", True),
        ("redis://:secret@redis.internal:6379/0", True),
        ("redis://10.0.0.5", True),
    ],
)
def test_a_redis_elsewhere_without_tls_and_password_is_warned_of_in_production(
    monkeypatch: pytest.MonkeyPatch, address: str, is_warned_of: bool
) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", address)
    found = check_redis(None)
    assert [message.id for message in found] == ["sessions_app.W003"] * is_warned_of
    assert not any("secret" in str(message) for message in found)


def test_a_callback_secret_that_can_be_guessed_is_told_at_every_start_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert check_callback_secrets in checks.registry.registry.get_checks(include_deployment_checks=False)
    good, short, weak = "kD3vX9sLw7RtB4nZc8HdmQ2yFpU6gJ1e", "kD3vX9sLw7RtB4nZc8HdmQ2yFpU6gJ1", "change-me-" * 4
    monkeypatch.setattr(settings, "OCR_CALLBACK_SECRETS", [good])
    assert check_callback_secrets(None) == []
    monkeypatch.setattr(settings, "OCR_CALLBACK_SECRETS", [good, short, weak])
    found = check_callback_secrets(None)
    assert [message.id for message in found] == ["ocr.W004", "ocr.W004"]
    assert "Secret 2 of OCR_CALLBACK_SECRETS has 31 characters, which is under 32" in found[0].msg
    assert "Secret 3" in found[1].msg
    assert all("token_urlsafe(32)" in str(message.hint) for message in found)
    assert not any(secret in str(message) for secret in (good, short, weak) for message in found)
