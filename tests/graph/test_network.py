from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from netadapt_trt.errors import FileFormatError, TooNewError, WeightsError
from netadapt_trt.graph.network import load_network, open_network, read_network, save_network, shrink
from netadapt_trt.spec import ModelSpec
from netadapt_trt.zoo.weights import save_weights

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.graph.network import Network

FACTORY = """
import torch
from torch import nn

def make(width=8, num_classes=3):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, groups=width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
"""


@pytest.fixture
def network(tmp_path: Path) -> Network:
    file = tmp_path / "factory.py"
    file.write_text(FACTORY)
    return open_network(ModelSpec(model=f"{file}:make", args={"width": "6"}, input_shape=(1, 3, 6, 6)))


def test_open_network_runs_any_factory(network: Network) -> None:
    assert network.widths == {"0": 6}
    assert not network.model.training


def test_save_and_load_give_the_cut_network_back(network: Network, tmp_path: Path) -> None:
    small = shrink(network, {"0": [1, 4]})
    picture = torch.rand(2, 3, 6, 6)

    save_network(small, tmp_path / "net", accuracy=0.5)
    again = load_network(tmp_path / "net")

    assert again.widths == {"0": 2}
    assert again.channels == small.channels
    assert torch.equal(again.model(picture), small.model(picture))
    assert read_network(tmp_path / "net")["accuracy"] == 0.5


def test_shrink_leaves_the_network_it_was_given_alone(network: Network) -> None:
    small = shrink(shrink(network, {"0": [0, 1, 2]}), {"0": [2]})

    before, after = network.model.state_dict()["0.weight"], small.model.state_dict()["0.weight"]
    assert before.shape[0] == 6
    assert torch.equal(after, before[[2]])
    assert small.channels.groups["0"].size == small.widths["0"] == 1


def _edit(directory: Path, **changes: object) -> None:
    path = directory / "network.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_network_refuses_tensors_of_other_widths(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net")
    _edit(tmp_path / "net", widths={"0": 4})

    with pytest.raises(WeightsError, match=r"does not fit its network.json"):
        load_network(tmp_path / "net")


def test_load_network_refuses_a_cut_network_whose_group_is_missing(network: Network, tmp_path: Path) -> None:
    save_network(shrink(network, {"0": [1, 4]}), tmp_path / "net")
    _edit(tmp_path / "net", widths={})

    with pytest.raises(WeightsError, match=r"does not fit its network.json"):
        load_network(tmp_path / "net")


def test_load_network_refuses_tensors_of_another_network(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net")
    save_weights(torch.nn.Linear(2, 2), tmp_path / "net" / "weights.safetensors")

    with pytest.raises(WeightsError, match=r"does not fit its network.json"):
        load_network(tmp_path / "net")


def test_load_network_refuses_a_torn_weights_file(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net")
    weights = tmp_path / "net" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])

    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_network(tmp_path / "net")


@pytest.mark.parametrize("widths", [{"0": 0}, {"0": 7}, {"elsewhere": 1}])
def test_load_network_refuses_widths_the_model_does_not_have(
    widths: dict[str, int], network: Network, tmp_path: Path
) -> None:
    save_network(network, tmp_path / "net")
    _edit(tmp_path / "net", widths=widths)

    with pytest.raises(FileFormatError, match="no channel group"):
        load_network(tmp_path / "net")


def test_load_network_tells_damage_version_and_absence_apart(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net")
    with pytest.raises(FileFormatError, match="does not exist"):
        load_network(tmp_path / "nowhere")
    _edit(tmp_path / "net", version=99)
    with pytest.raises(TooNewError):
        load_network(tmp_path / "net")
    _edit(tmp_path / "net", version=1, widths=["0"])
    with pytest.raises(FileFormatError, match="damaged"):
        load_network(tmp_path / "net")
    _edit(tmp_path / "net", widths={})
    (tmp_path / "net" / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match="no weights file"):
        load_network(tmp_path / "net")
