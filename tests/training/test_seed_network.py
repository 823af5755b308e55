from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from netadapt_trt.errors import SpecError
from netadapt_trt.progress import QuietProgress
from netadapt_trt.spec import ModelSpec
from netadapt_trt.training.data import open_data
from netadapt_trt.training.evaluate import evaluate
from netadapt_trt.training.fine_tune import FineTune, fine_tune
from netadapt_trt.training.preprocessing import Preprocessing
from netadapt_trt.training.seed_network import train_network
from netadapt_trt.zoo.resolve import build_model
from netadapt_trt.zoo.weights import load_weights, read_weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = ModelSpec(
    model="zoo:mobilenet_v1",
    input_shape=(1, 1, 8, 8),
    args={"width": "0.25", "stem": "cifar", "in_channels": "1", "num_classes": "10"},
)

# The same training as a process of its own, which says when each step's checkpoint is on the disk.
_PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from netadapt_trt.spec import ModelSpec
from netadapt_trt.training import fine_tune as module
from netadapt_trt.training.data import open_data
from netadapt_trt.zoo.resolve import build_model
from netadapt_trt.zoo.weights import save_weights
write = module.write_checkpoint
def loud(path, model, optimizer, step, identity):
    write(path, model, optimizer, step, identity)
    print(step, flush=True)
module.write_checkpoint = loud
spec = ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 1, 8, 8),
                 args={"width": "0.25", "stem": "cifar", "in_channels": "1", "num_classes": "10"})
data = open_data("digits", input_shape=spec.input_shape)
model = build_model(spec)
settings = module.FineTune(steps=12, batch_size=32, dropout=0.2, schedule="cosine")
module.fine_tune(model, data.train, settings, checkpoint=Path(sys.argv[1]), checkpoint_every_s=0)
save_weights(model, Path(sys.argv[2]))
"""


def _start(*arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(tmp_path: Path) -> None:
    checkpoint, output = tmp_path / "c.safetensors", tmp_path / "w.safetensors"
    killed = _start(checkpoint, output)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.strip() == "5":
            killed.send_signal(signal.SIGKILL)
            break
    killed.stdout.close()
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert not output.exists()
    last = _start(checkpoint, output)
    said, _ = last.communicate(timeout=120)
    assert int(said.split()[0]) >= 6  # nothing done before is done again
    whole = build_model(SPEC)
    settings = FineTune(steps=12, batch_size=32, dropout=0.2, schedule="cosine")
    fine_tune(whole, open_data("digits", input_shape=SPEC.input_shape).train, settings)
    ours, theirs = whole.state_dict(), read_weights(output)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class _Told(QuietProgress):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_train_network_writes_weights_record_and_log(tmp_path: Path) -> None:
    data = open_data("digits", input_shape=SPEC.input_shape)
    told = _Told()
    output = tmp_path / "new" / "seed.safetensors"
    settings = FineTune(epochs=2, batch_size=64, learning_rate=0.1, warmup_steps=5, schedule="cosine")
    record = train_network(SPEC, None, data, settings, output, told, tmp_path / "log")
    stored = json.loads(output.with_suffix(".json").read_text())
    assert (stored["format"], stored["version"]) == ("netadapt-weights", 1)
    assert stored["accuracy"] == record["accuracy"]
    assert ModelSpec.from_json(stored["spec"]) == SPEC
    assert Preprocessing.from_json(stored["preprocessing"]) == data.preprocessing
    model = build_model(SPEC, seed=9)
    load_weights(model, output, SPEC)
    assert evaluate(model, data.test) == record["accuracy"]
    assert list((tmp_path / "log").glob("events*"))
    assert not list(output.parent.glob("*.checkpoint"))
    assert len(told.notices) == 3  # two epochs and the end


def test_train_network_starts_from_weights_and_wants_safetensors(tmp_path: Path) -> None:
    data = open_data("digits", input_shape=SPEC.input_shape)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    train_network(SPEC, None, data, FineTune(steps=2, batch_size=16), first)
    train_network(SPEC, str(first), data, FineTune(steps=0, seed=8), second)
    ours, theirs = read_weights(first), read_weights(second)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(SpecError, match="safetensors"):
        train_network(SPEC, None, data, FineTune(steps=0), tmp_path / "c.pth")
