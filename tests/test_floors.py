"""Who may import whom. The table below is the law of the house; a breach is named as "X (floor 1) imports Y (floor 3)"."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "errors": 0,
    "spec": 0,
    "progress": 0,
    "files": 0,
    "backend": 1,
    "measure": 1,
    "power": 1,
    "lut": 1,
    "plan": 1,
    "space": 1,
    "graph": 2,
    "training": 2,
    "zoo": 2,
    "profile": 3,
    "adapt": 3,
    "search": 3,
    "deploy": 3,
    "report": 3,
    "cli": 4,
    "webui": 4,
    "__init__": 4,
    "__main__": 4,
}
STAGES = {"profile", "adapt", "search", "deploy", "report"}
RUNTIMES = {
    "fake": {"onnx"},
    "ort": {"onnx", "onnxruntime"},
    "trt": {"onnx", "tensorrt", "cuda", "pycuda"},
    "trt_rtx": {"onnx", "tensorrt_rtx"},
}
EDITIONS = {"trt_rtx": "trt"}  # two editions of one runtime: the first is built on the second

# Where a heavy package may be imported when the module loads. Anywhere else it is imported on use, so that devices stay free
# of torch and the light verbs start at once.
AT_MODULE_LEVEL = {
    "torch": {"graph", "search", "training", "zoo"},
    "torchvision": {"training", "zoo"},
    "onnx": {"plan", "graph"},
    "onnxscript": {"graph"},
    "onnxruntime": set[str](),
    "tensorrt": set[str](),
    "tensorrt_rtx": set[str](),
    "cuda": set[str](),
    "pycuda": set[str](),
    "safetensors": {"graph", "training", "zoo"},
    "tensorboard": set[str](),
    "sklearn": set[str](),
    "scipy": set[str](),
    "timm": set[str](),
    "plotly": set[str](),
    "dash": {"webui"},
    "flask": {"webui"},
    "waitress": set[str](),
    "jinja2": set[str](),
}
LIGHT = {"errors", "spec", "progress", "files", "backend", "cli", "__init__", "__main__"}  # not even numpy


def sources() -> dict[str, Path]:
    """Dotted module name as it is installed -> file."""
    files = [*(ROOT / "netadapt_trt").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]
    return {_module_name(file): file for file in files}


def _module_name(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "backends":
        parts.insert(0, "netadapt_trt")
    return ".".join(parts)


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def _imports(module: str, tree: ast.AST) -> list[tuple[str, bool]]:
    """(dotted name, whether it is imported when the module loads). Relative imports are made absolute."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, on_load: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, on_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            # `from netadapt_trt import plan` imports a room, so each name is looked at
            found.extend((f"{base}.{alias.name}", on_load) for alias in node.names)
        inside = on_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside and not _is_type_checking(node, child))

    visit(tree, True)
    return found


def _is_type_checking(node: ast.AST, child: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and child in node.body
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def breaches(module: str, source: str) -> list[str]:
    """Every import of ``source`` that the table forbids, in words."""
    room = _room(module)
    found: list[str] = []
    for name, on_load in _imports(module, ast.parse(source)):
        package = name.split(".")[0]
        if package == "backends" or (name.startswith("netadapt_trt.backends") and room != "backends"):
            found.append(f"{module} imports {name}: backends are reached through load_backend(name)")
        elif room == "backends":
            found.extend(_backend_breach(module, name))
        elif package == "netadapt_trt":
            found.extend(_floor_breach(module, name))
        elif on_load and package in AT_MODULE_LEVEL and room not in AT_MODULE_LEVEL[package]:
            found.append(f"{module} imports {package} when it loads: import it on use")
        elif on_load and package == "numpy" and room in LIGHT:
            found.append(f"{module} imports numpy when it loads: import it on use")
    return found


def _floor_breach(module: str, name: str) -> list[str]:
    mine, room = _room(module), _room(name)
    if name.count(".") == 1 and room not in FLOORS:
        room = "__init__"  # a name of the public interface
    if FLOORS[room] > FLOORS[mine]:
        return [f"{module} (floor {FLOORS[mine]}) imports {name} (floor {FLOORS[room]})"]
    if mine in STAGES and room in STAGES and room != mine:
        return [f"{module} (stage {mine}) imports {name} (stage {room}): what two stages share moves down"]
    return []


def _backend_breach(module: str, name: str) -> list[str]:
    parts, target = module.split("."), name.split(".")
    own = parts[2] if len(parts) > 2 else ""
    if target[:2] == ["netadapt_trt", "backends"]:
        other = target[2] if len(target) > 2 else own
        foreign = other in RUNTIMES and other not in (own, EDITIONS.get(own))
        return [f"{module} imports another backend, {name}"] if foreign else []
    if target[0] == "netadapt_trt":
        floor = FLOORS[target[1]]
        return [f"{module} (backend) imports {name} (floor {floor})"] if floor > 1 else []
    allowed = RUNTIMES.get(own, set()) | {"numpy"}
    if target[0] in AT_MODULE_LEVEL and target[0] not in allowed:
        return [f"{module} (backend) imports {name}: a backend needs its own runtime only"]
    return []


def test_floors_no_module_imports_upwards() -> None:
    found = [breach for module, file in sorted(sources().items()) for breach in breaches(module, file.read_text())]
    assert not found, "\n".join(found)


def test_floors_every_room_is_in_the_table() -> None:
    rooms = {_room(module) for module in sources()} - {"backends"}
    assert rooms <= set(FLOORS), f"give these a floor: {sorted(rooms - set(FLOORS))}"


def test_floors_backends_import_siblings_relatively() -> None:
    for module, file in sources().items():
        if _room(module) == "backends":
            assert "netadapt_trt.backends" not in {
                ".".join((node.module or "").split(".")[:2])
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.ImportFrom) and not node.level
            }, module


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("netadapt_trt.lut.store", "import netadapt_trt.adapt.run", "(floor 1) imports netadapt_trt.adapt.run (floor 3)"),
        ("netadapt_trt.lut.store", "def f():\n    import netadapt_trt.graph", "imports netadapt_trt.graph (floor 2)"),
        ("netadapt_trt.lut.store", "from netadapt_trt import adapt", "(floor 3)"),
        ("netadapt_trt.adapt.run", "from netadapt_trt.deploy.bench import bench", "(stage deploy)"),
        ("netadapt_trt.lut.store", "from .. import graph", "(floor 2)"),
        ("netadapt_trt.lut.store", "import torch", "on use"),
        ("netadapt_trt.profile.run", "from onnx import helper", "on use"),
        ("netadapt_trt.cli.main", "import numpy as np", "on use"),
        ("netadapt_trt.measure.stopwatch", "import netadapt_trt.backends.ort", "load_backend"),
        ("netadapt_trt.measure.stopwatch", "import backends.ort", "load_backend"),
        ("netadapt_trt.backends.ort.session", "import torch", "own runtime"),
        ("netadapt_trt.backends.ort.session", "from ..fake import FakeBackend", "another backend"),
        ("netadapt_trt.backends.ort.session", "import netadapt_trt.graph.trace", "(floor 2)"),
        ("netadapt_trt.backends.trt.build", "from ..trt_rtx import RtxBackend", "another backend"),
        ("netadapt_trt.backends.trt.build", "import onnxruntime", "own runtime"),
        ("netadapt_trt.power.nvml", "import pycuda", "on use"),
    ],
)  # fmt: skip
def test_floors_a_breach_is_named(module: str, source: str, words: str) -> None:
    (breach,) = breaches(module, source)
    assert module in breach
    assert words in breach


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("netadapt_trt.adapt.run", "from netadapt_trt.lut.store import read_lut"),
        ("netadapt_trt.graph.trace", "import torch"),
        ("netadapt_trt.report.page", "def f():\n    import plotly"),
        ("netadapt_trt.profile.run", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import onnx"),
        ("netadapt_trt.backends.ort.session", "from .options import x\nimport onnxruntime"),
        ("netadapt_trt.cli.main", "from netadapt_trt import __version__"),
        ("netadapt_trt.backends.trt_rtx.backend", "from ..trt.backend import TrtBackend"),
    ],
)
def test_floors_allowed_imports_pass(module: str, source: str) -> None:
    assert breaches(module, source) == []
