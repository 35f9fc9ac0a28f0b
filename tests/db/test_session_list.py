"""The list of sessions in the admin: what it says of each, and in which orders."""

from __future__ import annotations

import datetime
import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference.models import ModelWorker
from sessions_app.models import ChatSession
from sessions_app.store import transitions
from sessions_app.store.appending import Closing
from tests.db.session_states import claimed, completed, expire_lease, failed, open_session, reasoning, say, text

pytestmark = pytest.mark.django_db

LIST = "/admin/sessions_app/chatsession/"


@pytest.fixture
def viewer() -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_chatsession"))
    client = Client()
    client.force_login(user)
    return client


def page_of(client: Client, query: str = "") -> str:
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200, response
    return response.text


def cells(page: str, column: str) -> list[str]:
    """The words of a column, row by row."""
    found = re.findall(rf'class="field-{column}[^"]*"[^>]*>(.*?)</td>', page, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in found]


def ids(page: str) -> list[str]:
    return re.findall(r'class="session-id" title="([^"]+)"', page)


def sorted_by(client: Client, column: str, *, falling: bool = False) -> list[str]:
    found = re.search(rf"column-{column}.*?[?&;]o=-?(\d+)", page_of(client), re.DOTALL)
    assert found is not None
    return ids(page_of(client, f"o={'-' * falling}{found[1]}"))


def asking_for(max_tokens: object) -> dict[str, object]:
    return {"messages": [], "sampling": {"max_tokens": max_tokens}}


def finished(tokens: int, *, first_token: float, seconds: float) -> ChatSession:
    """A session with its first token and its end so long after it was created."""
    session = completed()
    created = timezone.now() - datetime.timedelta(hours=1)
    first = created + datetime.timedelta(seconds=first_token)
    ChatSession.objects.filter(pk=session.pk).update(
        created_at=created,
        completion_tokens=tokens,
        first_token_at=first,
        finished_at=first + datetime.timedelta(seconds=seconds),
    )
    return session


def test_a_running_session_shows_its_tokens_so_far_of_how_many_and_its_speed(viewer: Client) -> None:
    session = claimed(open_session(request=asking_for(512)))
    say(session, *[text("a")] * 8)
    page = page_of(viewer)
    assert cells(page, "tokens") == ["8 of 512"]
    [speed] = cells(page, "speed")
    assert 0 < float(speed) <= 8


def test_the_limit_of_the_reasoning_counts_once_the_answer_begins_with_it(viewer: Client) -> None:
    request = asking_for(512) | {"sampling": {"max_tokens": 512, "max_reasoning_tokens": 2048}, "choices": 2}
    session = claimed(open_session(request=request))
    assert cells(page_of(viewer), "tokens") == ["0 of 1,024"]
    say(session, reasoning("hm"))
    assert cells(page_of(viewer), "tokens") == ["1 of 5,120"]


@pytest.mark.parametrize("max_tokens", [None, "many", -1, [1]])
def test_a_request_that_names_no_number_is_listed_without_one(viewer: Client, max_tokens: object) -> None:
    open_session(request=asking_for(max_tokens))
    open_session(request=["no request"])
    assert cells(page_of(viewer), "tokens") == ["0", "0"]


def test_a_finished_session_shows_what_it_said_of_how_much_it_might(viewer: Client) -> None:
    completed(request=asking_for(512))
    assert cells(page_of(viewer), "tokens") == ["12 → 3 of 512"]


def test_queued_sessions_say_their_places_and_what_all_wait_for(viewer: Client) -> None:
    ChatSession.objects.bulk_create(
        ChatSession(id=f"s{n}", model="tiny", request={}, caller=f"key:{n}", created_at=timezone.now()) for n in (1, 2)
    )
    assert cells(page_of(viewer), "state_and_why") == [
        "Queued No worker is running. Place 2 in the queue.",
        "Queued No worker is running. Place 1 in the queue.",
    ]
    ModelWorker.objects.create(name="w", model="tiny", state=ModelWorker.State.LOADING)
    assert "The model is being loaded." in cells(page_of(viewer), "state_and_why")[0]
    ModelWorker.objects.update(state=ModelWorker.State.READY, drain=True)
    assert "Every worker is draining." in cells(page_of(viewer), "state_and_why")[0]
    ModelWorker.objects.update(state=ModelWorker.State.FAILED, drain=False)
    assert "The model could not be loaded." in cells(page_of(viewer), "state_and_why")[0]
    ModelWorker.objects.update(state=ModelWorker.State.READY)
    assert cells(page_of(viewer), "state_and_why")[0] == "Queued Place 2 in the queue."


def test_a_running_session_that_is_cancelled_is_cancelling_until_its_worker_stops(viewer: Client) -> None:
    session = claimed(open_session())
    other = claimed(open_session())
    transitions.request_cancel(session.pk)
    assert sorted(cells(page_of(viewer), "state_and_why")) == ["Cancelling", "Running"]
    assert ids(page_of(viewer, "state__exact=cancelling")) == [session.pk]
    assert set(ids(page_of(viewer, "state__exact=running"))) == {session.pk, other.pk}
    say(session, closing=Closing(reason="cancelled"))
    assert "Cancelled" in cells(page_of(viewer), "state_and_why")
    assert ids(page_of(viewer, "state__exact=cancelling")) == []


def test_a_session_whose_worker_is_silent_says_so(viewer: Client) -> None:
    session = claimed(open_session())
    expire_lease(session)
    assert cells(page_of(viewer), "state_and_why") == ["Running Its worker is silent."]
    claimed(session)
    assert cells(page_of(viewer), "state_and_why") == ["Running Attempt 2"]


def test_a_failed_session_says_why(viewer: Client) -> None:
    failed("The worker was lost 3 times.")
    assert cells(page_of(viewer), "state_and_why") == ["Failed worker_lost The worker was lost 3 times."]


def test_of_a_persons_session_only_the_code_of_its_error_is_listed(viewer: Client) -> None:
    session = claimed(open_session(origin="ocr"))
    say(session, closing=Closing(error={"message": "NIK 3171234567890123 is odd", "code": "odd"}))
    assert cells(page_of(viewer), "state_and_why") == ["Failed odd"]
    assert "3171234567890123" not in page_of(viewer)


def test_the_newest_come_first_and_the_arrow_says_so(viewer: Client) -> None:
    older, newer = completed(), completed()
    page = page_of(viewer)
    assert ids(page) == [newer.pk, older.pk]
    assert re.search(r'class="sortable column-created sorted descending"', page)


@pytest.mark.parametrize(
    ("column", "rising"),
    [
        # tokens, seconds to the first, seconds from it to the end: in the order of this column and of no other
        ("tokens", [(10, 1, 1), (20, 0.5, 4), (30, 2, 2)]),
        ("speed", [(300, 1, 60), (20, 2, 1), (30, 0.5, 0.1)]),
        ("first_token", [(20, 0.05, 1), (30, 0.5, 1), (10, 12.5, 1)]),
    ],
)
def test_the_list_is_sorted_by_figures_with_the_unknown_last(
    viewer: Client, column: str, rising: list[tuple[int, float, float]]
) -> None:
    known = [finished(tokens, first_token=first, seconds=seconds).pk for tokens, first, seconds in rising]
    unknown = open_session()
    assert sorted_by(viewer, column) == [*known, unknown.pk]
    assert sorted_by(viewer, column, falling=True) == [*reversed(known), unknown.pk]


def test_a_running_session_is_sorted_among_the_others_by_its_mean_so_far(viewer: Client) -> None:
    slow = finished(10, first_token=1, seconds=10)
    fast = finished(1000, first_token=1, seconds=1)
    running = claimed(open_session())
    say(running, *[text("a")] * 100)
    ChatSession.objects.filter(pk=running.pk).update(
        first_token_at=timezone.now() - datetime.timedelta(seconds=2), completion_tokens=100
    )
    assert sorted_by(viewer, "speed") == [slow.pk, running.pk, fast.pk]


def test_a_page_of_every_state_takes_as_many_queries_for_sixty_sessions_as_for_six(viewer: Client) -> None:
    def make() -> None:
        completed()
        failed()
        open_session(caller="key:a")
        say(claimed(open_session(caller="key:b")), text("a"))
        transitions.request_cancel(claimed(open_session()).pk)
        expire_lease(claimed(open_session(origin="ocr")))

    make()
    page_of(viewer)
    with CaptureQueriesContext(connection) as for_six:
        page_of(viewer)
    for _ in range(9):
        make()
    with CaptureQueriesContext(connection) as for_sixty:
        page_of(viewer)
    assert len(for_sixty) == len(for_six) <= 16


def test_filters_offer_the_values_of_the_newest_sessions_and_the_chosen_one(viewer: Client) -> None:
    completed(model="first"), completed(model="second")
    page = page_of(viewer, "model=gone")
    assert [value for value in ("first", "second", "gone") if f"?model={value}" in page] == ["first", "second", "gone"]
    assert ids(page_of(viewer, "model=first")) == [ChatSession.objects.get(model="first").pk]


def test_without_a_search_the_list_does_not_speak_of_results(viewer: Client) -> None:
    completed()
    assert "Show all" not in page_of(viewer)
    assert "Show all" not in page_of(viewer, "state__exact=completed")
    assert "1 result" in page_of(viewer, "q=sess")
