"""Starts the page as a user does, in a process of its own, on a port that is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Server:
    """``netadapt-trt ui`` for the workspace ``root``; what it says on stderr is kept in ``said``."""

    def __init__(self, root: Path, *words: str, port: int = 0) -> None:
        argv = [sys.executable, "-m", "netadapt_trt", "ui", "--workspace", str(root), "--port", str(port), *words]
        self.said: list[str] = []
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self._ready = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.url = ""
        if not self._ready.wait(60) or not self.url:
            self.end()
            raise AssertionError("the page did not start:\n" + "".join(self.said))

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("http://"):
                self.url = line.split()[0].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
                self._ready.set()
        self._ready.set()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, path: str, content: Any = None, *, raw: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        """The answer's JSON; ``content`` is sent as JSON, ``raw`` as it is. An error's JSON has its status in ``status``."""
        data = raw if raw is not None else None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}/api{path}", data=data, headers=headers or {})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return {**json.loads(error.read()), "status": error.code}

    def memory_bytes(self) -> int:
        """The most memory the server has had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def kill(self) -> None:
        """End it without warning, as a crash does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Ask it to end; returns its status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._listener.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


def end_jobs(root: Path) -> None:
    """End every job process that a server of this workspace has left behind."""
    from netadapt_trt.webui.process import alive, kill

    for file in (root / "jobs").glob("[0-9]*.json"):
        job = json.loads(file.read_text())
        if job["pid"] is not None and alive(job["pid"], job["birth"]):
            kill(job["pid"])


def wait_until(said: Any, seconds: float = 90.0) -> Any:
    """The first true answer of ``said``."""
    end = time.monotonic() + seconds
    while not (found := said()):
        if time.monotonic() > end:
            raise AssertionError("it did not come to that in time")
        time.sleep(0.1)
    return found


def small_table(cheap: int = 0) -> str:
    """A text table of the space fbnet-small: 8 layers of 9 blocks, 10 ms each but ``cheap``, which takes 1 ms."""
    return "".join(" ".join("0.001" if column == cheap else "0.010" for column in range(9)) + "\n" for _ in range(8))
