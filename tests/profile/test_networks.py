"""What a runtime knows beyond its time, in the table: TensorRT's fake on a fake device, whose kernels are known."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.backend import Attribution, EdgeTime, LayerTime
from netadapt_trt.errors import BackendError
from netadapt_trt.lut.estimator import NetworkEstimator
from netadapt_trt.lut.schema import IN_NETWORK
from netadapt_trt.lut.store import merge_luts, read_lut
from netadapt_trt.measure import stopwatch
from netadapt_trt.profile.attribution import REGION, cells_in_network, neighbours, shares
from netadapt_trt.profile.lines import details_of
from netadapt_trt.profile.run import profile
from netadapt_trt.progress import QuietProgress

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from netadapt_trt.lut.schema import Cell, NetworkLine

tensorrt_fake: Any = importlib.import_module("tensorrt_fake")
cuda_fake: Any = importlib.import_module("cuda_fake")


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulated kernels take microseconds: rounds of 100 ms would be thousands of runs."""
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)
    monkeypatch.setenv("NETADAPT_TRT_CACHE", str(tmp_path / "timing"))
    monkeypatch.setenv("NETADAPT_TRT_BOARD", "Orin")
    for name in ("NETADAPT_TRT_DEVICE", "NETADAPT_TRT_GRAPH", "NETADAPT_TRT_TF32"):
        monkeypatch.delenv(name, raising=False)

    def short(exes: Any, **_: Any) -> Any:
        return stopwatch.time_interleaved(exes, rounds=2, warmup_ms=0.0, round_ms=0.01, min_runs=2)

    monkeypatch.setattr("netadapt_trt.measure.network.time_interleaved", short)


@pytest.fixture
def cuda() -> Any:
    return cuda_fake.FakeCuda(device="Orin")


@pytest.fixture
def backend(cuda: Any) -> Any:
    module: Any = importlib.import_module("netadapt_trt.backends.trt")
    return module.TrtBackend(tensorrt_fake.make("10.3", cuda=cuda, device="Orin"), cuda)


def run(clockwork: ModuleType, path: Path, backend: Any, told: Notices | None = None, cells: int = 2) -> Any:
    sampling = replace(clockwork.STILL, most=11, batch=4)
    options = {"effort": clockwork.QUICK, "sampling": sampling, "max_cells": cells, "progress": told or Notices()}
    return profile(clockwork.make_plan(), backend, path, **options)


def test_cells_keep_what_tensorrt_knows_of_their_engines(
    clockwork: ModuleType, tmp_path: Path, backend: Any, cuda: Any
) -> None:
    cuda.captures = False
    run(clockwork, tmp_path / "t.lut.jsonl", backend)
    lut = read_lut(tmp_path / "t.lut.jsonl")
    isolated = [cell for cell in lut.cells if cell.context == "isolated"]
    assert len(isolated) == 2
    lines: list[Cell | NetworkLine] = [*isolated, *lut.networks]
    for line in lines:
        assert line.latency_ms is not None
        assert line.host_latency_ms is not None
        assert line.host_latency_ms.n == line.latency_ms.n
        assert str(line.details["engine_size_bytes"]).isdecimal()
        assert str(line.details["device_memory_bytes"]).isdecimal()
        assert line.details["cuda_graph"] == "no"
        assert "cudaErrorNotSupported" in str(line.details["cuda_graph_reason"])
        assert len(str(line.details["sha256"])) == 64
        assert not {"device", "runtime_version"} & set(line.details)  # the table's first line says it
    assert len({line.details["sha256"] for line in isolated}) == 2


def test_runtime_that_knows_its_time_alone_leaves_no_details(clockwork: ModuleType, tmp_path: Path) -> None:
    run(clockwork, tmp_path / "t.lut.jsonl", clockwork.Clockwork())
    lut = read_lut(tmp_path / "t.lut.jsonl")
    assert {cell.context for cell in lut.cells} == {"isolated"}
    for cell in lut.cells:
        assert (dict(cell.details), cell.host_latency_ms) == ({}, None)
    for line in lut.networks:  # how they were timed, and at what pace where others of the table stood beside
        assert ({**line.details, "pace": 1.0}, line.host_latency_ms) == ({"rounds": 2, "odd_even": 1.0, "pace": 1.0}, None)
    with clockwork.Clockwork().compile(b"model", clockwork.CompileOptions()) as exe:
        assert details_of(exe) == {}


def test_whole_networks_time_is_told_by_layer(clockwork: ModuleType, tmp_path: Path, backend: Any) -> None:
    path, told, plan = tmp_path / "t.lut.jsonl", Notices(), clockwork.make_plan()
    run(clockwork, path, backend, told, cells=100)
    lut, layers = read_lut(path), backend.partition(plan)
    shared = [cell for cell in lut.cells if cell.context == IN_NETWORK]
    assert len(shared) == len(layers) * len(lut.networks) == 4 * 11
    for number, line in enumerate(lut.networks):
        cells = shared[4 * number : 4 * number + 4]
        assert [cell.layer for cell in cells] == [layer.key for layer in layers]
        assert [cell.widths for cell in cells] == [layer.widths(line.widths) for layer in layers]
        assert line.details["mapped_share"] == 1.0
        copies = line.details["copies_share"]
        assert isinstance(copies, float)
        assert copies > 0  # the fake converts the network's input and output
        assert line.latency_ms is not None
        # Copies are in the layers at whose edges they are, so nothing lacks.
        total = sum(cell.latency_ms.median for cell in cells if cell.latency_ms is not None)
        assert total == pytest.approx(line.latency_ms.median, rel=1e-4)  # lines keep six digits
        assert line.details.get("pace") == cells[0].details.get("pace")
    # The first portion has nothing beside it, later ones networks of the table.
    assert ["pace" in line.details for line in (lut.networks[0], lut.networks[-1])] == [False, True]
    assert any("went into copies between formats" in text for text in told.texts)
    # Layers alone pay a call and copies of their own; of them only the ends of the grid are wanted.
    alone = [cell for cell in lut.cells if cell.context != IN_NETWORK]
    assert {cell.widths for cell in alone if cell.layer == layers[1].key} == {(a, b) for a in (8, 32) for b in (8, 64)}
    estimator = NetworkEstimator(lut, plan, layers)
    assert estimator.missing() == []
    assert set(estimator.in_context) == {layer.key for layer in layers}
    before = path.read_bytes()
    again = run(clockwork, path, backend, cells=100)
    assert path.read_bytes() == before
    assert (again.measured, again.networks, again.complete) == (0, 0, True)
    assert len(merge_luts([path], tmp_path / "merged.lut.jsonl").cells) == len(lut.cells)


def test_network_that_cannot_be_attributed_is_told_and_kept(
    clockwork: ModuleType, tmp_path: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BackendError("the profiler is taken")

    executable: Any = importlib.import_module("netadapt_trt.backends.trt.executable")
    monkeypatch.setattr(executable.TrtExecutable, "attribute", refuse)
    told = Notices()
    assert run(clockwork, tmp_path / "t.lut.jsonl", backend, told).network_ms > 0
    assert "the network's time is not told by layer: the profiler is taken" in told.texts
    assert {cell.context for cell in read_lut(tmp_path / "t.lut.jsonl").cells} == {"isolated"}


def test_regions_are_flagged_and_equal_layers_are_one_cell(clockwork: ModuleType) -> None:
    plan = clockwork.make_plan()
    first, second, pool, linear = clockwork.Clockwork().partition(plan)
    found = Attribution(
        layers=(
            LayerTime(layer=first, latency_ms=2.0),
            LayerTime(layer=second, latency_ms=1.0, region=(pool.key,)),
            LayerTime(layer=pool, latency_ms=0.5, region=(second.key,)),
            LayerTime(layer=linear, latency_ms=0.0),
        ),
        edges=(EdgeTime(producer=None, consumer=first, latency_ms=0.5),),
        total_ms=5.0,
        mapped_share=0.8,
        unmapped=("mystery",),
    )
    make = functools.partial(cells_in_network, plan=plan, widths=plan.full_widths(), runs=20, session="s")
    cells = make(found, latency_ms=10.0)
    times = [cell.latency_ms.median for cell in cells if cell.latency_ms is not None]
    # The copy of the input is the first layer's: 2.5, 1 and 0.5 of 4 ms that were told, so of the ten of the network.
    assert times == [6.25, 2.5, 1.25]
    assert [cell.flags for cell in cells] == [(), (REGION,), (REGION,)]
    assert cells[1].details == {"region": f'["{pool.key}"]'}
    assert shares(replace(found, run_ms=2 * found.total_ms))["between_share"] == 0.5
    assert shares(found) == {"mapped_share": 0.8, "copies_share": 0.1, "unmapped": '["mystery"]'}
    twice = Attribution(
        layers=(LayerTime(layer=pool, latency_ms=1.0), LayerTime(layer=pool, latency_ms=3.0)),
        edges=(),
        total_ms=4.0,
        mapped_share=1.0,
    )
    (cell,) = make(twice, latency_ms=4.0)
    assert cell.latency_ms is not None
    assert cell.latency_ms.median == 2.0
    # A copy behind a layer is that layer's, whoever reads it.
    behind = Attribution(
        layers=(LayerTime(layer=first, latency_ms=1.0), LayerTime(layer=second, latency_ms=1.0)),
        edges=(
            EdgeTime(producer=first, consumer=second, latency_ms=2.0),
            EdgeTime(producer=second, consumer=None, latency_ms=1.0),
        ),
        total_ms=6.0,
        mapped_share=5 / 6,
    )
    cells = make(behind, latency_ms=10.0, details={"pace": 1.5})
    assert [cell.latency_ms and cell.latency_ms.median for cell in cells] == [6.0, 4.0]
    assert all(cell.details == {"pace": 1.5} for cell in cells)


def test_neighbours_are_found_through_reshapes(clockwork: ModuleType) -> None:
    plan = clockwork.make_plan()
    layers = clockwork.Clockwork().partition(plan)
    first, second, pool, linear = (layer.key for layer in layers)
    assert neighbours(plan, layers) == [(second,), (first, pool), (second, linear), (pool,)]  # a Flatten before the last
