"""``/v1/models`` and ``/health``."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Router

from inference.api.attaching import check_model_name
from inference.api.replies import ErrorReply, Health, Model, ModelList
from inference.readiness import describe_health

router = Router(tags=["models"])
health_router = Router(tags=["health"])

#: start of this process, used as the time of creation that OpenAI's clients expect
OFFERED_SINCE = int(time.time())


@router.get("/v1/models", response={200: ModelList, 401: ErrorReply}, url_name="models")
@router.api_operation(["HEAD"], "/v1/models", response=ModelList, include_in_schema=False)
async def list_models(request: HttpRequest) -> dict[str, Any]:
    """The one model that is served."""
    return {"data": [_served_model()]}


@router.get("/v1/models/{path:model_id}", response={200: Model, 401: ErrorReply, 404: ErrorReply}, url_name="model")
@router.api_operation(["HEAD"], "/v1/models/{path:model_id}", response=Model, include_in_schema=False)
async def retrieve_model(request: HttpRequest, model_id: str) -> dict[str, Any]:
    """The served model; any other is a 404 ``model_not_found``."""
    check_model_name(model_id)
    return _served_model()


@health_router.get("/health", response=Health, auth=None, exclude_unset=True, url_name="health")
@health_router.api_operation(
    ["HEAD"], "/health", response=Health, auth=None, exclude_unset=True, include_in_schema=False
)
async def health(request: HttpRequest) -> dict[str, Any]:
    """Answers at once, also while the model loads: `modelReady` says whether it has.

    For probes: it needs no API key, and takes any Host header and plain http.
    """
    return await describe_health()


def _served_model() -> dict[str, Any]:
    return {"id": settings.SERVED_MODEL_NAME, "object": "model", "created": OFFERED_SINCE, "owned_by": "sambung"}
