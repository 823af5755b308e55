"""tools/bench_int8.py: what it makes of results that are there."""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    script = Path(__file__).parents[2] / "tools" / "bench_int8.py"
    spec = importlib.util.spec_from_file_location("bench_int8", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_int8"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def _keep(path: Path, result: Any) -> None:
    path.write_text(json.dumps({"format": "netadapt-int8", "version": 1, "result": result}))


def test_kept_results_are_not_made_again(tool: ModuleType, tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return 7

    path = tmp_path / "x.json"
    assert tool.known(path) is None
    assert [tool.kept(path, make), tool.kept(path, make), tool.known(path)] == [7, 7, 7]
    assert len(made) == 1


def test_table_marks_the_layers_that_are_not_faster(tool: ModuleType, tmp_path: Path) -> None:
    network = tool.Network("zoo:net,width=0.5", "1x3x8x8", True, tmp_path)
    assert network.slug == "net-width=0-5-1x3x8x8"
    rows = [
        {"layer": "a", "kind": "Conv 1x1", "widths": [3, 8], "fp32": 0.02, "int8": 0.01, "fp32_flags": [], "int8_flags": []},
        {
            "layer": "b",
            "kind": "Add",
            "widths": [8],
            "fp32": 0.01,
            "int8": 0.015,
            "fp32_flags": ["region"],
            "int8_flags": [],
        },
        {"layer": "c", "kind": "Add", "widths": [8], "fp32": None, "int8": 0.01, "fp32_flags": [], "int8_flags": []},
    ]
    _keep(network.file(".layers.json"), {"rows": rows, "blocks": {"Conv 1x1": {"fp32": [16]}}, "networks": {}})
    times = [{"latency_ms": {"median": 2.0}}, {"latency_ms": {"median": 4.0}}]
    pair = {"ratio": 0.5, "p10": 0.4, "p90": 0.6}
    _keep(network.file(".bench-t1.json"), {"artifacts": times, "comparisons": [pair]})
    _keep(network.file(".int8.accuracy.json"), {"accuracy": 0.8125, "pictures": 16})
    text = tool.table([network], Namespace(bench_threads=[1, 2], budget=0.85))
    assert "| zoo:net,width=0.5 | 1x3x8x8 | 1 | 4.000 | 2.000 | 0.500 | 0.400 to 0.600 | - | 81.25% |" in text
    assert "| a | Conv 1x1 | 3x8 | 20.0 | 10.0 | 0.50 |  |" in text
    assert "| b | Add | 8 | 10.0 | 15.0 | 1.50 | **not faster** fp32:region |" in text
    assert "| c | Add | 8 | - | 10.0 | - |  |" in text
