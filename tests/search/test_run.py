"""Whole searches of seconds: what they write, that they go on after any stop, what they find, what they refuse."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import netadapt_trt.search.run as running
from netadapt_trt.errors import CheckError, DataError, FileFormatError, LockedError, SpecError
from netadapt_trt.search.run import resume_search, search
from netadapt_trt.search.state import create_search, read_history, read_search
from netadapt_trt.search.theta import read_theta
from netadapt_trt.space.table import read_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.space.schema import Space

UNREPEATED = ("seconds",)


def history(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in UNREPEATED} for line in read_history(run)]


def stop_after(count: int) -> Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]:
    """In place of Ctrl-C: true after so many steps."""

    @contextlib.contextmanager
    def deferred() -> Iterator[Callable[[], bool]]:
        steps = iter(range(count))
        yield lambda: next(steps, None) is None

    return deferred


def test_search_writes_what_others_read(settings: SearchSettings, tiny: Space) -> None:
    result = search(replace(settings, tensorboard=True))
    run = settings.output
    document = json.loads((run / "run.json").read_text())
    assert (document["format"], document["arguments"]["seed"]) == ("netadapt-search", 3)
    assert document["start"]["lat_s"] == pytest.approx((5.5 / 3 + 7.75 / 3 + 3.375 / 4) / 1e3)
    lines = read_history(run)
    assert [(line["epoch"], line["phase"]) for line in lines] == [(1, "warmup"), (2, "search"), (3, "search")]
    assert lines[1]["temperature"] == pytest.approx(5 * 0.956)
    assert lines[0]["lat_s"] == pytest.approx(document["start"]["lat_s"], rel=1e-12)
    assert lines[0]["entropy"] > lines[2]["entropy"]
    assert all(0 <= line["val_accuracy"] <= 1 and line["alpha"] == 1.0 and line["seconds"] > 0 for line in lines)
    values, epoch = read_theta(run / "theta.json", tiny)
    assert epoch == 3
    np.testing.assert_array_equal(read_theta(run / "theta" / "epoch-003.json", tiny)[0], values)
    assert (read_theta(run / "theta" / "epoch-001.json", tiny)[0][:, 0] == 1.0).all()  # the warm-up leaves theta alone
    assert list((run / "tensorboard").iterdir())
    child = result.content["child"]
    columns = tuple(tiny.columns.index(name) for name in child["blocks"])
    assert columns == tuple(np.nanargmax(values, 1))
    assert child["latency_ms"] == pytest.approx(read_search(run).table.latency(columns))
    assert json.loads((run / "result.json").read_text())["format"] == "netadapt-search-result"


@pytest.mark.parametrize(
    ("paths", "steps"), [("sampled", 3), ("sampled", 10), ("sampled", 15), ("sampled", 25), ("all", 11), ("all", 25)]
)
def test_search_goes_on_to_the_same_result(
    settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, paths: Any
) -> None:
    """Stopped in any stage of any epoch: 8 or 9 steps of weights, 2 of theta, 2 of scoring."""
    settings = replace(settings, paths=paths, latency_target_ms=4.0)
    whole = replace(settings, output=tmp_path / "whole")
    search(whole)
    with monkeypatch.context() as patch:
        patch.setattr(running, "deferred_interrupt", stop_after(steps))
        with pytest.raises(KeyboardInterrupt):
            search(settings)
    assert not (settings.output / "result.json").exists()
    resume_search(settings.output)
    assert history(settings.output) == history(whole.output)
    for name in ("theta.json", "theta/epoch-002.json"):
        assert (settings.output / name).read_bytes() == (whole.output / name).read_bytes()
    mine, theirs = (json.loads((run / "result.json").read_text()) for run in (settings.output, whole.output))
    assert mine | {"seconds": 0} == theirs | {"seconds": 0}


def test_search_killed_between_theta_and_checkpoint_repeats_that_epoch(
    settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(settings, output=tmp_path / "whole")
    search(whole)
    real = running._end_epoch

    def die(run: Any, learner: Any, line: Any) -> None:
        real(run, learner, line)
        if line["epoch"] == 2:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(running, "_end_epoch", die)
        with pytest.raises(MemoryError):
            search(settings)
    with (settings.output / "history.jsonl").open("a") as file:
        file.write('{"epoch": 3, "pha')  # torn by a kill
    resume_search(settings.output)
    assert history(settings.output) == history(whole.output)


@pytest.mark.slow
def test_search_killed_for_real_goes_on(settings: SearchSettings, files: Path, tmp_path: Path) -> None:
    settings = replace(settings, epochs=12, threads=1)
    whole = replace(settings, output=tmp_path / "whole")
    search(whole)
    command = [
        *(sys.executable, "-m", "netadapt_trt", "search", "run", "--space", settings.space, "--data", "digits"),
        *("--table", str(files / "latency.txt"), "--table", str(files / "energy.txt"), "-o", str(settings.output)),
        *("--alpha", "1", "--paths", "sampled", "--epochs", "12", "--warmup-epochs", "1", "--batch-size", "128"),
        *("--theta-learning-rate", "0.05", "--no-tensorboard", "--seed", "3", "--threads", "1"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (settings.output / "theta" / "epoch-003.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (settings.output / "result.json").exists()
    resume_search(settings.output)
    assert history(settings.output) == history(whole.output)
    assert (settings.output / "theta.json").read_bytes() == (whole.output / "theta.json").read_bytes()


def test_search_that_is_finished_is_only_read(settings: SearchSettings) -> None:
    result = search(settings)
    before = {file: file.stat().st_mtime_ns for file in settings.output.rglob("*") if file.name != "run.lock"}
    assert resume_search(settings.output).content == result.content
    assert {file: file.stat().st_mtime_ns for file in settings.output.rglob("*") if file.name != "run.lock"} == before


def test_search_in_a_directory_that_holds_one_is_refused(settings: SearchSettings) -> None:
    search(settings)
    with pytest.raises(FileFormatError, match="already holds a run; continue it with --resume"):
        search(settings)


def test_search_started_twice_at_once_is_refused(settings: SearchSettings, tiny: Space) -> None:
    table = read_tables(tiny, settings.tables)
    with create_search(settings, tiny, table, {"labels": ""}):
        with pytest.raises(LockedError, match="is being written by another process"):
            resume_search(settings.output)
        (settings.output / "run.json").unlink()
        with pytest.raises(LockedError, match="is being written by another process"):
            search(settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beta": -1.0}, "below 0 it would reward slow networks"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": 1e300}, "no search can learn from that"),
        ({"latency_target_ms": 0.1}, "no child of this space meets the latency target of 0.1 ms"),
        ({"latency_target_ms": 4.0, "beta": 0.0}, "does nothing while beta is 0"),
        ({"epochs": 5, "warmup_epochs": 5}, "leave none in which theta learns"),
        ({"paths": "some"}, "known: all, sampled"),
        ({"tables": ()}, "needs a table"),
        ({"theta_share": 0.9}, "theta_share"),
        ({"temperature_decay": 0.5, "epochs": 90}, "temperature would fall"),
        ({"batch_size": 1}, "more than one picture"),
        ({"device": "cuda:97"}, "no device"),
        ({"space": "fbnet-cifra"}, "fbnet-cifar"),
    ],
)
def test_search_says_what_does_not_fit_before_it_starts(
    settings: SearchSettings, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        search(replace(settings, **changes))
    assert not settings.output.exists()


def test_search_with_an_energy_target_needs_energies(settings: SearchSettings) -> None:
    with pytest.raises(SpecError, match="needs a table of energy"):
        search(replace(settings, tables=settings.tables[:1], energy_target_mj=3.0))


def test_search_that_diverges_says_so(settings: SearchSettings) -> None:
    with pytest.raises(CheckError, match="no longer finite"):
        search(replace(settings, learning_rate=1e20, gradient_clip=1e30))


def test_search_resumed_with_other_decisions_is_refused(settings: SearchSettings) -> None:
    search(settings)
    with pytest.raises(SpecError, match="alpha cannot change"):
        resume_search(settings.output, overrides={"alpha": 2.0})


def test_search_resumed_with_other_data_is_refused(
    settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(running, "deferred_interrupt", stop_after(2))
        with pytest.raises(KeyboardInterrupt):
            search(settings)
    (tmp_path / "other.py").write_text(
        "import numpy as np\n"
        "def data():\n"
        "    part = np.zeros((40, 1, 8, 8), np.uint8), np.arange(40) % 10\n"
        "    return part, part\n"
    )
    with pytest.raises(DataError, match="its labels differ"):
        resume_search(settings.output, overrides={"data": f"{tmp_path / 'other.py'}:data"})


@pytest.mark.parametrize("name", ["space", "table"])
def test_search_whose_files_were_changed_is_refused(settings: SearchSettings, name: str) -> None:
    search(settings)
    path = settings.output / f"{name}.json"
    content = json.loads(path.read_text())
    if name == "space":
        content["head_channels"] = 24
    else:
        content["fixed_latency_ms"] = 3.0
    path.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=f"not the {name} that the search began with"):
        read_search(settings.output)


def test_search_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is not a search"):
        resume_search(tmp_path)


@pytest.mark.parametrize("paths", ["all", "sampled"])
def test_search_meets_its_target(settings: SearchSettings, paths: Any) -> None:
    result = search(replace(settings, paths=paths, epochs=12, latency_target_ms=4.5, theta_learning_rate=0.1))
    assert result.content["child"]["latency_ms"] <= 4.5
    alphas = [line["alpha"] for line in read_history(settings.output)]
    assert len(set(alphas[1:])) > 1  # it moved by itself
    assert result.content["knobs"]["alpha"] == alphas[-1]


@pytest.mark.parametrize(
    ("paths", "seed"), [*(("sampled", seed) for seed in range(10)), *(("all", seed) for seed in range(3))]
)
def test_search_finds_the_planted_optimum(settings: SearchSettings, tmp_path: Path, seed: int, paths: Any) -> None:
    """In each place one block, another by each seed, costs a twentieth of the others; everything else is real training."""
    generator = np.random.default_rng(seed)
    planted = [int(column) for column in generator.integers(0, 3, 3)]
    costs = generator.uniform(1.8, 2.2, (3, 4))
    costs[range(3), planted] = 0.1
    costs[:, 3] = [0.0, 0.0, 2.0]
    (tmp_path / "planted.txt").write_text("".join(" ".join(f"{value / 1e3:.6f}" for value in row) + "\n" for row in costs))
    chosen = replace(
        settings, tables=(tmp_path / "planted.txt",), paths=paths, alpha=300.0, beta=1.0, epochs=4, seed=seed,
        theta_learning_rate=0.1,
    )  # fmt: skip
    result = search(chosen)
    names = ("k3_e1", "k3_e2_g2", "k5_e3")
    assert result.content["child"]["blocks"] == [names[column] for column in planted]
