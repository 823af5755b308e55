from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.lut.schema import IN_NETWORK, Cell, Session
from netadapt_trt.lut.store import Lut, read_lut
from netadapt_trt.space.schema import SKIP
from netadapt_trt.space.store import load_space
from netadapt_trt.space.table import SpaceTable, read_tables
from netadapt_trt.spec import EnergyStats, Identity, LatencyStats
from netadapt_trt.webui.colours import colours, painted
from netadapt_trt.webui.compare import Row
from netadapt_trt.webui.figures import compare_figure, theta_figure, widths_figure
from netadapt_trt.webui.lut_figures import costs_figure, curve_figure, heat_figure, layer_of, rails_figure, spread_of
from netadapt_trt.webui.searches import probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.webui.lut_figures import Layer

ROOT = Path(__file__).parents[2]
KEY = "x0[1,a,8,8] Conv(x0 [b,a,1,1] [b])=y0"
IDENTITY = Identity(
    backend="ort",
    device="d",
    runtime="r",
    runtime_version="1",
    provider="p",
    precision="fp32",
    recipe="none",
    batch=1,
    threads=1,
)


def table(*cells: tuple[tuple[int, ...], float], energy: float | None = None, rails: dict[str, float] | None = None) -> Lut:
    lut = Lut(IDENTITY)
    lut.add(Session(id="s", date="2026-01-01"))
    for widths, ms in cells:
        stats = LatencyStats(median=ms, p10=0.9 * ms, p90=1.3 * ms, n=7)
        power = EnergyStats(total=energy * ms, dynamic=None, stderr=0.1 * energy * ms) if energy else None
        lut.add(Cell(layer=KEY, widths=widths, session="s", latency_ms=stats, energy_mj=power, power_mw=rails or {}))
    return lut


def values(made: dict[str, Any] | None) -> list[list[float | None]]:
    assert made is not None
    rows: list[list[float | None]] = made["data"][0]["z"]
    return rows


def test_heat_figure_has_every_cell_at_its_sizes() -> None:
    layer = layer_of(table(((8, 16), 1.0), ((8, 32), 2.0), ((16, 32), 3.0)), KEY)
    made = heat_figure(layer, "latency")
    assert values(made) == [[1.0, 2.0], [None, 3.0]]
    assert made is not None
    assert (made["data"][0]["y"], made["data"][0]["x"]) == (["8", "16"], ["16", "32"])
    assert "p10 0.9, p90 1.3 ms, 7 runs" in made["data"][0]["text"][0][0]


def test_heat_figure_of_how_sure_is_half_of_the_spread_in_per_cent() -> None:
    layer = layer_of(table(((8, 16), 1.0), ((8, 32), 2.0), ((16, 32), 3.0)), KEY)
    assert values(heat_figure(layer, "latency", spread=True))[0][0] == pytest.approx(50 * (1.3 - 0.9))
    assert spread_of(layer.cells[0], "energy") is None


def test_heat_figure_of_scattered_widths_is_marks() -> None:
    cells = [((8 * step, 8 * (40 - step)), float(step)) for step in range(1, 31)]
    made = heat_figure(layer_of(table(*cells), KEY), "latency")
    assert made is not None
    (trace,) = made["data"]
    assert trace["type"] == "scatter"
    assert sorted(zip(trace["y"], trace["x"], trace["marker"]["color"], strict=True)) == [
        (*at, value) for at, value in cells
    ]


def in_networks(*cells: tuple[tuple[int, ...], float]) -> Layer:
    """The same as shares of whole networks' time: one figure each, without a spread."""
    lut = Lut(IDENTITY)
    lut.add(Session(id="s", date="2026-01-01"))
    for widths, ms in cells:
        stats = LatencyStats(median=ms, p10=ms, p90=ms, n=20)
        lut.add(Cell(layer=KEY, widths=widths, session="s", context=IN_NETWORK, latency_ms=stats))
    return layer_of(lut, KEY, IN_NETWORK)


class Surer:
    """Says that an estimate is the surer the more channels there are."""

    def uncertainty(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(1.0 / points.sum(axis=1))


def test_heat_figure_of_how_sure_in_networks_is_the_estimators() -> None:
    layer = in_networks(((8, 16), 1.0), ((8, 32), 2.0), ((16, 32), 3.0))
    assert heat_figure(layer, "latency", spread=True) is None  # a share of a network's time has no spread: not 0 %
    model: Any = Surer()
    made = heat_figure(layer, "latency", spread=True, model=model)
    assert made is not None
    # 1 / (8 + 16), 1 / (8 + 32), 1 / (16 + 32), in per cent
    assert values(made)[0] == pytest.approx([100 / 24, 2.5])
    assert values(made)[1] == [None, pytest.approx(100 / 48)]
    assert (made["data"][0]["zmin"], made["data"][0]["zmax"]) == (0.0, pytest.approx(100 / 24))
    assert "Standard deviation of the estimate" in made["data"][0]["colorbar"]["title"]["text"]


def test_curve_figure_of_networks_joins_nothing_and_has_no_bars() -> None:
    made = curve_figure(in_networks(((8, 16), 1.0), ((16, 16), 2.0)), "latency")
    assert made is not None
    (trace,) = made["data"]
    assert trace["mode"] == "markers"
    assert "error_y" not in trace


def test_marks_and_map_of_one_layer_are_different_views() -> None:
    """Else the page keeps the axis of names of the one, on which the other's numbers are out of sight."""
    cells = [((8 * step, 8 * (40 - step)), float(step)) for step in range(1, 31)]
    marks = heat_figure(layer_of(table(*cells), KEY), "latency")
    drawn = heat_figure(layer_of(table(((8, 16), 1.0), ((8, 32), 2.0), ((16, 32), 3.0)), KEY), "latency")
    assert marks is not None
    assert drawn is not None
    assert marks["layout"]["uirevision"] != drawn["layout"]["uirevision"]
    assert (marks["layout"]["yaxis"]["type"], drawn["layout"]["yaxis"]["type"]) == ("linear", "category")


def test_curve_figure_of_one_size_has_its_bars() -> None:
    layer = layer_of(table(((8, 16), 1.0), ((16, 16), 2.0), ((32, 16), 4.0)), KEY)
    assert heat_figure(layer, "latency") is None
    made = curve_figure(layer, "latency")
    assert made is not None
    (trace,) = made["data"]
    assert (trace["x"], trace["y"]) == ([8, 16, 32], [1.0, 2.0, 4.0])
    assert trace["error_y"]["array"] == pytest.approx([0.3, 0.6, 1.2])
    assert trace["error_y"]["arrayminus"] == pytest.approx([0.1, 0.2, 0.4])
    assert curve_figure(layer, "energy") is None


def test_curve_figure_shows_sizes_that_move_together_once() -> None:
    layer = layer_of(table(((8, 8), 1.0), ((16, 16), 2.0)), KEY)
    assert [name for name, _ in layer.axes] == ["a"]


def test_energies_and_rails_are_shown_where_there_is_power() -> None:
    layer = layer_of(table(((8, 16), 1.0), ((16, 16), 2.0), energy=5.0, rails={"VDD <b>": 100.0, "CPU": 50.0}), KEY)
    curve = curve_figure(layer, "energy")
    assert curve is not None
    assert curve["data"][0]["y"] == [5.0, 10.0]
    assert curve["data"][0]["error_y"]["array"] == pytest.approx([0.5, 1.0])
    rails = rails_figure(layer)
    assert rails is not None
    assert [trace["y"] for trace in rails["data"]] == [[100.0, 100.0], [50.0, 50.0]]
    assert rails["data"][0]["name"] == "VDD &lt;b&gt;"
    by_rail = curve_figure(layer, "energy@CPU")
    assert by_rail is not None
    assert by_rail["data"][0]["y"] == pytest.approx([0.05, 0.1])  # mW times ms over a thousand
    assert rails_figure(layer_of(table(((8, 16), 1.0)), KEY)) is None


def test_every_layer_of_the_shipped_table_can_be_drawn() -> None:
    lut = read_lut(ROOT / "luts" / "intel-xeon-family-6-model-207" / "ort-fp32.lut.jsonl")
    drawn = 0
    for key in lut.layers():
        layer = layer_of(lut, key)
        for resource in ("latency", "energy"):
            for made in (
                heat_figure(layer, resource),
                curve_figure(layer, resource),
                heat_figure(layer, resource, spread=True),
            ):
                json.dumps(made, allow_nan=False)
                drawn += made is not None
    assert drawn > len(lut.layers())


def test_costs_figure_leaves_blank_what_is_not_offered() -> None:
    space = load_space("fbnet-cifar")
    found = read_tables(space, [ROOT / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"])
    made = costs_figure(found, "latency")
    skip = space.columns.index(SKIP)
    assert values(made)[0][skip] is None
    assert values(made)[2][skip] == found.latency_ms[2, skip]


def test_theta_figure_shows_probabilities() -> None:
    space = load_space("fbnet-small")
    theta = np.full((len(space.places), len(space.columns)), np.nan)
    for row, place in enumerate(space.places):
        theta[row, list(place.candidates)] = 1.0
    theta[0, 0] += np.log(7.0)  # seven times as likely as each of the other seven: one half
    rows = values(theta_figure(space, theta))
    assert rows[0][0] == pytest.approx(50.0)
    assert rows[0][space.columns.index(SKIP)] is None
    assert sum(value for value in rows[1] if value is not None) == pytest.approx(100.0)


def test_probabilities_of_large_theta_are_finite() -> None:
    assert probabilities(np.array([[1e5, 1e5, np.nan]]))[0, :2].tolist() == [0.5, 0.5]


def row(run: str, network: str, **more: Any) -> Row:
    known: dict[str, Any] = {
        "accuracy": 0.9,
        "estimate_ms": 2.0,
        "measured_ms": None,
        "estimate_mj": None,
        "measured_mj": None,
    }
    return Row(run=run, network=network, **{**known, **more})


def test_compare_figure_marks_what_is_measured() -> None:
    rows: Sequence[Row] = [row("<a>", "adapted", measured_ms=3.0), row("b", "argmax"), row("b", "sample-1", accuracy=None)]
    made = compare_figure(rows)
    assert made is not None
    first, second = made["data"]
    assert (first["x"], first["marker"]["symbol"]) == ([3.0], "star")
    assert (second["x"], second["marker"]["symbol"]) == ([2.0], "star-open")
    assert "&lt;a&gt;" in first["text"][0]
    assert first["marker"]["color"] != second["marker"]["color"]
    assert compare_figure([row("a", "x", accuracy=None)]) is None


def test_widths_figure_shows_uncut_groups_whole() -> None:
    made = widths_figure({"a": 16, "b": 32}, {"a": 8})
    assert [trace["x"] for trace in made["data"]] == [[16, 32], [8, 32]]


def test_colours_are_the_reports() -> None:
    assert colours()["measured"].startswith("#")
    assert painted({"a": ["@measured", "@nobody", "plain"]}) == {"a": [colours()["measured"], "@nobody", "plain"]}
    style = (ROOT / "netadapt_trt" / "webui" / "assets" / "style.css").read_text()
    assert all(f"--{name}: {value};" in style for name, value in colours().items())


def test_space_table_without_energy_has_no_figure_of_it() -> None:
    space = load_space("fbnet-small")
    shape = len(space.places), len(space.columns)
    nothing = SpaceTable(space, np.ones(shape), np.full(shape, np.nan))
    assert all(value is None for line in values(costs_figure(nothing, "energy")) for value in line)
