from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.errors import SpecError
from netadapt_trt.spec import ModelSpec, parse_budget

SPEC = ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32), args={"width": "0.5"})


def settings(**changes: Any) -> AdaptSettings:
    known: dict[str, Any] = {
        "spec": SPEC,
        "data": "digits",
        "budgets": (parse_budget("latency=0.6x"),),
        "output": Path("run"),
        "lut": Path("x.lut.jsonl"),
    }
    return AdaptSettings(**{**known, **changes})


def test_settings_survive_json() -> None:
    original = settings(devices=("cuda:0", "cuda:1"), group_granularity={"conv1": 4}, measured=Path("b.json"))
    assert AdaptSettings.from_json(json.loads(json.dumps(original.to_json()))) == original


def test_from_json_takes_defaults_for_missing_keys() -> None:
    content = settings().to_json()
    del content["momentum"], content["devices"], content["measured"]
    assert AdaptSettings.from_json(content) == settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": ()}, "at least one budget"),
        ({"budgets": (parse_budget("macs=1M"), parse_budget("macs=2M"))}, "two budgets for macs"),
        ({"lut": None}, "--lut"),
        ({"winner": "best"}, "unknown winner 'best'; known: paper, ratio"),
        ({"width_search": "guess"}, "unknown width search"),
        ({"granularity": 0}, "granularity must be at least 1"),
        ({"group_granularity": {"a": 0}}, "granularity of a"),
        ({"decay": 1.0}, "decay must lie between"),
        ({"reduction": float("nan")}, "reduction must lie between"),
        ({"short_steps": -1}, "short-term fine-tuning: a training cannot have -1 steps"),
        ({"devices": ("cuda:0", "cuda:1"), "workers": 3}, "3 workers for 2 devices"),
        ({"holdout": 0.7}, "holdout must be above 0 and at most 0.5, not 0.7"),
        ({"holdout": float("nan")}, "holdout must be above 0"),
        ({"dropout": 2.0}, "long-term fine-tuning: dropout must be at least 0 and below 1, not 2.0"),
        ({"label_smoothing": 3.0}, "label smoothing must be at least 0 and below 1, not 3.0"),
        ({"momentum": -2.0}, "momentum must be at least 0 and below 1, not -2.0"),
        ({"weight_decay": float("nan")}, "weight decay must be at least 0"),
        ({"short_learning_rate": float("inf")}, "short-term fine-tuning: the learning rate must be positive"),
        ({"long_learning_rate": -1.0}, "long-term fine-tuning: the learning rate must be positive, not -1.0"),
        ({"long_learning_rate": float("nan")}, "long-term fine-tuning: the learning rate must be positive, not nan"),
        ({"long_epochs": float("inf")}, "long-term fine-tuning: a training cannot have inf"),
    ],
)
def test_settings_refuse_what_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        settings(**changes)


def test_from_json_names_unknown_keys() -> None:
    with pytest.raises(SpecError, match="colour"):
        AdaptSettings.from_json({**settings().to_json(), "colour": 1})
