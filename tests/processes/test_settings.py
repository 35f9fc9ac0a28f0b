"""Settings come from the environment, are written down with their defaults, and say their name when they are wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config import env
from tests.foreign import FOREIGN

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"

#: prints every setting as JSON
DUMP = """
import json
from config import settings
print(json.dumps({name: repr(getattr(settings, name)) for name in dir(settings) if name.isupper()}))
"""
#: reads {"NAME": "value"} lists from stdin; prints what each did to the settings
TRY_EACH = """
import importlib, json, os, sys
from django.core.exceptions import ImproperlyConfigured
from config import env, settings
for changes in json.load(sys.stdin):
    os.environ.update(changes)
    try:
        importlib.reload(settings)
        message = ""
    except ImproperlyConfigured as exc:
        message = str(exc)
    print(json.dumps(message))
    for name in changes:
        del os.environ[name]
"""


def python(code: str, *, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process with no variables but these, and no .env."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "ENV_FILE": os.devnull, "SECRET_KEY": "x" * 60, **variables},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def settings_with(**variables: str) -> dict[str, str]:
    done = python(DUMP, **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def named_in_example() -> list[str]:
    return re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text(), re.MULTILINE)


def test_every_name_that_is_read_is_written_down_and_the_other_way_round() -> None:
    import config.settings  # noqa: F401  (reads them)

    assert set(named_in_example()) == env.names_read
    assert len(named_in_example()) == len(set(named_in_example()))


def test_what_is_written_down_are_the_defaults() -> None:
    assert settings_with(ENV_FILE=str(EXAMPLE)) == settings_with()


def test_every_name_has_a_comment_before_it() -> None:
    """One comment may stand above a few names that belong together."""
    is_described = False
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("#"):
            is_described = True
        elif not line:
            is_described = False
        else:
            assert is_described, f"{line} has no comment"


def test_the_process_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("MAX_TOKENS=11\nTEMPERATURE=0.1\n")
    found = settings_with(ENV_FILE=str(file), MAX_TOKENS="12")
    assert (found["MAX_TOKENS"], found["TEMPERATURE"]) == ("12", "0.1")


WRONG: list[tuple[str, str]] = [
    ("PORT", "many"),
    ("PORT", "-1"),
    ("PORT", "65536"),
    ("PORT", "3000.5"),
    ("DEBUG", "perhaps"),
    ("PERSIST_SESSIONS", "2"),
    ("TRUST_REMOTE_CODE", "ja"),
    ("MAX_TOKENS", "0"),
    ("MAX_TOKENS", "1e3"),
    ("MAX_BATCH_SIZE", "-1"),
    ("PREFILL_CHUNK_TOKENS", "15"),
    ("PREFILL_CHUNK_TOKENS", "-1"),
    ("TEMPERATURE", "warm"),
    ("TEMPERATURE", "-0.1"),
    ("SESSION_LEASE_SECONDS", "0"),
    ("KEEPALIVE_SECONDS", "0"),
    ("SESSION_LEASE_SECONDS", "15s"),
    ("SESSIONS_TTL_SECONDS", "inf"),
    ("SWEEP_SECONDS", "nan"),
    ("LOG_LEVEL", "LOUD"),
    ("TIME_ZONE", "Asia/Atlantis"),
    ("TIME_ZONE", "Asia"),
    ("TIME_ZONE", "../etc/passwd"),
    ("TIME_ZONE", ""),
    ("DATABASE_URL", "nonsense"),
    ("MEDIA_ALLOWED_HOSTS", "https://pictures.example.org"),
    ("MEDIA_ALLOWED_HOSTS", "a.example,pictures.example.org:443"),
    ("MEDIA_ALLOWED_HOSTS", "*.example.org"),
    ("MEDIA_ALLOWED_HOSTS", "a..example"),
    ("TRUSTED_PROXIES", "proxy.internal"),
    ("METRICS_ALLOWED_NETWORKS", "prometheus.internal"),
    ("METRICS_DIR", "manage.py"),
    ("WORKER_METRICS_PORT", "65536"),
    ("LOG_FORMAT", "yaml"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
]


def test_a_wrong_value_is_refused_with_the_name_of_the_setting() -> None:
    done = python(TRY_EACH, stdin=json.dumps([{name: value} for name, value in WRONG]))
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(messages) == len(WRONG)
    for (name, value), message in zip(WRONG, messages, strict=True):
        assert name in message, f"{name}={value}: {message!r}"


def test_a_wrong_value_of_a_secret_is_not_shown() -> None:
    wrong = {
        "DATABASE_URL": ["postgres//user:hunter2@host/name", "postgres://user:hunter2@host:port/name"],
        "REDIS_URL": [
            "hunter2@host",
            "redis//:hunter2@host",
            "amqp://user:hunter2@host",
            # What is special in a password is taken for the end of it.
            "redis://:hunter2/x@host:6379/0",
            "redis://:hunter2#x@host:6379/0",
            "redis://:hunter2?x@host:6379/0",
            "redis://user:hunter2@host:port/0",
            "redis://user:hunter2@[host/0",
            "redis://user:hunter2@host/0?socket_timeout=soon",
        ],
    }
    tried = [{name: value} for name, values in wrong.items() for value in values]
    done = python(TRY_EACH, stdin=json.dumps(tried))
    assert done.returncode == 0, done.stderr
    for name, values in wrong.items():
        assert done.stdout.count(f"{name} must be") == len(values)
    assert "hunter2" not in done.stdout + done.stderr


RIGHT: list[tuple[dict[str, str], str, Any]] = [
    ({"DEBUG": "on"}, "DEBUG", True),
    ({"PERSIST_SESSIONS": "False"}, "PERSIST_SESSIONS", False),
    ({"PERSIST_SESSIONS": ""}, "PERSIST_SESSIONS", False),
    ({"PORT": "0"}, "PORT", 0),
    ({"PORT": "65535"}, "PORT", 65535),
    ({"TIME_ZONE": "Asia/Jakarta"}, "TIME_ZONE", "Asia/Jakarta"),
    ({"SESSIONS_TTL_SECONDS": "1e3"}, "SESSIONS_TTL_SECONDS", 1000.0),
    ({"LOG_LEVEL": "debug"}, "LOG_LEVEL", "DEBUG"),
    ({"LOG_FORMAT": "json"}, "LOG_FORMAT", "JSON"),
    ({}, "METRICS_DIR", ""),
    ({"METRICS_DIR": "/tmp"}, "METRICS_DIR", "/tmp"),  # noqa: S108
    ({"CANCEL_AFTER_DISCONNECT_SECONDS": "0"}, "CANCEL_AFTER_DISCONNECT_SECONDS", 0.0),
    ({"API_KEYS": " a , ,b"}, "API_KEYS", ["a", "b"]),
    ({"CORS_ALLOWED_ORIGINS": "https://a.example"}, "CORS_ALLOWED_ORIGINS", ["https://a.example"]),
    ({"CORS_ALLOWED_ORIGINS": "https://a.example"}, "CORS_ALLOW_ALL_ORIGINS", False),
    ({"CORS_ALLOWED_ORIGINS": "https://a.example"}, "CORS_ALLOWED_ORIGIN_REGEXES", []),
    ({"CORS_ALLOWED_ORIGINS": "https://a.example", "API_KEYS": "a"}, "CORS_ALLOW_ALL_ORIGINS", False),
    ({"CORS_ALLOWED_ORIGINS": "*"}, "CORS_ALLOW_ALL_ORIGINS", True),
    ({"API_KEYS": "a"}, "CORS_ALLOW_ALL_ORIGINS", True),
    ({}, "CORS_ALLOW_ALL_ORIGINS", False),
    ({"API_KEYS": "a"}, "CORS_ALLOW_CREDENTIALS", False),
    ({"MODEL_REPO_ID": "/models/Qwen3-VL"}, "SERVED_MODEL_NAME", "Qwen3-VL"),
    ({"MODEL_REPO_ID": "Qwen/Qwen3-VL"}, "SERVED_MODEL_NAME", "Qwen/Qwen3-VL"),
    ({"MODEL_REPO_ID": "a/b", "SERVED_MODEL_NAME": "mine"}, "SERVED_MODEL_NAME", "mine"),
    (
        {"MEDIA_ALLOWED_HOSTS": "Pictures.example.org., .Example.net, bücher.example, [::1]"},
        "MEDIA_ALLOWED_HOSTS",
        ["pictures.example.org", ".example.net", "xn--bcher-kva.example", "::1"],
    ),
    ({"TRUSTED_PROXIES": "10.0.0.2, fd00::/8"}, "TRUSTED_PROXIES", ["10.0.0.2", "fd00::/8"]),
    ({"REDIS_URL": "redis://h:1/2"}, "CELERY_BROKER_URL", "redis://h:1/2"),
    ({"REDIS_URL": "rediss://u:p%2F@[::1]:1/2?ssl_ca_certs=/ca"}, "CELERY_BROKER_URL", "rediss://[::1]:1/2"),
    ({"REDIS_URL": "unix://u:p@/run/redis.sock?db=2"}, "CELERY_BROKER_URL", "unix:///run/redis.sock"),
    ({}, "CELERY_WORKER_ENABLE_REMOTE_CONTROL", False),
    ({"WORKER_REMOTE_CONTROL": "1"}, "CELERY_WORKER_ENABLE_REMOTE_CONTROL", True),
    ({}, "CELERY_BROKER_URL", "memory://localhost/"),
    ({"SECURE_HTTPS": "1"}, "SESSION_COOKIE_SECURE", True),
    # No value is the name of another variable.
    ({"API_KEYS": "$secret,$HOME"}, "API_KEYS", ["$secret", "$HOME"]),
    ({"UPSTREAM_API_KEY": "$PATH"}, "UPSTREAM_API_KEY", "$PATH"),
]


def test_what_libraries_read_behind_the_settings_is_not_heard() -> None:
    done = python(
        "import os, django; django.setup()\n"
        "from config.celery_app import app\n"
        "import celery.worker.autoscale, celery.worker.state, daphne.server, kombu.serialization\n"
        "print(app.conf.broker_read_url, app.conf.broker_write_url, app.conf.result_backend)\n"
        "print(sorted(set(os.environ) & {'PGHOSTADDR', 'PGOPTIONS', 'PGPASSWORD', 'CELERY_BROKER_URL'}))",
        DJANGO_SETTINGS_MODULE="config.settings",
        REDIS_URL="redis://127.0.0.1:6379/3",
        PGPASSWORD="kept",
        **FOREIGN,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "redis://127.0.0.1:6379/3 redis://127.0.0.1:6379/3 None",
        "['PGPASSWORD']",
    ]


def test_the_settings_stay_those_of_the_environment_beside_foreign_variables() -> None:
    assert settings_with(**FOREIGN) == settings_with()


@pytest.mark.parametrize(("variables", "name", "value"), RIGHT)
def test_a_right_value_is_taken(variables: dict[str, str], name: str, value: object) -> None:
    assert settings_with(**variables)[name] == repr(value)


@pytest.mark.parametrize("url", ["", "postgres://u:p@h:5/n"])
def test_the_database_never_keeps_connections_and_is_safe_for_threads(url: str) -> None:
    database = settings_with(DATABASE_URL=url)["DATABASES"]
    assert "'CONN_MAX_AGE': 0" in database
    if url:
        assert "'pool'" in database
    else:
        assert "IMMEDIATE" in database
        assert "journal_mode=WAL" in database


def test_a_missing_secret_stops_the_start_and_says_how_to_make_one() -> None:
    done = python(DUMP, SECRET_KEY="")
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr
    assert "token_urlsafe" in done.stderr


def test_for_development_a_secret_is_there_that_production_refuses() -> None:
    assert "insecure" in settings_with(SECRET_KEY="", DEBUG="1")["SECRET_KEY"]


def test_production_settings_pass_the_deployment_check() -> None:
    done = python(
        "from django.core.management import execute_from_command_line as run\n"
        "run(['manage.py', 'check', '--deploy', '--fail-level', 'WARNING'])",
        DJANGO_SETTINGS_MODULE="config.settings",
        SECURE_HTTPS="1",
        TRUSTED_PROXIES="10.0.0.2",
        API_KEYS="Xk2vQ9sLw7RtB4nZc8Hd,71c8e0a44f6b4d1e9a3c",
        ALLOWED_HOSTS="ai.example.org",
        SECRET_KEY="pUm9dX2rT7vLq4Zs8Wn3Yb6Kc1Hf5Jg0QeRtAiOxMzBvNl-_Sw9D",
        DATA_KEYS="k1:9s8Hq3n2ZJb0fXwq1kq8Gm3T0dK2l7Vt5yQe6RzUoBc=",
    )
    assert done.returncode == 0, done.stderr


def test_a_web_process_does_not_pay_for_torch() -> None:
    done = python(
        "import config.asgi, sys\n"
        "import inference.tasks, django.urls\n"
        "django.urls.get_resolver().url_patterns\n"
        "print([name for name in ('torch', 'transformers', 'torchvision', 'accelerate') if name in sys.modules])",
        DJANGO_SETTINGS_MODULE="config.settings",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_password_of_redis_is_in_no_setting_but_its_own_and_on_no_error_page() -> None:
    address = "rediss://user:hunter2@redis.internal:6379/0"
    found = settings_with(REDIS_URL=address)
    assert [name for name, value in found.items() if "hunter2" in value] == ["REDIS_URL"]
    done = python(
        "import django; django.setup()\n"
        "from django.test import RequestFactory\n"
        "from django.views.debug import ExceptionReporter\n"
        "from config.celery_app import app\n"
        "request = RequestFactory().get('/')\n"
        "print(ExceptionReporter(request, ValueError, ValueError('no'), None).get_traceback_html())\n"
        "print(app.connection().as_uri(include_password=True))",
        DJANGO_SETTINGS_MODULE="config.settings",
        DEBUG="1",
        REDIS_URL=address,
    )
    assert done.returncode == 0, done.stderr
    assert "REDIS_URL" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
