"""``lut import`` from the command line: what it says, and what the other verbs of ``lut`` make of the result."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from netadapt_trt.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

hostile = importlib.import_module("hostile")


def test_import_show_and_check(tmp_path: Path) -> None:
    table, out = tmp_path / "lut.pkl", tmp_path / "o.lut.jsonl.gz"
    table.write_bytes(hostile.table_pickle(3))
    words = ["lut", "import", str(table), "-o", str(out), "--device", "GPU", "--batch", "128", "--licence", "MIT"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["format"], document["cells"], document["layers"]) == ("netadapt-pickle", 2, 1)
    shown = json.loads(CliRunner().invoke(app, ["lut", "show", str(out), "--json"]).stdout)
    assert shown["sessions"][0]["settings"]["licence"] == "MIT"
    assert shown["identity"]["batch"] == 128
    assert CliRunner().invoke(app, ["lut", "check", str(out)]).exit_code == 0


def test_hostile_pickle_is_refused_without_a_traceback(tmp_path: Path) -> None:
    canary, table = tmp_path / "canary", tmp_path / "lut.pkl"
    table.write_bytes(hostile.attacks(canary)["os.system nested in protocol 4"])
    words = ["lut", "import", str(table), "-o", str(tmp_path / "o.lut.jsonl"), "--device", "GPU", "--batch", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "it names posix.system" in result.output
    assert "Traceback" not in result.output
    assert not canary.exists()
