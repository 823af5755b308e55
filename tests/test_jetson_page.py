"""docs/jetson.md as far as it goes without a board: every command of the three people, in order.

Replaced are the network and its data by small ones, and the board by what is here: layers and files are timed on the
device made of a formula, engines are built by TensorRT-RTX, which needs no GPU for that.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app
from netadapt_trt.files import read_document
from netadapt_trt.plan.store import load_plan, plan_hash

ROOT = Path(__file__).parents[1]
_NETWORK = f"{ROOT / 'examples' / 'user_network.py'}:small_net --model-arg width=64 --input 1x3x16x16"
_HERE = {
    "torchvision:mobilenet_v2 --input 1x3x224x224": _NETWORK,
    "--weights torchvision:DEFAULT --data imagefolder:DATA": "--weights seed.safetensors --data digits",
    "profile net.plan.json --backend trt": "profile net.plan.json --backend fake",
    "-o runs/orin": "-o runs/orin --reduction 0.1 --short-steps 1 --long-epochs 0",
    "model.engine --vs original/model.engine": "model.onnx --vs original/model.onnx --backend fake",
}


def page_commands() -> list[str]:
    """What is typed as ``netadapt-trt ...`` on the workstation and as ``run ...`` (that docker line) on the board."""
    found = []
    for block in re.findall(
        r"^```(?:sh|console)\n(.*?)^```", (ROOT / "docs" / "jetson.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split(maxsplit=1)
            if words and words[0] in ("netadapt-trt", "run"):
                found.append(" ".join(words[1].split()))
    return found


def call(text: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, shlex.split(text))
    assert done.exit_code == status, f"{text}: {done.output}"
    return done.output


@pytest.mark.slow
def test_three_people_hand_their_files_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("tensorrt_rtx")
    steps = page_commands()
    assert [step.split()[0] for step in steps] == [
        *("doctor", "plan", "profile", "adapt", "export", "export", "build", "build", "bench", "adapt"),
    ]
    for words in _HERE:
        assert any(words in step for step in steps), f"the page says {words!r} no more"
    call(f"train {_NETWORK} --data digits --epochs 1 -o seed.safetensors")
    for step in steps:
        for there, here in _HERE.items():
            step = step.replace(there, here)
        if step.startswith("build"):
            step = step.replace("--backend trt ", "--backend trt_rtx ")
        call(step)
        for file in (Path("orin.lut.jsonl"), Path("bench.json")):  # what the formula timed, a board elsewhere timed
            if file.is_file():
                file.write_text(file.read_text().replace("fake-device", "board elsewhere"))

    result = json.loads(Path("runs/orin/result.json").read_text())
    assert {budget["resource"] for budget in result["budgets"]} == {"latency", "energy"}
    bundle = read_document(Path("deploy/deploy.json"), format="netadapt-deploy", version=1)
    assert {"model.onnx", "model.engine"} <= set(bundle["files"])
    first, uncut = read_document(Path("bench.json"), format="netadapt-bench", version=1)["artifacts"]
    assert first["widths"] == result["adapted"]["widths"]
    assert uncut["widths"] == result["initial"]["widths"]
    assert first["plan_hash"] == plan_hash(load_plan(Path("net.plan.json")))
    history = [json.loads(line) for line in Path("runs/orin/history.jsonl").read_text().splitlines()]
    measured = first["latency_ms"]["median"]
    (anchor,) = (line for line in history if line.get("type") == "anchor")
    assert anchor["resources"]["latency"]["measured"] == pytest.approx(measured, rel=1e-4)
    assert anchor["resources"]["latency"]["estimate"] != pytest.approx(measured, rel=1e-4)
    assert result["adapted"]["latency_ms"]["measured"] == pytest.approx(measured, rel=1e-4)

    Path("deploy/model.onnx").write_bytes(Path("original/model.onnx").read_bytes())
    assert "deploy/model.onnx" in call("bench deploy/model.onnx --backend fake", status=1)
