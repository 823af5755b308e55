"""What a job runs in tests: ``work DIR STEPS`` saves each step, ``fail``, ``stubborn`` does not stop when asked."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path


def work(folder: Path, steps: int) -> int:
    """Steps of 50 ms, the number done in a file; Ctrl-C ends it with 130 after what is saved."""
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}")
    done = folder / "done.txt"
    at = int(done.read_text()) if done.is_file() else 0
    while at < steps:
        if asked:
            sys.stderr.write("interrupted; what was done is saved\n")
            return 130
        time.sleep(0.05)
        at += 1
        done.write_text(str(at))
    (folder / "result.json").write_text("{}")
    return 0


def main() -> int:
    kind, *words = sys.argv[1:]
    sys.stderr.write(f"words: {kind} {words}\n")
    if kind == "work":
        return work(Path(words[0]), int(words[1]))
    if kind == "fail":
        sys.stderr.write("netadapt-trt: the table lacks a row; complete it\n")
        return 1
    if kind == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Path(words[0]).write_text("up")
        time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
