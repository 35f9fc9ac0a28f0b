"""Sending a failed session again, from the store and from the admin."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from sessions_app.models import ChatSession, SessionEvent
from sessions_app.store import sweeper
from sessions_app.store.appending import Closing
from sessions_app.store.opening import NewMedia
from sessions_app.store.requeueing import NotRequeueable, RequeueRefusal, requeue
from tests.db.session_states import TINY_PNG, claimed, completed, log_of, open_session, png, say, text
from tests.db.signing_in import signed_in

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/sessions_app/chatsession/"
Kind = SessionEvent.Kind


def failed(*, media: list[NewMedia] | None = None, **columns: object) -> ChatSession:
    session = claimed(open_session("What is this?", media=media, caller="key:alice", **columns))
    say(session, text("A pl"), closing=Closing(error={"message": "It broke.", "code": "broken"}))
    session.refresh_from_db()
    return session


@pytest.fixture
def operator() -> Client:
    return signed_in("view_chatsession", "requeue_chatsession")


def refusal_of(session: ChatSession) -> RequeueRefusal:
    with pytest.raises(NotRequeueable) as refused:
        requeue(session.pk)
    found: RequeueRefusal = refused.value.args[0]
    return found


def test_a_failed_session_is_opened_anew_with_its_request_and_media(sent: list[str]) -> None:
    old = failed(media=[png(), png()])
    sent.clear()
    new = requeue(old.pk)
    assert new.pk != old.pk
    assert (new.state, new.request, new.caller) == (ChatSession.State.QUEUED, old.request, "key:alice")
    assert new.model == settings.SERVED_MODEL_NAME
    assert [bytes(row.data) for row in new.media.all()] == [TINY_PNG, TINY_PNG]
    assert log_of(new) == [(0, "start")]
    assert sent == [new.pk]


def test_the_failed_one_is_left_as_it_is() -> None:
    old = failed(media=[png()])
    before = log_of(old)
    requeue(old.pk)
    old.refresh_from_db()
    assert (old.state, log_of(old), old.media.count()) == (ChatSession.State.FAILED, before, 1)


def test_each_of_the_two_names_the_other() -> None:
    old = failed()
    new = requeue(old.pk)
    assert old.events.get(kind=Kind.REQUEUED_AS).other_session == new.pk
    assert new.events.get(kind=Kind.REQUEUED_FROM).other_session == old.pk


def test_nobody_needs_to_listen_to_it() -> None:
    new = requeue(failed().pk)
    assert not ChatSession.objects.abandoned().filter(pk=new.pk).exists()
    assert not hasattr(new, "presence")


@pytest.mark.parametrize("make", [open_session, completed, lambda: claimed(open_session())])
def test_only_what_has_failed_is_sent_again(make: object) -> None:
    session: ChatSession = make()  # type: ignore[operator]
    assert refusal_of(session) == RequeueRefusal.NOT_FAILED
    assert ChatSession.objects.count() == 1


def test_an_expired_request_is_not_sent_again() -> None:
    session = failed()
    sweeper.expire(session.pk)
    assert refusal_of(session) == RequeueRefusal.EXPIRED


def test_without_its_media_a_session_is_not_sent_again() -> None:
    session = failed(media=[png(), png()])
    session.media.filter(position=1).delete()
    assert refusal_of(session) == RequeueRefusal.MEDIA_GONE
    assert ChatSession.objects.count() == 1


def test_a_card_is_not_sent_again_from_here() -> None:
    assert refusal_of(failed(origin="ocr")) == RequeueRefusal.PRIVATE


def test_a_full_queue_takes_it_no_more_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    session = failed()
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 0)
    assert refusal_of(session) == RequeueRefusal.QUEUE_FULL
    assert not session.events.filter(kind=Kind.REQUEUED_AS).exists()


# --- in the admin ---


def page_of(session: ChatSession) -> str:
    return reverse("admin:sessions_app_chatsession_change", args=[session.pk.replace("_", "_5F")])


def test_the_button_leads_to_the_new_session_and_is_in_both_histories(operator: Client) -> None:
    old = failed()
    assert f'action="{LIST}{old.pk}/requeue/"' in operator.get(page_of(old)).text
    page = operator.post(f"{LIST}{old.pk}/requeue/", follow=True)
    new = ChatSession.objects.exclude(pk=old.pk).get()
    assert page.redirect_chain[-1][0] == page_of(new)
    assert f'<a href="{page_of(old)}">Has the request of {old.pk}</a>' in page.text
    assert f'<a href="{page_of(new)}">Sent again as {new.pk}</a>' in operator.get(page_of(old)).text
    written = {entry.object_id: entry.get_change_message() for entry in LogEntry.objects.all()}
    assert written == {old.pk: f"Sent again as {new.pk}.", new.pk: f"Sent again, with the request of {old.pk}."}


def test_the_button_says_why_it_cannot(operator: Client) -> None:
    session = failed(media=[png()])
    session.media.all().delete()
    page = operator.post(f"{LIST}{session.pk}/requeue/", follow=True)
    assert "The session was not sent again. Its pictures or videos have been removed." in page.text
    assert not LogEntry.objects.exists()


def test_the_action_sends_what_it_can_and_says_what_not(operator: Client) -> None:
    sessions = [failed(), failed(), completed(), failed(origin="ocr")]
    form = {"action": "requeue_selected", "_selected_action": [session.pk for session in sessions]}
    page = operator.post(LIST, form, follow=True).text
    assert "2 sessions were sent again." in page
    assert "1 session was not sent again. It has not failed." in page
    assert "1 session was not sent again. It is about a person" in page
    assert ChatSession.objects.queued().count() == 2


def test_sending_again_takes_the_permission_a_post_and_a_failed_session(operator: Client) -> None:
    session = failed()
    viewer = signed_in("view_chatsession")
    assert "/requeue/" not in viewer.get(page_of(session)).text
    assert viewer.post(f"{LIST}{session.pk}/requeue/").status_code == 403
    viewer.post(LIST, {"action": "requeue_selected", "_selected_action": [session.pk]})
    assert operator.get(f"{LIST}{session.pk}/requeue/").status_code == 405
    assert operator.post(f"{LIST}sess_unknown/requeue/").status_code == 404
    assert "/requeue/" not in operator.get(page_of(completed())).text
    assert not ChatSession.objects.queued().exists()
