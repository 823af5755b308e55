from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import LockedError, SpecError
from netadapt_trt.webui.jobs import Job, JobQueue, State, event_of
from netadapt_trt.webui.process import alive, birth_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from netadapt_trt.webui.workspace import Workspace

STAND_IN = Path(__file__).parent / "stand_in.py"


def wait_for(said: Callable[[], bool], seconds: float = 30.0) -> None:
    """Until ``said``; a machine may be slow, a test must not hang."""
    end = time.monotonic() + seconds
    while not said():
        if time.monotonic() > end:
            raise AssertionError("it did not come to that in time")
        time.sleep(0.02)


def work(queue: JobQueue, folder: Path, steps: int, **more: object) -> Job:
    words = ["work", str(folder), str(steps)]
    name = folder.name
    return queue.submit("search", name, words, resume=words, run=f"runs/{name}", proof=f"runs/{name}/result.json", **more)  # type: ignore[arg-type]


def states(queue: JobQueue) -> dict[int, str]:
    return {job.id: job.state for job in queue.jobs()}


def test_queue_runs_a_job_to_its_end(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue = make_queue()
    job = work(queue, workspace.runs / "a", 2)
    wait_for(lambda: queue.get(job.id).state == "done")
    done = queue.get(job.id)
    assert (done.exit_code, done.message, done.attempts) == (0, "", 1)
    assert "words: work" in queue.log(job.id)
    assert json.loads((workspace.jobs / "001.json").read_text())["format"] == "netadapt-job"


def test_queue_two_starts_at_once_are_one_running_one_queued(
    make_queue: Callable[..., JobQueue], workspace: Workspace
) -> None:
    queue = make_queue()
    first, second = work(queue, workspace.runs / "a", 6), work(queue, workspace.runs / "b", 1)
    assert (queue.get(first.id).state, queue.get(second.id).state) == ("running", "queued")
    assert not (workspace.runs / "b").exists()
    wait_for(lambda: states(queue) == {1: "done", 2: "done"})
    assert queue.get(second.id).started >= queue.get(first.id).ended


def test_queue_devices_do_not_wait_for_each_other(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue = make_queue()
    work(queue, workspace.runs / "a", 40)
    work(queue, workspace.runs / "b", 40, device="cuda:0")
    work(queue, workspace.runs / "c", 1)
    assert states(queue) == {1: "running", 2: "running", 3: "queued"}


def test_queue_stop_saves_and_resume_goes_on(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue, folder = make_queue(), workspace.runs / "a"
    job = work(queue, folder, 60)
    wait_for(lambda: (folder / "done.txt").is_file() and int((folder / "done.txt").read_text() or 0) >= 2)
    assert queue.stop(job.id).state == "stopping"
    wait_for(lambda: queue.get(job.id).state == "stopped")
    saved = int((folder / "done.txt").read_text())
    assert 2 <= saved < 60
    assert queue.get(job.id).exit_code == 130
    (folder / "done.txt").write_text("59")
    queue.resume(job.id)
    wait_for(lambda: queue.get(job.id).state == "done")
    assert (folder / "done.txt").read_text() == "60"
    assert queue.get(job.id).attempts == 2


def test_queue_a_job_that_does_not_stop_is_ended(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue, up = make_queue(grace_s=0.2), workspace.root / "up.txt"
    job = queue.submit("search", "stubborn", ["stubborn", str(up)])
    wait_for(up.is_file)
    queue.stop(job.id)
    wait_for(lambda: queue.get(job.id).state == "stopped")
    assert queue.get(job.id).exit_code == -signal.SIGKILL
    assert "ended" in queue.get(job.id).message


def test_queue_failure_says_why(make_queue: Callable[..., JobQueue]) -> None:
    queue = make_queue()
    job = queue.submit("search", "fails", ["fail"])
    wait_for(lambda: queue.get(job.id).state == "failed")
    assert queue.get(job.id).message == "the table lacks a row; complete it"


def test_queue_waiting_job_is_taken_out(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue = make_queue()
    work(queue, workspace.runs / "a", 40)
    second = work(queue, workspace.runs / "b", 1)
    assert queue.stop(second.id).state == "stopped"
    with pytest.raises(SpecError, match="is not running; it is stopped"):
        queue.stop(second.id)


def test_queue_words_reach_no_shell(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue = make_queue()
    hostile = f"; touch {workspace.root}/owned #$(touch {workspace.root}/owned)`id`\n&& echo"
    job = queue.submit("search", hostile, ["say", hostile])
    wait_for(lambda: queue.get(job.id).state == "done")
    assert repr(hostile) in queue.log(job.id)
    assert not (workspace.root / "owned").exists()


def test_queue_of_one_workspace_is_held_by_one_server(make_queue: Callable[..., JobQueue]) -> None:
    make_queue()
    with pytest.raises(LockedError, match="the workspace"):
        make_queue()


SERVER = """
    import sys, time
    from pathlib import Path
    from netadapt_trt.webui.jobs import JobQueue
    root = Path(sys.argv[1])
    queue = JobQueue(root / "jobs", root=root, command=[sys.executable, sys.argv[2]], every_s=0.05)
    for name, steps in (("a", sys.argv[3]), ("b", "1")):
        words = ["work", str(root / "runs" / name), steps]
        queue.submit("search", name, words, resume=words, run=f"runs/{name}", proof=f"runs/{name}/result.json")
    print("ready", flush=True)
    time.sleep(60)
"""


def start_and_kill_server(root: Path, steps: int) -> None:
    """Another server with two jobs, ended without warning while the first runs."""
    argv = [sys.executable, "-c", textwrap.dedent(SERVER), str(root), str(STAND_IN), str(steps)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        done = root / "runs" / "a" / "done.txt"
        wait_for(lambda: done.is_file() and bool(done.read_text()))
        os.killpg(server.pid, signal.SIGKILL)


def test_queue_server_killed_the_job_goes_on_and_is_found(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    start_and_kill_server(workspace.root, 30)
    queue = make_queue()
    assert states(queue) == {1: "running", 2: "queued"}
    found = queue.get(1)
    assert found.pid is not None
    assert alive(found.pid, found.birth)
    wait_for(lambda: states(queue) == {1: "done", 2: "done"})
    assert (workspace.runs / "a" / "done.txt").read_text() == "30"
    assert queue.get(1).attempts == 1


def test_queue_job_that_died_with_the_server_is_interrupted_and_resumes(
    make_queue: Callable[..., JobQueue], workspace: Workspace
) -> None:
    start_and_kill_server(workspace.root, 400)
    pid = json.loads((workspace.jobs / "001.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: birth_of(pid) is None)
    queue = make_queue()
    assert queue.get(1).state == "interrupted"
    assert "no server was watching" in queue.get(1).message
    (workspace.runs / "a" / "done.txt").write_text("399")
    queue.resume(1)
    wait_for(lambda: queue.get(1).state == "done")


def unwatched(workspace: Workspace, **more: object) -> None:
    """A job whose process ended while no server was watching."""
    job = Job(id=1, kind="bench", title="t", argv=("x",), state="running", proof="bench.json", **more)  # type: ignore[arg-type]
    workspace.jobs.mkdir()
    (workspace.jobs / "001.json").write_text(json.dumps({"format": "netadapt-job", "version": 1, **job.to_json()}))


def test_queue_a_file_from_before_the_start_proves_no_success(
    make_queue: Callable[..., JobQueue], workspace: Workspace
) -> None:
    proof = workspace.root / "bench.json"
    proof.write_text("{}")
    status = proof.stat()
    unwatched(workspace, proof_before=f"{status.st_ino}:{status.st_mtime_ns}:{status.st_size}")
    assert make_queue().get(1).state == "interrupted"


def test_queue_a_file_written_since_proves_success(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    (workspace.root / "bench.json").write_text("{}")
    unwatched(workspace, proof_before="1:2:3")
    assert make_queue().get(1).state == "done"


def test_queue_start_remembers_the_proof_that_was_there(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    queue = make_queue()
    first = work(queue, workspace.runs / "a", 1)
    assert queue.get(first.id).proof_before == ""
    wait_for(lambda: queue.get(first.id).state == "done")
    size = (workspace.runs / "a" / "result.json").stat().st_size
    second = work(queue, workspace.runs / "a", 1)
    assert queue.get(second.id).proof_before.endswith(f":{size}")


@pytest.mark.parametrize(
    ("state", "message", "words"),
    [("queued", "", "Job 4 was put into the queue."), ("running", "", "Job 4 was started."),
     ("stopping", "", "Job 4 was asked to save and stop."),
     ("stopped", "taken out of the queue", "Job 4 was taken out of the queue."),
     ("stopped", "stopped; what was saved is kept", "Job 4 has stopped."),
     ("failed", "no room", "Job 4 has failed. no room")],
)  # fmt: skip
def test_event_is_told_in_words_that_stay_true(state: State, message: str, words: str) -> None:
    assert event_of(Job(id=4, kind="search", title="t", argv=(), state=state, message=message)) == words


def test_queue_number_of_a_process_alone_is_not_trusted(make_queue: Callable[..., JobQueue], workspace: Workspace) -> None:
    job = Job(id=1, kind="search", title="t", argv=("x",), state="running", pid=os.getpid(), birth="another boot:1")
    workspace.jobs.mkdir()
    (workspace.jobs / "001.json").write_text(json.dumps({"format": "netadapt-job", "version": 1, **job.to_json()}))
    queue = make_queue()  # this test's own process has that number; it must survive
    assert queue.get(1).state == "interrupted"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "netadapt-job", "version": 1}', '{"format": "netadapt-job", "version": 9}', "\x00"],
)
def test_queue_damaged_job_file_is_told_and_kept(
    content: str, make_queue: Callable[..., JobQueue], workspace: Workspace
) -> None:
    workspace.jobs.mkdir()
    (workspace.jobs / "007.json").write_text(content)
    queue = make_queue()
    assert len(queue.damaged) == 1
    assert work(queue, workspace.runs / "a", 1).id == 8
    assert (workspace.jobs / "007.json").read_text() == content


def test_queue_program_that_cannot_be_started(workspace: Workspace) -> None:
    queue = JobQueue(workspace.jobs, root=workspace.root, command=["/nonexistent/program"])
    try:
        job = queue.submit("search", "x", ["x"])
        assert job.state == "failed"
        assert "could not be started" in job.message
    finally:
        queue.close()


def test_process_birth_is_one_mark_per_process() -> None:
    assert birth_of(os.getpid()) == birth_of(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        mark = birth_of(child.pid)
        child.wait()
        assert mark != birth_of(os.getpid())
        assert birth_of(child.pid) is None
