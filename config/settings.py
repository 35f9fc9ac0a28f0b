"""Django settings. What differs between a laptop and a cluster comes from the environment, by ``config.env``."""

from __future__ import annotations

import datetime
import os
import tomllib
from pathlib import Path
from typing import Any

import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured

from config import env

# Makes ModelAdmin[Session] and the like, which are written for type checkers, work at run time.
django_stubs_ext.monkeypatch()

BASE_DIR = env.BASE_DIR
#: version of this server, defined only in pyproject.toml
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]

# --- Django ---------------------------------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG")
DEFAULT_EXCEPTION_REPORTER = "config.debug_pages.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.debug_pages.ValuesHidden"
SECRET_KEY = env.text("SECRET_KEY")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. Put a long random text into .env, for example the output of: "
            'python -c "import secrets; print(secrets.token_urlsafe(50))"'
        )
    SECRET_KEY = "django-insecure-for-development-only"  # noqa: S105  (named so that check --deploy refuses it)

HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 3000, minimum=0, maximum=65535)
ROOT_PATH = env.path_prefix("ROOT_PATH")
ALLOWED_HOSTS = env.texts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.texts("CSRF_TRUSTED_ORIGINS")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")

INSTALLED_APPS = [
    "daphne",
    "config.admin_app.SambungAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "channels",
    "corsheaders",
    "ninja",
    "config",
    "sessions_app",
    "inference",
    "ocr",
]

MIDDLEWARE = [
    "sessions_app.request_id.RequestIdMiddleware",
    "sessions_app.client_address.ClientAddressMiddleware",
    "config.page_headers.PageHeadersMiddleware",
    "inference.api.middleware.ApiErrorMiddleware",
    "inference.api.origins.OriginMiddleware",
    "inference.api.early_errors.answer_refusals",
    "inference.api.hosts.HostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.static_files.AsyncWhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "config.languages.PageLanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "ocr.key_refusals.DataKeyMiddleware",
    # Last, as django-axes requires: it answers in place of the log-in views.
    "axes.middleware.AxesMiddleware",
    # Its ``process_exception`` is the first that sees an error of a view.
    "config.debug_pages.ForgettingMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
LANGUAGES = [("id", "Bahasa Indonesia"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "config" / "locale"]
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = env.time_zone("TIME_ZONE", "UTC")
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGOUT_REDIRECT_URL = "home"

# Wrong passwords: see config/log_ins.py.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_HANDLER = "config.log_ins.LogInLimits"
AXES_FAILURE_LIMIT = env.integer("LOGIN_MAX_FAILURES", 5, minimum=1)
AXES_COOLOFF_TIME = datetime.timedelta(minutes=env.number("LOGIN_LOCK_MINUTES", 15, minimum=0.1))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Further tries neither extend the lock nor make the row grow.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "config.log_ins.axes_address"
AXES_CLIENT_STR_CALLABLE = "config.log_ins.axes_client"
AXES_LOCKOUT_CALLABLE = "config.log_ins.locked_page"
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken", "next"]
AXES_DISABLE_ACCESS_LOG = True  # its table is never pruned
AXES_ENABLE_ADMIN = False  # config/urls.py registers the one model that is used
AXES_VERBOSE = False

STATIC_URL = f"{ROOT_PATH}/static/"
# Without the prefix, like Django's routes.
WHITENOISE_STATIC_PREFIX = "/static/"
STATICFILES_DIRS = [BASE_DIR / "config" / "static"]
# Files are served from the apps' folders, so that a checkout works without collectstatic.
WHITENOISE_USE_FINDERS = True

# --- Sessions -------------------------------------------------------------------------------------------------------

SESSION_ID_FIELD = env.text("SESSION_ID_FIELD", "session_id")
PERSIST_SESSIONS = env.flag("PERSIST_SESSIONS", True)
SESSIONS_TTL_SECONDS = env.number("SESSIONS_TTL_SECONDS", 600, minimum=1)
SESSIONS_HISTORY_DAYS = env.number("SESSIONS_HISTORY_DAYS", 30, minimum=0)
CANCEL_AFTER_DISCONNECT_SECONDS = env.number("CANCEL_AFTER_DISCONNECT_SECONDS", 3600, minimum=0)
CANCEL_UNNAMED_AFTER_SECONDS = env.number("CANCEL_UNNAMED_AFTER_SECONDS", 60, minimum=0)
SESSION_LEASE_SECONDS = env.number("SESSION_LEASE_SECONDS", 15, minimum=1)
SESSION_MAX_ATTEMPTS = env.integer("SESSION_MAX_ATTEMPTS", 4, minimum=1)
SESSION_RUN_TASK = "inference.tasks.run_session"
CHUNK_COMMIT_SECONDS = env.number("CHUNK_COMMIT_SECONDS", 0.03, minimum=0)
SWEEP_SECONDS = env.number("SWEEP_SECONDS", 2, minimum=0.1)
MAX_QUEUED_SESSIONS = env.integer("MAX_QUEUED_SESSIONS", 1000, minimum=1)
MAX_QUEUED_SESSIONS_PER_CALLER = env.integer("MAX_QUEUED_SESSIONS_PER_CALLER", 0, minimum=0)

# --- Streams --------------------------------------------------------------------------------------------------------

KEEPALIVE_SECONDS = env.number("KEEPALIVE_SECONDS", 15, minimum=0.1)
HUB_POLL_SECONDS = env.number("HUB_POLL_SECONDS", 1, minimum=0.05)
HUB_PRESENCE_SECONDS = env.number("HUB_PRESENCE_SECONDS", 5, minimum=0.1)
STALLED_READER_SECONDS = env.number("STALLED_READER_SECONDS", 30, minimum=0.1)
MAX_OPEN_STREAMS = env.integer("MAX_OPEN_STREAMS", 2000, minimum=1)
MAX_OPEN_STREAMS_PER_CALLER = env.integer("MAX_OPEN_STREAMS_PER_CALLER", 0, minimum=0)

# --- Database -------------------------------------------------------------------------------------------------------

SESSIONS_DB_PATH = Path(env.text("SESSIONS_DB_PATH", "sessions.db"))
_database: dict[str, Any] = env.database(BASE_DIR / SESSIONS_DB_PATH)
DB_THREADS = env.integer("DB_THREADS", 4, minimum=1)
DB_POOL_SIZE = env.integer("DB_POOL_SIZE", 20, minimum=2)
if _database["ENGINE"].endswith("sqlite3"):
    # Without WAL and IMMEDIATE, one writer beside eight readers gave 536 "database is locked"; with both, none.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        # secure_delete: what is deleted is overwritten, in the free pages of the file too.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
        "PRAGMA secure_delete=ON;",
        "timeout": 20,
    }
elif _database["ENGINE"].endswith("postgresql"):
    # Options in DATABASE_URL override these. A host that disappeared without closing its connections is given up after
    # seconds; the system's default would be a quarter of an hour. A transaction that idles for longer than a lease
    # belongs to a process that is frozen or gone, and its locks block the worker that takes over.
    _database["OPTIONS"] = {
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "options": f"-c idle_in_transaction_session_timeout={int(max(SESSION_LEASE_SECONDS, 5) * 1000)}",
        **_database.get("OPTIONS", {}),
        # After each failed attempt to connect the pool waits twice as long, up to minutes. With this limit it gives up
        # after one second and starts again with the next request.
        "pool": {"min_size": 0, "max_size": DB_POOL_SIZE, "timeout": 4, "reconnect_timeout": 1},
    }
# Persistent connections leak under ASGI (measured: 45 of 200 requests); the pool replaces them.
_database["CONN_MAX_AGE"] = 0
# The pool checks a connection before handing it out: after a restart of the database, none of them works.
_database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": _database}

# The keys of identity cards and their sessions: see sessions_app/encryption/keyring.py, which parses them.
DATA_KEYS = env.texts("DATA_KEYS")

# --- Broker and wake-ups --------------------------------------------------------------------------------------------

REDIS_URL = env.redis_address("REDIS_URL")
# Used only in Celery's log messages. The transport reads REDIS_URL, so that no password is in Celery's configuration.
CELERY_BROKER_URL = env.without_secrets(REDIS_URL) or "memory://localhost/"
CELERY_BROKER_TRANSPORT = f"sessions_app.broker:{'Redis' if REDIS_URL else 'InProcess'}Transport"
CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.01}
# Retry commands that Redis rejects, like those that time out; by default a rejection ends the worker.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_ENABLE_REMOTE_CONTROL = env.flag("WORKER_REMOTE_CONTROL")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "generate"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.5}

# --- Workers --------------------------------------------------------------------------------------------------------

WORKER_HEARTBEAT_SECONDS = env.number("WORKER_HEARTBEAT_SECONDS", 3, minimum=0.1)
QUEUE_POLL_SECONDS = env.number("QUEUE_POLL_SECONDS", 1, minimum=0.05)
NO_WORKER_SECONDS = env.number("NO_WORKER_SECONDS", 60, minimum=0)
WORKER_STOP_SECONDS = env.number("WORKER_STOP_SECONDS", 8, minimum=0.5)

# --- Upstream -------------------------------------------------------------------------------------------------------

INFERENCE_ENGINE = env.text("INFERENCE_ENGINE", "local")
UPSTREAM_BASE_URL = env.text("UPSTREAM_BASE_URL")
UPSTREAM_API_KEY = env.text("UPSTREAM_API_KEY")
UPSTREAM_MODEL = env.text("UPSTREAM_MODEL")
UPSTREAM_RESUME = env.text("UPSTREAM_RESUME", "auto")
UPSTREAM_CONNECT_SECONDS = env.number("UPSTREAM_CONNECT_SECONDS", 10, minimum=0.1)
UPSTREAM_TIMEOUT_SECONDS = env.number("UPSTREAM_TIMEOUT_SECONDS", 300, minimum=0.1)
UPSTREAM_RETRY_SECONDS = env.number("UPSTREAM_RETRY_SECONDS", 60, minimum=0)
UPSTREAM_MAX_EVENT_BYTES = env.integer("UPSTREAM_MAX_EVENT_BYTES", 4 * 1024 * 1024, minimum=65_536)

# --- Model ----------------------------------------------------------------------------------------------------------

MODEL_REPO_ID = env.text("MODEL_REPO_ID", "Qwen/Qwen3-VL-2B-Thinking")
if INFERENCE_ENGINE == "openai":
    # No model is loaded here; requests name the upstream's model.
    MODEL_REPO_ID = UPSTREAM_MODEL or "upstream"
SERVED_MODEL_NAME = env.text("SERVED_MODEL_NAME") or (
    Path(MODEL_REPO_ID).name if Path(MODEL_REPO_ID).exists() or MODEL_REPO_ID.startswith((".", "/")) else MODEL_REPO_ID
)
HF_TOKEN = env.text("HF_TOKEN")
TRUST_REMOTE_CODE = env.flag("TRUST_REMOTE_CODE")
DEVICE_MAP = env.text("DEVICE_MAP", "auto")
TORCH_DTYPE = env.text("TORCH_DTYPE", "auto")
QUANTIZATION = env.text("QUANTIZATION", "none")
# 0: as many as the memory has room for, known once the model is loaded. An upstream has its own batch.
MAX_BATCH_SIZE = env.integer("MAX_BATCH_SIZE", 0, minimum=0) or (16 if INFERENCE_ENGINE == "openai" else 0)
RESERVED_SLOTS = env.integer("RESERVED_SLOTS", 2, minimum=0)
TORCH_THREADS = env.integer("TORCH_THREADS", 0, minimum=0)
MAX_CONTEXT_TOKENS = env.integer("MAX_CONTEXT_TOKENS", 0, minimum=0)
KV_CACHE_MB = env.integer("KV_CACHE_MB", 0, minimum=0)
PREFIX_CACHE = env.flag("PREFIX_CACHE", default=True)
MEDIA_CACHE_MB = env.integer("MEDIA_CACHE_MB", 256, minimum=0)
PREFILL_CHUNK_TOKENS = env.integer("PREFILL_CHUNK_TOKENS", 0, minimum=16, or_zero=True)
CUDA_GRAPHS = env.flag("CUDA_GRAPHS", default=True)
TORCH_COMPILE = env.flag("TORCH_COMPILE")

# --- Generation -----------------------------------------------------------------------------------------------------

MAX_TOKENS = env.integer("MAX_TOKENS", 256, minimum=1)
MAX_REASONING_TOKENS = env.integer("MAX_REASONING_TOKENS", 2048, minimum=0)
MAX_TOKENS_LIMIT = env.integer("MAX_TOKENS_LIMIT", 32768, minimum=1)
TEMPERATURE = env.number("TEMPERATURE", 0.7, minimum=0)
MAX_CHOICES = env.integer("MAX_CHOICES", 8, minimum=1)
MAX_GRAMMAR_BYTES = env.integer("MAX_GRAMMAR_BYTES", 65_536, minimum=1024)
GRAMMAR_CHECK_TIMEOUT_SECONDS = env.number("GRAMMAR_CHECK_TIMEOUT_SECONDS", 3, minimum=0.1)
IGNORED_PARAMETERS = env.texts("IGNORED_PARAMETERS")

# --- Requests -------------------------------------------------------------------------------------------------------

MAX_REQUEST_BYTES = env.integer("MAX_REQUEST_BYTES", 64 * 1024 * 1024, minimum=1024)
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "config.uploads.NamelessTemporaryFileUploadHandler",
]
MAX_REQUEST_VALUES = env.integer("MAX_REQUEST_VALUES", 200_000, minimum=100)
MAX_TEXT_BYTES = env.integer("MAX_TEXT_BYTES", 8 * 1024 * 1024, minimum=1024)
MAX_MESSAGES = env.integer("MAX_MESSAGES", 4096, minimum=1)
MAX_CONTENT_PARTS = env.integer("MAX_CONTENT_PARTS", 8192, minimum=1)
ANSWER_TIMEOUT_SECONDS = env.number("ANSWER_TIMEOUT_SECONDS", 600, minimum=1)

# --- Media ----------------------------------------------------------------------------------------------------------

MAX_VIDEO_FRAMES = env.integer("MAX_VIDEO_FRAMES", 16, minimum=2)
MAX_IMAGES_PER_REQUEST = env.integer("MAX_IMAGES_PER_REQUEST", 16, minimum=0)
MAX_VIDEOS_PER_REQUEST = env.integer("MAX_VIDEOS_PER_REQUEST", 4, minimum=0)
MAX_IMAGE_BYTES = env.integer("MAX_IMAGE_BYTES", 20 * 1024 * 1024, minimum=1024)
MAX_VIDEO_BYTES = env.integer("MAX_VIDEO_BYTES", 100 * 1024 * 1024, minimum=1024)
MAX_IMAGE_PIXELS = env.integer("MAX_IMAGE_PIXELS", 220_000_000, minimum=1)
MAX_IMAGE_SCANS = env.integer("MAX_IMAGE_SCANS", 100, minimum=1)
MAX_VIDEO_PIXELS = env.integer("MAX_VIDEO_PIXELS", 33_554_432, minimum=1)
MAX_MEDIA_BYTES_PER_REQUEST = env.integer("MAX_MEDIA_BYTES_PER_REQUEST", 128 * 1024 * 1024, minimum=1024)
MAX_PIXELS_PER_REQUEST = env.integer("MAX_PIXELS_PER_REQUEST", 268_435_456, minimum=1)
MAX_VIDEO_SECONDS = env.number("MAX_VIDEO_SECONDS", 600, minimum=1)
MEDIA_FETCH_TIMEOUT_SECONDS = env.number("MEDIA_FETCH_TIMEOUT_SECONDS", 12, minimum=0.1)
MEDIA_DECODE_TIMEOUT_SECONDS = env.number("MEDIA_DECODE_TIMEOUT_SECONDS", 30, minimum=0.1)
IMAGE_DECODE_TIMEOUT_SECONDS = env.number("IMAGE_DECODE_TIMEOUT_SECONDS", 10, minimum=0.1)
MEDIA_QUEUE_TIMEOUT_SECONDS = env.number("MEDIA_QUEUE_TIMEOUT_SECONDS", 10, minimum=0.1)
MEDIA_DECODE_PROCESSES = env.integer("MEDIA_DECODE_PROCESSES", 3, minimum=1)
MEDIA_DECODE_MEMORY_MB = env.integer("MEDIA_DECODE_MEMORY_MB", 512, minimum=64)
MAX_PIXELS_AT_ONCE = env.integer("MAX_PIXELS_AT_ONCE", 50_000_000, minimum=1)
MEDIA_LOCAL_ROOT = env.text("MEDIA_LOCAL_ROOT")
MEDIA_ALLOW_PRIVATE_HOSTS = env.flag("MEDIA_ALLOW_PRIVATE_HOSTS")
MEDIA_ALLOWED_HOSTS = env.host_names("MEDIA_ALLOWED_HOSTS")

# --- KTP reading ----------------------------------------------------------------------------------------------------

OCR_TIMEOUT_SECONDS = env.number("OCR_TIMEOUT_SECONDS", 120, minimum=1)
OCR_MAX_UPLOAD_BYTES = env.integer("OCR_MAX_UPLOAD_BYTES", 60 * 1024 * 1024, minimum=1024)
OCR_MAX_TOKENS = env.integer("OCR_MAX_TOKENS", 4096, minimum=16)
OCR_GRAMMAR = env.flag("OCR_GRAMMAR", default=True)
OCR_BATCH_MAX_IMAGES = env.integer("OCR_BATCH_MAX_IMAGES", 20, minimum=1)
OCR_BATCH_MAX_BYTES = env.integer("OCR_BATCH_MAX_BYTES", 128 * 1024 * 1024, minimum=1024)
OCR_BATCHES_AT_ONCE = env.integer("OCR_BATCHES_AT_ONCE", 4, minimum=1)
OCR_IDEMPOTENCY_DAYS = env.number("OCR_IDEMPOTENCY_DAYS", 7, minimum=0.01)
OCR_SANDBOX = env.flag("OCR_SANDBOX")
OCR_CALLBACK_HOSTS = env.host_names("OCR_CALLBACK_HOSTS")
OCR_CALLBACK_SECRETS = env.texts("OCR_CALLBACK_SECRETS")
OCR_CALLBACK_MAX_ATTEMPTS = env.integer("OCR_CALLBACK_MAX_ATTEMPTS", 10, minimum=1)
OCR_CALLBACK_TIMEOUT_SECONDS = env.number("OCR_CALLBACK_TIMEOUT_SECONDS", 5, minimum=0.1)
OCR_CLAIM_MINUTES = env.number("OCR_CLAIM_MINUTES", 5, minimum=0.1)
OCR_UNDO_SECONDS = env.number("OCR_UNDO_SECONDS", 10, minimum=0)
OCR_REVEAL_SECONDS = env.number("OCR_REVEAL_SECONDS", 300, minimum=1)
OCR_REVEAL_BEFORE_APPROVAL = env.flag("OCR_REVEAL_BEFORE_APPROVAL")
OCR_AUDIT_POLL_SECONDS = env.number("OCR_AUDIT_POLL_SECONDS", 300, minimum=0)
OCR_IMAGE_RETENTION_DAYS = env.number("OCR_IMAGE_RETENTION_DAYS", 30, minimum=0)
OCR_DATA_RETENTION_DAYS = env.number("OCR_DATA_RETENTION_DAYS", 365, minimum=0)
OCR_REJECTED_RETENTION_DAYS = env.number("OCR_REJECTED_RETENTION_DAYS", 30, minimum=0)
OCR_ABANDONED_RETENTION_DAYS = env.number("OCR_ABANDONED_RETENTION_DAYS", 7, minimum=0)
OCR_EXPORT_MAX_READINGS = env.integer("OCR_EXPORT_MAX_READINGS", 50_000, minimum=1)
OCR_DOUBT_BELOW = env.number("OCR_DOUBT_BELOW", 0.9, minimum=0, maximum=1)

# --- Who may call ---------------------------------------------------------------------------------------------------

API_KEYS = env.texts("API_KEYS")
API_KEY_MAX_FAILURES = env.integer("API_KEY_MAX_FAILURES", 20, minimum=1)
API_KEY_FAILURES_SECONDS = env.number("API_KEY_FAILURES_SECONDS", 60, minimum=1)
CORS_URLS_REGEX = r"^/(v1/|health$|ktp-ocr(/|$)|openapi\.json$)"
_cors_origins = env.texts("CORS_ALLOWED_ORIGINS") or (["*"] if API_KEYS else [])
CORS_ALLOW_ALL_ORIGINS = "*" in _cors_origins
CORS_ALLOWED_ORIGINS = [] if CORS_ALLOW_ALL_ORIGINS else _cors_origins
# Only a user of this machine can serve a page from these origins, so such pages need no key.
CORS_ALLOWED_ORIGIN_REGEXES = [] if _cors_origins else [r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?\Z"]
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_HEADERS = [
    *("accept", "authorization", "cache-control", "content-type", "idempotency-key", "last-event-id", "x-request-id"),
    "prefer",
    *("openai-beta", "openai-organization", "openai-project"),
    # headers that the official JavaScript SDK adds to every request from a browser
    *(
        f"x-stainless-{name}"
        for name in [
            "arch",
            "async",
            "helper-method",
            "lang",
            "os",
            "package-version",
            "poll-helper",
            "retry-count",
            "runtime",
            "runtime-version",
            "timeout",
        ]
    ),
]
CORS_EXPOSE_HEADERS = [
    *("X-Session-ID", "X-Request-ID", "Retry-After", "X-Should-Retry"),
    *("Location", "Content-Location", "Preference-Applied"),
]

# --- Pages ----------------------------------------------------------------------------------------------------------

PLAYGROUND = env.flag("PLAYGROUND", default=True)

# Of pages: everything comes from this server, and no other site may frame them. Swagger's style has pictures in it.
SECURE_CSP = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    # blob: of files that a clerk has chosen and that are not sent yet
    "img-src": ["'self'", "data:", "blob:"],
    "media-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}
PERMISSIONS_POLICY = {
    "camera": "self",  # for the picture of a card
    **dict.fromkeys(["geolocation", "microphone", "payment", "usb", "serial", "hid", "midi", "display-capture"], ""),
}
SECURE_REFERRER_POLICY = "same-origin"

# For a server behind a proxy that ends TLS. `manage.py check --deploy` asks for HSTS and secure cookies.
SECURE_HTTPS = env.flag("SECURE_HTTPS")
if SECURE_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

# --- Metrics --------------------------------------------------------------------------------------------------------

METRICS_TOKEN = env.text("METRICS_TOKEN")
METRICS_ALLOWED_NETWORKS = env.networks("METRICS_ALLOWED_NETWORKS")
METRICS_DIR = env.folder("METRICS_DIR")
if METRICS_DIR:
    # prometheus_client reads it when it is imported, which is always after the settings.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = METRICS_DIR
WORKER_METRICS_HOST = env.text("WORKER_METRICS_HOST", "127.0.0.1")
WORKER_METRICS_PORT = env.integer("WORKER_METRICS_PORT", 0, minimum=0, maximum=65535)

TRACES_ENDPOINT = env.text("TRACES_ENDPOINT")
TRACES_SAMPLE = env.number("TRACES_SAMPLE", 1.0, minimum=0.0, maximum=1.0)

# --- Logs -----------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.one_of("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO")
LOG_FORMAT = env.one_of("LOG_FORMAT", ("TEXT", "JSON"), "text")
# Only our own code logs below INFO, libraries do not: at DEBUG Django logs every SQL statement with its values, and the
# contexts of pages, which are prompts, answers and cards.
_libraries_level = "INFO" if LOG_LEVEL == "DEBUG" else LOG_LEVEL
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "sessions_app.log_context.LogContextFilter"},
        "refusals": {"()": "sessions_app.log_lines.RefusalFilter"},
        "forgetting": {"()": "sessions_app.traceback_scrubbing.ForgettingFilter"},
    },
    "formatters": {
        "line": {
            "()": f"sessions_app.{'json_lines.JsonFormatter' if LOG_FORMAT == 'JSON' else 'log_lines.LineFormatter'}",
            "format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s%(run)s] %(message)s",
        },
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["forgetting", "request_id", "refusals"],
        },
    },
    "root": {"handlers": ["stderr"], "level": _libraries_level},
    "loggers": {
        **{name: {"level": LOG_LEVEL} for name in ("config", "inference", "ocr", "sambung", "sessions_app")},
        # We log our own access line, with the request id; those of Django and Daphne would repeat it.
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "daphne": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        # It warns of every failed attempt to connect; the code that needs the connection logs the error once.
        "psycopg.pool": {"level": "ERROR"},
        "celery": {"level": "WARNING"},
        "celery.app.trace": {"level": "ERROR"},
    },
}

#: the environment variables that were read here; those that are secret are among them
OWN_VARIABLES = tuple(sorted(env.names_read))
