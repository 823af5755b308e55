from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from netadapt_trt.errors import WeightsError
from netadapt_trt.spec import ModelSpec
from netadapt_trt.zoo.resolve import build_model
from netadapt_trt.zoo.torchvision_shim import import_torchvision
from netadapt_trt.zoo.weights import load_weights, read_weights, save_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

SPEC = ModelSpec(
    model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32), args={"width": "0.25", "num_classes": "4", "stem": "cifar"}
)


def _network(seed: int = 0) -> nn.Module:
    return build_model(SPEC, seed=seed)


def _same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_save_weights_round_trips_through_channels_last(tmp_path: Path) -> None:
    source, target = _network(1), _network(2)
    source.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_weights(source, tmp_path / "w.safetensors", {"who": "me"})
    load_weights(target, tmp_path / "w.safetensors", SPEC)
    assert _same(source, target)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_load_weights_unwraps_pth_files(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    source, target = _network(1), _network(2)
    state: dict[str, Any] = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    load_weights(target, str(tmp_path / "w.pth"), SPEC)
    assert _same(source, target)


def test_load_weights_names_keys_that_do_not_fit(tmp_path: Path) -> None:
    state = _network().state_dict()
    state["stranger"] = torch.zeros(1)
    state["classifier.weight"] = torch.zeros(9, 256)
    del state["features.0.conv.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_weights(_network(), tmp_path / "w.safetensors", SPEC)
    for part in (
        "1 missing: features.0.conv.weight",
        "stranger",
        "classifier.weight (9x256 in the file, 4x256 in the network)",
    ):
        assert part in str(caught.value)


def test_load_weights_forgives_missing_batch_counters(tmp_path: Path) -> None:
    state = {key: value for key, value in _network(1).state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(_network(), tmp_path / "w.safetensors", SPEC)


def test_load_weights_refuses_values_that_are_not_finite(tmp_path: Path) -> None:
    state = _network().state_dict()
    state["classifier.bias"][2] = torch.nan
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"not finite: classifier\.bias"):
        load_weights(_network(), tmp_path / "w.safetensors", SPEC)


def test_load_weights_leaves_a_reset_head_alone_but_fills_one_that_fits(tmp_path: Path) -> None:
    save_weights(_network(1), tmp_path / "four.safetensors")
    reset = ModelSpec(model=SPEC.model, input_shape=SPEC.input_shape, args=SPEC.args, num_classes=9, reset_head=True)
    model = build_model(reset)
    head = model.classifier.weight.clone()  # type: ignore[operator, union-attr]
    load_weights(model, tmp_path / "four.safetensors", reset)
    assert torch.equal(model.classifier.weight, head)  # type: ignore[union-attr, arg-type]
    assert torch.equal(model.state_dict()["features.0.conv.weight"], _network(1).state_dict()["features.0.conv.weight"])
    save_weights(build_model(reset, seed=5), tmp_path / "nine.safetensors")
    load_weights(model, tmp_path / "nine.safetensors", reset)
    assert _same(model, build_model(reset, seed=5))


class _Evil:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


def test_load_weights_never_executes_a_file(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": _Evil(str(mark))}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="could execute code") as caught:
        load_weights(_network(), tmp_path / "evil.pth", SPEC)
    assert "weights_only" not in str(caught.value)  # PyTorch's own words advise to switch the safeguard off
    torch.save(_Evil(str(mark)), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError):
        load_weights(_network(), tmp_path / "old.pth", SPEC)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 64, b"PK\x03\x04 cut"])
def test_load_weights_refuses_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_weights(tmp_path / name)


def test_read_weights_refuses_missing_files_other_kinds_and_entries_that_are_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file"):
        read_weights(tmp_path / "none.pth")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(WeightsError, match="safetensors"):
        read_weights(tmp_path / "w.h5")
    torch.save({"a": torch.zeros(1), "note": "hello"}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="note"):
        read_weights(tmp_path / "w.pth")


def test_load_weights_reads_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(model="torchvision:squeezenet1_1", input_shape=(1, 3, 64, 64))
    published = build_model(spec, seed=3)
    weights = import_torchvision().models.get_model_weights("squeezenet1_1")
    seen: dict[str, Any] = {}

    def fake(_: object, **options: Any) -> dict[str, torch.Tensor]:
        seen.update(options)
        return published.state_dict()

    monkeypatch.setattr(weights, "get_state_dict", fake)
    model = build_model(spec)
    load_weights(model, "torchvision:DEFAULT", spec)
    assert _same(model, published)
    assert seen["weights_only"] is True
    with pytest.raises(WeightsError, match="IMAGENET1K_V1"):
        load_weights(model, "torchvision:V9", spec)
    with pytest.raises(WeightsError, match="zoo:mobilenet_v1"):
        load_weights(_network(), "torchvision:DEFAULT", SPEC)


def test_load_weights_explains_a_failed_download(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(model="torchvision:squeezenet1_1", input_shape=(1, 3, 64, 64))

    def offline(_: object, **options: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(import_torchvision().models.get_model_weights("squeezenet1_1"), "get_state_dict", offline)
    with pytest.raises(WeightsError, match="no route"):
        load_weights(build_model(spec), "torchvision:DEFAULT", spec)
