from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.cli.search_run import parse_amount
from netadapt_trt.errors import NetadaptError, SpecError
from netadapt_trt.space.store import load_space, save_space
from netadapt_trt.webui.orders import Fields, SearchOrder, child_name, devices

if TYPE_CHECKING:
    from netadapt_trt.webui.workspace import Workspace

TABLE = "\n".join(" ".join(["0.05"] * 9) for _ in range(22))


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    (workspace.root / "speed.txt").write_text(TABLE)
    (workspace.root / "energy.txt").write_text(TABLE)
    save_space(load_space("fbnet-small"), workspace.root / "mine.json")
    return workspace


def order(workspace: Workspace, **more: Any) -> SearchOrder:
    request = {"space": "fbnet-cifar", "tables": ["speed.txt"], "data": "digits", **more}
    return SearchOrder.read(request, workspace, workspace.runs / "new")


def test_order_becomes_words(filled: Workspace) -> None:
    words = order(filled, tables=["speed.txt", "energy.txt"], gamma=0.05, epochs=3, warmup_epochs=1, paths="sampled").argv()
    root = str(filled.root)
    assert words == [
        "search", "run", "--space", "fbnet-cifar", "--table", f"{root}/speed.txt", "--table", f"{root}/energy.txt",
        "--data", "digits", "-o", f"{root}/runs/new",
        "--epochs", "3", "--gamma", "0.05", "--paths", "sampled", "--warmup-epochs", "1",
    ]  # fmt: skip


def test_order_with_a_target_leaves_alpha_to_the_search(filled: Workspace) -> None:
    words = order(filled, latency_target_ms=4, gamma=0.05).argv()
    assert "--alpha" not in words
    assert words[words.index("--latency-target") + 1] == "4.0ms"
    assert words[words.index("--gamma") + 1] == "0.05"


@pytest.mark.parametrize("value", [1e-05, 2.5e-7, 0.1 + 0.2, 1 / 3, 4.0, 123456789.123, 1e9])
def test_order_numbers_are_read_back_by_the_command_exactly(value: float, filled: Workspace) -> None:
    power = min(value, 1 / 3)
    known: dict[str, Any] = {"latency_target_ms": value, "energy_target_mj": value, "beta": power, "learning_rate": 1e-05}
    words = order(filled, tables=["speed.txt", "energy.txt"], **known).argv()
    told = dict(zip(words[2::2], words[3::2], strict=True))
    assert parse_amount(told["--latency-target"], "ms", option="x") == value
    assert parse_amount(told["--energy-target"], "mJ", option="x") == value
    # what typer makes of the others
    assert (float(told["--beta"]), float(told["--learning-rate"])) == (power, 1e-05)


def test_order_of_a_space_of_the_workspace(filled: Workspace) -> None:
    assert order(filled, space="mine.json").argv()[3] == f"{filled.root}/mine.json"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"beta": -1}, "below 0 it would reward slow networks"),
        ({"alpha": float("nan")}, "alpha must be a number"),
        ({"alpha": float("inf")}, "alpha must be a number"),
        ({"alpha": "0.2"}, "alpha must be a number"),
        ({"alpha": True}, "alpha must be a number"),
        ({"epochs": 0}, "epochs must be from 1"),
        ({"epochs": 10**9}, "epochs must be from 1"),
        ({"epochs": 2.5}, "whole number"),
        ({"epochs": [1]}, "whole number"),
        ({"epochs": 5, "warmup_epochs": 5}, "leave none in which theta learns"),
        ({"batch_size": 1}, "batch_size must be from 2"),
        ({"paths": "all; rm -rf /"}, "all or sampled"),
        ({"device": "cpu --help"}, "cpu, cuda or cuda:N"),
        ({"device": "meta"}, "cpu, cuda or cuda:N"),
        ({"seed": -1}, "seed must be from 0"),
        ({"latency_target_ms": 4, "alpha": 0.7}, "latency_target_ms sets alpha by itself; leave alpha out"),
        ({"energy_target_mj": 4, "gamma": 0}, "energy_target_mj sets gamma by itself; leave gamma out"),
        ({"latency_target_ms": 0}, "latency_target_ms must be above 0"),
        ({"space": "../../etc/passwd"}, "no space"),
        ({"space": ["fbnet-cifar"]}, "no space"),
        ({"tables": []}, "choose one table"),
        ({"tables": ["speed.txt"] * 3}, "choose one table"),
        ({"tables": ["/etc/passwd"]}, "no table"),
        ({"tables": ["--help"]}, "no table"),
        ({"data": "os:system"}, "no data"),
        ({"data": "imagefolder:/etc"}, "no data"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"output": "/tmp/x"}, "the key 'output' is unknown"),
        ({"--shell": "x"}, "is unknown"),
    ],
)  # fmt: skip
def test_order_that_makes_no_sense_is_refused(more: dict[str, Any], words: str, filled: Workspace) -> None:
    with pytest.raises(NetadaptError, match=words):
        order(filled, **more)


@pytest.mark.parametrize("content", [None, 3, "x", [], [{}]])
def test_order_that_is_no_object_is_refused(content: object, filled: Workspace) -> None:
    with pytest.raises(SpecError, match="must be a JSON object"):
        SearchOrder.read(content, filled, filled.runs / "new")


def test_fields_take_whole_numbers_of_either_kind() -> None:
    fields = Fields({"a": 3.0, "b": 3, "c": None})
    assert (fields.whole("a", low=0, high=9), fields.whole("b", low=0, high=9), fields.whole("c", low=0, high=9)) == (
        3,
        3,
        None,
    )
    fields.end()


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x", ".x", None, 3, "x" * 101, "a b"])
def test_child_name_is_a_plain_one(name: object) -> None:
    with pytest.raises(SpecError, match="there is no child"):
        child_name(name)


def test_devices_begin_with_the_processor() -> None:
    assert devices()[0] == "cpu"
    assert all(Path("/dev").exists() for _ in devices())
