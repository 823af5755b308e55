"""What ``netadapt-trt ui`` does: take the workspace, find its jobs again, serve until interrupted."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import threading
from typing import TYPE_CHECKING

from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.progress import QUIET
from netadapt_trt.webui.app import make_app
from netadapt_trt.webui.hosts import check_name, is_local
from netadapt_trt.webui.jobs import OPEN, JobQueue
from netadapt_trt.webui.server import serve
from netadapt_trt.webui.service import Service
from netadapt_trt.webui.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from netadapt_trt.progress import Progress

__all__ = ["open_page"]


def open_page(
    root: Path,
    *,
    host: str,
    port: int,
    data: Sequence[str] = (),
    allowed_hosts: Sequence[str] = (),
    upload_limit: int,
    progress: Progress = QUIET,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the page for the workspace ``root`` until the process is interrupted. Jobs go on after that.

    ``allowed_hosts`` are names that it answers to besides this machine's; ``ready`` is told the page's address once it
    listens.

    Raises:
        LockedError: another server has this workspace. SpecError: it is no directory, or a name is none.
        NetadaptError: the port is taken, or the address is not this machine's.
    """
    names = [check_name(name) for name in allowed_hosts]
    workspace = Workspace(root, data=data)
    if threading.current_thread() is threading.main_thread():
        # Asked to end is Ctrl-C. A shell that starts this in the background lets SIGINT be ignored; jobs would inherit that
        # and could not be asked to stop.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
    with contextlib.closing(JobQueue(workspace.jobs, root=workspace.root)) as queue:
        for text in queue.damaged:
            progress.notice(f"a job file cannot be read and is left alone: {text}")
        found = [job for job in queue.jobs() if job.state in OPEN]
        interrupted = [job for job in queue.jobs() if job.state == "interrupted"]
        if found or interrupted:
            progress.notice(f"jobs found: {len(found)} running or waiting, {len(interrupted)} interrupted")
        app = make_app(Service(workspace, queue), host=host, allowed_hosts=names, upload_limit=upload_limit)
        if not is_local(host):
            progress.notice(
                f"listening on {host}: OPEN TO OTHERS. There is no password: whoever reaches this address can start and "
                f"stop jobs here and read the workspace {workspace.root}"
            )
        shown = f"[{host}]" if ":" in host else host

        def listening(port: int) -> None:
            progress.notice(f"workspace {workspace.root}")
            if workspace.left_out:
                progress.notice(workspace.left_out)
            progress.notice(f"http://{shown}:{port}   (Ctrl-C ends the page, not its jobs)")
            ready(f"http://{shown}:{port}")

        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # says nothing that a user could act on
        try:
            serve(app.server, host=host, port=port, upload_limit=upload_limit, ready=listening)
        except KeyboardInterrupt:
            pass
        except OSError as error:
            _explain(error, host, port)
        running = sum(job.state in OPEN for job in queue.jobs())
        progress.notice(f"the page has ended; {running} jobs go on or wait" if running else "the page has ended")


def _explain(error: OSError, host: str, port: int) -> None:
    """Raises NetadaptError for what a user can mend, else ``error``."""
    if error.errno == errno.EADDRINUSE:
        raise NetadaptError(f"port {port} is taken; choose another one with --port") from error
    if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES) or "getaddrinfo" in str(error):
        raise SpecError(f"cannot listen on {host} port {port} ({error}); choose another --host or --port") from error
    raise error
