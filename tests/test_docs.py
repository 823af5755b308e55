"""Documentation that is true: links lead somewhere, every verb is described, commands parse, examples run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from netadapt_trt.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("luts/**/*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of the page's shell blocks that call netadapt-trt, continued lines joined."""
    found = []
    for language, block in _FENCE.findall(page.read_text()):
        if language in ("sh", "console", "bash"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.strip() for line in lines if line.strip().startswith("netadapt-trt ")]
    return found


def heading_anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def command_of(words: list[str]) -> Any:
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command


def verbs() -> list[str]:
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found += [f"{name} {sub}" for sub in command.commands] if hasattr(command, "commands") else [name]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.relative_to(ROOT)} links to {target}"
        if anchor:
            assert anchor in heading_anchors(file), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_is_documented(verb: str) -> None:
    for page in ("README.md", "docs/commands.md"):
        text = (ROOT / page).read_text()
        assert f"`{verb}" in text or f"**`{verb}" in text, f"{page} does not mention {verb}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_parse(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)[1:]
        command_of(words).make_context("page", words)  # raises a usage error for what is not there


def test_readme_calls_the_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"quickstart", "test"} <= called
    for target in called:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_ci_calls_what_readme_tells_people() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line.startswith("exec")] == ["exec make test"]


def test_options_named_in_the_commands_page_exist() -> None:
    """An option that is described anywhere on the page belongs to some verb."""
    known = {"--help"}
    for verb in verbs():
        for parameter in command_of(verb.split()).params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / "docs" / "commands.md").read_text()))
    assert named <= known, f"no verb has {sorted(named - known)}"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_example_script_runs_from_python(tmp_path: Path) -> None:
    done = run(sys.executable, str(ROOT / "examples" / "adapt_from_python.py"), cwd=tmp_path)
    assert "adapted:" in done.stdout
    assert (tmp_path / "example" / "report.html").is_file()
    assert (tmp_path / "example" / "run" / "result.json").is_file()


_RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "$@" >> "$CALLS"
printf '\\n\\0' >> "$CALLS"
"""


@pytest.mark.slow
def test_example_script_runs_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bash says what the script calls, and this process calls it: PyTorch starts once instead of eight times."""
    recorder, calls = tmp_path / "bin" / "netadapt-trt", tmp_path / "calls"
    recorder.parent.mkdir()
    recorder.write_text(_RECORDER)
    recorder.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(recorder.parent), os.environ["PATH"]]))
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", str(ROOT / "examples" / "adapt_user_network.sh"), "out"], check=True)
    called = [call.split("\0")[:-1] for call in calls.read_text().split("\n\0")[:-1]]
    assert [words[0] for words in called] == ["train", "plan", "profile", "lut", "adapt", "export", "bench", "report"]
    for words in called:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{words}: {done.output}"
    for name in ("net.plan.json", "run/result.json", "deploy/bench.json", "report.html"):
        assert (tmp_path / "out" / name).is_file()


_TOUR = ["train", "plan", "doctor", "profile", "lut", "lut", "adapt", "export", "report", "bench"]
_SHORTER = {
    "--backend ort": "--backend fake",
    "--epochs 5": "--epochs 1",
    "latency=0.6x --reduction 0.12": "latency=0.8x --reduction 0.2",
    "--short-steps 6": "--short-steps 1",
    "--long-epochs 4": "--long-epochs 0.5",
}
"""What the test replaces for the time's sake: the device by one made of a formula, and most of the training."""


@pytest.mark.slow
def test_readme_s_tour_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in this process: starting PyTorch anew for each verb would take longer than the verbs."""
    monkeypatch.chdir(tmp_path)
    tour = [" ".join(line.split()) for line in commands(ROOT / "README.md")]
    assert [line.split()[1] for line in tour] == _TOUR
    for long in _SHORTER:
        assert any(long in line for line in tour), f"the tour says {long} no more"
    for line in tour:
        for long, short in _SHORTER.items():
            line = line.replace(long, short)
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}: {done.output}"
    for name in ("seed.safetensors", "cpu.lut.jsonl", "runs/digits/result.json", "deploy/deploy.json", "report.html"):
        assert (tmp_path / name).is_file()
    (row,) = json.loads((tmp_path / "bench.json").read_text())["artifacts"]
    promised = json.loads((tmp_path / "runs" / "digits" / "result.json").read_text())["adapted"]["latency_ms"]["estimate"]
    assert row["estimate_ms"] == promised
