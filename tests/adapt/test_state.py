from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.adapt.state import create_run, open_run
from netadapt_trt.errors import FileFormatError, LockedError, TooNewError
from netadapt_trt.spec import ModelSpec, parse_budget

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> AdaptSettings:
    return AdaptSettings(
        spec=ModelSpec(model="zoo:mobilenet_v1", input_shape=(1, 3, 32, 32)),
        data="digits",
        budgets=(parse_budget("macs=0.5x"),),
        output=tmp_path / "run",
    )


def test_history_is_read_back_in_order(settings: AdaptSettings) -> None:
    with create_run(settings) as run:
        run.history.append("initial", accuracy=0.5)
        run.history.append("proposal", iteration=1, group="a")
        run.history.append("proposal", iteration=1, group="b")
    with open_run(settings.output) as run:
        assert run.settings == settings
        assert [record["type"] for record in run.history.records] == ["initial", "proposal", "proposal"]
        assert [record["group"] for record in run.history.of("proposal", iteration=1)] == ["a", "b"]
        assert run.history.of("proposal", iteration=2) == []


def test_torn_last_line_is_cut_off(settings: AdaptSettings) -> None:
    with create_run(settings) as run:
        run.history.append("initial", accuracy=0.5)
    path = settings.output / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type": "prop')
    with open_run(settings.output) as run:
        assert len(run.history.records) == 1
        assert path.read_bytes() == whole
        run.history.append("end", reason="x")
    assert path.read_bytes().startswith(whole)


def test_damaged_line_inside_names_its_number(settings: AdaptSettings) -> None:
    with create_run(settings) as run:
        run.history.append("initial", accuracy=0.5)
    path = settings.output / "history.jsonl"
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(FileFormatError, match="line 3"), open_run(settings.output):
        pass


def test_second_process_is_refused(settings: AdaptSettings) -> None:
    with create_run(settings), pytest.raises(LockedError, match="the run"), open_run(settings.output):
        pass


def test_create_refuses_an_existing_run(settings: AdaptSettings) -> None:
    with create_run(settings):
        pass
    with pytest.raises(FileFormatError, match="--resume"), create_run(settings):
        pass


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="not a run directory"), open_run(tmp_path):
        pass


def test_open_tells_a_newer_version(settings: AdaptSettings) -> None:
    with create_run(settings):
        pass
    path = settings.output / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(TooNewError), open_run(settings.output):
        pass


def test_overrides_last_for_this_process_only(settings: AdaptSettings) -> None:
    with create_run(settings):
        pass
    with open_run(settings.output, {"workers": 2}) as run:
        assert run.settings.workers == 2
    with open_run(settings.output) as run:
        assert run.settings.workers == 1
