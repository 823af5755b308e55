"""What ``bench`` shows to people where a power source works: energy of both files, their ratio, and how sure that is."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

from onnx import TensorProto, helper
from typer.testing import CliRunner

from netadapt_trt.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NUMBER = r"\d[\d.,]*"


def test_energy_is_shown_with_its_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = importlib.import_module("power_board").Board()
    powered = importlib.import_module("powered_backend").Powered(board)
    for name, channels in (("cut", 16), ("uncut", 32)):
        (tmp_path / f"{name}.onnx").write_bytes(convolution(channels))
    monkeypatch.setattr("netadapt_trt.deploy.bench.load_backend", lambda _: powered)
    monkeypatch.setattr("netadapt_trt.deploy.bench.other_load", lambda: None)
    monkeypatch.setattr("netadapt_trt.cli.bench.open_meter", lambda *_, **__: board.meter(window_s=5.0))
    words = ["bench", tmp_path / "cut.onnx", "--vs", tmp_path / "uncut.onnx", "--backend", "fake", "-o", tmp_path / "b.json"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert len(re.findall(rf"{NUMBER} \+- {NUMBER}", done.stdout)) == 3  # both files, and their ratio
    assert re.search(rf"and {NUMBER} \+- {NUMBER} x its energy, at {NUMBER} x its power", done.stdout)


def convolution(channels: int) -> bytes:
    """3x3, as many channels in as out, on 16x16."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, (channels, channels, 3, 3), [0.1] * (channels * channels * 9))
    image = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 16, 16]) for name in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "test", image[:1], image[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
