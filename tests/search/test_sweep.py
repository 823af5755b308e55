from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import CheckError, FileFormatError, SpecError
from netadapt_trt.plan.write import write_network
from netadapt_trt.search import run as search_run
from netadapt_trt.search import sweep_measure
from netadapt_trt.search.sweep import read_sweep, resume_sweep, sweep
from netadapt_trt.search.sweep_progress import Whole
from netadapt_trt.search.sweep_settings import SweepSettings
from netadapt_trt.space.knobs import Knobs
from netadapt_trt.training.fine_tune import FineTune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netadapt_trt.search.settings import SearchSettings

pytest.importorskip("sklearn")

GRID = (Knobs(alpha=1.0), Knobs(alpha=1.0, gamma=40.0))


@pytest.fixture
def asked(settings: SearchSettings) -> SweepSettings:
    """Two searches of two epochs, children trained for one, timed by the simulated runtime."""
    search = replace(settings, output=settings.output.with_name("sweep"), epochs=2)
    training = FineTune(epochs=1, schedule="cosine", seed=3)
    return SweepSettings(search=search, grid=GRID, training=training, backend="fake", threads=1, rounds=2)


class Recorder:
    """A progress that remembers how far its one bar has come."""

    def __init__(self) -> None:
        self.totals: list[float | None] = []
        self.moved = 0.0
        self.notices: list[str] = []

    @contextmanager
    def task(self, text: str, total: float | None) -> Iterator[Recorder]:
        assert text
        self.totals.append(total)
        yield self

    def advance(self, steps: float = 1) -> None:
        self.moved += steps

    def describe(self, text: str) -> None:
        assert text

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_sweep_makes_every_search_and_compares_the_children(asked: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    path, said = asked.search.output, Recorder()

    content = sweep(asked, progress=said)

    assert content == {key: value for key, value in read_sweep(path).items() if key not in ("format", "version")}
    assert content["finished"]
    assert said.totals == [2 * 2 + 1]
    assert said.moved == pytest.approx(5)
    for row, knobs in zip(content["runs"], GRID, strict=True):
        assert row["knobs"] == knobs.to_json()
        assert row["state"] == "trained"
        assert 0 < row["accuracy"] < 1
        assert row["measured"]["latency_ms"]["median"] > 0
        result = json.loads((path / row["directory"] / "result.json").read_text())
        assert row["child"] == result["child"]
        assert row["params"] > 0
    assert content["runs"][1]["directory"] == "002-a1-b0.6-g40-d0.6"
    assert content["runs"][0]["start"]["energy_dominance"] == 0
    assert content["measurement"]["identity"]["backend"] == "fake"

    def no_more(*_: Any, **__: Any) -> None:
        raise AssertionError("finished work is not done again")

    monkeypatch.setattr(search_run, "search", no_more)
    monkeypatch.setattr("netadapt_trt.search.sweep.measure_children", no_more)
    assert sweep(asked) == content
    assert resume_sweep(path) == content


def test_sweep_that_was_killed_goes_on_where_it_stopped(asked: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Path] = []
    original = search_run.search

    def killed(settings: SearchSettings, **more: Any) -> Any:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(settings.output)
        return original(settings, **more)

    monkeypatch.setattr(search_run, "search", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(asked)
    half = read_sweep(asked.search.output)
    assert [row["state"] for row in half["runs"]] == ["trained", "waiting"]
    assert not half["finished"]

    def counted(settings: SearchSettings, **more: Any) -> Any:
        done.append(settings.output)
        return original(settings, **more)

    monkeypatch.setattr(search_run, "search", counted)
    whole = resume_sweep(asked.search.output)

    assert [path.name for path in done] == [row["directory"] for row in whole["runs"]]
    assert whole["finished"]
    assert whole["runs"][0]["accuracy"] == half["runs"][0]["accuracy"]


def test_search_whose_loss_is_not_finite_is_noted_and_the_others_go_on(
    asked: SweepSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = search_run.search

    def bad(settings: SearchSettings, **more: Any) -> Any:
        if settings.gamma:
            raise CheckError("the loss is not finite")
        return original(settings, **more)

    monkeypatch.setattr(search_run, "search", bad)
    content = sweep(replace(asked, training=None, backend=None))

    assert [row["state"] for row in content["runs"]] == ["searched", "failed"]
    assert content["runs"][1]["error"] == "the loss is not finite"
    assert content["finished"]


def test_searches_that_end_at_one_child_train_it_once(asked: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from netadapt_trt.search import children

    trained: list[str] = []
    original = children.train_child

    def counted(run: Any, child: Any, *rest: Any, **more: Any) -> Any:
        trained.append(child.name)
        return original(run, child, *rest, **more)

    monkeypatch.setattr(children, "train_child", counted)
    # So strong a term, whatever its size, leaves only the cheapest blocks.
    strong = (Knobs(alpha=1e6, beta=1.0), Knobs(alpha=2e6, beta=1.0))
    search = replace(asked.search, theta_learning_rate=0.5)
    content = sweep(replace(asked, search=search, grid=strong, backend=None))

    first, second = content["runs"]
    assert first["child"]["blocks"] == second["child"]["blocks"]
    assert (second["same_child_as"], second["accuracy"]) == (1, first["accuracy"])
    assert len(trained) == 1


def test_sweep_of_other_settings_in_the_same_directory_is_refused(asked: SweepSettings) -> None:
    asked = replace(asked, training=None, backend=None, grid=GRID[:1])
    sweep(asked)

    for other, name in (
        (replace(asked, grid=GRID), "grid"),
        (replace(asked, search=replace(asked.search, epochs=3)), "epochs"),
        (replace(asked, training=FineTune(epochs=1)), "training of the children"),
    ):
        with pytest.raises(SpecError, match=f"other settings: {name} was"):
            sweep(other)
    with pytest.raises(SpecError, match="epochs cannot change"):
        resume_sweep(asked.search.output, overrides={"epochs": 4})
    # What it is measured on decides nothing.
    assert resume_sweep(asked.search.output, overrides={"backend": "fake"})["runs"][0]["measured"] is not None


@pytest.fixture
def own(asked: SweepSettings, tmp_path: Path) -> SweepSettings:
    """A sweep over files that may be changed, without what comes after the searches."""
    for file in (Path(asked.search.space), *asked.search.tables):
        shutil.copy(file, tmp_path)
    tables = tuple(tmp_path / file.name for file in asked.search.tables)
    search = replace(asked.search, space=str(tmp_path / "space.json"), tables=tables)
    return replace(asked, search=search, training=None, backend=None)


def killed_before(number: int, asked: SweepSettings) -> None:
    original = search_run.search

    def stopped(settings: SearchSettings, **more: Any) -> Any:
        if settings.output.name.startswith(f"{number:03d}"):
            raise KeyboardInterrupt
        return original(settings, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_run, "search", stopped)
        with pytest.raises(KeyboardInterrupt):
            sweep(asked)


def doubled(table: Path) -> None:
    rows = [line.split() for line in table.read_text().splitlines()]
    table.write_text("".join(" ".join(str(2 * float(value)) for value in row) + "\n" for row in rows))


def test_all_searches_of_a_sweep_use_the_table_that_it_began_with(own: SweepSettings) -> None:
    path, latency = own.search.output, own.search.tables[0]
    killed_before(2, own)
    half = read_sweep(path)
    before = (path / "sweep.json").read_bytes()
    doubled(latency)

    with pytest.raises(SpecError, match=rf"the table {latency} changed since .*--resume {path}.* another directory"):
        sweep(own)
    assert (path / "sweep.json").read_bytes() == before
    # The usual grid would be another, too; what is said is what has changed.
    with pytest.raises(SpecError, match=f"the table {latency} changed"):
        sweep(replace(own, grid=(Knobs(alpha=2.0),)))

    whole = resume_sweep(path)

    assert whole["finished"]
    assert [row["start"] for row in whole["runs"]] == [row["start"] for row in half["runs"]]
    facts = [json.loads((path / row["directory"] / "run.json").read_text()) for row in whole["runs"]]
    digests = {each["table_digest"] for each in (*facts, json.loads((path / "sweep.json").read_text()))}
    assert len(digests) == 1
    assert facts[0]["start"]["lat_s"] == facts[1]["start"]["lat_s"] == half["runs"][0]["start"]["lat_s"]
    assert whole["table"] == half["table"] == ", ".join(str(file) for file in own.search.tables)


def test_sweep_goes_on_without_the_files_that_were_named(own: SweepSettings) -> None:
    path = own.search.output
    killed_before(1, own)
    moved = path.with_name("moved")
    moved.mkdir()
    for file in (Path(own.search.space), *own.search.tables):
        shutil.move(file, moved)

    with pytest.raises((FileFormatError, SpecError), match="does not exist"):
        sweep(own)
    shutil.copy(moved / "space.json", own.search.space)
    with pytest.raises(FileFormatError, match=rf"latency.txt does not exist.*--resume {path} goes on"):
        sweep(own)
    tables = tuple(moved / file.name for file in own.search.tables)
    # The same content elsewhere is the same table.
    found = sweep(replace(own, search=replace(own.search, space=str(moved / "space.json"), tables=tables)))
    assert found["finished"]
    shutil.rmtree(moved)
    assert resume_sweep(path) == found


def test_other_space_in_the_same_file_is_refused_by_its_name(own: SweepSettings) -> None:
    own = replace(own, grid=GRID[:1])
    sweep(own)
    file = Path(own.search.space)
    file.write_text(file.read_text().replace('"head_channels": 16', '"head_channels": 24'))

    with pytest.raises(SpecError, match=rf"the space {file} changed since the sweep .*--resume"):
        sweep(own)
    assert resume_sweep(own.search.output)["finished"]


@pytest.mark.parametrize("name", ["space.json", "table.json", "tables/1/latency.txt", "tables/2/energy.txt"])
def test_copy_that_was_changed_is_refused(name: str, own: SweepSettings) -> None:
    path = own.search.output
    killed_before(1, own)
    text = (path / name).read_text()
    (path / name).write_text(text.replace('"head_channels": 16', '"head_channels": 24').replace("1.5", "1.25", 1) + "\n")
    if text.startswith("0"):
        doubled(path / name)

    with pytest.raises(FileFormatError, match=rf"{name} is not what the sweep .* put the old file back"):
        resume_sweep(path)


def test_sweep_of_before_copies_keeps_its_table_now_unless_that_changed(own: SweepSettings) -> None:
    own = replace(own, grid=GRID[:1])
    path = own.search.output
    found = sweep(own)
    document = json.loads((path / "sweep.json").read_text())
    for name in ("space_hash", "table_digest", "tables"):
        del document[name]
    (path / "sweep.json").write_text(json.dumps(document))
    shutil.rmtree(path / "tables")
    text = own.search.tables[0].read_text()

    doubled(own.search.tables[0])
    with pytest.raises(SpecError, match="kept no copy; put the old files back"):
        resume_sweep(path)
    own.search.tables[0].write_text(text)
    assert resume_sweep(path) == found
    assert (path / "tables" / "1" / "latency.txt").read_text() == text


def test_what_is_no_sweep_is_refused(asked: SweepSettings, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is not a sweep"):
        resume_sweep(tmp_path)
    path = asked.search.output
    path.mkdir()
    (path / "run.json").write_text("{}")
    with pytest.raises(SpecError, match="run of another kind"):
        sweep(asked)
    (tmp_path / "sweep.json").write_text('{"format": "netadapt-sweep", "version": 1}')
    with pytest.raises(FileFormatError, match="damaged"):
        resume_sweep(tmp_path)


def test_settings_survive_json_and_refuse_targets(asked: SweepSettings) -> None:
    assert SweepSettings.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    with pytest.raises(SpecError, match="leave the target out"):
        replace(asked, search=replace(asked.search, latency_target_ms=1.0))
    with pytest.raises(SpecError, match="cannot be read"):
        SweepSettings.from_json({"search": {}})


def test_nothing_is_written_for_a_grid_that_makes_no_sense(asked: SweepSettings) -> None:
    with pytest.raises(SpecError, match="no search can learn"):
        sweep(replace(asked, grid=(Knobs(alpha=1e40),)))
    assert not asked.search.output.exists()


def test_children_are_measured_each_once(asked: SweepSettings, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [("k3_e1", "k3_e1", "k3_e1"), ("k5_e3", "k5_e3", "skip")]

    conditions, found = sweep_measure.measure_children(tiny, blocks, backend="fake", threads=1, rounds=2)

    assert conditions["rounds"] == 2
    assert found[0]["latency_ms"]["median"] != found[1]["latency_ms"]["median"]
    assert asked.backend == "fake"


def test_what_is_measured_has_the_classes_of_the_data(own: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(own.search.space)
    file.write_text(file.read_text().replace('"num_classes": 10', '"num_classes": 70'))
    written: list[int | None] = []

    def noted(plan: Any, *rest: Any, **more: Any) -> Any:
        written.append(plan.num_classes)
        return write_network(plan, *rest, **more)

    monkeypatch.setattr(sweep_measure, "write_network", noted)
    own = replace(own, grid=GRID[:1], backend="fake")

    content = sweep(own)

    assert written == [10]  # the digits
    assert content["measurement"]["num_classes"] == 10
    assert content["measurement"]["networks"] == "same graph, fresh weights, fp32"
    assert sweep(own) == content
    assert written == [10]
    # An earlier version said nothing of classes, and measured with the space's.
    path = own.search.output / "results.json"
    document = json.loads(path.read_text())
    del document["measurement"]["num_classes"]
    path.write_text(json.dumps(document))
    assert sweep(own)["measurement"]["num_classes"] == 10
    assert written == [10, 10]


def test_sweep_says_once_that_tensorboard_is_missing(own: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = Recorder()

    sweep(replace(own, search=replace(own.search, tensorboard=True)), progress=said)

    assert len([text for text in said.notices if "tensorboard is not installed" in text]) == 1
    assert SweepSettings.from_json(
        json.loads((own.search.output / "sweep.json").read_text())["arguments"]
    ).search.tensorboard


def test_parts_move_one_bar_however_they_tell_of_themselves() -> None:
    said = Recorder()
    whole = Whole(said, said)
    with whole.part("search 1 of 2", 1) as part:
        with part.task("search", total=4) as task:
            task.advance(1)
            assert said.moved == pytest.approx(0.25)
            task.advance(7)
        with part.task("evaluate", total=2) as task:
            task.advance(2)
        part.notice("done")
    with whole.part("measuring", None) as part, part.task("timing", total=None) as task:
        task.advance(3)
        task.describe("still")
    assert said.moved == pytest.approx(2)
    assert said.notices == ["001: done"]
