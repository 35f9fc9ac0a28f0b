"""Who may see the front page's figures, and who may stop sessions there: the rights of the lists of the admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

from ocr.desk.rights import Rights as DeskRights
from ocr.desk.rights import user_of


@dataclass(frozen=True, slots=True)
class Rights:
    sessions: bool
    #: cancel running and waiting sessions
    stop: bool
    workers: bool
    review: bool

    @classmethod
    def of(cls, request: HttpRequest) -> Rights:
        user = user_of(request)
        sessions = user.has_perm("sessions_app.view_chatsession")
        return cls(
            sessions=sessions,
            stop=sessions and user.has_perm("sessions_app.cancel_chatsession"),
            workers=user.has_perm("inference.view_modelworker"),
            review=DeskRights.of(request).review,
        )
