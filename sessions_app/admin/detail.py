"""What the page of one session shows: its facts, which stay live, and its transcript."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.urls import get_script_prefix, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from sessions_app import privacy, transcript
from sessions_app.admin import facts, pace, timeline
from sessions_app.answer import Answer
from sessions_app.models import ChatSession
from sessions_app.routing import LIVE_VIEW_PATH
from sessions_app.states import SHOWN_STATES


def live_part(session: ChatSession) -> dict[str, Any]:
    """The part of the page that is loaded again while the session runs. It does not use the session's request."""
    of_tokens = pace.read_pace(session)
    return {
        "session": session,
        "badge_state": session.shown_state,
        "badge_text": SHOWN_STATES[session.shown_state],
        "fact_groups": facts.facts_of(session),
        "timeline": timeline.timeline_of(session, of_tokens.pauses),
        "pace": of_tokens,
        "chart": pace.chart_of(of_tokens),
    }


def whole_page(session: ChatSession, user: User | AnonymousUser) -> dict[str, Any]:
    """The page as this user may see it, without the actions."""
    may_read = privacy.may_read(user, session)
    if may_read and session.expired_at is None:
        privacy.tell_shown(session, "transcript", user=user)
    media = list(session.media.defer("data")) if may_read else []
    answer = transcript.read_answer(session.pk) if may_read else Answer()
    chunks_url = ""
    if answer.last_index >= 0 and user.has_perm("sessions_app.view_chunk"):
        query = urlencode({"session__id__exact": session.pk})
        chunks_url = f"{reverse('admin:sessions_app_chunk_changelist')}?{query}"
    return {
        **live_part(session),
        "subtitle": None,  # the page's head says the id
        "may_read": may_read,
        "question": transcript.read_question(session.request if may_read else {}, media),
        "answer": answer,
        "chunks_url": chunks_url,
        "may_see_media": privacy.may_see_media(user, session),
        "is_private": privacy.is_private(session),
        "result_url": privacy.result_url(session) if may_read else "",
        "texts": {
            "states": {state: str(label) for state, label in SHOWN_STATES.items()},
            "live": _("Live."),
            "ended": _("It has ended. Reload the page to see how."),
            "broken": _("The connection broke. It is being restored."),
            "copied": _("Copied"),
        },
        "live": {
            "facts": reverse("admin:sessions_app_chatsession_facts", args=[session.pk]),
            # The text of a private session is sent only to users who may read it.
            "path": get_script_prefix() + LIVE_VIEW_PATH.format(session_id=session.pk) if may_read else None,
            "after": answer.last_index,
        },
    }
