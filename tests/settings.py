"""The project's settings, for tests: no reader's .env, a file database that threads and processes can share."""

from __future__ import annotations

import atexit
import base64
import os
import shutil
import tempfile
from pathlib import Path

os.environ["ENV_FILE"] = os.devnull
os.environ.setdefault("SECRET_KEY", "for-tests-only-" + "x" * 50)
os.environ.setdefault("MODEL_REPO_ID", "models/tiny")
os.environ.setdefault("LOG_LEVEL", "WARNING")
os.environ.setdefault("DATA_KEYS", "tests:" + base64.b64encode(bytes(range(32))).decode())
# In most tests no worker runs, and none is waited for.
os.environ.setdefault("NO_WORKER_SECONDS", "0")

from config.settings import *  # noqa: F403
from config.settings import DATABASES

_folder = Path(os.environ.get("PYTEST_TMP", tempfile.gettempdir())) / f"sambung-tests-{os.getpid()}"
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Not in memory: the ORM executor's threads, and other processes, open it too.
    _folder.mkdir(parents=True, exist_ok=True)
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    DATABASES["default"]["NAME"] = str(_folder / "unused.sqlite3")
    DATABASES["default"]["TEST"] = {"NAME": str(_folder / "test.sqlite3")}
else:
    # The pool would keep connections to the test database open when it is dropped.
    DATABASES["default"]["OPTIONS"].pop("pool", None)

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
