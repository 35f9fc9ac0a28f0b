"""The Celery application: one queue, early acknowledgement, one task thread and a prefetch of one message.

Redelivery is not left to the broker (with a short visibility timeout one task ran four times). A row claim makes a
second delivery harmless, and workers find lost sessions in the database.
"""

from __future__ import annotations

import os

import config.env  # noqa: F401  isort: skip  (before Celery: it removes what Celery would read from the environment)

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("sambung")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["inference"])
