from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.cli.adapt import _given
from netadapt_trt.cli.adapt import run as adapt_verb
from netadapt_trt.cli.options import model_spec, parse_model_args
from netadapt_trt.cli.profile import parse_duration
from netadapt_trt.errors import SpecError
from netadapt_trt.spec import Budget


def test_model_spec_joins_the_common_options() -> None:
    spec = model_spec("zoo:mobilenet_v1", "1x3x32x32", ["width=0.5", "stem=cifar"], num_classes=10, reset_head=True)
    assert spec.input_shape == (1, 3, 32, 32)
    assert spec.args == {"width": "0.5", "stem": "cifar"}
    assert (spec.num_classes, spec.reset_head) == (10, True)


def test_model_spec_asks_for_an_input() -> None:
    with pytest.raises(SpecError, match="--input 1x3x224x224"):
        model_spec("torchvision:alexnet", None)


def test_model_spec_asks_how_many_classes_a_new_head_has() -> None:
    with pytest.raises(SpecError, match="--num-classes"):
        model_spec("torchvision:alexnet", "1x3x224x224", reset_head=True)


def test_parse_model_args_keeps_equal_signs_of_the_value() -> None:
    assert parse_model_args(["a=b=c"]) == {"a": "b=c"}


@pytest.mark.parametrize("pairs", [["width"], ["=1"], ["a b=1"], ["a=1", "a=2"]])
def test_parse_model_args_refuses_what_is_no_assignment(pairs: list[str]) -> None:
    with pytest.raises(SpecError, match="--model-arg"):
        parse_model_args(pairs)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2min", 120), ("1h", 3600)])
def test_parse_duration_reads_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1", "0", "1d", "1 hour"])
def test_parse_duration_refuses_the_rest(text: str) -> None:
    with pytest.raises(SpecError, match="90s, 10m or 1h"):
        parse_duration(text)


def test_given_settings_leave_the_defaults_to_the_library() -> None:
    given = _given(
        {"model": "m", "resume": None, "as_json": True, "reduction": None, "decay": 0.9, "uniform": False}
        | {"budgets": ["latency=0.5x"], "devices": "cuda:0, cuda:1", "group_granularity": ["a.b=16"]}
    )
    assert given == {
        "decay": 0.9,
        "uniform": False,
        "budgets": (Budget(resource="latency", value=0.5, relative=True),),
        "devices": ("cuda:0", "cuda:1"),
        "group_granularity": {"a.b": 16},
    }


def test_every_setting_of_a_run_has_an_option() -> None:
    offered = set(inspect.signature(adapt_verb).parameters) - {"model", "model_arg", "input_shape", "resume", "as_json"}
    settings = {field.name for field in fields(AdaptSettings)} - {"spec", "profile_seconds"}
    assert offered == settings | {"num_classes", "reset_head"}  # these two are part of the spec


@pytest.mark.parametrize("text", ["a.b", "=8", "a=x"])
def test_given_settings_refuse_a_granularity_of_no_group(text: str) -> None:
    with pytest.raises(SpecError, match="GROUP=N"):
        _given({"group_granularity": [text]})
