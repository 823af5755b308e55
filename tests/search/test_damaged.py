"""Files of a search that a hand or a broken disk changed: said, never a traceback. JSON has integers of any length."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app
from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.search.children import choose_children, train_child
from netadapt_trt.search.state import create_search, read_history, read_search
from netadapt_trt.search.sweep import read_sweep
from netadapt_trt.search.sweep_settings import SweepSettings
from netadapt_trt.search.target import Pilot
from netadapt_trt.search.theta import Theta, write_theta
from netadapt_trt.search.within import Limit
from netadapt_trt.space.knobs import Knobs
from netadapt_trt.space.table import read_tables
from netadapt_trt.training.data import open_data
from netadapt_trt.training.fine_tune import FineTune

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.space.schema import Space

HUGE = 10**400


@pytest.fixture
def begun(settings: SearchSettings, tiny: Space) -> Path:
    """A search that has not trained anything yet."""
    digits = np.ascontiguousarray(open_data("digits", input_shape=(1, *tiny.input_shape)).train.labels)
    facts = {"num_classes": 10, "tables": [], "labels": hashlib.sha256(digits.tobytes()).hexdigest()[:16]}
    with create_search(settings, tiny, read_tables(tiny, settings.tables), facts) as run:
        write_theta(run.path / "theta.json", tiny, Theta(tiny).array(), 1)
    return settings.output


def change(path: Path, how: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("table.json", lambda content: content["latency_ms"][0].__setitem__(0, HUGE)),
        ("table.json", lambda content: content.update(fixed_latency_ms=HUGE)),
        ("table.json", lambda content: content.update(fixed_energy_mj="much")),
        ("run.json", lambda content: content["arguments"].update(learning_rate=HUGE)),
        ("run.json", lambda content: content["arguments"].update(epochs=HUGE)),
        ("run.json", lambda content: content["arguments"].update(seed=-HUGE)),
        ("run.json", lambda content: content["arguments"].update(alpha=HUGE)),
        ("run.json", lambda content: content["arguments"].update(latency_target_ms=HUGE)),
        ("run.json", lambda content: content["arguments"].update(epochs="many")),
        ("run.json", lambda content: content.update(num_classes=HUGE)),
        ("run.json", lambda content: content.update(num_classes="ten")),
        ("run.json", lambda content: content.update(tables=[{}])),
        ("theta.json", lambda content: content["theta"][0].__setitem__(0, HUGE)),
        ("theta.json", lambda content: content.update(epoch=-1)),
    ],
)
def test_damaged_file_of_a_search_is_said(begun: Path, file: str, how: Callable[[Any], object]) -> None:
    change(begun / file, how)
    done = CliRunner().invoke(app, ["search", "child", str(begun), "--no-train"])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert f"netadapt-trt: {begun}" in done.stderr or "netadapt-trt: the settings of a search" in done.stderr


def test_damaged_history_is_said(begun: Path) -> None:
    with (begun / "history.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 1, "seconds": HUGE}) + "\n")
    with pytest.raises(FileFormatError, match=r"line 2 is damaged"):
        read_history(begun)


def test_damaged_record_of_a_child_is_said(begun: Path) -> None:
    run = read_search(begun)
    (child,) = choose_children(run)
    training = FineTune(epochs=0, schedule="cosine")
    train_child(run, child, training)
    record = begun / "children" / child.name / "child.json"
    change(record, lambda content: content.update(accuracy=HUGE))
    with pytest.raises(FileFormatError, match="remove its directory to train anew"):
        train_child(run, child, training)


def test_damaged_settings_and_results_of_a_sweep_are_said(settings: SearchSettings, tmp_path: Path) -> None:
    asked = SweepSettings(search=settings, grid=(Knobs(),), training=FineTune(epochs=1)).to_json()
    for part, name in ((asked, "rounds"), (asked["training"], "learning_rate"), (asked["search"], "batch_size")):
        before, part[name] = part[name], HUGE
        with pytest.raises(SpecError, match="cannot be read"):
            SweepSettings.from_json(asked)
        part[name] = before
    for rows in (None, [1], [{"number": "one"}], [{"number": 1, "child": {"blocks": [[]]}}], [{"number": 1, "child": 3}]):
        content = {"format": "netadapt-sweep-results", "version": 1, "runs": rows}
        (tmp_path / "results.json").write_text(json.dumps(content))
        with pytest.raises(FileFormatError, match="writes it anew"):
            read_sweep(tmp_path)


def test_damaged_state_of_a_target_is_said(begun: Path) -> None:
    costs = read_search(begun).table.latency_ms
    pilot = Pilot(Limit(what="latency", unit="ms", target=9.0, costs=costs, fixed=0.0), 0.6, 10)
    with pytest.raises(FileFormatError, match="is damaged"):
        pilot.load([HUGE, 1.0])
