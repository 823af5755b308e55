"""tools/bench_planted.py: what it asks of a search, and what it prints."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.search import run as search_run
from netadapt_trt.space.store import load_space

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from netadapt_trt.search.settings import SearchSettings


class AtOnce:
    """A pool that has no processes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.value: Any = None

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> AtOnce:
        done = AtOnce()
        done.value = work(*arguments)
        return done

    def result(self) -> Any:
        return self.value


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    script = Path(__file__).parents[2] / "tools" / "bench_planted.py"
    spec = importlib.util.spec_from_file_location("bench_planted", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ProcessPoolExecutor", AtOnce)
    return module


def cheapest(settings: SearchSettings) -> None:
    """As a search that sees cost alone; of seed 1 the first layer goes wrong."""
    space = load_space(settings.space)
    rows = [[float(value) for value in line.split()] for line in settings.tables[0].read_text().splitlines()]
    columns = [row.index(0.2) for row in rows]
    if settings.seed == 1:
        columns[0] = next(column for column in space.places[0].candidates if rows[0][column] > 1)
    settings.output.mkdir(parents=True)
    content = {"child": {"blocks": [space.columns[column] for column in columns]}}
    (settings.output / "result.json").write_text(json.dumps(content))
    (settings.output / "run.json").write_text(json.dumps({"arguments": settings.to_json()}))


def start(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench_planted.py", *words])
    tool.main()


def test_what_is_planted_is_said_and_counted_over_seeds(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[SearchSettings] = []

    def noted(settings: SearchSettings) -> None:
        asked.append(settings)
        cheapest(settings)

    monkeypatch.setattr(search_run, "search", noted)
    words = ("--output", str(tmp_path / "out"), "--space", "fbnet-small", "--seeds", "3", "--alpha", "0.05")

    start(tool, monkeypatch, *words)

    layers = len(load_space("fbnet-small").places)
    first, *seeds, last = capsys.readouterr().out.splitlines()
    assert first.startswith("planted in cost: CE + 0.05 * LAT^1,")
    assert seeds == [f"seed {seed}: {layers - (seed == 1)} of {layers} layers" for seed in range(3)]
    assert last == "all layers in 2 of 3 seeds"
    assert {settings.alpha for settings in asked} == {0.05}
    assert "planted in cost" in (tool.__doc__ or "")

    start(tool, monkeypatch, *words)
    assert len(asked) == 3  # finished ones are not made again
    # nor taken for those of another alpha
    with pytest.raises(SystemExit, match=r"search-0 was made with alpha 0\.05, now it is 1\.0; name another --output"):
        start(tool, monkeypatch, *words[:-2])


@pytest.mark.parametrize(
    ("more", "message"),
    [(("--alpha", "-1"), "alpha is -1; below 0"), (("--space", "fbnet-smal"), "did you mean fbnet-small")],
)
def test_what_makes_no_sense_is_said_before_anything(
    more: tuple[str, ...], message: str, tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=message):
        start(tool, monkeypatch, "--output", str(tmp_path / "out"), *more)
    assert not (tmp_path / "out").exists()
