"""Run a search on a machine where ``netadapt-trt ui`` serves, from a script: upload, look at the knobs, search, download.

Needs nothing but Python. The interface is described in docs/ui.md.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

_OVER = ("done", "failed", "stopped", "interrupted")


class Page:
    """The server at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def ask(self, path: str, content: Any = None, *, data: bytes | None = None) -> bytes:
        """The body of the answer; ``content`` is sent as JSON, ``data`` as it is. SystemExit with the server's words."""
        body = data if data is not None else None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}/api{path}", data=body)  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            raise SystemExit(_said(error)) from None
        except OSError as error:
            # A server that refuses a body before it has read it may hang up while it is being sent.
            hint = "is the page running there?" if body is None else "is the page running there, or is the file too large?"
            raise SystemExit(f"{self.url} does not answer ({getattr(error, 'reason', error)}); {hint}") from None

    def json(self, path: str, content: Any = None, **more: Any) -> Any:
        """The same, as values."""
        return json.loads(self.ask(path, content, **more))

    def upload(self, file: Path, space: str) -> str:
        """Send a table; its name on the server."""
        query = urllib.parse.urlencode({"name": file.name, "space": space})
        kept = self.json(f"/tables?{query}", data=file.read_bytes())
        print(f"{kept['name']}: {kept['told']}")
        return str(kept["name"])

    def wait(self, job: int) -> None:
        """Until the job is over. SystemExit where it failed."""
        while (found := self.json(f"/jobs/{job}"))["state"] not in _OVER:
            if found["kind"] == "search" and found["state"] == "running":
                status = self.status(found["run"])
                last = status.get("last") or {}
                print(f"job {job}: epoch {status.get('epoch', 0)}, LAT {last.get('lat_s')} s, ENER {last.get('ener_j')} J")
            time.sleep(2)
        print(f"job {job} ({found['title']}): {found['state']} {found['message']}")
        if found["state"] != "done":
            raise SystemExit(1)

    def status(self, run: str) -> dict[str, Any]:
        """How far a run is; nothing before it has begun."""
        if all(known["name"] != run for known in self.json("/runs")["runs"]):
            return {}
        found: dict[str, Any] = self.json("/runs/status?" + urllib.parse.urlencode({"run": run}))
        return found

    def fetch(self, run: str, file: str, folder: Path) -> Path:
        """Download a file of a run."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / Path(file).name
        path.write_bytes(self.ask("/runs/file?" + urllib.parse.urlencode({"run": run, "file": file})))
        return path


def _said(error: urllib.error.HTTPError) -> str:
    """The server's words; a proxy in between may answer with a text or a page of its own."""
    with error:
        text = error.read().decode("utf-8", errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code} {error.reason}: {' '.join(text.split())[:300]}"


def main() -> None:
    """One search from its tables to the child's ONNX file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--space", default="fbnet-cifar")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--energy-table", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--paths", default="all")
    for knob, value in (("alpha", 0.2), ("beta", 0.6), ("gamma", 0.0), ("delta", 0.6)):
        parser.add_argument(f"--{knob}", type=float, default=value)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--warmup-epochs", type=int, default=10)
    parser.add_argument("--child-epochs", type=int, default=120)
    parser.add_argument("-o", "--output", type=Path, default=Path("out"))
    given = parser.parse_args()

    page = Page(given.url)
    tables = [page.upload(file, given.space) for file in (given.table, given.energy_table) if file is not None]
    costs = {
        "space": given.space,
        "tables": tables,
        **{knob: getattr(given, knob) for knob in ("alpha", "beta", "gamma", "delta")},
    }
    begin = page.json("/knobs", costs)
    print(f"at the start: LAT {begin['lat_s']:.4g} s, ENER {begin['ener_j']} J")
    print(f"vLAT {begin['vlat']:.4g}, vENER {begin['vener']:.4g}")
    for notice in begin["notices"]:
        print(f"  {notice}")

    training = {"data": given.data, "paths": given.paths, "epochs": given.epochs, "warmup_epochs": given.warmup_epochs}
    (job,) = page.json("/jobs", {"kind": "search", **costs, **training})["jobs"]
    page.wait(job["id"])
    print(page.fetch(job["run"], "theta.json", given.output))

    for step in page.json("/jobs", {"kind": "child", "run": job["run"], "epochs": given.child_epochs, "export": True})[
        "jobs"
    ]:
        page.wait(step["id"])
    print(page.fetch(job["run"], "children/argmax/deploy/model.onnx", given.output))


if __name__ == "__main__":
    main()
