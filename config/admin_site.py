"""An admin site that answers an invalid query string with a message and the page without it, instead of a 500.

Django passes parts of the address to the database unchecked. A filter for an unknown field, a year of five digits, a
number of twenty digits or a NUL would each be a 500 with a stack trace, some on one database only.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup, DisallowedModelAdminToField
from django.core.exceptions import BadRequest, FieldError, ValidationError
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse, TemplateResponse

log = logging.getLogger(__name__)

#: exceptions that invalid values raise in Django, in the driver or in the database
INVALID_VALUE_ERRORS = (
    ArithmeticError,
    DataError,
    DisallowedModelAdminLookup,
    DisallowedModelAdminToField,
    FieldError,
    ValidationError,
    ValueError,
)
#: the order of the menu: what runs, what people decide, who may do what
APP_ORDER = ("sessions_app", "inference", "ocr", "auth", "axes")
#: suffixes that the filters of a list add to a field's name
ALLOWED_SUFFIXES = ("", "__exact", "__isnull", "__gte", "__lt", "__id__exact")


class StrictAdminSite(admin.AdminSite):
    """Refuses NULs before the view, and turns errors that invalid values raise in the view into a response."""

    # The header has a menu, and the lists need the width.
    enable_nav_sidebar = False

    def register(
        self, model_or_iterable: Any, admin_class: type[admin.ModelAdmin[Any]] | None = None, **options: Any
    ) -> None:
        bases = (RestrictedLookups, admin_class or admin.ModelAdmin)
        super().register(
            model_or_iterable, type(bases[1].__name__, bases, {"__module__": bases[1].__module__}), **options
        )

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: (*APP_ORDER, app["app_label"]).index(app["app_label"]))

    def get_urls(self) -> list[Any]:
        # Their models are loaded after this site is made.
        from config.now.urls import now_urls
        from ocr.audit.urls import audit_urls
        from ocr.desk.urls import desk_urls
        from ocr.persons.urls import person_urls

        ours = (now_urls(self), desk_urls(self), person_urls(self), audit_urls(self))
        return [*itertools.chain(*ours), *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from config.now.views import front_page

        return super().index(request, {**front_page(request), **(extra_context or {})})

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return super().each_context(request) | {"version": settings.VERSION}

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        return super().admin_view(_refuse_invalid_values(view), cacheable)


class RestrictedLookups:
    """For every ``ModelAdmin``: an address may only filter by what the list offers.

    Django lets it filter by any field of the model and any lookup, also by a regular expression. That is costly and can
    reveal values that no page shows. ``linked_lookups`` of the class names the lookups that other pages link to.
    """

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        filters = self.get_list_filter(request)  # type: ignore[attr-defined]
        # Our own filters have a parameter name instead of a field, or filter a field in their own way.
        names = [one[0] if isinstance(one, tuple) else getattr(one, "parameter_name", one) for one in filters]
        offered = {f"{name}{suffix}" for name in names for suffix in ALLOWED_SUFFIXES}
        if lookup not in offered and lookup not in getattr(self, "linked_lookups", ()):
            return False
        allowed: bool = super().lookup_allowed(lookup, value, request)  # type: ignore[misc]
        return allowed


def _refuse_invalid_values(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if any("\0" in text for text in (request.path, *_texts(request))):
            raise BadRequest("The request contains a NUL character.")
        try:
            response = view(request, *args, **kwargs)
            if isinstance(response, SimpleTemplateResponse):
                # Rendered here, so that errors of its queries are caught, and not later by the middleware.
                response.render()
        except INVALID_VALUE_ERRORS as exc:
            if not (request.GET or request.POST or args or kwargs):
                raise  # the request had no values, so this is a bug of the server
            is_sent = request.method not in ("GET", "HEAD")
            log.warning("the admin refused invalid values: %s: %s", type(exc).__name__, exc, exc_info=is_sent)
            if is_sent:
                raise BadRequest("A value in the request has the wrong type.") from exc
            if not request.GET:
                raise Http404("Nothing exists at this address.") from exc
            messages.warning(request, "The address contained an invalid filter, which was left out.")
            return HttpResponseRedirect(request.path)
        return response

    return answer


def _texts(request: HttpRequest) -> Iterable[str]:
    """Names and values of the query and of the form."""
    for data in (request.GET, request.POST):
        for name, values in data.lists():
            yield name
            yield from values
