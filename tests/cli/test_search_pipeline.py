"""From a space to an adapted child: the commands that the program itself prints, one after the other."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.cli.main import app
from netadapt_trt.graph.network import load_network
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import save_space

if TYPE_CHECKING:
    from pathlib import Path

SPACE = Space(
    name="tiny",
    input_shape=(1, 8, 8),
    num_classes=10,
    stem=Stem(channels=32, stride=1),
    stages=(Stage(32, 1, 1), Stage(64, 1, 2)),
    blocks=(Block("k3_e2_g2", 3, 2, 2), Block("k5_e3_g2", 5, 3, 2)),  # whatever is chosen has groups and shuffles
    head_channels=256,
    skip=False,
)


def document(*words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.slow
def test_child_of_a_search_is_adapted_by_the_commands_it_prints(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    space, lut, run = tmp_path / "space.json", tmp_path / "space.lut.jsonl", tmp_path / "run"
    save_space(SPACE, space)
    document("search", "profile", space, "--backend", "fake", "--lut", lut)
    quick = ("--epochs", 2, "--warmup-epochs", 1, "--batch-size", 256, "--paths", "sampled", "--no-tensorboard")
    document("search", "run", "--space", space, "--table", lut, "--data", "digits", *quick, "-o", run)
    (child,) = document("search", "child", run, "--epochs", 3)["children"]
    assert all(name.endswith("_g2") for name in child["blocks"])
    assert child["table"]["fixed_latency_ms"] > 0

    said = {words[1]: words[1:] for words in map(shlex.split, child["next"])}
    assert list(said) == ["export", "bench", "profile", "adapt"]
    document(*said["export"])
    (row,) = document(*said["bench"], "-o", tmp_path / "bench.json")["artifacts"]
    assert (row["identity"]["backend"], row["estimate_covers"]) == ("fake", "network")
    assert row["estimate_ms"] == child["estimate"]["latency_ms"]
    assert document(*said["profile"])["missing"] == 0
    loop = ("--reduction", 0.2, "--short-steps", 1, "--long-epochs", 0.5, "--batch-size", 64)
    result = document(*said["adapt"], *loop, "--no-uniform", "--no-tensorboard")
    assert result["reached"]
    assert result["adapted"]["latency_ms"]["measured"] <= 0.7 * result["initial"]["latency_ms"]["measured"]
    assert result["initial"]["accuracy"] == pytest.approx(child["accuracy"], abs=0.01)  # its weights and its data

    adapted = run / "children" / "argmax" / "adapted"
    exported = document("export", adapted, "--backend", "ort", "-o", tmp_path / "deploy" / "model.onnx")
    assert exported["check"]["relative_error"] <= exported["check"]["tolerance"]
    network = load_network(adapted / "adapted")
    assert sum(network.widths.values()) < sum(load_network(run / "children" / "argmax").widths.values())
    # By our own eyes, too: the file as onnxruntime computes it, against the network that was read back.
    inputs = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        wanted = network.model.eval()(torch.from_numpy(inputs)).numpy()
    content = (tmp_path / "deploy" / "model.onnx").read_bytes()
    with load_backend("ort").compile(content, CompileOptions(threads=1)) as executable:
        (found,) = executable.infer({"input": inputs}).values()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
