"""Processes that outlive the server: found again by their number and the moment they started, never by a number alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["alive", "birth_of", "interrupt", "kill", "launch", "program"]

_PROC = Path("/proc")


def birth_of(pid: int) -> str | None:
    """A mark of when process ``pid`` started, unlike that of any later process of this number; None where none is running.

    A process that has ended and waits for its parent to ask (a zombie) is not running.
    """
    if _PROC.joinpath("self/stat").exists():
        try:
            # The name in parentheses may hold anything; the fields after it do not. Field 22 is in ticks since the boot.
            fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{_boot()}:{fields[19]}"
    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = found.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "-"


def alive(pid: int | None, birth: str | None) -> bool:
    """Whether the process that had this number and this mark still runs."""
    return pid is not None and birth is not None and birth_of(pid) == birth


def launch(argv: Sequence[str], *, log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, so that neither the server's end nor Ctrl-C in its terminal ends it.

    Never through a shell. What it says goes to the end of ``log``. Raises OSError.
    """
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        # A file numpy.py that lies in the workspace is no module of ours (Python 3.11 and newer; 3.10 knows no such switch).
        "PYTHONSAFEPATH": "1",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
            close_fds=True,
        )


def interrupt(pid: int) -> None:
    """Ask it to stop as Ctrl-C does: it saves what it has. Its helpers are told by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)


def kill(pid: int) -> None:
    """End it and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def program() -> list[str]:
    """How this same program is called."""
    return [sys.executable, "-m", "netadapt_trt"]
