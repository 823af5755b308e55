"""Resuming for real: with another table, without one, with a figure brought from the device."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.adapt.run import adapt, resume
from netadapt_trt.errors import BudgetError, CoverageError, IdentityError
from netadapt_trt.lut.store import read_lut
from netadapt_trt.plan.store import load_plan, plan_hash
from netadapt_trt.spec import parse_budget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netadapt_trt.adapt.settings import AdaptSettings


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def decisions(run: Path) -> list[tuple[dict[str, int], float]]:
    return [(line["widths"], line["accuracy"]) for line in history(run) if line.get("type") == "decision"]


def bare(base: AdaptSettings, output: Path, **changes: Any) -> AdaptSettings:
    """Settings without any training."""
    return replace(base, output=output, short_steps=0, long_epochs=0.0, long_seeds=1, **{"uniform": False, **changes})


def rewritten(base: AdaptSettings, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The LUT of ``base``, every line changed."""
    assert base.lut is not None
    lines = [json.loads(line) for line in base.lut.read_text().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def board(line: dict[str, Any]) -> None:
    if "identity" in line:
        line["identity"]["device"] = "board"


def slower(line: dict[str, Any]) -> None:
    """The same conditions on a slower day: half as much again for everything."""
    if "latency_ms" in line:
        line["latency_ms"] = {key: value * (1 if key == "n" else 1.5) for key, value in line["latency_ms"].items()}


def without_energy(line: dict[str, Any]) -> None:
    line.pop("energy_mj", None)


@pytest.fixture
def stopped(base: AdaptSettings, tmp_path: Path) -> AdaptSettings:
    """A run that stopped after two iterations."""
    chosen = bare(base, tmp_path / "run", max_iterations=2)
    with pytest.raises(BudgetError, match="limit of 2 iterations"):
        adapt(chosen)
    return chosen


def test_resume_refuses_a_lut_of_another_device(base: AdaptSettings, stopped: AdaptSettings, tmp_path: Path) -> None:
    other = rewritten(base, tmp_path / "board.lut.jsonl", board)
    before = (stopped.output / "history.jsonl").read_bytes()
    with pytest.raises(IdentityError, match="device was 'fake-device' when the run began and is 'board' here"):
        resume(stopped.output, overrides={"lut": other, "max_iterations": 100})
    assert (stopped.output / "history.jsonl").read_bytes() == before


def test_resume_goes_on_with_the_values_that_the_run_started_on(
    base: AdaptSettings, stopped: AdaptSettings, tmp_path: Path
) -> None:
    anew = rewritten(base, tmp_path / "slower.lut.jsonl", slower)
    mixed = resume(stopped.output, overrides={"lut": anew, "max_iterations": 100}).to_json()
    alone = adapt(bare(base, tmp_path / "alone")).to_json()
    assert mixed["budgets"][0]["initial"] == alone["budgets"][0]["initial"]
    assert mixed["budgets"][0]["limit"] == alone["budgets"][0]["limit"]
    # Everything is slower by the same factor, so every ratio, and with it every decision, is as it was.
    assert decisions(stopped.output) == decisions(tmp_path / "alone")


def test_resume_with_a_table_without_energy_passes_over_what_was_measured_of_it(
    base: AdaptSettings, stopped: AdaptSettings, tmp_path: Path
) -> None:
    measured = [
        line["resources"]["energy"]["measured"] for line in history(stopped.output) if line.get("type") == "decision"
    ]
    assert all(figure > 0 for figure in measured)
    poorer = rewritten(base, tmp_path / "poorer.lut.jsonl", without_energy)
    assert resume(stopped.output, overrides={"lut": poorer, "max_iterations": 100}).reached


def test_energy_budget_with_a_table_without_energy_says_who_gives_it(base: AdaptSettings, tmp_path: Path) -> None:
    poorer = rewritten(base, tmp_path / "poorer.lut.jsonl", without_energy)
    chosen = bare(base, tmp_path / "run", lut=poorer, budgets=(parse_budget("energy=0.5x"),))
    with pytest.raises(
        CoverageError, match=r"no power source was read.*Profile again.*or budget latency, memory, macs or params"
    ):
        adapt(chosen)
    assert not chosen.output.exists()


def test_run_of_an_older_version_takes_any_lut_as_before(
    base: AdaptSettings, stopped: AdaptSettings, tmp_path: Path
) -> None:
    facts = json.loads((stopped.output / "run.json").read_text())
    del facts["lut_identity"]
    (stopped.output / "run.json").write_text(json.dumps(facts))
    other = rewritten(base, tmp_path / "board.lut.jsonl", board)
    assert resume(stopped.output, overrides={"lut": other, "max_iterations": 100}).reached


def test_run_without_a_lut_keeps_to_the_first_one_it_is_given(base: AdaptSettings, tmp_path: Path) -> None:
    chosen = bare(base, tmp_path / "run", lut=None, budgets=(parse_budget("params=0.9x"),))
    adapt(chosen)
    assert json.loads((chosen.output / "run.json").read_text())["lut_identity"] is None
    resume(chosen.output, overrides={"lut": base.lut})
    resume(chosen.output, overrides={"lut": base.lut})
    assert [line["identity"]["device"] for line in history(chosen.output) if line.get("type") == "lut"] == ["fake-device"]
    with pytest.raises(IdentityError, match="is 'board' here"):
        resume(chosen.output, overrides={"lut": rewritten(base, tmp_path / "board.lut.jsonl", board)})
    assert resume(chosen.output).reached


def test_brought_figures_stay_when_they_are_not_brought_again(base: AdaptSettings, tmp_path: Path) -> None:
    assert base.lut is not None
    chosen = bare(base, tmp_path / "run", measure=False, uniform=True, budgets=(parse_budget("latency=0.9x"),))
    first = adapt(chosen).to_json()
    limit = first["budgets"][0]["limit"]
    figures = {"adapted": limit * 0.97, "uniform": limit * 0.96}
    bench = {
        "format": "netadapt-bench",
        "version": 1,
        "identity": read_lut(base.lut).identity.to_json(),
        "artifacts": [
            {
                "plan_hash": plan_hash(load_plan(chosen.output / "plan.json")),
                "widths": first[name]["widths"],
                "latency_ms": {"median": figure},
            }
            for name, figure in figures.items()
        ],
    }
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    brought = resume(chosen.output, overrides={"measured": tmp_path / "bench.json"}).to_json()
    assert {name: brought[name]["latency_ms"]["measured"] for name in figures} == figures
    lines = history(chosen.output)
    again = resume(chosen.output).to_json()
    assert {name: again[name]["latency_ms"]["measured"] for name in figures} == figures
    assert history(chosen.output) == lines


def test_resume_of_a_finished_run_needs_neither_its_lut_nor_the_limit_it_went_on_with(
    base: AdaptSettings, stopped: AdaptSettings, tmp_path: Path
) -> None:
    """run.json still says two iterations; what the run came to after more of them stays as it is, byte for byte."""
    assert base.lut is not None
    table = tmp_path / "moved.lut.jsonl"
    table.write_bytes(base.lut.read_bytes())
    went_on = resume(stopped.output, overrides={"lut": table, "max_iterations": 3000}).to_json()
    facts = json.loads((stopped.output / "run.json").read_text())
    facts["arguments"]["lut"] = str(tmp_path / "gone.lut.jsonl")
    (stopped.output / "run.json").write_text(json.dumps(facts))
    before = (stopped.output / "result.json").read_bytes()
    assert resume(stopped.output).to_json() == went_on
    assert (stopped.output / "result.json").read_bytes() == before


def test_resume_of_a_run_that_ended_short_says_so_again_and_leaves_it(stopped: AdaptSettings) -> None:
    before = (stopped.output / "result.json").read_bytes()
    with pytest.raises(BudgetError, match=rf"limit of 2 iterations.* --resume {stopped.output} --max-iterations 4$"):
        resume(stopped.output)
    assert (stopped.output / "result.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["", '{"format": "netadapt-result", "version": 1, "history_records": 3}'])
def test_resume_makes_a_result_again_that_is_damaged_or_older_than_the_history(stopped: AdaptSettings, damage: str) -> None:
    path = stopped.output / "result.json"
    before = path.read_bytes()
    path.write_text(damage)
    with pytest.raises(BudgetError, match="limit of 2 iterations"):
        resume(stopped.output)
    assert path.read_bytes() == before
