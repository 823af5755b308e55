"""A workspace with tables, and jobs that are small programs of their own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.webui.jobs import OPEN, JobQueue
from netadapt_trt.webui.process import alive, kill
from netadapt_trt.webui.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STAND_IN = Path(__file__).parent / "stand_in.py"
"""A program that behaves as a verb does: says things, saves, stops when asked."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.fixture
def make_queue(workspace: Workspace) -> Iterator[Callable[..., JobQueue]]:
    """Queues whose jobs are the stand-in; all jobs that are left are ended."""
    made: list[JobQueue] = []

    def make(**more: Any) -> JobQueue:
        settings = {"grace_s": 5.0, "every_s": 0.05, **more}
        queue = JobQueue(workspace.jobs, root=workspace.root, command=[sys.executable, str(STAND_IN)], **settings)
        made.append(queue)
        return queue

    yield make
    for queue in made:
        end_all(queue)
        queue.close()


def end_all(queue: JobQueue) -> None:
    """End what still runs, and see that it has ended: a process nobody asks about would be a warning."""
    for job in queue.jobs():
        if job.state == "queued":
            queue.stop(job.id)
    for job in queue.jobs():
        if job.state in ("running", "stopping") and job.pid is not None and alive(job.pid, job.birth):
            kill(job.pid)
    end = time.monotonic() + 10
    while any(job.state in OPEN for job in queue.jobs()) and time.monotonic() < end:
        time.sleep(0.02)
        queue.tick()
