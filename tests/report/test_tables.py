from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.report.budgets import budget_rows, loop_limits
from netadapt_trt.report.context import condition_rows, differences, ending, formula_note, remarks
from netadapt_trt.report.read import read_run
from netadapt_trt.report.settings import setting_rows
from netadapt_trt.report.tables import (
    comparison_rows,
    decision_rows,
    headline_rows,
    stage_rows,
    tiles,
    width_rows,
)
from netadapt_trt.report.text import above_or_below, duration, percent, points, quantity, quantity_of, ratio

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
        (above_or_below(-0.0084), "0.84\u202fpoints below"),
        (above_or_below(0.0084), "0.84\u202fpoints above"),
        (above_or_below(0.0), "the same"),
        (quantity_of("latency", 0.171, 0.18), "0.171 of 0.180\u202fms"),
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


def _change_budget(path: Path, **more: Any) -> None:
    _change_result(path, lambda result: result["budgets"][0].update(more))


def test_budget_is_judged_in_the_loop_and_in_the_final_timing(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    _change_budget(path, limit=0.18, achieved=0.171, met=True, final={"value": 0.21, "limit": 0.2, "met": False})
    (row,) = budget_rows(read_run(path))
    assert row.budget == "latency=0.5x"
    # 0.171 / 0.18 = 0.95; 0.21 / 0.2 = 1.05
    assert (row.loop.text, row.loop.verdict, row.loop.note) == (
        "0.171 of 0.180\u202fms",
        "kept",
        "kept, 5.0\u202f% to spare",
    )
    assert (row.final.text, row.final.verdict, row.final.note) == (
        "0.210 of 0.200\u202fms",
        "missed",
        "missed by 5.0\u202f%",
    )
    assert (row.loop.kind, row.final.kind) == ("measured", "measured")
    assert ending(read_run(path)) == "9 steps, budget reached in the loop, missed in the final timing"


def test_budget_of_an_old_result_is_judged_by_its_final_timing(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """Without ``final``, the medians that have a p10 beside them are those of the final timing."""
    path = write_run(tmp_path / "run")
    (row,) = budget_rows(read_run(path))
    assert (row.final.text, row.final.verdict) == ("\u2013", "unknown")
    for name, median in (("initial", 0.52), ("adapted", 0.247)):
        pair = {"estimate": 0.2, "measured": median, "p10": 0.2, "p90": 0.6}
        _change_result(path, lambda result, name=name, pair=pair: result[name].update(latency_ms=pair))  # type: ignore[misc]
    (row,) = budget_rows(read_run(path))
    # 0.5 x 0.52 = 0.26; 0.247 / 0.26 = 0.95
    assert (row.final.text, row.final.note) == ("0.247 of 0.260\u202fms", "kept, 5.0\u202f% to spare")
    assert loop_limits(read_run(path))[0][1] == 0.2525


def test_budget_that_was_not_timed_in_the_end_says_so(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    _change_budget(path, final=None)
    assert budget_rows(read_run(path))[0].final.note == "not timed"
    (going,) = budget_rows(read_run(write_run(tmp_path / "going", finished=False)))
    assert going.final.note == "not timed yet"
    # 0.5 x 0.505 ms, from the first line of the history
    assert going.loop.text.endswith(" of 0.253\u202fms")


def test_budget_reached_is_said_once(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    assert ending(read_run(path)) == "9 steps, budget reached"
    history = (path / "history.jsonl").read_text().splitlines()
    history[-1] = json.dumps({"type": "end", "reason": "nothing can be cut further", "reached": False})
    (path / "history.jsonl").write_text("\n".join(history) + "\n")
    assert ending(read_run(path)) == "9 steps, budget not reached: nothing can be cut further"


def test_budgets_are_read_as_objects_too(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    budgets = [
        {"resource": "params", "value": 400_000, "relative": False, "rail": None, "achieved": 337_726, "met": True},
        {"resource": "energy", "value": 0.7, "relative": True, "rail": "VDD_IN"},
        "nonsense",
    ]
    _change_result(path, lambda result: result.update(budgets=budgets))
    rows = budget_rows(read_run(path))
    assert [row.budget for row in rows] == ["params=400000", "energy@VDD_IN=0.7x"]
    assert [row.loop.verdict for row in rows] == ["kept", "unknown"]
    assert (rows[0].loop.text, rows[0].loop.kind) == ("337.7 of 400.0\u202fk", "counted")
    assert rows[0].final.note == "counted, not timed"


def test_runs_of_unlike_conditions_are_not_compared_in_silence(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    assert differences([read_run(one), read_run(other)]) == []
    assert formula_note([read_run(one)]) == ""
    identity = {"batch": 8, "threads": 2}
    _change_result(other, lambda result: result.update(device="fake-device", backend="fake", identity=identity))
    _change_budget(other, budget="latency=0.7x")
    runs = [read_run(one), read_run(other)]
    assert differences(runs) == ["device", "backend", "batch", "threads", "budget"]
    rows = {row.label: [cell.text for cell in row.cells] for row in condition_rows(runs)}
    assert rows["Device"] == ["2-core server CPU", "fake-device"]
    assert rows["Batch"] == ["1", "8"]  # of the input shape where the result does not tell
    assert rows["Precision"] == ["fp32", "fp32"]
    assert rows["Budget"] == ["latency=0.5x", "latency=0.7x"]
    assert formula_note(runs).startswith("other used the backend fake")
    assert formula_note([runs[1], runs[1]]).startswith("All runs used the backend fake")


def test_conditions_of_an_unfinished_run_are_those_it_began_with(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", finished=False)
    document = json.loads((path / "run.json").read_text())
    document["arguments"]["backend"] = None
    document["lut_identity"] = {"backend": "fake", "device": "fake-device", "precision": "fp16", "batch": 4, "threads": 3}
    (path / "run.json").write_text(json.dumps(document))
    rows = {row.label: row.cells[0].text for row in condition_rows([read_run(path)])}
    wanted = {"Backend": "fake", "Device": "fake-device", "Precision": "fp16", "Batch": "4", "Threads": "3"}
    assert wanted.items() <= rows.items()


def test_remarks_tell_a_formula_from_a_device(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    _change_result(path, lambda result: result.update(backend="fake"))
    (remark,) = remarks(read_run(path))
    assert remark.startswith("This run used the backend fake")
    assert "of a formula, not of a device" in remark


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


def test_settings_are_flat_and_readable(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    document = json.loads((path / "run.json").read_text())
    document["arguments"] |= {
        "budgets": [{"resource": "latency", "value": 0.6, "relative": True, "rail": None}],
        "backend": None,
        "devices": [],
        "amp": False,
        "granularity": 8,
        "group_granularity": {"features.0.1.0": 4},
        "profile_seconds": 34.16963279799893,
    }
    document["seed"] = 0
    document["granularity"] = {"a": 8, "b": 4, "c": 8}
    document["preprocessing"] = {"mean": [0.3053, 0.5]}
    (path / "run.json").write_text(json.dumps(document))
    (path / "result.json").unlink()
    found = setting_rows(read_run(path))
    rows = dict(found)
    assert len(rows) == len(found)  # the seed stands in both places and is told once
    assert not {"backend", "devices", "budgets"} & set(rows)
    wanted = {
        "budget": "latency=0.6x",
        "spec.input_shape": "1\u00d73\u00d732\u00d732",
        "spec.args.width": "0.5",
        "reduction": "0.06",
        "amp": "no",
        "granularity": "8",
        "group_granularity": "4 for features.0.1.0",
        "granularity by group": "4 for b; 8 for the other 2 groups",
        "profile_seconds": "34.17",
        "preprocessing.mean": "0.3053, 0.5",
        "versions.torch": "2.13.0",
    }
    assert wanted.items() <= rows.items()


def test_tiles_compare_promise_and_reality(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    found = {tile.label: tile for tile in tiles(read_run(write_run(tmp_path / "run")))}
    # 0.2475 / 0.2492 - 1 = -0.68 %
    assert found["Promise against reality"].figure == "\u22120.7\u202f%"
    assert found["Latency"].figure == "0.493\u00d7"


def test_tiles_give_no_sign_to_a_promise_kept_exactly(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    _change_result(path, lambda result: result["adapted"]["latency_ms"].update(estimate=0.24919, measured=0.2492))
    # 0.24919 / 0.2492 - 1 = -0.004 %
    found = {tile.label: tile.figure for tile in tiles(read_run(path))}
    assert found["Promise against reality"] == "0.0\u202f%"


@pytest.mark.parametrize(
    ("adapted", "figure", "worse"),
    [(0.8535, "1.44\u202fpoints above", False), (0.8307, "0.84\u202fpoints below", True), (0.8391, "the same", False)],
)
def test_tiles_say_in_words_how_the_baseline_compares(
    tmp_path: Path, write_run: Callable[..., Path], adapted: float, figure: str, worse: bool
) -> None:
    path = write_run(tmp_path / "run")
    _change_result(path, lambda result: result["adapted"].update(accuracy=adapted))
    tile = next(tile for tile in tiles(read_run(path)) if tile.label == "Accuracy against uniform width")
    assert (tile.figure, tile.worse) == (figure, worse)
    assert tile.note.endswith("against 83.91\u202f% on the test set; 0.249\u202fms against 0.248\u202fms")


def test_tiles_say_that_the_seeds_do_not_tell_the_networks_apart(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    lines = [{"type": "long_term", "network": "adapted", "accuracy_test": value, "iteration": 9} for value in (0.85, 0.86)]
    lines += [{"type": "long_term", "network": "uniform", "accuracy_test": value, "iteration": 9} for value in (0.83, 0.851)]
    with (path / "history.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    assert "the seeds' ranges overlap" in next(t for t in tiles(read_run(path)) if "uniform" in t.label).note


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
