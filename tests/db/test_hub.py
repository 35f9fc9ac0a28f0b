"""Following a session: every chunk once, in order, whatever happens to the wake-ups, and to its end."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import pytest
import redis
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from sessions_app import hub, listener_wakeups, wakeups
from sessions_app.db import in_db
from sessions_app.deltas import StoredDelta
from sessions_app.errors import SessionExpired
from sessions_app.hub import Hub
from sessions_app.listener import BUFFER_CHUNKS, Listener
from sessions_app.models import ChatSession, Chunk, Presence
from sessions_app.store import appending, listening, sweeper
from sessions_app.store.appending import Append, Closing, Piece
from sessions_app.store.listening import PAGE_CHUNKS
from sessions_app.wakeups import InProcessTransport, Receiver, RedisTransport, StreamChunk, Wakeup
from tests import services
from tests.db.session_states import claimed, completed, open_session, say, text
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
DEADLINE_SECONDS = 30
NEVER_IDLE = 1000.0


class FaultyTransport(InProcessTransport):
    """Does to wake-ups what a broker may do to them at any time."""

    def __init__(self, fault: Callable[[Sequence[Wakeup]], Sequence[Sequence[Wakeup]]]) -> None:
        super().__init__()
        self._fault = fault

    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        for told in self._fault(wakeups):
            super().publish(told)


class DelayedTransport(InProcessTransport):
    """Holds everything back until it is let go, and then tells it in another order, and some of it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Sequence[Wakeup]] = []

    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        self.held.append(wakeups)

    def let_go(self) -> None:
        told = self.held * 2
        random.Random(5).shuffle(told)
        for group in told:
            super().publish(group)


FAULTS: dict[str, Callable[[Sequence[Wakeup]], Sequence[Sequence[Wakeup]]]] = {
    "none": lambda told: [told],
    "all are lost": lambda told: [],
    "all come twice": lambda told: [told, told],
    "without their chunks": lambda told: [[wakeup._replace(chunks=()) for wakeup in told]],
    "every other is lost": lambda told: [told] if told[0].last_index % 2 else [],
    "with only their last chunk": lambda told: [[w._replace(chunks=w.chunks[-1:]) for w in told]],
    "old news comes again": lambda told: [[Wakeup(told[0].session_id, 1)], told, [Wakeup("another", 9)]],
}


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "HUB_POLL_SECONDS", 0.05)
    monkeypatch.setattr(settings, "HUB_PRESENCE_SECONDS", 0.1)


@pytest.fixture
def use_transport(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[wakeups.Transport], None]]:
    def use(transport: wakeups.Transport) -> None:
        monkeypatch.setattr(wakeups, "transport", lambda: transport)

    use(InProcessTransport())
    yield use


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listeners are notified by wake-ups alone."""
    monkeypatch.setattr(settings, "HUB_POLL_SECONDS", 1000.0)


@pytest.fixture
def pages_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sessions that were read from the database, once for each time."""
    read: list[str] = []

    def counted(session_id: str, after: int) -> list[StreamChunk]:
        read.append(session_id)
        return read_page(session_id, after)

    read_page = listening.read_page
    monkeypatch.setattr(listening, "read_page", counted)
    return read


def run(main: Callable[[], Awaitable[T]]) -> T:
    async def within_deadline() -> T:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await main()

    return asyncio.run(within_deadline())


async def collect(batches: AsyncIterator[list[StreamChunk]]) -> list[int]:
    return [chunk.index async for batch in batches for chunk in batch]


def follow(session: ChatSession, after: int = -1, *, at: Hub | None = None) -> AsyncIterator[list[StreamChunk]]:
    return (at or Hub()).follow(session, after, idle_seconds=NEVER_IDLE)


def write(session: ChatSession, count: int, *, closing: Closing | None = None) -> None:
    """As its worker: one commit."""
    pieces = [Piece(text(str(session.next_index + n)), [n]) for n in range(count)]
    assert not appending.append([Append(session.pk, session.attempt, session.next_index, pieces, closing)])
    session.next_index += count + (3 if closing else 0)


def write_all(session: ChatSession, commits: int, *, pause: Callable[[], None] = lambda: None) -> int:
    """The whole answer in commits of 1 to 4 chunks; the index of the last one."""
    for n in range(commits):
        write(session, 1 + n % 4)
        pause()
    write(session, 1, closing=Closing())
    return session.next_index - 1


# --- Replay ---


def test_a_finished_session_is_replayed_in_order_to_its_terminal_chunk() -> None:
    session = completed()

    async def main() -> list[StreamChunk]:
        return [chunk async for batch in follow(session) for chunk in batch]

    chunks = run(main)
    assert [chunk.index for chunk in chunks] == list(range(session.next_index))
    assert [chunk.delta["type"] for chunk in chunks] == ["start", "reasoning", "text", "finish", "usage", "end"]


def test_from_every_cut_exactly_what_follows_is_sent() -> None:
    session = claimed(open_session())
    last = write_all(session, 6)

    async def main() -> None:
        for cut in range(-1, last):
            assert await collect(follow(session, cut)) == list(range(cut + 1, last + 1))

    run(main)


def test_thousands_of_chunks_are_read_page_by_page() -> None:
    session = claimed(open_session())
    write(session, 2 * PAGE_CHUNKS + 7, closing=Closing())

    async def main() -> list[int]:
        return [len(batch) async for batch in follow(session)]

    sizes = run(main)
    assert max(sizes) <= PAGE_CHUNKS
    assert sum(sizes) == session.next_index


def test_a_log_of_exactly_one_page_ends_too() -> None:
    session = claimed(open_session())
    write(session, PAGE_CHUNKS - 4, closing=Closing())
    assert session.next_index == PAGE_CHUNKS
    assert run(lambda: collect(follow(session))) == list(range(PAGE_CHUNKS))


# --- Live ---


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_to_wake_ups_every_chunk_comes_once_in_order(
    fault: str, use_transport: Callable[[wakeups.Transport], None]
) -> None:
    use_transport(FaultyTransport(FAULTS[fault]))
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        following = [asyncio.create_task(collect(follow(session, at=shared))) for _ in range(3)]
        following.append(asyncio.create_task(collect(follow(session))))
        last = await in_db(write_all, session, 25)
        for followed in following:
            assert await followed == list(range(last + 1))

    run(main)


def test_wake_ups_in_another_order_change_nothing(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    transport = DelayedTransport()
    use_transport(transport)
    session = claimed(open_session())

    async def main() -> None:
        following = asyncio.create_task(collect(follow(session)))
        await until(lambda: transport._receivers)
        last = await in_db(write_all, session, 25)
        transport.let_go()
        assert await following == list(range(last + 1))

    run(main)


def test_committed_chunks_are_sent_without_being_read_again(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None, pages_read: list[str]
) -> None:
    session = claimed(open_session())

    async def main() -> None:
        batches = follow(session)
        assert [chunk.index for chunk in await anext(batches)] == [0]
        following = asyncio.create_task(collect(batches))
        await until(lambda: wakeups.transport()._receivers)  # type: ignore[attr-defined]
        last = await in_db(write_all, session, 10)
        assert await following == list(range(1, last + 1))

    run(main)
    assert pages_read == [session.pk]


async def subscribed() -> Hub:
    """A hub that has subscribed to wake-ups."""
    shared = Hub()
    other = follow(await in_db(open_session), at=shared)
    await anext(other)
    await until(lambda: wakeups.transport()._receivers)  # type: ignore[attr-defined]
    await other.aclose()  # type: ignore[attr-defined]
    return shared


def test_a_session_that_was_created_after_the_hub_subscribed_is_not_read(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None, pages_read: list[str]
) -> None:
    async def main() -> None:
        shared = await subscribed()
        session = await in_db(open_session)
        following = asyncio.create_task(collect(follow(session, at=shared)))
        await until(lambda: shared.open_streams)
        last = await in_db(write_all, await in_db(claimed, session), 10)
        assert await following == list(range(last + 1))
        assert session.pk not in pages_read

    run(main)


def recorded(subscription: redis.client.PubSub) -> list[bytes]:
    """Everything that has been published since it subscribed."""
    messages: list[bytes] = []
    while (message := subscription.get_message(timeout=0.5)) is not None:
        if message["type"] == "message":
            messages.append(message["data"])
    return messages


@pytest.mark.redis
def test_wake_ups_that_are_recorded_and_sent_again_put_nothing_into_a_later_session_with_the_same_id(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    transport = RedisTransport(services.REDIS_URL)
    use_transport(transport)

    async def main(client: redis.Redis) -> tuple[list[StoredDelta], list[StoredDelta]]:
        with client.pubsub() as subscription:
            subscription.subscribe(transport.channel)
            first = await in_db(claimed, await in_db(open_session, session_id="again"))
            await in_db(say, first, text("of the first"), closing=Closing())
            messages = await asyncio.to_thread(recorded, subscription)
        await in_db(ChatSession.objects.all().delete)
        second = await in_db(open_session, session_id="again")
        batches = follow(second)
        seen = list(await anext(batches))
        hearing = asyncio.ensure_future(anext(batches))
        # The hub has subscribed, and receives all of it before the second session writes a chunk.
        await until(lambda: client.publish(transport.channel, messages[0]))
        for message in messages:
            client.publish(transport.channel, message)
        await asyncio.sleep(0.2)
        await in_db(say, await in_db(claimed, second), text("of the second"), closing=Closing())
        seen += await hearing
        seen += [chunk async for batch in batches for chunk in batch]
        stored = await in_db(lambda: list(Chunk.objects.after("again", -1).values_list("delta", flat=True)))
        return [chunk.delta for chunk in seen], stored

    with redis.Redis.from_url(services.REDIS_URL) as client:
        seen, stored = run(lambda: main(client))
    transport._publisher.close()
    assert seen == stored


def test_chunks_of_a_wake_up_that_does_not_say_whose_they_are_are_read_from_the_database(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    """As by a worker of another version: the hint is taken, the chunks are not."""
    forged = StreamChunk(1, text("FORGED"))
    use_transport(
        FaultyTransport(lambda told: [[w._replace(opened_at=None, chunks=(forged, *w.chunks)) for w in told]])
    )
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        following = asyncio.create_task(collect(follow(session, at=shared)))
        await until(lambda: wakeups.transport()._receivers)  # type: ignore[attr-defined]
        last = await in_db(write_all, session, 10)
        assert await following == list(range(last + 1))

    run(main)


@pytest.mark.parametrize("commits", [0, 3])
def test_what_a_new_session_said_before_its_listener_came_is_not_lost(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None, commits: int
) -> None:
    async def main() -> None:
        shared = await subscribed()
        session = await in_db(open_session)
        # Committed and told between the opening and the listening, the end included.
        last = await in_db(write_all, await in_db(claimed, session), commits)
        await asyncio.sleep(0.05)
        assert await collect(follow(session, at=shared)) == list(range(last + 1))

    run(main)


def test_a_session_that_was_created_before_the_hub_subscribed_is_read(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    session = open_session()
    last = write_all(claimed(session), 3)
    assert run(lambda: collect(follow(session))) == list(range(last + 1))


def test_a_session_with_chunks_from_before_the_hub_subscribed_is_read(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    async def main() -> None:
        session = await in_db(open_session)
        last = await in_db(write_all, await in_db(claimed, session), 3)
        shared = await subscribed()
        assert await collect(follow(session, at=shared)) == list(range(last + 1))

    run(main)


def test_a_row_that_says_more_than_the_wake_ups_is_read_at_once(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    use_transport(FaultyTransport(FAULTS["all are lost"]))

    async def main() -> None:
        shared = await subscribed()
        session = await in_db(open_session)
        last = await in_db(write_all, await in_db(claimed, session), 3)
        await in_db(session.refresh_from_db)
        assert await collect(follow(session, at=shared)) == list(range(last + 1))

    run(main)


def test_an_old_row_and_lost_wake_ups_only_delay_a_listener_to_the_next_poll(
    use_transport: Callable[[wakeups.Transport], None],
) -> None:
    use_transport(FaultyTransport(FAULTS["all are lost"]))

    async def main() -> None:
        shared = await subscribed()
        session = await in_db(open_session)
        last = await in_db(write_all, await in_db(claimed, session), 3)
        assert session.next_index == 1
        assert await collect(follow(session, at=shared)) == list(range(last + 1))

    run(main)


def test_late_listeners_get_it_all(use_transport: Callable[[wakeups.Transport], None]) -> None:
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        following: list[asyncio.Task[list[int]]] = []
        for n in range(12):
            following.append(asyncio.create_task(collect(follow(session, at=shared))))
            await in_db(write, session, 1 + n % 3)
        await in_db(write, session, 0, closing=Closing())
        for followed in following:
            assert await followed == list(range(session.next_index))

    run(main)


def test_a_listener_that_comes_from_any_cut_of_a_running_session_misses_nothing(
    use_transport: Callable[[wakeups.Transport], None],
) -> None:
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        writing = asyncio.create_task(in_db(write_all, session, 30))
        following: list[tuple[int, asyncio.Task[list[int]]]] = []
        while not writing.done():
            for cut in (-1, max(session.next_index - 2, -1), session.next_index // 2):
                following.append((cut, asyncio.create_task(collect(follow(session, cut, at=shared)))))
            await asyncio.sleep(0.005)
        last = await writing
        for cut, followed in following:
            if cut >= last:
                followed.cancel()
                continue
            assert await followed == list(range(cut + 1, last + 1))

    run(main)


def test_a_listener_too_slow_for_the_buffer_reads_what_it_lost(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None
) -> None:
    session = claimed(open_session())

    async def main() -> None:
        batches = follow(session)
        seen = [chunk.index for chunk in await anext(batches)]
        await until(lambda: wakeups.transport()._receivers)  # type: ignore[attr-defined]
        # It is away while more is committed than is kept for it.
        for _ in range(4):
            await in_db(write, session, BUFFER_CHUNKS // 2)
        await in_db(write, session, 0, closing=Closing())
        seen += await collect(batches)
        assert seen == list(range(session.next_index))

    run(main)


def test_a_database_that_is_away_for_a_while_delays_and_loses_nothing(
    use_transport: Callable[[wakeups.Transport], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_transport(FaultyTransport(FAULTS["all are lost"]))
    session = claimed(open_session())
    failures = iter(range(3))
    read = listening.read_last_indexes

    def failing(session_ids: Sequence[str]) -> dict[str, int]:
        if next(failures, None) is not None:
            raise OperationalError("away")
        return read(session_ids)

    async def main() -> None:
        batches = follow(session)
        await anext(batches)
        monkeypatch.setattr(listening, "read_last_indexes", failing)
        following = asyncio.create_task(collect(batches))
        last = await in_db(write_all, session, 5)
        assert await following == list(range(1, last + 1))

    run(main)
    assert next(failures, None) is None


# --- Idle, gone, left ---


def test_an_idle_session_gives_empty_batches_and_then_goes_on(
    use_transport: Callable[[wakeups.Transport], None],
) -> None:
    session = claimed(open_session())

    async def main() -> None:
        batches = Hub().follow(session, 0, idle_seconds=0.02)
        assert [await anext(batches) for _ in range(3)] == [[], [], []]
        await in_db(write, session, 1, closing=Closing())
        assert await collect(batches) == [1, 2, 3, 4]

    run(main)


def test_a_session_that_expires_under_its_listeners_is_gone() -> None:
    session = claimed(open_session())

    async def main() -> None:
        batches = follow(session)
        await anext(batches)
        following = asyncio.create_task(collect(batches))
        await in_db(end_without_telling, session)
        await in_db(sweeper.expire, session.pk)
        with pytest.raises(SessionExpired):
            await following

    run(main)


def end_without_telling(session: ChatSession) -> None:
    ChatSession.objects.filter(pk=session.pk).update(**Closing().columns())


def test_a_session_that_was_never_there_is_gone() -> None:
    async def main() -> None:
        with pytest.raises(SessionExpired):
            await collect(follow(ChatSession(id="none")))

    run(main)


def test_a_stream_never_goes_on_behind_chunks_that_were_removed() -> None:
    """The sweeper removes long logs in batches, the oldest chunks first."""
    session = claimed(open_session())
    write(session, 20, closing=Closing())

    async def main() -> None:
        batches = follow(session, 3)
        await in_db(lambda: Chunk.objects.filter(session=session, index__lt=10).delete())
        with pytest.raises(SessionExpired):
            await collect(batches)

    run(main)


def test_the_hub_works_while_somebody_listens_and_a_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "LINGER_SECONDS", 0.05)
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        before = asyncio.all_tasks()
        for _ in range(3):
            first, second = follow(session, at=shared), follow(session, at=shared)
            await anext(first)
            await anext(second)
            assert shared.open_streams == 2
            assert len(asyncio.all_tasks() - before) == 2
            await first.aclose()  # type: ignore[attr-defined]
            assert shared.open_streams == 1
            await second.aclose()  # type: ignore[attr-defined]
            assert shared.open_streams == 0
            await until(lambda: asyncio.all_tasks() == before)

    run(main)


def test_the_next_listener_finds_the_hub_still_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "LINGER_SECONDS", 0.05)
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        first = follow(session, at=shared)
        await anext(first)
        tasks = list(shared._tasks)
        await first.aclose()  # type: ignore[attr-defined]
        second = follow(session, at=shared)
        await anext(second)
        await asyncio.sleep(0.1)
        assert shared._tasks == tasks
        assert not any(task.done() for task in tasks)
        await second.aclose()  # type: ignore[attr-defined]

    run(main)


def test_a_reader_that_is_cancelled_is_forgotten() -> None:
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        readers = [asyncio.create_task(collect(follow(session, at=shared))) for _ in range(10)]
        await until(lambda: shared.open_streams == 10)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert shared.open_streams == 0

    run(main)


def test_each_caller_is_counted_for_its_own_listeners() -> None:
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        readers = [
            asyncio.create_task(collect(shared.follow(session, -1, idle_seconds=NEVER_IDLE, caller=caller)))
            for caller in ("a", "a", "b")
        ]
        await until(lambda: shared.open_streams == 3)
        assert [shared.open_streams_of(caller) for caller in "abc"] == [2, 1, 0]
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert [shared.open_streams_of(caller) for caller in "abc"] == [0, 0, 0]

    run(main)


# --- Crowds ---


def test_everybody_in_a_crowd_gets_every_chunk_once(use_transport: Callable[[wakeups.Transport], None]) -> None:
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        count = 4 * listener_wakeups.CROWD_WAKES
        readers = [asyncio.create_task(collect(follow(session, at=shared))) for _ in range(count)]
        await until(lambda: shared.open_streams == count)
        last = await in_db(write_all, session, 20)
        assert await asyncio.gather(*readers) == [list(range(last + 1))] * count
        assert not shared._waker._due

    run(main)


def test_a_crowd_is_woken_a_few_at_a_time_and_others_at_once(
    use_transport: Callable[[wakeups.Transport], None], no_polls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_wakeups, "CROWD_PAUSE_SECONDS", 1000.0)
    crowded, alone = claimed(open_session()), claimed(open_session())

    async def main() -> None:
        shared = await subscribed()
        crowd = [follow(crowded, at=shared) for _ in range(2 * listener_wakeups.CROWD_WAKES)]
        other = follow(alone, at=shared)
        for stream in [*crowd, other]:
            await anext(stream)
        reading = [asyncio.ensure_future(anext(stream)) for stream in [*crowd, other]]
        await asyncio.sleep(0)
        for session in (crowded, alone):
            await in_db(say, session, text("a"))
        await until(lambda: reading[-1].done())
        await until(lambda: sum(task.done() for task in reading[:-1]) == listener_wakeups.CROWD_WAKES)
        # Those who wait get all that was said meanwhile in one piece.
        await in_db(say, crowded, text("b"))
        monkeypatch.setattr(listener_wakeups, "CROWD_PAUSE_SECONDS", 0.0)
        shared._waker._wake_some()
        batches = [await task for task in reading[:-1]]
        assert (
            sorted(len(batch) for batch in batches)
            == [1] * listener_wakeups.CROWD_WAKES + [2] * listener_wakeups.CROWD_WAKES
        )
        for stream in [*crowd, other]:
            await stream.aclose()  # type: ignore[attr-defined]

    run(main)


def test_one_of_a_crowd_that_leaves_before_its_turn_is_not_woken() -> None:
    async def main() -> None:
        waker = listener_wakeups.Waker()
        listeners = [Listener("s", timezone.now(), 0) for _ in range(listener_wakeups.CROWD_WAKES + 2)]
        for listener in listeners:
            waker.wake(listener, among=len(listeners))
        waker._wake_some()
        waiting = [listener for listener in listeners if not listener.woken.is_set()]
        assert len(waiting) == 2
        waker.forget(waiting[0])
        waker._wake_some()
        assert [listener.woken.is_set() for listener in waiting] == [False, True]

    run(main)


def test_one_that_leaves_takes_nothing_from_the_others(use_transport: Callable[[wakeups.Transport], None]) -> None:
    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        staying = asyncio.create_task(collect(follow(session, at=shared)))
        leaving = follow(session, at=shared)
        await anext(leaving)
        await leaving.aclose()  # type: ignore[attr-defined]
        last = await in_db(write_all, session, 5)
        assert await staying == list(range(last + 1))

    run(main)


def test_a_task_of_the_hub_that_failed_is_started_again_for_the_next_listener(
    use_transport: Callable[[wakeups.Transport], None],
) -> None:
    class Failing(InProcessTransport):
        async def receive(self, receiver: Receiver, subscribed: Callable[[], None] = lambda: None) -> None:
            raise RuntimeError

    session = claimed(open_session())

    async def main() -> None:
        shared = Hub()
        use_transport(Failing())
        first = asyncio.create_task(collect(follow(session, at=shared)))
        await until(lambda: any(task.done() for task in shared._tasks))
        with contextlib.suppress(RuntimeError):
            shared._tasks[0].result()
        use_transport(InProcessTransport())
        second = asyncio.create_task(collect(follow(session, at=shared)))
        last = await in_db(write_all, session, 3)
        assert await first == await second == list(range(last + 1))

    run(main)


def test_the_hub_of_a_loop_is_one() -> None:
    async def main() -> Hub:
        assert hub.hub() is hub.hub()
        return hub.hub()

    assert run(main) is not run(main)


# --- Presence ---


def test_who_is_listened_to_is_written_down_again_and_again() -> None:
    listened, alone = open_session(), open_session()
    long_ago = timezone.now() - datetime.timedelta(hours=1)
    Presence.objects.update(seen_at=long_ago)

    def seen(session: ChatSession) -> datetime.datetime:
        return Presence.objects.get(session=session).seen_at

    async def changed_from(before: datetime.datetime) -> datetime.datetime:
        while (now := await in_db(seen, listened)) == before:  # noqa: ASYNC110  (a row announces nothing)
            await asyncio.sleep(0.01)
        return now

    async def main() -> None:
        batches = follow(listened)
        await anext(batches)
        reading = asyncio.create_task(collect(batches))
        first = await changed_from(long_ago)
        await changed_from(first)
        reading.cancel()
        await asyncio.wait([reading])

    run(main)
    assert seen(alone) == long_ago


def test_presence_is_written_in_one_statement_however_many_listen() -> None:
    session_ids = [open_session().pk for _ in range(30)]
    Presence.objects.all().delete()
    listening.write_presence([*session_ids, "none"])
    assert set(Presence.objects.values_list("pk", flat=True)) == set(session_ids)
    listening.write_presence(session_ids)
    assert Presence.objects.count() == 30


def test_an_expired_session_has_no_listeners() -> None:
    session = completed()
    sweeper.expire(session.pk)
    listening.write_presence([session.pk])
    assert not Presence.objects.exists()
