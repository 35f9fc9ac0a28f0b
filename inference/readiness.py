"""Whether a model is available, according to the rows of the workers."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from inference.engine.vision import ModelVision
from inference.errors import Unavailable
from inference.models import ModelWorker
from sessions_app.broker_probe import broker_answers
from sessions_app.db import in_db, in_db_on_spare_thread

#: timeout of the query for the workers, after which the database counts as unavailable
DATABASE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelHealth:
    """``loading`` or ``ready`` mean that a request will be answered; a failed model answers none."""

    ready: bool
    loading: bool
    #: why there is no model, or what sessions are waiting for
    error: str | None
    progress: str = ""
    #: code of the refusal when there is no model
    code: str = "model_not_loaded"
    #: the sizes at which the model sees media, if a worker has reported them
    vision: ModelVision | None = None

    @property
    def has_failed(self) -> bool:
        return not self.ready and not self.loading and self.error is not None


NO_WORKER = ModelHealth(ready=False, loading=True, error="No worker is running; requests wait in the queue.")
ALL_DRAINED = ModelHealth(
    ready=False, loading=True, error="Every worker was told to take no more sessions; requests wait in the queue."
)
NO_WORKER_FOR_LONG = ModelHealth(
    ready=False,
    loading=False,
    error="No worker is running, and none has been for a while: requests are refused until one starts.",
    code="no_worker",
)
#: start of this process; nothing is known about workers before it
_began_at = timezone.now()


def read_model_health() -> ModelHealth:
    """The best state of all live workers."""
    alive = list(ModelWorker.objects.alive().exclude(state=ModelWorker.State.STOPPED))
    workers = {worker.state: worker for worker in alive if not worker.is_draining}
    if ModelWorker.State.READY in workers:
        vision = workers[ModelWorker.State.READY].vision
        return ModelHealth(
            ready=True, loading=False, error=None, vision=ModelVision.from_json(vision) if vision else None
        )
    if loading := workers.get(ModelWorker.State.LOADING):
        return ModelHealth(ready=False, loading=True, error=None, progress=loading.progress)
    if any(worker.is_draining for worker in alive):
        return ALL_DRAINED
    if failed := workers.get(ModelWorker.State.FAILED):
        return ModelHealth(ready=False, loading=False, error=failed.error)
    return NO_WORKER_FOR_LONG if _has_nobody_for_long() else NO_WORKER


def why_sessions_wait() -> str:
    """Why all queued sessions wait, for the admin; "" when a worker is claiming them in turn."""
    health = read_model_health()
    if health.ready:
        return ""
    if health.loading and health.error is None:
        return _("The model is being loaded.")
    if health is ALL_DRAINED:
        return _("Every worker is draining.")
    if health in (NO_WORKER, NO_WORKER_FOR_LONG):
        return _("No worker is running.")
    return _("The model could not be loaded.")


def _has_nobody_for_long() -> bool:
    """Whether no worker has been there for so long that callers must not wait. A restarted worker is back sooner."""
    if not settings.NO_WORKER_SECONDS:
        return False
    last_heard = ModelWorker.objects.aggregate(at=Max("heartbeat_at"))["at"]
    nobody_since = max(last_heard or _began_at, _began_at)
    return (timezone.now() - nobody_since).total_seconds() > settings.NO_WORKER_SECONDS


def model_failed_error(reason: str) -> Unavailable:
    return Unavailable(
        f"The model {settings.SERVED_MODEL_NAME} could not be loaded: {reason}",
        code="model_not_loaded",
        headers={"Retry-After": "30"},
    )


async def check_model_available() -> ModelVision | None:
    """The sizes at which the model sees media, if known. Raises as ``refuse_if_failed``.

    For steps before a session is opened; opening it checks the model itself.
    """
    health = await in_db(read_model_health)
    refuse_if_failed(health)
    return health.vision


def refuse_if_failed(health: ModelHealth) -> None:
    """Raises ``Unavailable`` (503): with the load error when every live worker failed to load the model, or because no
    worker has been there for ``NO_WORKER_SECONDS``.
    """
    if health.has_failed:
        if health.code == NO_WORKER_FOR_LONG.code:
            raise Unavailable(str(health.error), code=health.code, headers={"Retry-After": "5"})
        raise model_failed_error(health.error or "")


async def describe_health() -> dict[str, object]:
    """The body of ``GET /health``; never raises, so that it answers when the database does not."""
    health = await _model_health_in_time()
    if health is None:
        return _health(ok=False, ready=False, error="The database does not answer.", progress="")
    return _health(ok=True, ready=health.ready, error=health.error, progress=health.progress)


async def describe_readiness() -> dict[str, Any]:
    """The body of ``GET /ready``: whether a request would be answered at once, and why not.

    Never raises. The reasons are safe to publish: they have no addresses and no messages of drivers.
    """
    health, broker = await asyncio.gather(_model_health_in_time(), broker_answers())
    if health is None:
        model = "It is not known: the database does not answer."
    else:
        model = "" if health.ready else health.error or " ".join(("The model is loading.", health.progress)).strip()
    reasons = {
        "database": "The database does not answer." if health is None else "",
        "model": model,
        "broker": "" if broker else "Redis does not answer.",
    }
    checks = {name: {"ok": not reason, "reason": reason or None} for name, reason in reasons.items()}
    return {"ready": not any(reasons.values()), "checks": checks}


async def _model_health_in_time() -> ModelHealth | None:
    """None when the database does not answer."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            return await in_db_on_spare_thread(read_model_health)
    except (DatabaseError, TimeoutError):
        return None


def _health(*, ok: bool, ready: bool, error: str | None, progress: str) -> dict[str, object]:
    body = {
        "ok": ok,
        "modelReady": ready,
        "modelId": settings.SERVED_MODEL_NAME,
        "version": settings.VERSION,
        "error": error,
    }
    return body | ({"progress": progress} if progress else {})
