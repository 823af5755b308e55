"""Tested tables on the page: what `lut validate` wrote, and what to say of files it did not write."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import FileFormatError, TooNewError
from netadapt_trt.report.page import write_report
from netadapt_trt.report.text import DASH
from netadapt_trt.report.validation import read_validation, scatter_figure, validation_part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def sample(**more: Any) -> dict[str, Any]:
    return {
        "format": "netadapt-validation",
        "version": 1,
        "mape": 0.031,
        "spearman": 0.99,
        "repeatability_mape": 0.012,
        "isolated_sum_mape": None,
        "drift": 0.8,
        "rounds": 8,
        "isolated_networks": 1,
        "channels": 100,
        "lut": "folder/cpu.lut.jsonl",
        "model": "torchvision:resnet18",
        "date": "2026-05-01T10:00:00+00:00",
        "identity": {"backend": "ort", "device": "CPU", "runtime_version": "1.2", "precision": "fp32", "threads": 2},
        "verdict": ["worst is network 2"],
        "networks": [
            {"estimate_ms": 1.1, "measured_ms": 1.0, "isolated_sum_ms": 1.6, "repeatability": 0.01, "widths": {"a": 50}},
            {"estimate_ms": 3.8, "measured_ms": 4.0, "isolated_sum_ms": None, "repeatability": 0.02},
        ],
        **more,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def made(name: str = "v.json", **more: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(sample(**more)))
        return tmp_path / name

    return made


def test_scatter_shows_estimates_sums_line_and_band(write: Callable[..., Path]) -> None:
    figure = scatter_figure(read_validation(write()), "k")
    below, above, line, estimates, sums = figure.data
    assert (estimates["x"], estimates["y"]) == ([1.0, 4.0], [1.1, 3.8])
    assert (sums["x"], sums["y"]) == ([1.0], [1.6])
    assert line["x"] == line["y"]
    assert [y / x for x, y in zip(below["x"], below["y"], strict=True)] == pytest.approx([0.9, 0.9])
    assert [y / x for x, y in zip(above["x"], above["y"], strict=True)] == pytest.approx([1.1, 1.1])
    low, high = figure.layout["xaxis"]["range"]
    assert figure.layout["yaxis"]["range"] == [low, high]
    assert low < math.log10(1.0)
    assert high > math.log10(4.0)
    assert "50\u202f% of the channels" in estimates["text"][0]
    assert "+10.0\u202f%" in estimates["text"][0]
    assert "layers alone" in sums["text"][0]
    assert "+60.0\u202f%" in sums["text"][0]


def test_ticks_are_round_and_few_whatever_the_range(write: Callable[..., Path]) -> None:
    for low, high in ((0.141, 0.144), (1.0, 4.0), (0.02, 900.0), (1e-4, 1e6)):
        networks = [{"estimate_ms": value, "measured_ms": value} for value in (low, high)]
        figure = scatter_figure(read_validation(write(networks=networks)), "k")
        ticks = figure.layout["xaxis"]["tickvals"]
        assert 2 <= len(ticks) <= 11
        assert ticks == sorted(ticks)
        assert low / 1.13 <= ticks[0]
        assert ticks[-1] <= high * 1.13


def test_validations_stand_side_by_side(write: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    one, other = write("one.json"), write("other.json", mape=0.25, drift=None)
    rows = {
        row.label: [cell.text for cell in row.cells] for row in validation_part([*map(read_validation, (one, other))]).rows
    }
    assert rows["Mean error of the estimates"] == ["3.1\u202f%", "25.0\u202f%"]
    assert rows["Drift since the table was measured"] == ["0.800", DASH]
    assert rows["Sum of layers timed alone, mean error"] == [DASH, DASH]
    page = write_report([one, other], tmp_path / "r.html").read_text()
    assert "2 tables against measured networks" in page
    assert "cpu.lut.jsonl" in page
    assert page.count("worst is network 2") == 2
    assert 'id="v0-scatter"' in page
    assert 'id="v1-scatter"' in page


def test_validation_beside_a_run(write: Callable[..., Path], write_run: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    page = write_report([write_run(tmp_path / "run"), write()], tmp_path / "r.html").read_text()
    assert "A table against measured networks" in page
    assert "Before and after" in page
    assert page.count("<h1>") == 1


def test_network_of_a_file_is_named_without_its_folders(write: Callable[..., Path]) -> None:
    assert read_validation(write(model="/home/me/nets/user_network.py:small_net")).name == "user_network.py:small_net"
    assert read_validation(write(model="torchvision:resnet18")).name == "torchvision:resnet18"
    assert read_validation(write(model=None)).name == "v.json"


def test_hostile_words_stay_words(write: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = write(model="<img src=x>", verdict=["<script>alert(1)</script>", 5], identity={"device": "<b>"}, lut=7)
    page = write_report([path], tmp_path / "r.html").read_text()
    assert "<img src=x>" not in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a netadapt-validation file"),
        ("[]", "a JSON object was expected"),
        ('{"format": "netadapt-bench", "version": 1}', "format = 'netadapt-bench'"),
        (json.dumps(sample(networks=[])), "no networks"),
        (json.dumps(sample(networks={})), "no networks"),
        (json.dumps(sample(networks=[{"estimate_ms": 1.0}])), "network 1 lacks"),
        (json.dumps(sample(networks=[{"estimate_ms": 1.0, "measured_ms": -2.0}])), "network 1 lacks"),
        (json.dumps(sample(networks=[{"estimate_ms": 1.0, "measured_ms": True}])), "network 1 lacks"),
        (json.dumps(sample(networks=["x"])), "network 1 lacks"),
    ],
)
def test_damaged_files_are_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(FileFormatError, match=words):
        write_report([tmp_path / "v.json"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_newer_file_asks_for_an_upgrade(write: Callable[..., Path]) -> None:
    with pytest.raises(TooNewError, match="upgrade"):
        read_validation(write(version=2))
