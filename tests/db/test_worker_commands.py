"""``manage.py workers``, and the same in the admin: what an operator asks of workers, and what becomes of it."""

from __future__ import annotations

import datetime
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from inference.management.commands import workers
from inference.models import ModelWorker
from inference.worker.lifecycle import Worker
from tests.db.test_runner import NoEngine
from tests.db.test_worker_admin import LIST, signed_in

pytestmark = pytest.mark.django_db(transaction=True)

State = ModelWorker.State


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("workers", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def worker(name: str, **columns: Any) -> ModelWorker:
    return ModelWorker.objects.create(**{"name": name, "model": "tiny", "state": State.READY, **columns})


def drained() -> list[str]:
    return sorted(ModelWorker.objects.filter(drain=True).values_list("pk", flat=True))


def test_the_list_shows_who_is_alive_and_with_all_who_was() -> None:
    assert run("list") == "No worker is alive.\n"
    worker("gpu-1:7:a", running=2)
    worker("gpu-2:7:b", state=State.FAILED, error="out of memory")
    worker("gpu-3:7:c", state=State.STOPPED)
    worker("gpu-4:7:d", heartbeat_at=timezone.now() - datetime.timedelta(minutes=5))
    worker("gpu-5:7:e", drain=True, running=1)
    worker("gpu-6:7:f", drain=True)
    lines = {line.split()[0]: line for line in run("list").splitlines()[1:]}
    assert {name.partition(":")[0] for name in lines} == {"gpu-1", "gpu-2", "gpu-5", "gpu-6"}
    assert "out of memory" in lines["gpu-2:7:b"]
    states = {line.split()[0].partition(":")[0]: line.split()[1] for line in run("list", "--all").splitlines()[1:]}
    assert states == {
        "gpu-1": "ready",
        "gpu-2": "failed",
        "gpu-3": "stopped",
        "gpu-4": "gone",
        "gpu-5": "draining",
        "gpu-6": "drained",
    }
    assert {row["name"] for row in json.loads(run("list", "--json"))} == set(lines)


def test_workers_are_drained_and_resumed_by_name_or_all() -> None:
    for name in ("gpu-1:7:a", "gpu-2:7:b"):
        worker(name)
    run("drain", "gpu-1")
    assert drained() == ["gpu-1:7:a"]
    run("drain", "--all")
    assert drained() == ["gpu-1:7:a", "gpu-2:7:b"]
    run("resume", "gpu-1", "gpu-2")
    assert drained() == []


@pytest.mark.parametrize("arguments", [["drain"], ["drain", "--all", "gpu-1"], ["resume", "nobody"], ["drain", "gpu"]])
def test_what_is_not_clear_is_done_to_nobody(arguments: list[str]) -> None:
    for name in ("gpu-1:7:a", "gpu-2:7:b"):
        worker(name)
    with pytest.raises(CommandError):
        run(*arguments)
    assert drained() == []


def test_where_no_worker_is_alive_none_is_drained() -> None:
    worker("gone", heartbeat_at=timezone.now() - datetime.timedelta(minutes=5))
    with pytest.raises(CommandError, match="No worker is alive"):
        run("drain", "--all")
    assert drained() == []


def test_only_a_model_that_could_not_be_loaded_is_loaded_again() -> None:
    worker("ready")
    worker("failed", state=State.FAILED)
    run("reload", "--all")
    assert list(ModelWorker.objects.filter(try_again=True).values_list("pk", flat=True)) == ["failed"]


def test_a_drain_that_waits_ends_when_a_later_heartbeat_says_that_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "WORKER_HEARTBEAT_SECONDS", 10.0)
    row = worker("gpu-1:7:a", running=1)
    beats: list[int] = []

    def beat(seconds: float) -> None:
        """Two that came before the worker can have known, one of them idle, then two that did."""
        beats.append(len(beats))
        running, later = [(1, 1), (0, 2), (1, 30), (0, 31)][beats[-1]]
        at = timezone.now() + datetime.timedelta(seconds=later)
        ModelWorker.objects.filter(pk=row.pk).update(running=running, heartbeat_at=at)

    monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=beat))
    assert "drained" in run("drain", "--all", "--wait")
    assert beats == [0, 1, 2, 3]


def test_a_worker_that_vanishes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    row = worker("gpu-1:7:a", running=1)

    def vanish(seconds: float) -> None:
        long_ago = timezone.now() - datetime.timedelta(hours=1)
        ModelWorker.objects.filter(pk=row.pk).update(heartbeat_at=long_ago)

    monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=vanish))
    run("drain", "--all", "--wait")


def test_a_worker_sees_the_mark_at_its_heartbeat_and_that_it_is_gone() -> None:
    here = Worker()
    here.engine_ready(NoEngine())
    here._write_row()
    assert here.has_engine
    run("drain", "--all")
    assert here.has_engine
    here._write_row()
    assert not here.has_engine
    assert here.state == State.READY
    run("resume", "--all")
    here._write_row()
    assert here.has_engine


class Consumer:
    """Celery's of a process, as far as a worker looks at it."""

    def __init__(self) -> None:
        self.queues = {settings.CELERY_TASK_DEFAULT_QUEUE}
        self.consumer = self.task_consumer = self

    def consuming_from(self, name: str) -> bool:
        return name in self.queues

    def call_soon(self, call: Any, name: str) -> None:
        call(name)

    def cancel_task_queue(self, name: str) -> None:
        self.queues.remove(name)

    def add_task_queue(self, name: str) -> None:
        self.queues.add(name)


def test_a_drained_worker_leaves_the_queue_to_others_and_comes_back() -> None:
    here, controller = Worker(), Consumer()
    here._controller = controller
    here.engine_ready(NoEngine())
    here._write_row()
    run("drain", "--all")
    for _ in range(2):
        here._write_row()
        here._join_or_leave_queue()
        assert controller.queues == set()
    run("resume", "--all")
    here._write_row()
    here._join_or_leave_queue()
    assert controller.queues == {settings.CELERY_TASK_DEFAULT_QUEUE}


def test_operators_drain_in_the_admin_and_others_are_not_offered_to() -> None:
    worker("a")
    viewer, operator = signed_in("view_modelworker"), signed_in("view_modelworker", "drain_modelworker")
    viewer.post(LIST, {"action": "drain_selected", "_selected_action": ["a"]})
    assert "drain_selected" not in viewer.get(LIST).content.decode()
    assert drained() == []
    told = operator.post(LIST, {"action": "drain_selected", "_selected_action": ["a"]}, follow=True).content.decode()
    assert "1 worker takes no more sessions." in told
    assert drained() == ["a"]
    operator.post(LIST, {"action": "resume_selected", "_selected_action": ["a"]})
    assert drained() == []
