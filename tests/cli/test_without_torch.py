"""The device side needs no torch: its verbs run in a process where importing it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.cli.profile import plan_of
from netadapt_trt.plan.store import save_plan

if TYPE_CHECKING:
    from pathlib import Path

_BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnxscript", "safetensors", "sklearn", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from netadapt_trt.cli.main import main
sys.argv = ["netadapt-trt", *sys.argv[1:]]
main()
"""


def device(*words: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", _BLOCKED, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def document(*words: str, cwd: Path) -> Any:
    return json.loads(device(*words, "--json", cwd=cwd).stdout)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it would be on a device: a plan that was made elsewhere."""
    folder = tmp_path_factory.mktemp("device")
    plan = plan_of("zoo:mobilenet_v1", "1x3x16x16", ["width=0.25", "stem=cifar"], num_classes=10)
    save_plan(plan, folder / "net.plan.json")
    return folder


@pytest.fixture(scope="module")
def table(workplace: Path) -> Path:
    device("profile", "net.plan.json", "--backend", "fake", "--lut", "fake.lut.jsonl", cwd=workplace)
    return workplace / "fake.lut.jsonl"


def test_profile_of_a_plan(workplace: Path, table: Path) -> None:
    result = document("profile", "net.plan.json", "--backend", "fake", "--lut", table.name, cwd=workplace)
    assert (result["measured"], result["missing"]) == (0, 0)
    assert result["network_ms"] > 0


def test_profile_with_a_real_runtime(workplace: Path) -> None:
    pytest.importorskip("onnxruntime")
    result = document(
        "profile", "net.plan.json", "--backend", "ort", "--lut", "ort.lut.jsonl", "--cells", "2", cwd=workplace
    )
    assert result["measured"] == 2
    assert result["network_ms"] > 0


def test_lut_show_check_merge(workplace: Path, table: Path) -> None:
    shown = document("lut", "show", table.name, cwd=workplace)
    assert shown["identity"]["backend"] == "fake"
    checked = document("lut", "check", table.name, "--plan", "net.plan.json", cwd=workplace)
    assert not [finding for finding in checked["findings"] if finding["severity"] == "error"]
    merged = document("lut", "merge", table.name, table.name, "-o", "merged.lut.jsonl", cwd=workplace)
    assert merged["cells"] == shown["cells"]


def test_lut_validate_of_a_plan_and_its_page(workplace: Path, table: Path) -> None:
    words = ("--plan", "net.plan.json", "--networks", "4", "--isolated", "1", "-o", "table.validation.json")
    result = document("lut", "validate", table.name, *words, cwd=workplace)
    contract = {"mape", "spearman", "repeatability_mape", "isolated_sum_mape", "within_5pct", "within_10pct", "networks"}
    assert contract <= set(result)
    assert all({"estimate_ms", "measured_ms"} <= set(network) for network in result["networks"])
    assert len(result["networks"]) == 4
    kept = json.loads((workplace / "table.validation.json").read_text())
    assert kept == {"format": "netadapt-validation", "version": 1, **result}
    device("report", "table.validation.json", "-o", "table.html", cwd=workplace)
    assert "against measured networks" in (workplace / "table.html").read_text()


def test_bench_of_a_file(workplace: Path) -> None:
    from netadapt_trt.plan.store import load_plan
    from netadapt_trt.plan.write import write_network

    plan = load_plan(workplace / "net.plan.json")
    (workplace / "model.onnx").write_bytes(write_network(plan, plan.full_widths(), opset=17, ir_version=8))
    result = document("bench", "model.onnx", "--vs", "model.onnx", "--backend", "fake", cwd=workplace)
    assert result["comparisons"][0]["ratio"] == pytest.approx(1.0)
    assert (workplace / "bench.json").is_file()


def test_build_of_an_engine(workplace: Path) -> None:
    from netadapt_trt.plan.store import load_plan
    from netadapt_trt.plan.write import write_network

    pytest.importorskip("tensorrt_rtx")
    plan = load_plan(workplace / "net.plan.json")
    (workplace / "net.onnx").write_bytes(write_network(plan, plan.full_widths(), opset=17, ir_version=8))
    device("build", "net.onnx", "--backend", "trt_rtx", "-o", "net.engine", cwd=workplace)
    assert (workplace / "net.engine").stat().st_size > 0


def test_every_module_of_the_device_is_imported(workplace: Path) -> None:
    """Power sources, both TensorRT backends with their CUDA adapters, and what measures."""
    script = (
        _BLOCKED.partition("from netadapt_trt")[0]
        + """
import importlib, pkgutil
found = []
for room in ("backends", "power", "measure", "lut", "plan", "space"):
    package = importlib.import_module(f"netadapt_trt.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
        found.append(module.name)
assert "torch" not in sys.modules
print(*found)
"""
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("backends.trt.executable", "backends.trt.cuda.pycuda", "backends.trt_rtx.backend", "power.sources.ina"):
        assert f"netadapt_trt.{name}" in done.stdout.split()


def test_a_space_is_measured_and_its_knobs_seen(workplace: Path) -> None:
    """The device's part of a search: spaces, their tables, what knobs weigh on them."""
    assert "fbnet-small" in [space["name"] for space in document("search", "space", cwd=workplace)]
    device("search", "space", "fbnet-small", "-o", "mine.json", cwd=workplace)
    words = ("mine.json", "--backend", "fake", "--lut", "space.lut.jsonl", "--rounds", "1")
    measured = document("search", "profile", *words, cwd=workplace)
    assert (measured["missing"], measured["lacking"]) == (0, 0)
    assert measured["held_out_error"] < 0.05
    found = document("search", "knobs", "--space", "mine.json", "--table", "space.lut.jsonl", "--gamma", "1", cwd=workplace)
    assert found["start"]["lat_s"] > 0
    assert found["start"]["ener_j"] > 0
    done = device("search", "run", "--space", "mine.json", "--table", "space.lut.jsonl", *_SEARCH, cwd=workplace, status=1)
    assert "pip install 'netadapt-trt[torch]'" in done.stderr
    assert "Traceback" not in done.stderr


_SEARCH = ("--data", "digits", "-o", "run", "--epochs", "2", "--warmup-epochs", "1")


def test_doctor_says_what_torch_would_be_for(workplace: Path) -> None:
    lines = {line["what"]: line for line in document("doctor", cwd=workplace)["checks"]}
    assert lines["backend fake"]["state"] == "ok"
    assert lines["torch"]["state"] == "missing"
    assert "pip install" in lines["torch"]["action"]


def test_a_verb_that_needs_torch_says_so(workplace: Path) -> None:
    done = device("plan", "zoo:mobilenet_v1", "--input", "1x3x16x16", "-o", "x.json", cwd=workplace, status=1)
    assert "pip install 'netadapt-trt[torch]'" in done.stderr
    assert "Traceback" not in done.stderr
