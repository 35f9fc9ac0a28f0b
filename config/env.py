"""The only place that reads the environment. Every name here is in ``.env.example`` with a comment.

Values come from the process environment first, then from the file named by ``ENV_FILE`` (default ``.env`` beside
``manage.py``). A value that cannot be read stops the process with the name of the setting and what it should be.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import warnings
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

#: Variables that libraries read on their own, and that would override our settings or make the start fail:
#: Celery's and kombu's, prometheus_client's, torch's LOGLEVEL, Daphne's threads, those by which libpq replaces parts of
#: ``DATABASE_URL`` (except passwords and certificates), and Django's permission to block the loop.
#: They are removed before any library reads them.
FOREIGN = re.compile(
    r"(CELERY|KOMBU|PROMETHEUS)_.*|prometheus_multiproc_dir|C_(BENCH|BENCH_EVERY|IMPDEBUG|FORCE_ROOT)|PICKLE_PROTOCOL"
    r"|DISABLE_TRACEBACKS|AUTOSCALE_KEEPALIVE"
    r"|EVENTLET_.*|GEVENT_.*|FORKED_BY_MULTIPROCESSING|MP_LOG|LOGLEVEL|USE_FAST_LOCALS|ASGI_THREADS"
    r"|DJANGO_ALLOW_ASYNC_UNSAFE"
    r"|PG(?!PASS|SSL|REQUIRESSL|KRBSRVNAME|GSS|REQUIREAUTH|REQUIREPEER|CHANNELBINDING).*"
)

_env_file = Path(os.environ.get("ENV_FILE", str(BASE_DIR / ".env")))
if _env_file.is_file():
    environ.Env.read_env(str(_env_file))

for _name in [name for name in os.environ if FOREIGN.fullmatch(name)]:
    del os.environ[_name]

#: every name that was read, so that a test can compare them with ``.env.example``
names_read: set[str] = {"ENV_FILE"}


def _read(name: str, default: object, reader: Callable[[str], Any], kind: str) -> Any:
    # Not by environ's readers: they take a value that begins with $ as the name of another variable, so a key or a
    # password that begins with $ would be empty.
    value = text(name, str(default))
    try:
        return reader(value)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name} must be {kind}; it is {value!r}.") from exc


def one_of(name: str, choices: tuple[str, ...], default: str) -> str:
    """In capitals, whatever case it is written in."""
    value = text(name, default).upper()
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}; it is {value!r}.")
    return value


def text(name: str, default: str = "") -> str:
    names_read.add(name)
    return os.environ.get(name, default).strip()


def flag(name: str, default: bool = False) -> bool:
    """True for 1, true, yes, on, y, t and ok; false for 0, false, no, off, n, f and the empty text."""
    value = text(name, "1" if default else "0").lower()
    if value in environ.Env.BOOLEAN_TRUE_STRINGS:
        return True
    if value in {"0", "false", "no", "off", "n", "f", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0; it is {value!r}.")


def integer(
    name: str, default: int, *, minimum: int | None = None, maximum: int | None = None, or_zero: bool = False
) -> int:
    """With ``or_zero``, 0 is taken too, below the minimum."""
    value = int(_read(name, default, int, "a whole number"))
    if minimum is not None and value < minimum and not (or_zero and value == 0):
        raise ImproperlyConfigured(f"{name} must be {'0, or ' if or_zero else ''}{minimum} or more; it is {value}.")
    if maximum is not None and value > maximum:
        raise ImproperlyConfigured(f"{name} must be {maximum} or less; it is {value}.")
    return value


def number(name: str, default: float, *, minimum: float | None = None, maximum: float | None = None) -> float:
    value = float(_read(name, default, float, "a number"))
    if not math.isfinite(value):
        raise ImproperlyConfigured(f"{name} must be a finite number; it is {value}.")
    if minimum is not None and value < minimum:
        raise ImproperlyConfigured(f"{name} must be {minimum:g} or more; it is {value:g}.")
    if maximum is not None and value > maximum:
        raise ImproperlyConfigured(f"{name} must be {maximum:g} or less; it is {value:g}.")
    return value


def path_prefix(name: str) -> str:
    """Empty, or the beginning of a path without a slash at its end."""
    value = text(name).rstrip("/")
    if value and not value.startswith("/"):
        raise ImproperlyConfigured(f"{name} must begin with a slash, such as /sambung; it is {value!r}.")
    return value


def time_zone(name: str, default: str) -> str:
    value = text(name, default)
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
        # OSError: a folder of zones, such as Asia.
        raise ImproperlyConfigured(f"{name} must be a time zone such as Asia/Jakarta; it is {value!r}.") from exc
    return value


def texts(name: str, default: list[str] | None = None) -> list[str]:
    """A comma-separated list; blanks around the items do not count."""
    return [item.strip() for item in text(name, ",".join(default or [])).split(",") if item.strip()]


def host_names(name: str) -> list[str]:
    """Host names and addresses, as a URL has them. A dot before a name includes all names under it."""
    return [_host_name(name, value) for value in texts(name)]


def _host_name(name: str, value: str) -> str:
    host = value.lower().rstrip(".")
    try:
        if re.fullmatch(r"\*|\.?[^\s/:@?#\[\]*.]+(\.[^\s/:@?#\[\]*.]+)*|\[[0-9a-f:.]+\]", host):
            # An international name in the form that it has in a request's URL.
            dot = "." if host.startswith(".") else ""
            return dot + host.removeprefix(".").encode("idna").decode("ascii").strip("[]")
    except UnicodeError:  # a label that is too long
        pass
    raise ImproperlyConfigured(
        f"{name} must be host names such as pictures.example.org or .example.org, without a scheme, port or path; "
        f"one of them is {value!r}."
    )


def networks(name: str) -> list[str]:
    """IP addresses and networks, such as 10.0.0.2 and 10.1.0.0/16."""
    values = texts(name)
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as exc:
            raise ImproperlyConfigured(
                f"{name} must be IP addresses or networks such as 10.0.0.2 or 10.1.0.0/16; one of them is invalid: "
                f"{exc}."
            ) from exc
    return values


def folder(name: str) -> str:
    """The absolute path of a folder, which is made where it is missing, or the empty text."""
    value = text(name)
    if not value:
        return ""
    path = BASE_DIR / value
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ImproperlyConfigured(f"{name} must be a folder that can be created: {path}: {exc.strerror}.") from exc
    if not os.access(path, os.W_OK | os.X_OK):
        raise ImproperlyConfigured(f"{name} must be a folder that can be written to; it is {value!r}.")
    return str(path)


def redis_address(name: str) -> str:
    """A ``redis://``, ``rediss://`` or ``unix://`` address, or the empty text."""
    address = text(name)
    if address:
        from redis.connection import parse_url

        try:
            parse_url(address)
        except ValueError:
            # The message has neither the value nor its error, because the value contains a password.
            raise ImproperlyConfigured(
                f"{name} must be an address such as rediss://user:password@host:6379/0, "
                "with special characters in user and password percent-encoded."
            ) from None
    return address


def without_secrets(address: str) -> str:
    """The address without user, password and options, which may be logged."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if address else ""


def database(default_sqlite_path: Path) -> dict[str, Any]:
    """Django's settings for ``DATABASE_URL``, or for an SQLite file when it is unset."""
    url = text("DATABASE_URL")
    if not url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(default_sqlite_path)}
    try:
        with warnings.catch_warnings():
            # The original message shows the parsed address with its password.
            warnings.simplefilter("ignore")
            settings = environ.Env.db_url_config(url)
    except (ValueError, environ.ImproperlyConfigured):
        settings = {}
    if not settings.get("ENGINE"):
        # The message has no value, because the value contains a password.
        raise ImproperlyConfigured("DATABASE_URL must be an address such as postgres://user:password@host:5432/name.")
    return dict(settings)
