from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import FileFormatError, TooNewError
from netadapt_trt.report.page import write_report
from netadapt_trt.report.sweep import FoundChild, best_of_three, front, read_sweep, sweep_rows, sweep_tiles
from netadapt_trt.report.sweep_figures import _sizes, _span, knob_figures, trade_figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def write_sample_sweep(path: Path, *, energy: bool = True, measured: bool = True, trained: bool = True) -> Path:
    """30 children whose costs follow their knobs as such searches' do; number 30 has not been made."""
    draw, runs = random.Random(0), []
    for number in range(1, 31):
        by_energy = number > 15
        power, share = (0.3, 0.6, 0.9)[(number - 1) // 5 % 3], (0.1, 0.25, 0.5, 1.0, 2.0)[(number - 1) % 5]
        vlat, vener = (share * 0.8, share * 2.3) if by_energy else (share * 2.3, share * 0.8)
        squeeze = 1 / (1 + 1.2 * share * power) * draw.uniform(0.9, 1.1)
        latency, millijoules = 9 * squeeze, 31 * squeeze ** (1.5 if by_energy else 0.9) * draw.uniform(0.7, 1.1)
        accuracy = 0.92 - 0.05 * max(1 - squeeze, 0) ** 1.5 - abs(draw.gauss(0, 0.004))
        runs.append(
            {
                "number": number,
                "directory": f"{number:03d}",
                "knobs": {"alpha": vlat * 4, "beta": power, "gamma": vener * 2 if energy else 0.0, "delta": power},
                "start": {"energy_dominance": vener / vlat if energy else 0.0},
                "state": "waiting" if number == 30 else "trained" if trained else "searched",
                "child": None
                if number == 30
                else {"blocks": ["k3_e1"], "latency_ms": latency, "energy_mj": millijoules if energy else None},
                "val_accuracy": accuracy - 0.1,
                "accuracy": accuracy if trained else None,
                "params": round(1e6 * squeeze),
                "measured": {
                    "latency_ms": {"median": latency * 1.02},
                    "energy_mj": {"total": millijoules * 0.98} if energy else None,
                }
                if measured and number < 30
                else None,
            }
        )
    document = {
        "format": "netadapt-sweep-results",
        "version": 1,
        "space": "fbnet-cifar",
        "data": "cifar10:data",
        "table": "rpi_speed.txt, new_rpi_energy.txt",
        "epochs": 90,
        "child_epochs": 120,
        "measurement": {
            "identity": {"device": "board", "backend": "ort", "runtime_version": "1.31", "threads": 2},
            "networks": "same graph, fresh weights, fp32",
        },
        "runs": runs,
    }
    path.mkdir(parents=True)
    (path / "sweep.json").write_text(json.dumps({"format": "netadapt-sweep", "version": 1}))
    (path / "results.json").write_text(json.dumps(document))
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    document = json.loads((path / "results.json").read_text())
    change(document)
    (path / "results.json").write_text(json.dumps(document))
    return path


def child(number: int, latency: float, energy: float | None, accuracy: float | None = None) -> FoundChild:
    return FoundChild(
        number=number,
        knobs={"alpha": 1.0, "beta": 0.6, "gamma": 1.0, "delta": 0.6},
        latency=latency,
        energy=energy,
        accuracy=accuracy,
        estimates=(latency, energy),
        measured=(None, None),
        dominance="latency",
        params=None,
        state="trained",
        same_as=None,
    )


def test_front_holds_what_no_other_beats() -> None:
    children = [child(1, 2.0, 5.0), child(2, 1.0, 9.0), child(3, 3.0, 5.0), child(4, 2.5, 4.0), child(5, 1.0, 8.0)]

    # 3 costs what 1 does and is slower, 2 is as fast as 5 and costs more.
    assert [one.number for one in front(children, lambda each: each.energy)] == [5, 1, 4]
    assert front([child(1, 1.0, None)], lambda each: each.energy) == []


def test_best_of_three_counts_accuracy_too() -> None:
    children = [child(1, 2.0, 5.0, 0.9), child(2, 1.0, 4.0, 0.8), child(3, 2.0, 5.0, 0.85), child(4, 3.0, 6.0, 0.9)]

    assert best_of_three(children) == {1, 2}


def test_sweep_is_read_with_what_is_measured_everywhere(tmp_path: Path) -> None:
    data = read_sweep(write_sample_sweep(tmp_path / "sweep"))

    assert len(data.children) == 29
    assert data.kinds == {"latency": "measured", "energy": "measured", "accuracy": "test set"}
    assert data.children[0].latency == pytest.approx(1.02 * (data.children[0].estimates[0] or 0))
    assert [one.dominance for one in data.children] == ["latency"] * 15 + ["energy"] * 14
    assert data.missing == ["1 of 30 searches is not finished."]
    assert ("measured on", "board ort 1.31 , 2 threads") in data.conditions
    told = "same graph, fresh weights, fp32; trained weights take the same time"
    assert ("measured networks", told) in data.conditions


def test_results_of_before_say_nothing_of_weights_and_damaged_ones_neither(tmp_path: Path) -> None:
    path = write_sample_sweep(tmp_path / "sweep")
    for value in (None, 3, ["a"]):
        data = read_sweep(changed(path, lambda d, value=value: d["measurement"].update(networks=value)))  # type: ignore[misc]
        assert "measured networks" not in dict(data.conditions)
    data = read_sweep(changed(path, lambda d: d.update(measurement=None)))
    assert "measured on" not in dict(data.conditions)


def test_one_child_that_was_not_measured_makes_all_estimates(tmp_path: Path) -> None:
    def forget(document: dict[str, Any]) -> None:
        document["runs"][3]["measured"] = None

    data = read_sweep(changed(write_sample_sweep(tmp_path / "sweep"), forget))

    assert data.kinds["latency"] == data.kinds["energy"] == "estimate"
    assert data.children[0].latency == data.children[0].estimates[0]


def test_trade_figure_sizes_circles_by_area(tmp_path: Path) -> None:
    data = read_sweep(write_sample_sweep(tmp_path / "sweep"))

    figure = trade_figure(data, "k")

    assert figure is not None
    line, others, best = figure.data
    assert len(others["x"]) + len(best["x"]) == 29
    assert line["x"] == sorted(line["x"])
    assert line["y"] == sorted(line["y"], reverse=True)
    accuracies = [one.accuracy or 0.0 for one in data.children]
    low, high = min(accuracies), max(accuracies)
    sizes = {
        (x, y): size
        for trace in (others, best)
        for x, y, size in zip(trace["x"], trace["y"], trace["marker"]["size"], strict=True)
    }
    for one in data.children:
        share = ((one.accuracy or 0.0) - low) / (high - low)
        wanted = math.sqrt(7**2 + share * (34**2 - 7**2))
        assert sizes[one.latency, one.energy] == pytest.approx(wanted, abs=0.06)
    assert others["marker"]["symbol"] == "circle"


def test_circles_of_what_hardly_differs_are_alike() -> None:
    """By 0.7 %, which is less than two measurements of one child differ by."""
    values = [0.0426, 0.0429, 0.0427]
    assert len(set(_sizes(values, alike=0.02))) == 1
    assert _span(values, str, 0.02) == "all circles are alike, from 0.0426 to 0.0429"
    assert len(set(_sizes(values))) == 3


def test_trade_figure_of_estimates_is_hollow_and_without_energy_shows_accuracy(tmp_path: Path) -> None:
    estimated = trade_figure(read_sweep(write_sample_sweep(tmp_path / "a", measured=False)), "k")
    plain = trade_figure(read_sweep(write_sample_sweep(tmp_path / "b", energy=False)), "k")

    assert estimated is not None
    assert estimated.data[1]["marker"]["symbol"] == "circle-open"
    assert plain is not None
    assert plain.layout["yaxis"]["title"]["text"] == "Accuracy, %"
    assert max(plain.data[0]["y"]) < 100


def test_knob_figures_leave_out_what_has_no_term(tmp_path: Path) -> None:
    both = knob_figures(read_sweep(write_sample_sweep(tmp_path / "a")), "k")
    latency = knob_figures(read_sweep(write_sample_sweep(tmp_path / "b", energy=False)), "k")

    assert [(title, len(figures)) for title, figures in both] == [
        ("What alpha and beta did", 3),
        ("What gamma and delta did", 3),
    ]
    assert [(title, len(figures)) for title, figures in latency] == [("What alpha and beta did", 2)]
    ratio = both[0][1][2]
    # 100 times the accuracy over milliseconds of the first child: its circle lies at its knobs.
    data = read_sweep(tmp_path / "a")
    assert data.children[0].per_latency == pytest.approx(
        100 * (data.children[0].accuracy or 0) / (data.children[0].latency or 1)
    )
    assert data.children[0].knobs["alpha"] in ratio.data[0]["x"]


def test_tiles_and_rows_name_the_best(tmp_path: Path) -> None:
    data = read_sweep(write_sample_sweep(tmp_path / "sweep"))

    fastest = min(data.children, key=lambda one: one.latency or 0)
    assert sweep_tiles(data)[1].note.startswith(f"search {fastest.number}:")
    rows = sweep_rows(data)
    assert len(rows) == 29
    assert {int(row[0]) for row in rows if row[-1]} == best_of_three(data.children)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(runs=3), "no list of searches"),
        (lambda d: d["runs"][0].update(knobs={"alpha": 1}), "search 1 lacks"),
        (lambda d: d["runs"][0]["child"].update(latency_ms="fast"), "search 1 lacks"),
    ],
)
def test_damaged_results_are_refused(change: Callable[[dict[str, Any]], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=said):
        read_sweep(changed(write_sample_sweep(tmp_path / "sweep"), change))


def test_results_of_a_newer_version_and_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooNewError):
        read_sweep(changed(write_sample_sweep(tmp_path / "sweep"), lambda d: d.update(version=2)))
    (tmp_path / "sweep" / "results.json").unlink()
    with pytest.raises(FileFormatError, match="has no results"):
        read_sweep(tmp_path / "sweep")


def test_page_shows_a_sweep_and_makes_hostile_words_inert(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    path = changed(write_sample_sweep(tmp_path / "sweep"), lambda d: d.update(table=HOSTILE))

    page = write_report([path], tmp_path / "sweep.html").read_text()

    scripts = re.findall(r"<script[^>]*>.*?</script>", page, re.DOTALL)
    own = page.replace(max(scripts, key=len), "")
    assert "<script>document.title" not in own
    assert "<img" not in own
    assert "Pareto front" in own
    assert "1 of 30 searches is not finished." in own


def test_page_of_a_sweep_that_has_only_begun(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    path = changed(write_sample_sweep(tmp_path / "sweep"), lambda d: [run.update(child=None) for run in d["runs"]])

    assert "are not finished" in write_report([path], tmp_path / "sweep.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_sweep_draws_in_a_real_browser(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    page = write_report([write_sample_sweep(tmp_path / "sweep")], tmp_path / "sweep.html")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert 'data-drawn="7"' in done.stdout
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
