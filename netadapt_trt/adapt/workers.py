"""Proposals trained side by side, behind the seam of :class:`concurrent.futures.Executor`.

Nothing that is decided may depend on who finished first or on how many work: results are handed on as they come, and the
caller sorts them. A worker that dies takes down only its pool, which is rebuilt; since nobody can say which proposal killed
it, those under way then are run again one at a time, so that a guilty one cannot use up the attempts of the others.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from netadapt_trt.errors import CheckError, NetadaptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.queues import SimpleQueue
    from types import TracebackType

__all__ = ["ATTEMPTS", "Failure", "InProcessExecutor", "WorkerPool", "on_own_device", "process_executor"]

ATTEMPTS = 3
"""A proposal is tried once and retried twice."""

Job = TypeVar("Job")
Result = TypeVar("Result")

_device: str | None = None  # this worker process's own, taken from the queue it was started with


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed every time: what happened last."""

    reason: str
    attempts: int
    error: BaseException


class InProcessExecutor(Executor):
    """Runs a job while it is submitted, in this process, with ``threads`` torch threads (None: as they are)."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """A finished future. Ctrl-C passes through."""
        future: Future[Result] = Future()
        try:
            with _torch_threads(self._threads):
                future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def process_executor(devices: Sequence[str], threads: int) -> ProcessPoolExecutor:
    """One fresh process per device, each pinned to its own, with ``threads`` torch threads.

    Spawned, not forked: CUDA and the OpenMP pools of torch do not survive a fork.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    for device in devices:
        queue.put(device)
    return ProcessPoolExecutor(
        max_workers=len(devices), mp_context=context, initializer=_start_worker, initargs=(queue, threads)
    )


def _start_worker(queue: SimpleQueue[str], threads: int) -> None:
    global _device  # noqa: PLW0603 - one value per worker process, set once when it starts
    _device = queue.get()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _die_with_parent() -> None:
    """A killed parent cannot stop its workers: an orphan would write into a run that somebody resumes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def on_own_device(function: Callable[[Job, str], Result], job: Job, device: str) -> Result:
    """Run ``function(job, device)`` on this worker's own device, or on ``device`` where it has none."""
    return function(job, _device or device)


class WorkerPool(Generic[Job, Result]):
    """Runs ``function(job, device)`` for many jobs on an executor that can be made anew when it breaks.

    ``make_executor`` is the seam: a cluster's executor can stand in its place; ``size`` is how many jobs it runs at once.
    A context manager: leaving it stops the workers, at once when something is still under way.
    """

    def __init__(
        self,
        function: Callable[[Job, str], Result],
        make_executor: Callable[[], Executor],
        *,
        size: int,
        device: str = "cpu",
    ) -> None:
        self._function = functools.partial(on_own_device, function)
        self._make_executor = make_executor
        self._size = size
        self._device = device
        self._executor: Executor | None = None

    def __enter__(self) -> WorkerPool[Job, Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop(at_once=kind is not None)

    def results(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Result | Failure]]:
        """(name, result or failure) as jobs finish. Nothing is running once the iteration has ended.

        Raises:
            NetadaptError, OSError: what a job raised and every other job would raise too (bad data, disk full).
        """
        waiting, alone, attempts = deque(jobs), deque[str](), Counter[str]()
        running: dict[Future[Result], str] = {}
        try:
            while waiting or alone or running:
                self._fill(jobs, waiting, alone, running)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                if any(isinstance(future.exception(), BrokenExecutor) for future in done):
                    done, _ = wait(running)  # a broken pool fails them all, those that had finished excepted
                    self._stop(at_once=True)
                for future in done:
                    name = running.pop(future)
                    outcome = self._outcome(future, name, attempts)
                    if outcome is None:
                        alone.append(name)
                    else:
                        yield name, outcome
        finally:
            if running:
                self._stop(at_once=True)

    def _fill(
        self, jobs: Mapping[str, Job], waiting: deque[str], alone: deque[str], running: dict[Future[Result], str]
    ) -> None:
        if alone:
            queue, room = alone, 1 - len(running)
        else:
            queue, room = waiting, self._size - len(running)
        for _ in range(min(room, len(queue))):
            name = queue.popleft()
            running[self._submit(jobs[name])] = name

    def _submit(self, job: Job) -> Future[Result]:
        if self._executor is None:
            self._executor = self._make_executor()
        try:
            return self._executor.submit(self._function, job, self._device)
        except BrokenExecutor as error:  # it broke since the last look; the caller handles both alike
            future: Future[Result] = Future()
            future.set_exception(error)
            return future

    def _outcome(self, future: Future[Result], name: str, attempts: Counter[str]) -> Result | Failure | None:
        """A result, a final failure, or None: try again."""
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, CheckError):  # a training that diverged would diverge again
            return Failure(str(error), attempts[name] + 1, error)
        if isinstance(error, (NetadaptError, OSError)):
            raise error
        attempts[name] += 1
        if attempts[name] < ATTEMPTS:
            return None
        died = isinstance(error, BrokenExecutor)
        reason = "its worker process died each time" if died else f"{type(error).__name__}: {error}"
        return Failure(reason, attempts[name], error)

    def _stop(self, *, at_once: bool) -> None:
        executor, self._executor = self._executor, None
        if executor is None:
            return
        processes = list((getattr(executor, "_processes", None) or {}).values())
        executor.shutdown(wait=not at_once, cancel_futures=True)
        for process in processes if at_once else ():
            process.kill()
