"""Variables that are none of ours, and that containers and other programs set."""

from __future__ import annotations

#: what libraries would read from the environment, in the place of the settings or to stop at it
FOREIGN = {
    **dict.fromkeys(("APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "WORKDIR"), "nonsense"),
    **dict.fromkeys(("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), "amqp://elsewhere//"),
    **dict.fromkeys(("CELERY_RESULT_BACKEND", "CELERY_LOADER", "CELERY_CONFIG_MODULE", "CELERY_TRACE_APP"), "nonsense"),
    **dict.fromkeys(("ASGI_THREADS", "PICKLE_PROTOCOL", "AUTOSCALE_KEEPALIVE", "CELERY_BENCH_EVERY"), "nonsense"),
    **dict.fromkeys(("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE", "PGOPTIONS"), "nonsense"),
    **dict.fromkeys(("PGCONNECT_TIMEOUT", "PGCLIENTENCODING", "PGTARGETSESSIONATTRS", "KOMBU_LOG_DEBUG"), "nonsense"),
    **dict.fromkeys(("LOG_FILE", "LOGLEVEL", "HOSTNAME", "SKIP_CHECKS", "DJANGO_ALLOW_ASYNC_UNSAFE"), "1"),
    **dict.fromkeys(("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"), "nonsense"),
}
