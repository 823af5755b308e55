from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from netadapt_trt.adapt.workers import ATTEMPTS, Failure, InProcessExecutor, WorkerPool, process_executor
from netadapt_trt.errors import DataError


def double(job: int, device: str) -> tuple[int, str]:
    return 2 * job, device


def die_first_time(job: str, device: str) -> str:
    """Kills its own process unless the marker file is there already; "" never dies."""
    if job and not Path(job).exists():
        Path(job).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return device


def always_die(job: bool, device: str) -> int:
    if job:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def test_in_process_runs_each_job_when_it_is_asked_for() -> None:
    seen: list[int] = []

    def note(job: int, device: str) -> int:
        seen.append(job)
        return job

    with WorkerPool(note, InProcessExecutor, size=1) as pool:
        results = pool.results({"a": 1, "b": 2})
        assert next(results) == ("a", 1)
        assert seen == [1]
        assert list(results) == [("b", 2)]


def test_pool_passes_the_device() -> None:
    with WorkerPool(double, InProcessExecutor, size=1, device="cuda:0") as pool:
        assert dict(pool.results({"a": 1})) == {"a": (2, "cuda:0")}


def test_error_of_ours_stops_everything() -> None:
    def fail(job: int, device: str) -> int:
        raise DataError("no such folder")

    with WorkerPool(fail, InProcessExecutor, size=1) as pool, pytest.raises(DataError):
        list(pool.results({"a": 1}))


def test_other_error_is_retried_then_reported_while_the_rest_goes_on() -> None:
    calls: list[int] = []

    def fail(job: int, device: str) -> int:
        calls.append(job)
        if job == 1:
            raise RuntimeError("out of memory")
        return job

    with WorkerPool(fail, InProcessExecutor, size=1) as pool:
        results = dict(pool.results({"a": 1, "b": 2}))
    assert results["b"] == 2
    failure = results["a"]
    assert isinstance(failure, Failure)
    assert (failure.attempts, failure.reason) == (ATTEMPTS, "RuntimeError: out of memory")
    assert calls.count(1) == ATTEMPTS


class BreaksOnce(Executor):
    """Threads; the first job submitted while two run breaks the pool for both."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self._threads = ThreadPoolExecutor(2)
        self._breaks = type(self).made == 1

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._breaks:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("a worker died"))
            return future
        return self._threads.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)


def test_broken_pool_is_rebuilt_and_suspects_run_alone() -> None:
    together, lock, most = [0], threading.Lock(), [0]

    def count(job: int, device: str) -> int:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        with lock:
            together[0] -= 1
        return job

    with WorkerPool(count, BreaksOnce, size=2) as pool:
        assert dict(pool.results({"a": 1, "b": 2})) == {"a": 1, "b": 2}
    assert BreaksOnce.made == 2
    assert most[0] == 1


@pytest.mark.slow
def test_processes_are_pinned_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    devices = ("cuda:0", "cuda:1")
    jobs = {"a": str(tmp_path / "marker"), "b": "", "c": ""}
    with WorkerPool(die_first_time, lambda: process_executor(devices, 1), size=2) as pool:
        results = dict(pool.results(jobs))
    assert set(results) == {"a", "b", "c"}
    assert set(results.values()) <= set(devices)


@pytest.mark.slow
def test_job_that_kills_every_worker_is_reported_and_the_others_finish() -> None:
    with WorkerPool(always_die, lambda: process_executor(("cpu", "cpu"), 1), size=2) as pool:
        results = dict(pool.results({"a": True, "b": False, "c": False}))
    assert results["b"] == results["c"] == 1
    assert isinstance(results["a"], Failure)
    assert "died" in results["a"].reason
