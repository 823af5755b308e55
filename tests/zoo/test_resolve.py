from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.spec import ModelSpec
from netadapt_trt.zoo.resolve import build_model, parse_args

if TYPE_CHECKING:
    from pathlib import Path

SMALL = (1, 3, 64, 64)


def _spec(model: str, *, num_classes: int | None = None, reset_head: bool = False, **args: str) -> ModelSpec:
    return ModelSpec(model=model, input_shape=SMALL, args=args, num_classes=num_classes, reset_head=reset_head)


def test_parse_args_reads_literals_and_leaves_text() -> None:
    given = {"a": "0.5", "b": "True", "c": "(1, 2)", "d": "cifar", "e": "false", "f": "None", "g": "__import__('os')"}
    assert parse_args(given) == {
        "a": 0.5,
        "b": True,
        "c": (1, 2),
        "d": "cifar",
        "e": False,
        "f": None,
        "g": "__import__('os')",
    }


def test_build_model_repeats_for_a_seed_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again = (build_model(_spec("zoo:mobilenet_v1", width="0.25")) for _ in range(2))
    other = build_model(_spec("zoo:mobilenet_v1", width="0.25"), seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    assert not first.training


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "googlenet", "resnet18"])
def test_build_model_resets_the_head_whatever_it_is_called(name: str) -> None:
    model = build_model(_spec(f"torchvision:{name}", num_classes=7, reset_head=True))
    assert model(torch.zeros(SMALL)).shape == (1, 7)


def test_build_model_passes_num_classes_to_the_factory() -> None:
    assert build_model(_spec("torchvision:resnet18", num_classes=3))(torch.zeros(SMALL)).shape == (1, 3)


def test_build_model_never_downloads_a_backbone() -> None:
    assert isinstance(build_model(_spec("torchvision:lraspp_mobilenet_v3_large")), nn.Module)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("torchvision:mobilnet_v2", "mobilenet_v2"),
        ("zoo:mobilenet", "mobilenet_v1"),
        ("resnet18", "torchvision:resnet18"),
        ("no_such_module_anywhere:make", "no_such_module_anywhere.*working directory$"),
        ("torchvison:resnet18", r"did you mean torchvision:NAME\?"),
        ("tim:resnet18", r"did you mean timm:NAME\?"),
        ("missing/file.py:make", "no file missing/file.py"),
        ("json:dump_s", "dumps"),
        ("json:__name__", "not a function"),
        ("collections:OrderedDict", "must return a torch.nn.Module"),
    ],
)
def test_build_model_says_what_is_wrong_with_a_name(model: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build_model(_spec(model))


def test_build_model_names_arguments_that_the_factory_refuses() -> None:
    with pytest.raises(SpecError, match="depth=3"):
        build_model(_spec("zoo:mobilenet_v1", depth="3"))


@pytest.mark.parametrize(
    ("model", "argument", "said"),
    [
        ("zoo:mobilenet_v1", "widht", r"did you mean width\? It takes: .*width.*stem"),
        ("zoo:mobilenet_v1", "qqq", r"'qqq'; it takes: .*width.*stem"),
        ("torchvision:resnet18", "num_clases", r"did you mean num_classes\? It takes: block, layers, num_classes"),
    ],
)
def test_build_model_names_the_arguments_that_the_factory_takes(model: str, argument: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build_model(ModelSpec(model=model, input_shape=(1, 3, 32, 32), args={argument: "0.5"}))


def test_build_model_runs_a_factory_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\ndef make(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.LazyLinear(2))\n"
        "def broken():\n    raise RuntimeError('no luck')\n"
    )
    built = build_model(_spec(f"{file}:make", width="6"))
    assert isinstance(built, nn.Sequential)
    assert built[0].out_channels == 6
    with pytest.raises(SpecError, match="no luck"):
        build_model(_spec(f"{file}:broken"))
    bad = tmp_path / "bad.py"
    bad.write_text("import no_such_package_xyz\n")
    with pytest.raises(SpecError, match="no_such_package_xyz"):
        build_model(_spec(f"{bad}:make"))


def test_build_model_finds_modules_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks_here.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(3, 2)\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(build_model(_spec("my_networks_here:make")), nn.Linear)


def test_reset_head_on_an_image_without_a_batch_says_what_was_meant() -> None:
    spec = ModelSpec(model="zoo:mobilenet_v1", input_shape=(3, 32, 32), num_classes=3, reset_head=True)
    with pytest.raises(SpecError, match=r"did you mean 1x3x32x32 \(the batch comes first\)"):
        build_model(spec)


def test_reset_head_needs_a_count_and_an_output_layer(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="num-classes"):
        build_model(_spec("torchvision:resnet18", reset_head=True))
    file = tmp_path / "odd.py"
    file.write_text("from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.PixelShuffle(2))\n")
    with pytest.raises(SpecError, match="output layer was not found"):
        build_model(_spec(f"{file}:make", num_classes=2, reset_head=True))
