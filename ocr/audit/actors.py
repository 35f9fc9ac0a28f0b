"""The actors of the audit log: who did something."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from django.http import HttpRequest

from ocr.audit.models import NAME_MAX_CHARS, ActorKind
from sessions_app.client_address import client_address, current_client_address

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True, slots=True)
class Actor:
    kind: ActorKind
    #: a user's primary key as text, or the HMAC of an API key
    id: str = ""
    name: str = ""
    #: the client's IP address, or ""
    address: str = ""

    @classmethod
    def of_request(cls, request: HttpRequest) -> Self:
        """The API's caller, or the logged-in user. It reads ``request.user``, so load that first on the event loop."""
        address = client_address(request)
        caller = getattr(request, "auth", None)  # ninja puts it there
        if isinstance(caller, str):
            return cls.of_caller(caller, address)
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return cls(ActorKind.ADDRESS, address=address)
        return cls.of_user(user, address)

    @classmethod
    def of_user(cls, user: User, address: str | None = None) -> Self:
        """The user. ``address`` defaults to the client's address of the current request."""
        address = current_client_address() if address is None else address
        return cls(ActorKind.USER, str(user.pk), user.get_username()[:NAME_MAX_CHARS], address)

    @classmethod
    def of_caller(cls, caller: str, address: str | None = None) -> Self:
        """A caller in the form of ``sessions_app.callers``: the HMAC of an API key, or an address."""
        address = current_client_address() if address is None else address
        kind, _, name = caller.partition(":")
        if kind == "key":
            return cls(ActorKind.KEY, name, caller, address)
        return cls(ActorKind.ADDRESS, name=caller, address=address)

    @classmethod
    def of_command(cls) -> Self:
        """The operator at the command line, named by the operating system's account."""
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            name = ""
        return cls(ActorKind.COMMAND, name=name[:NAME_MAX_CHARS])

    @classmethod
    def of_server(cls) -> Self:
        """The server itself: the sweeper, a worker."""
        return cls(ActorKind.SERVER)
