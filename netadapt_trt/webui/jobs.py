"""Jobs: one process each, one at a time on each device, the others waiting in order; all of it on disk.

``jobs/NNN.json`` says what a job is and how far it has come, ``jobs/NNN.log`` what it said. The server only watches: a job
goes on when the browser is closed and when the server is killed, and a server that is started again finds it by its process
number and the moment that process began. What was running then and runs no more was interrupted, and can go on.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, get_args

from netadapt_trt.errors import FileFormatError, NetadaptError, SpecError
from netadapt_trt.files import exclusive_lock, read_document, write_document
from netadapt_trt.webui.process import alive, birth_of, interrupt, kill, launch, program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["FORMAT", "OPEN", "Job", "JobQueue", "State", "event_of", "job_document"]

FORMAT, VERSION = "netadapt-job", 1

State = Literal["queued", "running", "stopping", "done", "failed", "stopped", "interrupted"]
OPEN = frozenset({"queued", "running", "stopping"})
_ACTIVE = frozenset({"running", "stopping"})
_INTERRUPTED = 130
_TAIL_BYTES = 20_000
_TAKEN_OUT = "taken out of the queue"
_PRIVATE = frozenset({"birth", "place", "resume", "proof", "proof_before"})
_OURS = "netadapt-trt: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        id: its number, from 1.
        kind: ``search``, ``child``, ``export`` or ``bench``.
        title: in words.
        argv: what follows the program's name.
        resume: the same for going on after an interruption; empty where it starts anew.
        device: what it occupies.
        run: the run it works on, by its name in the workspace.
        proof: a file below the workspace that it writes when it has succeeded.
        proof_before: the mark of that file when it was last started, empty where there was none: a file that was there
            already proves nothing.
        place: its place in the queue; the lowest is next.
        created, started, ended: dates (UTC, ISO 8601).
        pid, birth: its process (see :func:`~netadapt_trt.webui.process.birth_of`).
        exit_code: None while it runs, and where nobody watched it end.
        message: why it ended, in words.
        attempts: how often it was started.
    """

    id: int
    kind: str
    title: str
    argv: tuple[str, ...]
    resume: tuple[str, ...] = ()
    device: str = "cpu"
    run: str = ""
    proof: str = ""
    proof_before: str = ""
    state: State = "queued"
    place: int = 0
    created: str = ""
    started: str = ""
    ended: str = ""
    pid: int | None = None
    birth: str | None = None
    exit_code: int | None = None
    message: str = ""
    attempts: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "argv": list(self.argv), "resume": list(self.resume)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        """Raises ValueError for what is no job."""
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        for name in ("argv", "resume"):
            words = known.get(name, [])
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError(f"{name} must be a list of texts")
            known[name] = tuple(words)
        job = cls(**known)
        if job.state not in get_args(State) or not isinstance(job.id, int):
            raise ValueError(f"state {job.state!r} is unknown")
        return job


@dataclass(slots=True)
class _Watched:
    """What this server knows of a job beside its file."""

    process: subprocess.Popen[bytes] | None = None
    asked: float | None = None  # seconds on the monotonic clock when it was asked to stop


@dataclass(slots=True)
class _Tally:
    jobs: dict[int, Job] = field(default_factory=dict)
    watched: dict[int, _Watched] = field(default_factory=dict)


class JobQueue:
    """All jobs of a workspace. One process at a time may hold it; threads may share it.

    ``command`` comes before each job's words; ``grace_s`` is how long a job may take to stop by itself.

    Raises LockedError: another server has this workspace.
    """

    def __init__(
        self, folder: Path, *, root: Path, command: Sequence[str] | None = None, grace_s: float = 60.0, every_s: float = 0.5
    ) -> None:
        self.folder, self._root, self._grace_s, self._every_s = folder, root, grace_s, every_s
        self._command = tuple(program() if command is None else command)
        self._lock = threading.RLock()
        self._held = contextlib.ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(exclusive_lock(folder / "queue.lock", what=f"the workspace {root}"))
        self.damaged: tuple[str, ...] = ()
        self._damaged_numbers: tuple[int, ...] = ()
        self._tally = _Tally()
        self._read()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)
        self.tick()
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Jobs go on."""
        self._closing.set()
        self._thread.join()
        self._held.close()

    def jobs(self) -> list[Job]:
        """All of them, the newest first."""
        with self._lock:
            return sorted(self._tally.jobs.values(), key=lambda job: -job.id)

    def get(self, number: int) -> Job:
        """Raises SpecError where there is no such job."""
        with self._lock:
            if number not in self._tally.jobs:
                raise SpecError(f"there is no job {number}")
            return self._tally.jobs[number]

    def submit(
        self,
        kind: str,
        title: str,
        argv: Sequence[str],
        *,
        resume: Sequence[str] = (),
        device: str = "cpu",
        run: str = "",
        proof: str = "",
    ) -> Job:
        """Queue a job, and start it at once where its device is free."""
        with self._lock:
            number = max([*self._tally.jobs, *self._damaged_numbers], default=0) + 1
            job = Job(
                id=number,
                kind=kind,
                title=title,
                argv=tuple(argv),
                resume=tuple(resume),
                device=device,
                run=run,
                proof=proof,
                place=self._next_place(),
                created=_now(),
            )
            self._keep(job)
            self.tick()
            return self.get(number)

    def stop(self, number: int) -> Job:
        """Ask a running job to save and stop, take a waiting one out of the queue. Raises SpecError for one that is over."""
        with self._lock:
            job = self.get(number)
            if job.state == "queued":
                self._keep(replace(job, state="stopped", ended=_now(), message=_TAKEN_OUT))
            elif job.state == "running":
                self._watched(number).asked = time.monotonic()
                self._keep(replace(job, state="stopping"))
                if job.pid is not None and alive(job.pid, job.birth):
                    interrupt(job.pid)
            elif job.state != "stopping":
                raise SpecError(f"job {number} is not running; it is {job.state}")
            self.tick()
            return self.get(number)

    def resume(self, number: int) -> Job:
        """Put a job that ended before its work was done back into the queue. Raises SpecError for any other."""
        with self._lock:
            job = self.get(number)
            if job.state in OPEN or job.state == "done":
                raise SpecError(f"job {number} is {job.state}; only one that was stopped, interrupted or has failed goes on")
            self._keep(
                replace(
                    job, state="queued", place=self._next_place(), pid=None, birth=None, exit_code=None, message="", ended=""
                )
            )
            self.tick()
            return self.get(number)

    def log(self, number: int, size: int = _TAIL_BYTES) -> str:
        """The end of what the job said. Raises SpecError."""
        self.get(number)
        return _tail(self._log(number), size)

    def tick(self) -> None:
        """See what has ended, end what would not stop, start what may start."""
        with self._lock:
            for job in list(self._tally.jobs.values()):
                if job.state in _ACTIVE:
                    self._look(job)
            self._start_next()

    def _watch(self) -> None:
        while not self._closing.wait(self._every_s):
            with contextlib.suppress(OSError):  # a full disk: what is known stays as it is, the next look tries again
                self.tick()

    def _look(self, job: Job) -> None:
        watched = self._watched(job.id)
        code = None if watched.process is None else watched.process.poll()
        running = code is None if watched.process is not None else alive(job.pid, job.birth)
        if not running:
            self._ended(job, code)
            return
        if job.state == "stopping" and job.pid is not None:
            if watched.asked is None:  # asked by a server before this one
                watched.asked = time.monotonic()
            if time.monotonic() - watched.asked > self._grace_s:
                kill(job.pid)

    def _ended(self, job: Job, code: int | None) -> None:
        proven = self._mark_of(job) not in ("", job.proof_before)
        if code == 0 or (code is None and proven):
            state: State = "done"
        elif job.state == "stopping":
            state = "stopped"
        elif code is None or code == _INTERRUPTED or code < 0:
            state = "interrupted"
        else:
            state = "failed"
        message = "" if state == "done" else self._reason(job, state, code)
        self._keep(replace(job, state=state, ended=_now(), exit_code=code, message=message))
        self._tally.watched.pop(job.id, None)

    def _reason(self, job: Job, state: State, code: int | None) -> str:
        said = [line[len(_OURS) :] for line in _tail(self._log(job.id)).splitlines() if line.startswith(_OURS)]
        if state == "failed":
            return said[-1] if said else f"it ended with status {code}; its log says more"
        if state == "stopped":
            return "stopped; what was saved is kept" if code != -9 else "did not stop in time and was ended"
        return "ended while no server was watching" if code is None else "interrupted; what was saved is kept"

    def _start_next(self) -> None:
        busy = {job.device for job in self._tally.jobs.values() if job.state in _ACTIVE}
        waiting = sorted((job for job in self._tally.jobs.values() if job.state == "queued"), key=lambda job: job.place)
        for job in waiting:
            if job.device not in busy:
                busy.add(job.device)
                self._start(job)

    def _start(self, job: Job) -> None:
        words = job.resume if job.attempts and job.resume and self._has_begun(job) else job.argv
        # "running" is on the disk before the process is there: a server killed in between starts nothing twice.
        job = replace(job, state="running", started=_now(), attempts=job.attempts + 1, pid=None, birth=None)
        job = replace(job, proof_before=self._mark_of(job))
        self._keep(job)
        try:
            process = launch([*self._command, *words], log=self._log(job.id), folder=self._root)
        except OSError as error:
            self._keep(replace(job, state="failed", ended=_now(), message=f"could not be started: {error}"))
            return
        self._tally.watched[job.id] = _Watched(process)
        self._keep(replace(job, pid=process.pid, birth=birth_of(process.pid)))

    def _has_begun(self, job: Job) -> bool:
        """Whether there is anything to go on with."""
        return bool(job.run) and (self._root / job.run / "run.json").is_file()

    def _mark_of(self, job: Job) -> str:
        """What tells the file that proves the job's success from an earlier one of that name; empty where there is none."""
        try:
            status = (self._root / job.proof).stat() if job.proof else None
        except OSError:
            return ""
        return "" if status is None else f"{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"

    def _watched(self, number: int) -> _Watched:
        return self._tally.watched.setdefault(number, _Watched())

    def _next_place(self) -> int:
        return max((job.place for job in self._tally.jobs.values()), default=0) + 1

    def _log(self, number: int) -> Path:
        return self.folder / f"{number:03d}.log"

    def _keep(self, job: Job) -> None:
        write_document(self.folder / f"{job.id:03d}.json", format=FORMAT, version=VERSION, content=job.to_json())
        self._tally.jobs[job.id] = job

    def _read(self) -> None:
        damaged: dict[int, str] = {}
        for file in sorted(self.folder.glob("*.json")):
            if not re.fullmatch(r"\d{3,9}\.json", file.name):
                continue
            try:
                job = Job.from_json(read_document(file, format=FORMAT, version=VERSION))
                if job.id != int(file.stem):
                    raise FileFormatError(f"{file} holds job {job.id}")
                self._tally.jobs[job.id] = job
            except (NetadaptError, ValueError, TypeError) as error:
                damaged[int(file.stem)] = f"{file.name}: {error}"
        self.damaged, self._damaged_numbers = tuple(damaged.values()), tuple(damaged)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _tail(path: Path, size: int = _TAIL_BYTES) -> str:
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def event_of(job: Job) -> str:
    """What has just become of a job, in words that stay true when it goes on: a page shows them until the next click."""
    happened = {
        "queued": "was put into the queue",
        "running": "was started",
        "stopping": "was asked to save and stop",
        "stopped": f"was {_TAKEN_OUT}" if job.message == _TAKEN_OUT else "has stopped",
        "done": "has ended",
        "interrupted": "was interrupted",
        "failed": "has failed",
    }[job.state]
    return f"Job {job.id} {happened}." + (f" {job.message}" if job.state == "failed" else "")


def job_document(job: Job) -> dict[str, Any]:
    """What is told of a job to others: all but what only the queue understands."""
    return {key: value for key, value in job.to_json().items() if key not in _PRIVATE}
