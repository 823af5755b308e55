from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import FileFormatError, TooNewError
from netadapt_trt.files import finite
from netadapt_trt.report.read import read_run, resource_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(("value", "expected"), [(2, 2.0), (True, None), ("2", None), (None, None), (math.nan, None)])
def test_number_takes_only_finite_numbers(value: object, expected: float | None) -> None:
    assert finite(value) == expected


def test_resource_value_takes_a_bare_number_as_estimate() -> None:
    assert resource_value({"latency": 3.0}, "latency", "estimate") == 3.0
    assert resource_value({"latency": 3.0}, "latency", "measured") is None
    assert resource_value({"latency": {"estimate": 3.0, "measured": 4.0}}, "latency", "measured") == 4.0
    assert resource_value(None, "latency", "estimate") is None


def test_read_run_counts_lines(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    run = read_run(write_run(tmp_path / "run", groups=5, steps=3))
    assert (len(run.decisions), len(run.proposals), len(run.long_term)) == (3, 15, 6)
    assert run.end["reached"] is True
    assert len(run.sizes) == 5
    assert set(run.widths) == {"initial", "adapted", "uniform"}
    assert run.missing == ()


def test_read_run_says_what_is_missing(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    run = read_run(write_run(tmp_path / "run", finished=False, steps=0))
    text = " ".join(run.missing)
    assert "result.json" in text
    assert "No step" in text
    assert "not ended" in text


def test_read_run_names_a_missing_baseline(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    assert read_run(write_run(tmp_path / "run", uniform=False)).missing == ("The result has no uniform network.",)


def test_read_run_leaves_out_a_torn_last_line(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=5, steps=2, finished=False)
    with (path / "history.jsonl").open("a") as file:
        file.write('{"type": "decision", "itera')
    run = read_run(path)
    assert len(run.decisions) == 2
    assert "incomplete" in " ".join(run.missing)


def test_read_run_names_a_bad_line(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=5, steps=2)
    lines = (path / "history.jsonl").read_text().splitlines()
    lines[3] = "{oops"
    (path / "history.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(FileFormatError, match="line 4"):
        read_run(path)


def test_read_run_refuses_another_directory(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"no run\.json"):
        read_run(tmp_path)


def test_read_run_refuses_a_newer_run(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run")
    (path / "run.json").write_text(json.dumps({"format": "netadapt-run", "version": 2, "arguments": {}}))
    with pytest.raises(TooNewError):
        read_run(path)


def test_read_run_takes_sizes_in_the_order_of_the_plan(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=3)
    groups = [{"name": f"features.{i}.1.0", "size": 100 + i} for i in (2, 0, 1)]
    (path / "plan.json").write_text(json.dumps({"format": "netadapt-plan", "version": 1, "groups": groups}))
    assert list(read_run(path).sizes.items()) == [("features.2.1.0", 102), ("features.0.1.0", 100), ("features.1.1.0", 101)]


def _append(path: Path, *lines: dict[str, object]) -> None:
    with (path / "history.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_read_run_lays_a_brought_measurement_into_its_decision(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=4, steps=2, finished=False)
    before = read_run(path).decisions[-1]["resources"]["latency"]
    _append(path, {"type": "anchor", "widths": {}, "resources": {"latency": {"estimate": 9.0, "measured": 0.3}}})
    after = read_run(path).decisions[-1]["resources"]["latency"]
    assert after == {**before, "measured": 0.3}


def test_read_run_keeps_the_last_long_term_phase(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=4, steps=2)
    _append(path, {"type": "long_term", "seed": 0, "network": "adapted", "accuracy_test": 0.5, "iteration": 7})
    assert [line["accuracy_test"] for line in read_run(path).long_term] == [0.5]


def test_read_run_that_went_on_has_not_ended(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=4, steps=2)
    _append(path, {"type": "proposal", "iteration": 3, "group": "features.0.1.0"})
    assert read_run(path).end == {}


def test_read_run_prefers_the_widths_of_the_result(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    path = write_run(tmp_path / "run", groups=2, steps=1)
    result = json.loads((path / "result.json").read_text())
    result["uniform"]["widths"] = {"features.0.1.0": 8, "features.1.1.0": 24}
    (path / "result.json").write_text(json.dumps(result))
    assert read_run(path).widths["uniform"] == {"features.0.1.0": 8, "features.1.1.0": 24}


def test_search_is_no_run_of_adapt_and_the_page_is_named(tmp_path: Path) -> None:
    (tmp_path / "theta").mkdir()
    (tmp_path / "run.json").write_text('{"format": "netadapt-search", "version": 1}')
    with pytest.raises(FileFormatError, match=r"is a search; report takes runs of adapt.* netadapt-trt ui"):
        read_run(tmp_path)
