"""The page in a real browser without a window: what a user does from the first upload to the last download.

Needs a Chromium that is installed (Debian: apt-get install chromium); playwright drives it and downloads none of its own.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("dash", reason="the page needs the extra 'ui'")
pytest.importorskip("waitress", reason="the page needs the extra 'ui'")
pytest.importorskip("playwright", reason="the browser is driven by playwright")

ROOT = Path(__file__).parents[2]
PI = ROOT / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"
XEON = ROOT / "luts" / "intel-xeon-family-6-model-207" / "ort-fp32.lut.jsonl"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here"), pytest.mark.slow]

serving: Any = importlib.import_module("page_server")

Browser = Any
Page = Any
_WINDOW: Any = {"viewport": {"width": 1280, "height": 1000}, "accept_downloads": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("page") / "work"
    found.mkdir()
    shutil.copy(PI, found / "pi.lut.jsonl")
    shutil.copy(XEON, found / "xeon.lut.jsonl")
    return found


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Any]:
    made = serving.Server(root)
    yield made
    made.end()
    serving.end_jobs(root)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser, server: Any) -> Iterator[Page]:
    """A fresh page that keeps what goes wrong; the test fails for any of it."""
    context, wrong = browser.new_context(**_WINDOW), []
    made = context.new_page()
    made.set_default_timeout(20_000)
    made.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    # What is under way when a page is left or loaded again is cut off; that is no failure.
    made.on("requestfailed", lambda asked: None if "ABORTED" in str(asked.failure) else wrong.append(f"failed: {asked.url}"))
    made.on(
        "request",
        lambda asked: (
            None if asked.url.startswith((server.url, "data:", "blob:")) else wrong.append(f"outside: {asked.url}")
        ),
    )
    yield made
    # Requests that are cut off because the test is over are nobody's fault.
    # Chromium writes every answer of status 400 into its console: a refused upload is one.
    found = [text for text in wrong if "status of 400" not in text]
    context.close()
    assert found == []


def visit(page: Page, server: Any, tab: str, name: str) -> None:
    page.goto(f"{server.url}{tab}")
    page.get_by_role("heading", name=name, level=1).wait_for()


def pick(page: Page, id: str, option: str) -> None:
    page.click(f"#{id}")
    page.get_by_role("option", name=option, exact=True).click()
    page.keyboard.press("Escape")


def upload(page: Page, button: str, file: Path) -> None:
    with page.expect_file_chooser() as dialogue:
        page.click(f"#{button}")
    dialogue.value.set_files(file)


def number_in(page: Page, tile: str) -> float:
    text = page.locator(".tile", has_text=tile).first.locator("dd").first.inner_text()
    return float(text.replace("\u2013", "nan").split("\u202f")[0])


def watched_epochs(page: Page) -> int:
    """Epochs that the page shows as done, -1 where it shows no search."""
    found = page.locator("#watch-status progress")
    return int(found.get_attribute("value")) if found.count() else -1


def until(page: Page, said: Callable[[], bool], seconds: float = 20.0) -> None:
    for _ in range(int(seconds * 10)):
        if said():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come to that in time")


def test_browser_knobs_change_what_they_weigh_at_once(page: Page, server: Any) -> None:
    visit(page, server, "/search", "Search for a network's blocks")
    pick(page, "table", "pi.lut.jsonl")
    until(page, lambda: page.locator(".tile").count() == 4)
    assert number_in(page, "vLAT") == pytest.approx(0.2 * 3.853**0.6, rel=1e-3)
    assert "LAT 3.853" in page.inner_text("#outlook")
    assert "skip computes nothing" in page.inner_text("#outlook")
    page.fill("#alpha", "0.4")
    until(page, lambda: number_in(page, "vLAT") == pytest.approx(0.4 * 3.853**0.6, rel=1e-3))
    page.fill("#gamma", "0.05")
    until(page, lambda: number_in(page, "vENER") == pytest.approx(0.05 * 18.699**0.6, rel=1e-3))
    page.fill("#beta", "-1")
    until(page, lambda: "below 0 it would reward slow networks" in page.inner_text("#outlook"))
    page.fill("#beta", "0.6")
    page.get_by_role("radio", name="Target").check()
    until(page, lambda: "give a target" in page.inner_text("#outlook"))
    assert page.locator("#alpha").is_enabled()
    page.click("#start")
    until(page, lambda: "give a target" in page.inner_text("#start-message"))
    page.fill("#latency_target_ms", "1")
    until(page, lambda: "the cheapest one" in page.inner_text("#outlook"))
    page.fill("#latency_target_ms", "3000")
    until(page, lambda: "the search sets alpha itself" in page.inner_text("#outlook"))
    assert "gamma stays 0.05" in page.inner_text("#outlook")
    assert page.locator("#alpha").is_disabled()
    assert page.locator("#gamma").is_enabled()
    page.fill("#latency_target_ms", "")
    page.fill("#energy_target_mj", "15000")
    until(page, lambda: "the search sets gamma itself" in page.inner_text("#outlook"))
    assert page.locator("#alpha").is_enabled()
    assert page.locator("#gamma").is_disabled()


def test_browser_refused_uploads_say_why(page: Page, server: Any, root: Path, tmp_path: Path) -> None:
    visit(page, server, "/search", "Search for a network's blocks")
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("1 2 3\n")
    upload(page, "upload-table", wrong)
    until(page, lambda: "columns" in page.inner_text("#upload-message"))
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    upload(page, "upload-table", large)
    until(page, lambda: "1,024 MiB, an upload may have 64 MiB" in page.inner_text("#upload-message"))
    assert not [item for item in (root / "tables").glob("*") if "wrong" in item.name or "large" in item.name]


def test_browser_from_upload_to_download(page: Page, server: Any, root: Path, tmp_path: Path) -> None:
    table = tmp_path / "small.txt"
    table.write_text(serving.small_table())
    visit(page, server, "/search", "Search for a network's blocks")
    pick(page, "space", "fbnet-small")
    upload(page, "upload-table", table)
    until(page, lambda: "8 layers of 9 candidates" in page.inner_text("#upload-message"))
    until(page, lambda: "LAT" in page.inner_text("#outlook"))
    pick(page, "paths", "sampled")
    page.fill("#epochs", "6")
    page.fill("#warmup_epochs", "1")
    page.fill("#batch_size", "64")
    page.fill("#name", "first")
    page.click("#start")
    until(page, lambda: "Job 1 was started" in page.inner_text("#start-message"))
    assert "run=runs" in page.url
    until(page, lambda: watched_epochs(page) >= 1, 90)
    page.reload()  # in the middle of the run: the address says which one is shown
    page.get_by_role("heading", name="Search for a network's blocks").wait_for()
    until(page, lambda: "runs/first" in page.inner_text("#watch-status"), 60)
    assert watched_epochs(page) >= 1
    until(page, lambda: "finished" in page.inner_text("#watch-status"), 120)
    assert "6 of 6" in page.inner_text("#watch-status")
    until(page, lambda: page.locator("#theta-graph .hm").count() == 1)
    with page.expect_download() as kept:
        page.get_by_role("link", name="theta.json").click()
    assert kept.value.suggested_filename == "first-theta.json"
    theta = json.loads(Path(kept.value.path()).read_text())
    assert (theta["format"], theta["epoch"], len(theta["theta"])) == ("netadapt-theta", 6, 8)
    page.fill("#child-epochs", "1")
    page.get_by_role("button", name="Train and export").click()
    link = page.get_by_role("link", name="ONNX")
    link.wait_for(timeout=120_000)
    with page.expect_download() as kept:
        link.click()
    import onnx

    onnx.checker.check_model(onnx.load(kept.value.path()))
    assert (root / "runs" / "first" / "children" / "argmax" / "deploy" / "deploy.json").is_file()


def test_browser_stop_resume_and_a_browser_that_is_closed(page: Page, browser: Browser, server: Any, root: Path) -> None:
    (root / "slow.txt").write_text(serving.small_table(1))
    costs = {"space": "fbnet-small", "tables": ["slow.txt"], "data": "digits", "paths": "sampled"}
    # Enough epochs that it is still under way at the second look; small ones, since the last one is waited for.
    order = {"kind": "search", **costs, "epochs": 30, "warmup_epochs": 1, "batch_size": 64, "name": "second"}
    job = server.ask("/jobs", order)["jobs"][0]["id"]
    page.goto(f"{server.url}/search?run=runs/second")
    until(page, lambda: watched_epochs(page) >= 1, 120)
    assert "runs/second" in page.inner_text("#watched")
    page.get_by_role("button", name="Stop", exact=True).click()
    until(page, lambda: "was asked to save and stop" in page.inner_text("#watch-message"))
    until(page, lambda: "stopped" in page.inner_text("#watch-status"), 60)
    stopped_at = server.ask("/runs/status?run=runs/second")["epoch"]
    assert server.ask(f"/jobs/{job}")["state"] == "stopped"
    assert 1 <= stopped_at < 30
    page.get_by_role("button", name="Resume", exact=True).click()
    until(page, lambda: "was started" in page.inner_text("#watch-message"))
    until(page, lambda: watched_epochs(page) > stopped_at, 120)
    page.goto("about:blank")

    other = browser.new_context(**_WINDOW)
    other.new_page().goto(f"{server.url}/search?run=runs/second")
    other.close()  # with the search on it
    left_at = server.ask("/runs/status?run=runs/second")["epoch"]
    serving.wait_until(lambda: server.ask(f"/jobs/{job}")["state"] == "done", 240)
    assert left_at < 30
    again = browser.new_context(**_WINDOW)
    found = again.new_page()
    found.goto(f"{server.url}/search?run=runs/second")
    until(found, lambda: "finished" in found.inner_text("#watch-status"), 30)
    assert "30 of 30" in found.inner_text("#watch-status")
    again.close()


def test_browser_first_table_is_shown_without_a_choice(page: Page, server: Any) -> None:
    visit(page, server, "/luts", "Tables of measurements")
    until(page, lambda: "Measured under" in page.inner_text("#lut-about"))
    until(page, lambda: page.locator("#lut-heat .hm").count() == 1)


def test_browser_tabs_of_an_empty_workspace_say_what_to_do(page: Page, tmp_path: Path) -> None:
    server = serving.Server(tmp_path / "empty")
    try:
        for tab, part, words in (
            ("/luts", "lut-about", "or upload one"),
            ("/adapt", "adapt-head", "No run in the workspace yet"),
            ("/compare", "compare-message", "Choose runs to compare"),
            ("/search", "outlook", "Choose a table, or upload one"),
        ):
            made = page.context.new_page()  # the test's own page takes nothing from another server
            made.goto(f"{server.url}{tab}")
            until(made, functools.partial(says, made, part, words))
            made.close()
    finally:
        server.end()


def says(page: Page, part: str, words: str) -> bool:
    return words in page.inner_text(f"#{part}")


def test_browser_lists_are_whole_in_a_low_window(page: Page, server: Any, root: Path) -> None:
    many = root / "many"
    many.mkdir()
    for number in range(30):
        shutil.copy(PI, many / f"{number:02d}.lut.jsonl")
    page.set_viewport_size({"width": 1000, "height": 560})
    visit(page, server, "/search", "Search for a network's blocks")
    for name in ("table", "energy-table", "data"):
        page.click(f"#{name}")
        content = page.locator(".dash-dropdown-content")
        content.wait_for()
        box = content.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 560
        page.keyboard.press("Escape")
    pick(page, "energy-table", "many/29.lut.jsonl")
    assert "many/29" in page.inner_text("#energy-table")
    shutil.rmtree(many)


def test_browser_luts_are_browsed(page: Page, server: Any) -> None:
    visit(page, server, "/luts", "Tables of measurements")
    pick(page, "lut", "xeon.lut.jsonl")
    until(page, lambda: page.locator("#lut-heat .hm").count() == 1)
    until(page, lambda: page.locator("#lut-curve .errorbar").count() > 0)
    assert "onnxruntime" in page.inner_text("#lut-about")
    assert page.locator("#lut-heat-box").bounding_box()["height"] > 200
    page.get_by_role("radio", name="how sure").check()
    until(page, lambda: "Darker is less sure" in page.inner_text("#lut-heat-box"))
    pick(page, "lut", "pi.lut.jsonl")
    until(page, lambda: "What each block costs in each layer" in page.inner_text("#lut-heat-box"))
    heat, about = page.locator("#lut-heat").bounding_box(), page.locator("#lut-about").bounding_box()
    assert heat["y"] + heat["height"] <= about["y"]
    assert not page.locator("#lut-curve-box").is_visible()


def test_browser_keyboard_reaches_and_uses_everything(page: Page, server: Any) -> None:
    visit(page, server, "/search", "Search for a network's blocks")
    wanted = ["nav-search", "space", "upload-space", "table", "upload-table", "alpha", "epochs", "advanced", "name", "start"]
    for name in wanted:  # lists of options appear a moment after the rest
        page.locator(f"#{name}").wait_for()
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.closest('[id]')?.id || ''")
        seen.append(str(focused))
        if focused == "advanced":
            page.keyboard.press("Enter")  # opens what is in it
        if focused == "start":
            break
    inside = ["learning_rate", "theta_learning_rate", "threads"]
    assert list(dict.fromkeys(name for name in seen if name in inside)) == inside
    assert page.get_by_label("Learning rate of theta").input_value() == "0.01"
    order = [name for name in seen if name in wanted]
    assert list(dict.fromkeys(order)) == wanted
    page.keyboard.press("Enter")
    until(page, lambda: "choose one table" in page.inner_text("#start-message"))


def test_browser_adapt_run_is_followed_while_it_goes_on(page: Page, server: Any, root: Path) -> None:
    run = root / "runs" / "adapting"
    run.mkdir(parents=True)
    arguments = {"spec": {"model": "zoo:mobilenet_v1"}, "budgets": ["latency=0.5x"], "max_iterations": 3}
    (run / "run.json").write_text(json.dumps({"format": "netadapt-run", "version": 1, "arguments": arguments}))
    resources = {"latency": {"estimate": 2.0, "measured": 2.1, "scale": 1.0}}
    lines: list[dict[str, Any]] = [
        {"format": "netadapt-history", "version": 1},
        {"type": "initial", "widths": {"a": 16, "b": 32}, "accuracy_holdout": 0.9, "resources": resources},
    ]
    history = run / "history.jsonl"
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    visit(page, server, "/adapt", "Follow an adaptation")
    pick(page, "adapt-run", "runs/adapting")
    until(page, lambda: "step 0 of at most 3 decided" in page.inner_text("#adapt-head"))
    decided = {"type": "decision", "iteration": 1, "group": "a", "widths": {"a": 8, "b": 32}, "accuracy": 0.88}
    with history.open("a") as file:
        file.write(json.dumps({**decided, "targets": {"latency": 1.7}, "resources": {"latency": {"estimate": 1.6}}}) + "\n")
    until(page, lambda: "step 1 of at most 3 decided" in page.inner_text("#adapt-head"))
    assert "16 \u2192 8" in page.inner_text("#adapt-rows")
    page.reload()
    until(page, lambda: "16 \u2192 8" in page.inner_text("#adapt-rows"))


def test_browser_runs_stand_side_by_side(page: Page, server: Any, root: Path) -> None:
    run = root / "runs" / "done"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"format": "netadapt-run", "version": 1, "arguments": {}}))
    block = {
        "accuracy": 0.8,
        "latency_ms": {"estimate": 2.0, "measured": 2.2},
        "energy_mj": {"estimate": None, "measured": None},
    }
    result = {"device": "d", "backend": "ort", "precision": "fp32", "initial": block, "adapted": {**block, "accuracy": 0.75}}
    (run / "result.json").write_text(json.dumps({**result, "uniform": None}))
    visit(page, server, "/compare", "Runs side by side")
    until(page, lambda: "runs/done" in page.inner_text("#compare-table"))
    assert "1.100" in page.inner_text("#compare-table")
    until(page, lambda: page.locator("#compare-graph .point").count() >= 2)
