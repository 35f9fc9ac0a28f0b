"""The page of one session in the admin: its facts, its timeline, its pace, and small pictures of its media."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from PIL import Image

from inference.media.decoding import decoding_pool
from sessions_app import thumbnails
from sessions_app.admin import pace
from sessions_app.admin.timeline import timeline_of
from sessions_app.models import ChatSession, Chunk, SessionEvent
from sessions_app.store import opening, sweeper, transitions
from sessions_app.store.appending import Closing
from sessions_app.store.listening import Resume, write_resumes
from tests.db.session_states import WORKER, claimed, completed, expire_lease, failed, open_session, say, text
from tests.db.signing_in import signed_in
from tests.media_samples import image_bytes, video_bytes

pytestmark = pytest.mark.django_db

LIST = "/admin/sessions_app/chatsession/"


@pytest.fixture
def viewer() -> Client:
    return signed_in("view_chatsession")


@pytest.fixture
def with_media() -> Iterator[Client]:
    """May see media too; the processes that decode end with the test."""
    decoding_pool().start()
    yield signed_in("view_chatsession", "view_sessionmedia")
    decoding_pool().stop()


def facts_of(client: Client, session: ChatSession) -> str:
    response = client.get(f"{LIST}{session.pk}/facts/")
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    return response.text


def fact(page: str, label: str) -> str:
    found = re.search(rf"<dt>{label}</dt><dd>([^<]*)</dd>", page)
    assert found is not None, label
    return found[1]


def lines_of(session: ChatSession) -> list[str]:
    session.refresh_from_db()
    return [moment.text for moment in timeline_of(session, pace.read_pace(session).pauses)]


def commit_at(session: ChatSession, *seconds: float) -> None:
    """Have its token chunks committed so long after it was opened."""
    chunks = Chunk.objects.after(session.pk, 0).exclude(token_ids=[])
    for chunk, after in zip(chunks, seconds, strict=True):
        chunk.created_at = session.created_at + datetime.timedelta(seconds=after)
        chunk.save(update_fields=["created_at"])


# --- facts ---


def test_the_facts_grow_with_the_session(viewer: Client) -> None:
    session = claimed(open_session(request={"messages": [], "sampling": {"max_tokens": 64}}))
    before = facts_of(viewer, session)
    say(session, *[text("a")] * 5)
    after = facts_of(viewer, session)
    assert (fact(before, "Completion tokens"), fact(after, "Completion tokens")) == ("0 of 64", "5 of 64")
    assert (fact(before, "Chunks"), fact(after, "Chunks")) == ("1", "6")
    assert fact(before, "Tokens per second now") == "–"
    assert float(fact(after, "Tokens per second now")) > 0
    assert fact(after, "Lease").startswith("for another")
    assert 'data-session-state="running"' in after


def test_the_facts_of_a_queued_session_say_what_it_waits_for(viewer: Client) -> None:
    assert fact(facts_of(viewer, open_session()), "Waits for") == "No worker is running. Place 1 in the queue."


def test_the_facts_say_that_a_session_is_being_cancelled(viewer: Client) -> None:
    session = claimed(open_session())
    transitions.request_cancel(session.pk)
    assert "session-badge-cancelling" in facts_of(viewer, session)


def test_facts_are_for_those_who_may_view_sessions() -> None:
    session = open_session()
    assert signed_in().get(f"{LIST}{session.pk}/facts/").status_code == 403
    assert Client().get(f"{LIST}{session.pk}/facts/").status_code == 302


def test_facts_of_an_unknown_session_are_not_found(viewer: Client) -> None:
    assert viewer.get(f"{LIST}sess_unknown/facts/").status_code == 404


def test_facts_take_the_same_queries_for_any_number_of_chunks_and_read_no_request(viewer: Client) -> None:
    session = claimed(open_session("A secret question"))
    say(session, text("a"), text("b"))
    facts_of(viewer, session)
    with CaptureQueriesContext(connection) as for_few:
        facts_of(viewer, session)
    say(session, *[text("a")] * 2000)
    with CaptureQueriesContext(connection) as for_many:
        page = facts_of(viewer, session)
    assert len(for_many) == len(for_few) <= 9
    assert len(page) < 60_000
    assert ' "sessions_app_chatsession"."request"' not in " ".join(query["sql"] for query in for_many)


# --- the timeline ---


def test_the_timeline_tells_a_plain_run() -> None:
    assert lines_of(completed()) == ["Queued", f"Claimed by {WORKER}", "First token", "Completed: stop"]


def test_the_timeline_tells_of_takeovers_and_who_gave_it_back() -> None:
    session = claimed(open_session())
    expire_lease(session)
    sweeper.sweep()
    second = claimed(session)
    transitions.release(session.pk, second.attempt)
    claimed(session)
    assert lines_of(session) == [
        "Queued",
        f"Claimed by {WORKER}",
        f"The lease of {WORKER} expired; queued again",
        f"Taken over by {WORKER}, attempt 2",
        f"Released by {WORKER} and queued again",
        f"Taken over by {WORKER}, attempt 3",
    ]


def test_the_timeline_tells_of_resumes_and_gathers_many() -> None:
    session = claimed(open_session())
    write_resumes([Resume(session.pk, 4, timezone.now())])
    assert "A client resumed the stream after chunk 4" in lines_of(session)
    write_resumes([Resume(session.pk, 4, timezone.now()) for _ in range(9)])
    told = [line for line in lines_of(session) if "resumed" in line]
    assert len(told) == 1
    assert told[0].startswith("Clients resumed the stream 10 times")


def test_the_timeline_tells_of_cancel_and_failure_and_expiry() -> None:
    session = claimed(open_session())
    transitions.request_cancel(session.pk)
    say(session, closing=Closing(reason="cancelled"))
    assert lines_of(session)[-2:] == ["Cancel requested", "Cancelled"]
    broken = failed()
    assert lines_of(broken)[-1] == "Failed: worker_lost"
    sweeper.expire(broken.pk)
    assert lines_of(broken)[-1] == "Request, media and chunks removed"


def test_a_session_from_before_there_were_histories_has_its_first_claim() -> None:
    session = completed()
    session.events.all().delete()
    assert lines_of(session)[1] == "Claimed for the first time"


def test_the_timeline_of_a_session_with_a_long_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session()
    monkeypatch.setattr("sessions_app.admin.timeline.MAX_EVENTS", 10)
    SessionEvent.objects.bulk_create(SessionEvent(session=session, kind="released", worker=f"w{n}") for n in range(50))
    assert len(lines_of(session)) == 11


# --- the pace ---


def test_the_pace_is_the_time_between_commits_by_their_tokens() -> None:
    session = claimed(open_session())
    say(session, *[text("a")] * 4)
    commit_at(session, 1.0, 1.5, 2.0, 3.0)
    read = pace.read_pace(session)
    assert [span.tokens for span in read.spans] == [1, 1, 1]
    assert [round(span.seconds, 3) for span in read.spans] == [0.5, 0.5, 1.0]
    assert read.mean == pytest.approx(2 / 3, abs=0.001)
    assert read.words.startswith("667 ms from token to token on average, over 3 tokens. The longest wait was 1.00 s")


def test_a_pause_is_on_the_timeline_where_it_began() -> None:
    session = claimed(open_session())
    say(session, *[text("a")] * 50)
    commit_at(session, *[n * 0.01 for n in range(49)], 9.0)
    [pause] = pace.read_pace(session).pauses
    assert (pause.at - session.created_at).total_seconds() == pytest.approx(0.48, abs=0.01)
    assert "No token for 8.52 s" in lines_of(session)


def test_a_session_that_is_slow_throughout_has_no_pauses() -> None:
    session = claimed(open_session())
    say(session, *[text("a")] * 5)
    commit_at(session, 3, 6, 9, 12, 15)
    assert pace.read_pace(session).pauses == ()


def test_a_clock_that_goes_back_at_a_takeover_breaks_nothing(viewer: Client) -> None:
    session = claimed(open_session())
    say(session, *[text("a")] * 3)
    commit_at(session, 5, 1, 2)
    assert 'role="img"' in facts_of(viewer, session)


def test_a_long_answer_is_drawn_with_a_bounded_number_of_points() -> None:
    session = claimed(open_session())
    say(session, *[text("a")] * 3000)
    session.refresh_from_db()
    chart = pace.chart_of(pace.read_pace(session))
    assert chart is not None
    assert 100 <= len(chart.columns) <= pace.POINTS + 1
    assert all(0 <= column.y <= column.mean_y <= chart.base for column in chart.columns)
    assert all(chart.left <= column.x <= chart.right for column in chart.columns)


def test_without_two_tokens_there_is_no_chart_and_the_page_says_so(viewer: Client) -> None:
    session = claimed(open_session())
    assert "There are fewer than two tokens so far" in facts_of(viewer, session)
    say(session, text("a"))
    assert "There are fewer than two tokens so far" in facts_of(viewer, session)


def test_the_chart_has_its_figures_in_words(viewer: Client) -> None:
    session = claimed(open_session())
    say(session, text("a"), text("b"))
    page = facts_of(viewer, session)
    assert 'aria-labelledby="pace-words"' in page
    assert re.search(r'id="pace-words">[\d.]+ (ms|s) from token to token on average, over 1 token\.', page)


# --- small pictures ---


def small(client: Client, session: ChatSession, position: int = 0) -> Image.Image:
    response = client.get(f"{LIST}{session.pk}/media/{position}/thumbnail/")
    assert response.status_code == 200
    assert response["Content-Type"] == "image/jpeg"
    assert "no-store" in response["Cache-Control"]
    assert response["X-Content-Type-Options"] == "nosniff"
    return Image.open(io.BytesIO(response.content))


def media(kind: str, content_type: str, data: bytes) -> opening.NewMedia:
    return opening.NewMedia(kind, content_type, "0" * 64, data)


def test_a_picture_is_shown_small_and_encoded_again(with_media: Client) -> None:
    sent = image_bytes((1600, 800), color="red")
    session = completed(media=[media("image", "image/png", sent)])
    image = small(with_media, session)
    assert image.size == (thumbnails.MAX_SIDE, thumbnails.MAX_SIDE // 2)
    red, green, blue = image.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    assert red > 200 and green < 60 and blue < 60


def test_of_a_video_the_first_frame_is_shown(with_media: Client) -> None:
    session = completed(media=[media("video", "video/mp4", video_bytes())])
    assert max(small(with_media, session).size) <= thumbnails.MAX_SIDE


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_cannot_be_decoded_is_shown_as_an_icon(with_media: Client, kind: str) -> None:
    session = completed(media=[media(kind, "image/png", b"neither")])
    response = with_media.get(f"{LIST}{session.pk}/media/0/thumbnail/")
    assert response.status_code == 302
    assert response["Location"] == f"/static/sessions_app/{kind}.svg"


def test_small_pictures_need_the_permission_for_media(viewer: Client) -> None:
    session = completed(media=[media("image", "image/png", image_bytes((8, 8)))])
    assert viewer.get(f"{LIST}{session.pk}/media/0/thumbnail/").status_code == 403
    assert signed_in("view_sessionmedia").get(f"{LIST}{session.pk}/media/0/thumbnail/").status_code == 403
