"""Whether there is a model to answer with, by what the workers have written."""

from __future__ import annotations

import asyncio
import dataclasses

from django.conf import settings
from django.db import Error as DatabaseError

from inference.errors import Unavailable
from inference.models import ModelWorker
from sessions_app.db import in_db

#: a database that takes longer to say which workers there are does not answer
DATABASE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelHealth:
    """``loading`` or ``ready`` mean that a request will be answered; a failed model answers none."""

    ready: bool
    loading: bool
    #: why there is no model, or what is being waited for
    error: str | None
    progress: str = ""

    @property
    def has_failed(self) -> bool:
        return not self.ready and not self.loading and self.error is not None


NO_WORKER = ModelHealth(ready=False, loading=True, error="No worker is running; requests wait in the queue.")


def read_model_health() -> ModelHealth:
    """The best that any live worker offers."""
    workers = {worker.state: worker for worker in ModelWorker.objects.alive().exclude(state=ModelWorker.State.STOPPED)}
    if ModelWorker.State.READY in workers:
        return ModelHealth(ready=True, loading=False, error=None)
    if loading := workers.get(ModelWorker.State.LOADING):
        return ModelHealth(ready=False, loading=True, error=None, progress=loading.progress)
    if failed := workers.get(ModelWorker.State.FAILED):
        return ModelHealth(ready=False, loading=False, error=failed.error)
    return NO_WORKER


def model_failed_error(reason: str) -> dict[str, str | None]:
    return {
        "message": f"The model {settings.SERVED_MODEL_NAME} could not be loaded: {reason}",
        "type": "server_error",
        "param": None,
        "code": "model_not_loaded",
    }


async def check_model_available() -> None:
    """Raises as ``refuse_if_failed``; for what is done before a session is opened, which looks by itself."""
    refuse_if_failed(await in_db(read_model_health))


def refuse_if_failed(health: ModelHealth) -> None:
    """Raises ``Unavailable`` (503) with the load error when every live worker failed to load the model."""
    if health.has_failed:
        error = model_failed_error(health.error or "")
        raise Unavailable(str(error["message"]), code="model_not_loaded", headers={"Retry-After": "30"})


async def describe_health() -> dict[str, object]:
    """The body of ``GET /health``; never raises, so that it answers when the database does not."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            health = await in_db(read_model_health)
    except (DatabaseError, TimeoutError):
        return _health(ok=False, ready=False, error="The database does not answer.", progress="")
    return _health(ok=True, ready=health.ready, error=health.error, progress=health.progress)


def _health(*, ok: bool, ready: bool, error: str | None, progress: str) -> dict[str, object]:
    body: dict[str, object] = {"ok": ok, "modelReady": ready, "modelId": settings.SERVED_MODEL_NAME, "error": error}
    return body | ({"progress": progress} if progress else {})
