from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.report.page import write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _needs_the_report_extra() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")


def _own_part(page: str) -> str:
    """The page without Plotly's own code."""
    scripts = re.findall(r"<script[^>]*>.*?</script>", page, re.DOTALL)
    return page.replace(max(scripts, key=len), "")


def test_report_is_one_file_that_fetches_nothing(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    page = write_report([write_run(tmp_path / "run")], tmp_path / "report.html").read_text()
    assert page.count("plotly.js v") == 1
    own = _own_part(page)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", own)
    assert "url(" not in own
    assert "@import" not in own
    assert "default-src 'none'" in own
    assert "http://" not in own
    assert "https://" not in own


def test_report_makes_hostile_names_inert(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", model=HOSTILE, groups=3, steps=2)
    history = (path / "history.jsonl").read_text().replace("features.0.1.0", json.dumps(HOSTILE)[1:-1])
    (path / "history.jsonl").write_text(history)
    own = _own_part(write_report([path], tmp_path / "report.html").read_text())
    assert "&lt;script&gt;document.title" in own
    assert "<script>document.title" not in own
    assert "<img" not in own


def test_report_shows_an_unfinished_run(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    page = write_report([write_run(tmp_path / "run", finished=False, steps=2)], tmp_path / "r.html").read_text()
    assert "result.json is not there" in page
    assert "2 steps so far, not finished" in page


def test_report_shows_a_run_that_has_only_begun(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", finished=False)
    (path / "history.jsonl").unlink()
    page = write_report([path], tmp_path / "r.html").read_text()
    assert "the loop has not started" in page
    assert "plotly.js v" not in page


def test_report_compares_runs_and_tells_equal_names_apart(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    runs = [write_run(tmp_path / folder / "run") for folder in ("a", "b")]
    page = _own_part(write_report(runs, tmp_path / "r.html").read_text())
    assert "2 runs compared" in page
    assert "<title>a/run, b/run" in page
    assert "Before you compare" not in page
    deeper = [write_run(tmp_path / folder / "x" / "run") for folder in ("a", "b")]
    page = _own_part(write_report([*deeper, deeper[0]], tmp_path / "r.html").read_text())
    assert "<title>a/x/run, b/x/run, a/x/run" in page


def test_report_names_a_run_by_what_says_something(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    page = _own_part(write_report([write_run(tmp_path / "quickstart" / "run")], tmp_path / "r.html").read_text())
    assert "<title>quickstart/run · netadapt-trt" in page
    assert "<h1>quickstart/run</h1>" in page
    page = _own_part(write_report([write_run(tmp_path / "mobile")], tmp_path / "r.html").read_text())
    assert "<h1>mobile</h1>" in page


def test_report_warns_of_runs_that_do_not_compare(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    result = json.loads((other / "result.json").read_text()) | {"backend": "fake", "precision": "fp16"}
    (other / "result.json").write_text(json.dumps(result))
    page = _own_part(write_report([one, other], tmp_path / "r.html").read_text())
    assert "The runs differ in more than their outcome: backend, precision (" in page
    assert "other used the backend fake" in page
    assert page.count('<span class="badge differs">') == 2


def test_report_shows_both_verdicts_of_a_budget(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    result = json.loads((path / "result.json").read_text())
    result["budgets"][0] |= {"limit": 0.18, "achieved": 0.171, "met": True}
    result["budgets"][0] |= {"final": {"value": 0.21, "limit": 0.2, "met": False}}
    (path / "result.json").write_text(json.dumps(result))
    page = _own_part(write_report([path], tmp_path / "r.html").read_text())
    assert "0.171 of 0.180\u202fms" in page
    assert "0.210 of 0.200\u202fms" in page
    assert '<small class="verdict kept">✓ kept' in page
    assert '<small class="verdict missed">✗ missed' in page


def test_report_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no run"):
        write_report([], tmp_path / "r.html")


def test_report_without_its_libraries_says_what_to_install(
    tmp_path: Path, write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(NetadaptError, match="pip install"):
        write_report([write_run(tmp_path / "run")], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_report_draws_in_a_real_browser(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    runs = [write_run(tmp_path / "run", model=HOSTILE, groups=6), write_run(tmp_path / "going", finished=False, steps=3)]
    page = write_report(runs, tmp_path / "report.html")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # One comparison, and per run accuracy, values and ratios.
    assert 'data-drawn="7"' in done.stdout
    assert len(re.findall(r'<div class="plot[^"]*js-plotly-plot', done.stdout)) == 7
    assert re.search("<title>[^<]*/run, going", done.stdout)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert console == []
