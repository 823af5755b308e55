"""Children: chosen from theta, trained, and taken by the other verbs."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.deploy.source import open_source
from netadapt_trt.errors import DataError, FileFormatError, LockedError
from netadapt_trt.files import exclusive_lock
from netadapt_trt.graph.network import load_network, open_network
from netadapt_trt.search.children import child_commands, child_sizes, choose_children, train_child
from netadapt_trt.search.run import search
from netadapt_trt.search.state import create_search, read_search
from netadapt_trt.search.theta import Theta, write_theta
from netadapt_trt.space.table import SpaceTable, read_tables
from netadapt_trt.spec import Identity, ModelSpec
from netadapt_trt.training.fine_tune import FineTune

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.search.state import SearchDirectory
    from netadapt_trt.space.schema import Space

TRAINING = FineTune(epochs=1, batch_size=128, schedule="cosine")


@pytest.fixture
def run(settings: SearchSettings) -> SearchDirectory:
    search(settings)
    return read_search(settings.output)


def test_children_are_the_argmax_and_different_draws(run: SearchDirectory) -> None:
    first, *others = choose_children(run, sample=5, seed=1)
    result = json.loads((run.path / "result.json").read_text())
    assert (first.name, first.kind, first.block) == ("argmax", "argmax", result["child"])
    assert len({child.columns for child in (first, *others)}) == 6
    assert [child.name for child in others] == [child.name for child in choose_children(run, sample=6, seed=1)[1:6]]
    assert {child.columns for child in others} != {child.columns for child in choose_children(run, sample=5, seed=2)[1:]}


def test_children_of_a_decided_theta_are_fewer_than_asked(run: SearchDirectory, tiny: Space, tmp_path: Path) -> None:
    theta = Theta(tiny, 0.0).array()
    theta[:, 0] = [500, 500, 0]  # the last place is open: four candidates, one of which is the argmax
    write_theta(tmp_path / "theta.json", tiny, theta, 9)
    children = choose_children(run, sample=9, theta=tmp_path / "theta.json")
    assert len(children) == 4
    assert children[0].name.startswith("argmax-")


def test_children_of_another_spaces_theta_are_refused(run: SearchDirectory, tiny: Space, tmp_path: Path) -> None:
    other = replace(tiny, name="wider", head_channels=24)
    write_theta(tmp_path / "theta.json", other, Theta(other).array(), 1)
    with pytest.raises(FileFormatError, match="theta of another space"):
        choose_children(run, theta=tmp_path / "theta.json")


def test_children_before_the_first_epoch_are_refused(settings: SearchSettings, tiny: Space) -> None:
    with (
        create_search(settings, tiny, read_tables(tiny, settings.tables), {}) as run,
        pytest.raises(FileFormatError, match="no theta yet"),
    ):
        choose_children(run)


def test_child_within_the_target_is_taken(run: SearchDirectory, tiny: Space, tmp_path: Path) -> None:
    """Theta likes the dearest block everywhere, 9.5 ms in all; 6 ms are allowed, and 3 + 2 + 0.75 costs least liking."""
    theta = Theta(tiny, 0.0).array()
    theta[:, 2] = 5.0
    theta[:, 1] = [2.5, 3.0, 3.0]
    write_theta(tmp_path / "theta.json", tiny, theta, 9)
    run.settings = replace(run.settings, latency_target_ms=6.0)
    (child,) = choose_children(run, theta=tmp_path / "theta.json")
    assert child.block["latency_ms"] <= 6.0
    assert child.columns == (2, 1, 1)


def test_child_is_trained_and_opened_again(run: SearchDirectory) -> None:
    (child,) = choose_children(run)
    record = train_child(run, child, TRAINING)
    folder = run.path / "children" / "argmax"
    assert 0 <= record["accuracy"] <= 1
    assert record == {key: json.loads((folder / "child.json").read_text())[key] for key in record}
    assert record["estimate"]["latency_ms"] == child.block["latency_ms"]
    network = load_network(folder)
    assert record["params"] < sum(parameter.numel() for parameter in network.model.parameters())  # batch norm is folded
    assert not (folder / "weights.safetensors.checkpoint").exists()
    opened = open_network(network.spec, str(folder / "weights.safetensors"))  # as adapt opens it
    for mine, theirs in zip(opened.model.state_dict().values(), network.model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_child_that_is_trained_is_not_trained_again(run: SearchDirectory) -> None:
    (child,) = choose_children(run)
    record = train_child(run, child, TRAINING)
    weights = run.path / "children" / "argmax" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again = train_child(run, child, TRAINING)
    assert weights.stat().st_mtime_ns == before
    assert again["accuracy"] == record["accuracy"]
    with pytest.raises(FileFormatError, match="begun with epochs 1, now it is 2"):
        train_child(run, child, replace(TRAINING, epochs=2))


def test_child_trained_twice_at_once_is_refused(run: SearchDirectory) -> None:
    (child,) = choose_children(run)
    folder = run.path / "children" / "argmax"
    with exclusive_lock(folder / "child.lock", what="it"), pytest.raises(LockedError, match="another process"):
        train_child(run, child, TRAINING)


def test_child_brings_its_promise_to_the_deployment(run: SearchDirectory) -> None:
    (child,) = choose_children(run)
    record = train_child(run, child, TRAINING)
    source = open_source(run.path / "children" / "argmax")
    # The tables are text: blocks alone.
    assert source.promise["latency_ms"] == {"estimate": child.block["latency_ms"], "measured": None, "covers": "blocks"}
    assert source.promise["energy_mj"] == {"estimate": child.block["energy_mj"], "measured": None, "covers": "blocks"}
    assert (record["table"]["fixed_latency_ms"], record["table"]["fixed_energy_mj"]) == (0, 0)
    assert any("first and the last layers" in notice for notice in record["table"]["notices"])
    assert source.promise["accuracy"] == record["accuracy"]
    assert source.data["data"] == "digits"
    assert source.preprocessing is not None
    assert source.lut is None  # a text table has no conditions to compare by


def test_child_of_a_measured_table_says_where_its_promise_holds(run: SearchDirectory) -> None:
    with_identity(run)
    table: SpaceTable = replace(run.table, fixed_latency_ms=0.5)
    run.table = table
    (child,) = choose_children(run)
    train_child(run, child, replace(TRAINING, epochs=0))
    promise = open_source(run.path / "children" / "argmax").promise
    assert {key: promise[key] for key in ("backend", "device", "precision")} == {
        "backend": "ort",
        "device": "this one",
        "precision": "fp32",
    }
    # 0.5 ms of stem and head are in the estimate, of their energy the table knows nothing.
    assert promise["latency_ms"] == {"estimate": child.block["latency_ms"], "measured": None, "covers": "network"}
    assert promise["energy_mj"]["covers"] == "blocks"


def test_child_commands_name_networks_that_exist(run: SearchDirectory) -> None:
    (child,) = choose_children(run)
    commands = {words[1]: words for words in map(shlex.split, child_commands(run, child))}
    assert list(commands) == ["export", "bench", "profile", "adapt"]
    words = commands["adapt"]
    args = dict(words[index + 1].split("=", 1) for index, word in enumerate(words) if word == "--model-arg")
    spec = ModelSpec(model=words[2], input_shape=(1, 1, 8, 8), args=args)
    assert open_network(spec).widths
    assert args["blocks"] == "+".join(child.block["blocks"])


def with_identity(run: SearchDirectory, **changed: str) -> None:
    """As if the table came from a LUT of these conditions."""
    known = {"device": "this one", "runtime": "its own", "runtime_version": "1", "provider": "CPU", "recipe": "none"}
    conditions: Any = {"backend": "ort", "precision": "fp32", **known, "batch": 1, "threads": 1, **changed}
    table: SpaceTable = replace(run.table, identity=Identity(**conditions))
    run.table = table


def test_child_commands_name_a_runtime_that_is_one_of_ours(run: SearchDirectory) -> None:
    """HANNA's table was measured with PyTorch, which no verb here runs."""
    (child,) = choose_children(run)
    with_identity(run, backend="pytorch")
    told = [shlex.split(line) for line in child_commands(run, child)]
    assert [words[words.index("--backend") + 1] for words in told if "--backend" in words] == ["ort", "ort"]
    assert "ort.lut.jsonl" in told[-1][told[-1].index("--lut") + 1]
    assert "--precision" not in told[0]
    with_identity(run, backend="trt", precision="fp16")
    run.settings = replace(run.settings, normalize="none")
    told = [shlex.split(line) for line in child_commands(run, child, data="cifar10:elsewhere")]
    assert told[-1][told[-1].index("--normalize") + 1] == "none"
    assert [words[1] for words in told] == ["export", "build", "bench", "profile", "adapt"]
    for words in (told[0], told[3]):
        assert words[words.index("--backend") + 1 : words.index("--backend") + 4] == ["trt", "--precision", "fp16"]
    assert told[-1][told[-1].index("--data") + 1] == "cifar10:elsewhere"


def test_child_is_counted_with_the_classes_of_the_data(tiny: Space) -> None:
    """Two more: as many rows of 16 weights in the last layer, and two biases."""
    blocks = ["k3_e1", "k3_e2_g2", "skip"]
    (params, macs), (more_params, more_macs) = (child_sizes(tiny, blocks, classes) for classes in (10, 12))
    assert (more_params - params, more_macs - macs) == (2 * 17, 2 * 16)


def test_child_is_not_trained_on_other_data(run: SearchDirectory, tmp_path: Path) -> None:
    """As a search that goes on would not: labels in another order are other data."""
    run.facts = {**run.facts, "labels": "0" * 16}
    (child,) = choose_children(run)
    with pytest.raises(DataError, match="is not the data that the search"):
        train_child(run, child, TRAINING)


def test_child_is_built_without_the_searchs_files(run: SearchDirectory, tmp_path: Path) -> None:
    """The directory alone is carried to another machine."""
    (child,) = choose_children(run)
    train_child(run, child, replace(TRAINING, epochs=0))
    moved = (run.path / "children" / "argmax").rename(tmp_path / "elsewhere")
    (run.path / "space.json").unlink()
    assert load_network(moved).widths


def test_child_of_data_with_other_classes_has_theirs(settings: SearchSettings, tmp_path: Path) -> None:
    (tmp_path / "three.py").write_text(
        "import numpy as np\n"
        "def data():\n"
        "    draw = np.random.default_rng(0)\n"
        "    part = draw.integers(0, 255, (90, 1, 8, 8)).astype(np.uint8), np.arange(90) % 3\n"
        "    return part, part\n"
    )
    settings = replace(settings, data=f"{tmp_path / 'three.py'}:data", batch_size=16, epochs=2)
    search(settings)
    run = read_search(settings.output)
    (child,) = choose_children(run)
    train_child(run, child, replace(TRAINING, epochs=0))
    spec: dict[str, Any] = json.loads((run.path / "children" / "argmax" / "child.json").read_text())["spec"]
    assert spec["num_classes"] == 3
    assert load_network(run.path / "children" / "argmax").model.classifier.out_features == 3  # type: ignore[union-attr]
