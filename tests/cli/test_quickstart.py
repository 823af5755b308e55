from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.cli.quickstart import Recipe, quickstart
from netadapt_trt.errors import SpecError
from netadapt_trt.progress import QUIET

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Recipe(side=16, epochs=1, budget="latency=0.9x", short_steps=1, long_epochs=0.2)


@pytest.mark.slow
def test_quickstart_makes_everything_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    document, failure = quickstart(tmp_path, backend="fake", seed=0, recipe=SMALL, progress=QUIET)
    assert failure is None
    assert json.loads((tmp_path / "run" / "result.json").read_text())["reached"]
    assert (tmp_path / "report.html").is_file()
    measured = {name: document[name]["latency_ms"]["measured"] for name in ("initial", "uniform", "adapted")}
    assert measured["adapted"] <= 0.9 * measured["initial"]
    assert measured["uniform"] <= measured["adapted"]
    # bench times the exported files, the run the networks of the plan: one device, one answer
    assert document["bench"]["artifacts"][0]["latency_ms"]["median"] == pytest.approx(measured["adapted"], rel=0.05)

    (tmp_path / "fake-fp32.lut.jsonl").write_text(_shorter(tmp_path / "fake-fp32.lut.jsonl"))
    table = (tmp_path / "fake-fp32.lut.jsonl").read_text()
    before = (tmp_path / "run" / "history.jsonl").read_text()
    again, _ = quickstart(tmp_path, backend="fake", seed=0, recipe=SMALL, progress=QUIET)
    assert (tmp_path / "run" / "history.jsonl").read_text() == before
    assert again["adapted"] == document["adapted"]
    assert (tmp_path / "fake-fp32.lut.jsonl").read_text() == table  # the run keeps the table it began with


def _shorter(lut: Path) -> str:
    """The table as a time limit leaves it: some cells are still to be measured."""
    lines = lut.read_text().splitlines(keepends=True)
    cells = [line for line in lines if '"type": "cell"' in line]
    return "".join(line for line in lines if line not in cells[-5:])


def test_quickstart_refuses_an_unknown_backend_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown backend 'nope'"):
        quickstart(tmp_path / "out", backend="nope", seed=0, recipe=SMALL, progress=QUIET)
    assert not (tmp_path / "out").exists()
