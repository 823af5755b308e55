from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.report.read import read_run
from netadapt_trt.report.tables import (
    budget_rows,
    comparison_rows,
    decision_rows,
    headline_rows,
    remarks,
    setting_rows,
    stage_rows,
    tiles,
    width_rows,
)
from netadapt_trt.report.text import duration, percent, points, quantity, ratio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _change_result(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    result = json.loads((path / "result.json").read_text())
    change(result)
    (path / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantity("latency", 0.24921), "0.249\u202fms"),
        (quantity("latency", 12.345), "12.35\u202fms"),
        (quantity("latency", 123.45), "123.5\u202fms"),
        (quantity("memory", 3 * 2**19), "1.50\u202fMiB"),
        (quantity("macs", 4.63e7), "46.30\u202fM"),
        (quantity("energy", None), "\u2013"),
        (percent(0.8535), "85.35\u202f%"),
        (points(-0.0077), "\u22120.77\u202fpoints"),
        (points(0.0144), "+1.44\u202fpoints"),
        (ratio(0.25, 0.5), "0.500\u00d7"),
        (ratio(0.25, None), ""),
        (duration(0.04), "0.04\u202fs"),
        (duration(302), "5\u202fmin 02\u202fs"),
        (duration(3599.7), "1\u202fh 00\u202fmin"),
        (duration(4040), "1\u202fh 07\u202fmin"),
    ],
)
def test_text_is_what_a_reader_wants(text: str, expected: str) -> None:
    assert text == expected


def test_headline_labels_estimates_and_measurements(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    rows = {(row.label, row.kind): row for row in headline_rows(read_run(write_run(tmp_path / "run")))}
    measured = rows["Latency", "measured"].cells
    assert [cell.text for cell in measured] == ["0.505\u202fms", "0.248\u202fms", "0.249\u202fms"]
    assert [cell.note for cell in measured] == ["", "0.491\u00d7", "0.493\u00d7"]
    assert rows["Latency", "estimate"].cells[1].text == "0.255\u202fms"
    accuracy = rows["Accuracy, test set", "measured"].cells[2]
    assert accuracy.note == "\u22120.77\u202fpoints; mean of 3 seeds, 85.20 to 85.50"
    assert not any(label == "Energy" for label, _ in rows)


def test_headline_of_an_unfinished_run_comes_from_the_history(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    rows = headline_rows(read_run(write_run(tmp_path / "run", finished=False, steps=2)))
    holdout = "Accuracy, holdout, before long-term fine-tuning"
    assert [row.label for row in rows] == ["Accuracy, test set", holdout, "Latency", "Latency"]
    assert [cell.text for cell in rows[0].cells] == ["86.12\u202f%", "\u2013", "\u2013"]
    assert [cell.text for cell in rows[2].cells][:2] == ["0.505\u202fms", "\u2013"]


def test_comparison_has_a_dash_where_a_run_lacks_a_row(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    done, going = (read_run(write_run(tmp_path / name, finished=end)) for name, end in (("a", True), ("b", False)))
    rows = {(r.label, r.kind): r.cells for r in comparison_rows([headline_rows(done), headline_rows(going)])}
    assert [cell.text for cell in rows["Parameters", "counted"]] == ["337.7\u202fk", "\u2013"]


def test_budget_is_judged_by_the_measured_value(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    (row,) = budget_rows(read_run(path))
    # 0.5 x 0.505 ms = 0.2525 ms; 0.2492 / 0.2525 = 0.98693
    assert (row.budget, row.limit, row.verdict) == ("latency=0.5x", "0.253\u202fms", "kept")
    assert row.reason == "kept (measured): 0.987 of the budget"
    _change_result(path, lambda result: result["adapted"]["latency_ms"].update(measured=0.26, estimate=0.24))
    assert budget_rows(read_run(path))[0].verdict == "missed"
    _change_result(path, lambda result: result["adapted"]["latency_ms"].update(measured=None))
    # The history still knows the last step, but the result speaks for the final network: an estimate is called one.
    assert budget_rows(read_run(path))[0].reason.startswith("kept (estimate only)")


def test_budgets_are_read_as_objects_too(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    budgets = [
        {"resource": "params", "value": 400_000, "relative": False, "rail": None},
        {"resource": "energy", "value": 0.7, "relative": True, "rail": "VDD_IN"},
        "nonsense",
    ]
    _change_result(path, lambda result: result.update(budgets=budgets))
    rows = budget_rows(read_run(path))
    assert [row.budget for row in rows] == ["params=400000", "energy@VDD_IN=0.7x"]
    assert [row.verdict for row in rows] == ["kept", "unknown"]


def test_widths_are_shares_of_the_uncut_group(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=2)
    # without widths in the result, those of the network's directory count
    network = {"format": "netadapt-network", "version": 1, "widths": {"features.0.1.0": 4}}
    (path / "adapted" / "network.json").write_text(json.dumps(network))
    first, second = width_rows(read_run(path))
    assert (first.size, first.width, first.share) == (16, 4, 0.25)
    assert second.share == 1.0  # a group the file leaves out keeps its size
    assert first.uniform == 0.5


def test_stages_add_up_to_the_total(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    rows = stage_rows(read_run(write_run(tmp_path / "run")))
    assert sum(share for _, _, share in rows) == pytest.approx(1)
    # 4040 - (301.5 + 0.04 + 1146 + 151 + 2402) = 39.46
    assert rows[-1][:2] == ("Everything else", "39\u202fs")


def test_decisions_tell_the_width_before_and_after(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    run = read_run(write_run(tmp_path / "run", groups=5, steps=3))
    rows = decision_rows(run, "latency")
    assert len(rows) == 3
    group = rows[0][1]
    assert rows[0][2] == f"{run.sizes[group]} → {run.decisions[0]['widths'][group]}"
    assert rows[0][-1] == "5"


def test_settings_are_flat_and_complete(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    rows = dict(setting_rows(read_run(write_run(tmp_path / "run"))))
    assert rows["spec.args.width"] == "0.5"
    assert rows["reduction"] == "0.06"
    assert rows["versions.torch"] == "2.13.0"


def test_tiles_compare_promise_and_reality(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    found = {label: figure for label, figure, _ in tiles(read_run(write_run(tmp_path / "run")))}
    # 0.2475 / 0.2492 - 1 = -0.68 %; 0.8535 - 0.8391 = 1.44 points
    assert found["Promise against reality"] == "\u22120.7\u202f%"
    assert found["Against uniform width"] == "+1.44\u202fpoints"
    assert found["Latency"] == "0.493\u00d7"


def test_remarks_name_failures_and_extrapolation(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=4, steps=1, finished=False)
    assert remarks(read_run(path)) == []
    lines = [
        {"type": "failure", "iteration": 2, "group": "a", "reason": "out of\nmemory"},
        {"type": "decision", "iteration": 2, "group": "b", "widths": {}, "extrapolated": ["Conv 3x3"]},
    ]
    with (path / "history.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    failure, beyond = remarks(read_run(path))
    assert failure == "Step 2: the proposal for a failed and was left out (out of memory)."
    assert beyond == "The estimates of step 2 reach beyond the widths that were measured: Conv 3x3."
