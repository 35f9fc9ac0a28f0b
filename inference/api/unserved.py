"""The error for an address that is not served: the requested address, and the ones that exist."""

from __future__ import annotations

import functools
from typing import Any

from django.http import HttpRequest
from django.urls import resolve, reverse
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from inference.api.paths import is_api_path
from inference.errors import NotFound

#: maximum characters of an address in a message
MAX_ADDRESS_CHARS = 200
BASE = "/v1"


def is_asked_by_program(request: HttpRequest) -> bool:
    """Whether an address outside of the API was asked for by a client of the API, such as one without ``/v1``.

    Browsers accept HTML when they open a page.
    """
    return is_api_path(request.path_info) or "text/html" not in request.headers.get("Accept", "")


def address_not_served(request: HttpRequest) -> NotFound:
    """The error for an address that no pattern matches."""
    path = request.path_info[:MAX_ADDRESS_CHARS]
    asked = f"{request.method} {path} is not served here."
    if path.startswith("//"):
        # A client puts /v1 after a base URL that ends in a slash.
        return NotFound(f"{asked} The path begins with two slashes: the base URL must not end in a slash.")
    served = served_addresses()
    if any(f"{address}/".partition(" ")[2].startswith(f"{BASE}{path.rstrip('/')}/") for address in served):
        asked += f" The base URL must end in {BASE}."
    return NotFound(f"{asked} This server has {', '.join(served)}.")


@functools.cache
def served_addresses() -> tuple[str, ...]:
    """Method and path of all operations in ``/openapi.json``."""
    # The API object is created outside of this package; the view of its document refers to it.
    api: NinjaAPI = resolve(reverse("api:openapi-json")).func.keywords["api"]  # type: ignore[attr-defined]
    paths = _AddressesOnly(api, path_prefix="")["paths"]
    return tuple(f"{method.upper()} {path}" for path, operations in paths.items() for method in operations)


class _AddressesOnly(OpenAPISchema):
    """The document without what the operations take and give: that takes long, and this one is made on the loop."""

    def operation_details(self, operation: Operation) -> dict[str, Any]:
        return {}
