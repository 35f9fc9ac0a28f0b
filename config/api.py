"""The one HTTP API: OpenAI's surface and KTP reading, with ``/docs`` and ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from ninja import NinjaAPI

from inference.api import chat, model_list, probes
from inference.api.auth import ApiKey
from inference.api.error_rendering import register_handlers
from inference.api.schemas import ChatCompletionRequest, component_schemas
from ocr.api import router as ktp


class Api(NinjaAPI):
    """``NinjaAPI`` that adds the chat request's body to the OpenAPI document, as ninja does not parse that body."""

    def get_openapi_schema(self, **options: Any) -> Any:
        document = super().get_openapi_schema(**options)
        document["components"]["schemas"] |= component_schemas(ChatCompletionRequest)
        return document


api = Api(
    title="Sambung",
    version=settings.VERSION,
    description="An OpenAI-compatible server for Qwen3-VL whose every stream is in the database.",
    urls_namespace="api",
    auth=ApiKey(),
)
register_handlers(api)
api.add_router("", chat.router)
api.add_router("", model_list.router)
api.add_router("", model_list.health_router)
api.add_router("", probes.router)
api.add_router("", ktp.router)
