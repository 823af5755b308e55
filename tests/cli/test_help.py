"""Help is there for every verb, quickly, and its examples are commands that parse."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from netadapt_trt.cli.main import app

VERBS = [
    *("quickstart", "doctor", "plan", "profile", "lut show", "lut check", "lut validate", "lut merge", "lut import"),
    *("search space", "search profile", "search knobs", "search run", "search child", "search sweep"),
    *("train", "adapt", "export", "build", "bench", "report", "ui"),
]
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "scipy", "sklearn", "plotly", "jinja2", "safetensors")


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_verb_does(verb: str) -> None:
    result = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert "--json" in result.output


def test_help_lists_every_verb() -> None:
    command = get_command(app)
    names = set(command.commands)  # type: ignore[attr-defined]
    assert names == {verb.split()[0] for verb in VERBS}


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from netadapt_trt.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_verb_at_all_shows_the_help() -> None:
    result = CliRunner().invoke(app, [])
    assert "Commands" in result.output


def test_version_is_shown() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", result.output)


def command_of(words: list[str]) -> Any:
    """The command that ``words`` begin with; they are taken off the list."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command


@pytest.mark.parametrize("verb", VERBS)
def test_examples_parse(verb: str) -> None:
    found = re.findall(r"^\s*netadapt-trt (.*)$", inspect.getdoc(command_of(verb.split()).callback) or "", re.MULTILINE)
    assert found
    for line in found:
        words = shlex.split(line)
        command_of(words).make_context("example", words)  # raises a usage error for an option that is not there
