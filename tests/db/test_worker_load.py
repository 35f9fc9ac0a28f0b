"""How busy a worker is, from its engine to its row and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from inference.backends.upstream.engine import UpstreamStats
from inference.engine.stats import EngineStats
from inference.models import ModelWorker
from inference.worker import load
from inference.worker.lifecycle import Worker
from inference.worker.load import LoadReader, WorkerLoad
from tests.db.test_runner import NoEngine

GIB = 1024**3
STATS = EngineStats(
    running=3,
    max_batch_size=16,
    waiting=0,
    generated_tokens=0,
    decode_steps=0,
    prompt_tokens=0,
    reused_tokens=0,
    media_hits=0,
    evictions=0,
    cache_bytes=0,
    kept_bytes=0,
    running_tokens=250,
    max_running_tokens=1000,
    device="NVIDIA H100",
    device_bytes=20 * GIB,
    max_device_bytes=80 * GIB,
    process_bytes=GIB,
    process_cpu_seconds=3.5,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(load, "time", clock)
    return clock


class BusyEngine(NoEngine):
    def stats(self) -> EngineStats:
        return STATS


def report(stats: Any) -> WorkerLoad:
    return WorkerLoad.from_json(LoadReader().read(stats, generated=0))


def test_a_report_has_rows_keys_and_values_and_the_device() -> None:
    assert report(STATS) == WorkerLoad(
        rows=3,
        max_rows=16,
        kv_tokens=250,
        max_kv_tokens=1000,
        device="NVIDIA H100",
        gpu_bytes=20 * GIB,
        max_gpu_bytes=80 * GIB,
    )


def test_a_worker_on_a_cpu_has_no_gpu_memory() -> None:
    on_cpu = report(dataclasses.replace(STATS, device="cpu", device_bytes=0, max_device_bytes=0))
    assert (on_cpu.device, on_cpu.max_gpu_bytes) == ("cpu", None)


def test_of_an_upstream_only_the_streams_are_known(settings: Any) -> None:
    settings.MAX_BATCH_SIZE = 7
    assert report(UpstreamStats(running=2)) == WorkerLoad(rows=2, max_rows=7)


def test_the_rate_is_the_mean_of_the_last_seconds(clock: Clock) -> None:
    reader = LoadReader()
    rates = []
    for generated in (0, 0, 30, 60, 90, 90, 90, 90):
        rates.append(reader.read(None, generated)["tokens_per_second"])
        clock.now += 3.0
    assert rates == [0, 0, 5, 10, 10, 5, 0, 0]


@pytest.mark.parametrize("stored", [None, [], {"rows": "many", "device": 3, "tokens_per_second": None}])
def test_what_another_version_has_written_is_not_known(stored: Any) -> None:
    assert WorkerLoad.from_json(stored) == WorkerLoad()


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_writes_the_report_and_a_stopped_worker_none() -> None:
    here = Worker()
    here.engine_ready(BusyEngine())
    here._report()
    assert WorkerLoad.from_json(ModelWorker.objects.get().load).rows == 3
    here.drain()
    here._write_row()
    assert ModelWorker.objects.get().load == {}
