from __future__ import annotations

import datetime
import json
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ocr.models import KtpExtraction
from sessions_app.admin import formatting
from sessions_app.deltas import TextDelta
from sessions_app.models import ChatSession, Chunk, SessionMedia
from sessions_app.store import appending, opening, sweeper, transitions
from tests.db.session_states import claimed, completed, failed, open_session, png, reasoning, say, text

pytestmark = pytest.mark.django_db

LIST = "/admin/sessions_app/chatsession/"
CHUNKS = "/admin/sessions_app/chunk/"


def staff(name: str, *codenames: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    assert user.user_permissions.count() == len(codenames)
    return user


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    """May do everything that there is to do."""
    return signed_in(
        staff(
            "operator",
            "view_chatsession",
            "delete_chatsession",
            "cancel_chatsession",
            "view_sessionmedia",
            "view_chunk",
        )
    )


@pytest.fixture
def viewer() -> Client:
    """May look at sessions and no more."""
    return signed_in(staff("viewer", "view_chatsession"))


def detail(session: ChatSession) -> str:
    return reverse("admin:sessions_app_chatsession_change", args=[quote(session.pk)])


def media_url(session: ChatSession, position: int = 0) -> str:
    return f"{LIST}{session.pk}/media/{position}/"


def read(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def run_action(client: Client, name: str, *sessions: ChatSession, **fields: str) -> str:
    form = {"action": name, "_selected_action": [session.pk for session in sessions], **fields}
    response = client.post(LIST, form, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def last_deltas(session: ChatSession) -> list[str]:
    return [delta["type"] for delta in Chunk.objects.after(session.pk, 0).values_list("delta", flat=True)]


# --- the list ---


def test_the_list_costs_the_same_for_fifty_sessions_as_for_one(operator: Client) -> None:
    completed(media=[png()])
    operator.get(LIST)
    with CaptureQueriesContext(connection) as for_one:
        operator.get(LIST)
    for number in range(49):
        completed(str(number), media=[png()])
    with CaptureQueriesContext(connection) as for_fifty:
        page = read(operator, LIST)
    assert page.count('class="session-id"') == 50
    assert len(for_fifty) == len(for_one) <= 12


def test_the_list_reads_no_request_and_no_media(operator: Client) -> None:
    completed(media=[png()])
    with CaptureQueriesContext(connection) as queries:
        read(operator, LIST)
    read_columns = " ".join(query["sql"] for query in queries)
    assert '"sessions_app_chatsession"."state"' in read_columns
    # Only inside of an expression, which takes one small member out of it.
    assert ' "sessions_app_chatsession"."request"' not in read_columns
    assert "sessions_app_sessionmedia" not in read_columns


def test_the_list_shows_state_model_and_tokens(viewer: Client) -> None:
    completed()
    page = read(viewer, LIST)
    assert re.search(r'class="session-badge session-badge-completed">Completed<', page)
    assert "tiny" in page
    assert "12 → 3" in page


@pytest.mark.parametrize("query", ["state__exact=failed", "q=worker-that-is-not-there", "origin=ocr"])
def test_filters_and_search_leave_out_what_does_not_match(viewer: Client, query: str) -> None:
    completed()
    assert "0 sessions" in read(viewer, f"{LIST}?{query}")


def test_search_finds_by_session_request_and_worker(viewer: Client) -> None:
    session = completed(request_id="req_of_alice")
    completed()
    for term in (session.pk, "req_of_alice"):
        assert "1 session\n" in read(viewer, f"{LIST}?q={term}")
    assert "2 sessions" in read(viewer, f"{LIST}?q=gpu-host")


def test_the_list_and_the_page_say_who_asked(viewer: Client) -> None:
    session = completed(caller="key:0123456789ab")
    assert "key:0123456789ab" in read(viewer, LIST)
    assert "key:0123456789ab" in read(viewer, detail(session))
    assert "1 session" in read(viewer, f"{LIST}?q=key:0123456789ab")


def test_the_filter_offers_those_who_hold_the_queue(viewer: Client) -> None:
    for _ in range(3):
        open_session(caller="key:greedy")
    claimed(open_session(caller="address:192.0.2.7"))
    completed(caller="key:gone")
    page = read(viewer, LIST)
    greedy, other = page.index("key:greedy: 3 waiting, 0 running"), page.index("192.0.2.7: 0 waiting, 1 running")
    assert greedy < other
    assert "key:gone: " not in page
    assert "3 sessions" in read(viewer, f"{LIST}?caller=key:greedy")
    # Also one who holds nothing any more.
    assert "1 session\n" in read(viewer, f"{LIST}?caller=key:gone")


def test_nothing_can_be_added_or_changed_even_by_a_superuser() -> None:
    root = signed_in(User.objects.create_superuser("root"))
    session = completed()
    assert root.get(f"{LIST}add/").status_code == 403
    assert root.post(detail(session), {"state": "queued"}).status_code == 403
    session.refresh_from_db()
    assert session.state == ChatSession.State.COMPLETED


def test_staff_without_the_permission_see_no_sessions() -> None:
    stranger = signed_in(staff("stranger"))
    assert stranger.get(LIST).status_code == 403
    assert stranger.get(detail(completed())).status_code == 403


# --- cancelling ---


def test_cancel_selected_ends_a_queued_session_with_its_terminal_chunks(operator: Client) -> None:
    queued, ended = open_session(), completed()
    page = run_action(operator, "cancel_selected", queued, ended)
    assert "1 session was cancelled." in page
    assert "1 session had already ended." in page
    queued.refresh_from_db()
    assert queued.state == ChatSession.State.CANCELLED
    assert last_deltas(queued) == ["finish", "usage", "end"]
    ended.refresh_from_db()
    assert ended.state == ChatSession.State.COMPLETED


def test_cancel_selected_marks_a_running_session_for_its_worker(operator: Client) -> None:
    running = claimed(open_session())
    run_action(operator, "cancel_selected", running)
    assert transitions.cancel_requested_among([running.pk]) == {running.pk}
    running.refresh_from_db()
    assert running.state == ChatSession.State.RUNNING


def test_cancel_selected_needs_the_permission(viewer: Client) -> None:
    queued = open_session()
    page = run_action(viewer, "cancel_selected", queued)
    assert "Cancel selected sessions" not in page
    queued.refresh_from_db()
    assert queued.state == ChatSession.State.QUEUED


def test_the_cancel_button_cancels_and_is_written_into_the_history(operator: Client) -> None:
    queued = open_session()
    cancel_url = f"{LIST}{queued.pk}/cancel/"
    assert f'action="{cancel_url}"' in read(operator, detail(queued))
    page = operator.post(cancel_url, follow=True).content.decode()
    assert "The session was cancelled." in page
    assert cancel_url not in page
    assert last_deltas(queued) == ["finish", "usage", "end"]
    entry = LogEntry.objects.get(object_id=queued.pk)
    assert (entry.user.username, entry.get_change_message()) == ("operator", "Cancelled.")


def test_cancelling_twice_says_that_it_had_ended(operator: Client) -> None:
    queued = open_session()
    operator.post(f"{LIST}{queued.pk}/cancel/")
    page = operator.post(f"{LIST}{queued.pk}/cancel/", follow=True).content.decode()
    assert "The session had already ended." in page
    assert last_deltas(queued) == ["finish", "usage", "end"]


def test_the_cancel_button_needs_the_permission_a_post_and_the_csrf_token(viewer: Client, operator: Client) -> None:
    queued = open_session()
    cancel_url = f"{LIST}{queued.pk}/cancel/"
    assert cancel_url not in read(viewer, detail(queued))
    assert viewer.post(cancel_url).status_code == 403
    assert operator.get(cancel_url).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="operator"))
    assert strict.post(cancel_url).status_code == 403
    queued.refresh_from_db()
    assert queued.state == ChatSession.State.QUEUED


def test_cancelling_an_unknown_session_is_not_found(operator: Client) -> None:
    assert operator.post(f"{LIST}sess_unknown/cancel/").status_code == 404


# --- deleting ---


def test_a_finished_session_is_deleted_with_everything_of_it(operator: Client) -> None:
    session = completed(media=[png()])
    page = run_action(operator, "delete_selected", session, post="yes")
    assert "Successfully deleted 1 session." in page
    assert not ChatSession.objects.exists()
    assert not Chunk.objects.exists()
    assert not SessionMedia.objects.exists()


def test_an_unfinished_session_is_not_deleted(operator: Client) -> None:
    running = claimed(open_session())
    page = run_action(operator, "delete_selected", running, completed(), post="yes")
    assert "which is Running: cancel it first" in page
    assert operator.post(f"{detail(running).removesuffix('change/')}delete/", {"post": "yes"}).status_code == 403
    assert ChatSession.objects.count() == 2


def test_asking_to_delete_says_what_goes_and_reads_no_chunk_and_no_bytes(operator: Client) -> None:
    sessions = [completed(media=[png(), png()]), completed()]
    KtpExtraction.objects.create(session=sessions[1])
    with CaptureQueriesContext(connection) as queries:
        page = run_action(operator, "delete_selected", *sessions)
    # Of each: the start, two of words, the finish, the usage and the end.
    for line in ("Sessions: 2", "Chunks: 12", "Pictures and videos: 2 (0.1 kB)"):
        assert f"<li>{line}</li>" in page
    assert "<li>KTP extractions that stay, without their sessions: 1</li>" in page
    read_columns = " ".join(query["sql"] for query in queries)
    assert '"token_ids"' not in read_columns
    assert '"sessions_app_sessionmedia"."data"' not in read_columns


def test_of_an_expired_session_no_chunks_go(operator: Client) -> None:
    session = completed()
    sweeper.expire(session.pk)
    assert "<li>Chunks: 0</li>" in run_action(operator, "delete_selected", session)


def test_a_reading_stays_when_its_session_is_deleted(operator: Client) -> None:
    session = completed(origin="ocr")
    reading = KtpExtraction.objects.create(session=session)
    run_action(operator, "delete_selected", session, post="yes")
    reading.refresh_from_db()
    assert reading.session is None
    assert LogEntry.objects.get(object_id=session.pk).is_deletion()


def test_deleting_needs_the_permission(viewer: Client) -> None:
    session = completed()
    run_action(viewer, "delete_selected", session, post="yes")
    assert ChatSession.objects.filter(pk=session.pk).exists()


# --- the detail page ---


def test_the_detail_page_shows_facts_and_transcript(operator: Client) -> None:
    session = completed("A blue plate.", text="What is on the table?", request_id="req_1", media=[png()])
    page = read(operator, detail(session))
    for shown in (session.pk, "req_1", "gpu-host:4711:abc", "What is on the table?", "Let me look.", "A blue plate."):
        assert shown in page
    assert f'<img src="{media_url(session)}thumbnail/"' in page
    assert "&quot;seed&quot;: 42" in page
    assert 'id="session-live"' not in page


def test_the_detail_page_shows_every_answer_of_a_session(operator: Client) -> None:
    session = claimed(open_session())
    second: TextDelta = {"type": "text", "text": "A red cup.", "choice": 1}
    say(session, text("A blue "), second, text("plate."), {**second, "text": " Or two."})
    page = read(operator, detail(session))
    assert "A blue plate." in page and "A red cup. Or two." in page


def test_the_detail_page_shows_the_reasoning_and_the_refusal_of_every_answer(operator: Client) -> None:
    session = claimed(open_session())
    say(
        session,
        reasoning("Is it blue?"),
        {"type": "reasoning", "text": "Or is it ", "choice": 1},
        {"type": "reasoning", "text": "red?", "choice": 1},
        {"type": "refusal", "text": "I cannot see it.", "choice": 2},
    )
    page = read(operator, detail(session))
    for said in ("Is it blue?", "Or is it red?", "I cannot see it."):
        assert said in page


def test_model_output_and_requests_are_shown_as_text_and_never_as_markup(operator: Client) -> None:
    hostile = "</div><script>alert(1)</script><img src=x onerror=alert(2)>"
    session = claimed(open_session(hostile, request_id="<b>"))
    say(session, reasoning(hostile), text(hostile))
    say(session, closing=appending.Closing(error={"message": hostile, "code": hostile}))
    for url in (detail(session), f"{CHUNKS}?session__id__exact={session.pk}", LIST):
        page = read(operator, url)
        assert "<script>alert(1)" not in page
        assert "<img src=x" not in page
    assert read(operator, detail(session)).count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


def test_the_detail_page_has_no_inline_script(operator: Client) -> None:
    page = read(operator, detail(open_session()))
    for attributes in re.findall(r"<script([^>]*)>", page):
        assert "src=" in attributes or 'type="application/json"' in attributes


def test_an_unfinished_session_carries_what_the_live_view_needs(viewer: Client) -> None:
    session = claimed(open_session())
    say(session, text("A "), text("plate"))
    page = read(viewer, detail(session))
    live = {"facts": f"{LIST}{session.pk}/facts/", "path": f"/ws/admin/sessions/{session.pk}/", "after": 2}
    assert json.dumps(live) in page
    assert "prevents automatic cancellation" in page
    assert "A plate" in page


def test_a_failed_session_shows_its_error(viewer: Client) -> None:
    assert "The worker was lost." in read(viewer, detail(failed()))


def test_an_expired_session_says_so_and_keeps_its_summary(viewer: Client) -> None:
    session = completed("A blue plate.", media=[png()])
    sweeper.expire(session.pk)
    page = read(viewer, detail(session))
    assert "Expired: the request, its media and the answer were removed" in page
    assert "A blue plate." not in page
    assert "tiny" in page


@pytest.mark.parametrize(
    "request_json",
    [
        {},
        {"prompt": "an unknown shape"},
        {"messages": "not a list"},
        {"messages": [{"role": "user", "content": None}, {}]},
        {"messages": [{"role": "user", "content": [{"type": "audio", "seconds": 3}, 7]}]},
        ["a list"],
    ],
)
def test_a_request_of_another_shape_is_shown_as_json(viewer: Client, request_json: object) -> None:
    session = open_session(request=request_json)
    read(viewer, detail(session))


def test_the_transcript_and_the_pace_of_a_long_answer_take_a_query_each_for_its_chunks(viewer: Client) -> None:
    session = claimed(open_session())
    say(session, *(text(f"{number} ") for number in range(3000)))
    with CaptureQueriesContext(connection) as queries:
        page = read(viewer, detail(session))
    # Not counted: whether the first chunk is reasoning (``EXISTS``).
    assert len([query for query in queries if 'FROM "sessions_app_chunk" WHERE' in query["sql"]]) == 1
    assert len([query for query in queries if "FROM sessions_app_chunk" in query["sql"]]) == 1
    assert "0 1 2 3 " in page
    assert "2998 2999 " in page


# --- media ---


def test_each_image_and_video_part_shows_the_media_at_its_place(operator: Client) -> None:
    video = opening.NewMedia("video", "video/mp4", "0" * 64, b"not really a video")
    session = completed(media=[png(), video, png()])
    page = read(operator, detail(session))
    shown = re.findall(r'<a href="([^"]+)"><img src="([^"]+)" alt="([^"]+)"', page)
    assert shown == [
        (media_url(session, position), f"{media_url(session, position)}thumbnail/", alt)
        for position, alt in enumerate(
            ("Image 1 of the request", "First frame of video 2 of the request", "Image 3 of the request")
        )
    ]


def test_media_that_were_removed_are_said_to_be_missing(operator: Client) -> None:
    session = completed(media=[png()])
    session.media.all().delete()
    assert "Image: its bytes are not stored." in read(operator, detail(session))


def test_media_are_served_to_those_who_may_see_them_and_never_stored(operator: Client) -> None:
    session = completed(media=[png()])
    response = operator.get(media_url(session))
    assert response.status_code == 200
    assert response.content.startswith(b"\x89PNG")
    assert response["Content-Type"] == "image/png"
    assert "no-store" in response["Cache-Control"]
    assert response["X-Content-Type-Options"] == "nosniff"


def test_media_need_a_permission_of_their_own(viewer: Client) -> None:
    session = completed(media=[png()])
    assert viewer.get(media_url(session)).status_code == 403
    page = read(viewer, detail(session))
    assert media_url(session) not in page
    assert "You lack the permission to view session media." in page


def test_media_send_the_anonymous_to_the_log_in() -> None:
    response = Client().get(media_url(completed(media=[png()])))
    assert response.status_code == 302
    assert "/admin/login/" in response["Location"]


def test_media_that_are_not_there_are_not_found(operator: Client) -> None:
    assert operator.get(media_url(completed())).status_code == 404


def test_media_of_a_type_that_a_browser_could_run_are_only_downloaded(operator: Client) -> None:
    response = operator.get(media_url(completed(media=[png("image/svg+xml")])))
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")


# --- chunks ---


def test_the_chunks_of_a_session_are_listed_in_order(operator: Client) -> None:
    session = completed("A plate.")
    completed("Something else.")
    url = f"{CHUNKS}?session__id__exact={session.pk}"
    assert url.replace("&", "&amp;") in read(operator, detail(session))
    page = read(operator, url)
    types = re.findall(r'class="field-kind"[^>]*>(\w+)<', page)
    assert types == ["start", "reasoning", "text", "finish", "usage", "end"]
    assert "A plate." in page
    assert "Something else." not in page


def test_the_chunk_list_costs_the_same_for_any_number_of_chunks(operator: Client) -> None:
    session = claimed(open_session())
    url = f"{CHUNKS}?session__id__exact={session.pk}"
    operator.get(url)
    with CaptureQueriesContext(connection) as for_one:
        operator.get(url)
    say(session, *(text("word ") for _ in range(500)))
    with CaptureQueriesContext(connection) as for_many:
        page = read(operator, url)
    assert len(for_many) == len(for_one)
    assert page.count('class="field-kind"') == 200


def test_chunks_without_a_session_lead_back_to_the_sessions(operator: Client) -> None:
    response = operator.get(CHUNKS)
    assert response.status_code == 302
    assert response["Location"] == LIST


def test_chunks_need_their_permission_and_cannot_be_changed(viewer: Client) -> None:
    session = completed()
    chunk = session.chunks.get(index=2)
    assert viewer.get(f"{CHUNKS}?session__id__exact={session.pk}").status_code == 403
    assert "Show the chunks" not in read(viewer, detail(session))
    root = signed_in(User.objects.create_superuser("root"))
    assert "A plate." in read(root, f"{CHUNKS}{chunk.pk}/change/")
    assert root.post(f"{CHUNKS}{chunk.pk}/change/", {"index": 9}).status_code == 403
    assert root.post(f"{CHUNKS}{chunk.pk}/delete/", {"post": "yes"}).status_code == 403


def test_pages_open_for_ids_that_look_like_the_admins_own_quoting(operator: Client) -> None:
    # The admin writes "_5C" for a backslash, and an id may hold those three characters.
    session = open_session(session_id="sess_5C-_2F.x")
    assert "sess_5C-_2F.x" in read(operator, detail(session))
    page = operator.post(f"{LIST}{session.pk}/cancel/", follow=True).content.decode()
    assert "The session was cancelled." in page
    assert detail(session) in read(operator, f"{CHUNKS}?session__id__exact={session.pk}")


# --- figures ---


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 ms"),
        (0.0854, "85 ms"),
        (0.9996, "1.00 s"),
        (4.213, "4.21 s"),
        (59.996, "1 min 0 s"),
        (187, "3 min 7 s"),
        (7500, "2 h 5 min"),
        (356400, "4 d 3 h"),
        (-3, "0 ms"),
    ],
)
def test_durations_are_written_in_two_figures(seconds: float, written: str) -> None:
    assert formatting.duration(datetime.timedelta(seconds=seconds)) == written
