from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.backend import CompileOptions, load_backend
from netadapt_trt.deploy.bench import bench, find_artifact
from netadapt_trt.errors import CheckError, FileFormatError, SpecError
from netadapt_trt.files import read_document
from netadapt_trt.spec import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _fake_ms(path: Path) -> float:
    """What the fake device takes for this file, asked once and directly."""
    with load_backend("fake").compile(path.read_bytes(), CompileOptions()) as executable:
        executable.run()
        took = executable.elapsed_ms()
    assert took is not None
    return took


def test_bench_measures_and_compares(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    small, large = (artifact(tmp_path / str(channels) / "model.onnx", channels=channels) for channels in (16, 256))
    result = bench(small, [large], backend="fake", rounds=3, round_ms=1, output=tmp_path / "bench.json")
    first, second = result.rows
    assert first.latency.median == pytest.approx(_fake_ms(small))
    assert second.latency.median == pytest.approx(_fake_ms(large))
    (comparison,) = result.comparisons
    assert comparison.ratio == pytest.approx(_fake_ms(small) / _fake_ms(large))
    assert comparison.p10 == pytest.approx(comparison.p90)  # the fake device repeats itself exactly
    assert comparison.rounds == 3
    assert first.odd_even_ratio == pytest.approx(1)
    assert first.energy is not None


def test_bench_takes_energy_there_and_back_and_says_how_sure_it_is(
    tmp_path: Path, artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = importlib.import_module("power_board").Board()
    powered = importlib.import_module("powered_backend")
    ran: list[str] = []

    class Named(powered.Powered):  # type: ignore[name-defined, misc]
        def compile(self, model: bytes, options: Any) -> Any:
            exe, name = super().compile(model, options), f"{len(model)} bytes"
            run = exe.run

            def noted() -> None:
                if ran[-1:] != [name]:
                    ran.append(name)
                run()

            exe.run = noted
            return exe

    monkeypatch.setattr("netadapt_trt.deploy.bench.load_backend", lambda _: Named(board))
    small, large = (artifact(tmp_path / str(channels) / "model.onnx", channels=channels) for channels in (16, 256))
    made_for = []

    def meter(runtime: Any) -> Any:
        made_for.append(runtime.name)
        return board.meter(window_s=5.0)

    result = bench(small, [large], backend="fake", rounds=2, round_ms=1, meter=meter, output=tmp_path / "bench.json")
    first, second = (f"{path.stat().st_size} bytes" for path in (small, large))
    assert made_for == ["fake"]  # once, for the backend that ran
    assert ran[-3:] == [first, second, first]  # A, then B twice, then A
    for row, path in zip(result.rows, (small, large), strict=True):
        assert row.energy is not None
        assert row.energy_interval_mj is not None
        with load_backend("fake").compile(path.read_bytes(), CompileOptions()) as exe:
            exe.run()
            energy, took = exe.energy_mj(), exe.elapsed_ms()
        assert energy is not None
        assert took is not None
        true_mj = took * powered.SLOWER * (6000.0 + energy.total / took * 1000) / 1000  # the board idles at 6 W
        assert abs(row.energy.total - true_mj) <= max(row.energy_interval_mj, 0.02 * true_mj)
        assert 0 < row.energy_interval_mj < 0.1 * true_mj
    (comparison,) = result.comparisons
    shares = [row.energy_interval_mj / row.energy.total for row in result.rows if row.energy and row.energy_interval_mj]
    assert comparison.energy_ratio is not None
    assert comparison.energy_ratio_interval == pytest.approx(comparison.energy_ratio * (sum(s * s for s in shares)) ** 0.5)
    content = read_document(tmp_path / "bench.json", format="netadapt-bench", version=1)
    assert content["artifacts"][0]["energy_interval_mj"] == result.rows[0].energy_interval_mj
    assert content["comparisons"][0]["energy_ratio_interval"] == comparison.energy_ratio_interval
    assert content["session"]["power_source"] == board.name


def test_bench_keeps_what_the_runtime_knows_of_its_engine(
    tmp_path: Path, artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = importlib.import_module("cuda_fake").FakeCuda(device="Orin")
    fake: Any = importlib.import_module("tensorrt_fake")
    trt: Any = importlib.import_module("netadapt_trt.backends.trt")
    monkeypatch.setenv("NETADAPT_TRT_CACHE", str(tmp_path / "timing"))
    monkeypatch.setenv("NETADAPT_TRT_BOARD", "Orin")
    backend = trt.TrtBackend(fake.make("10.3", cuda=cuda, device="Orin"), cuda)
    monkeypatch.setattr("netadapt_trt.deploy.bench.load_backend", lambda _: backend)
    path = artifact(tmp_path / "model.onnx", channels=16)
    (row,) = bench(path, backend="trt", rounds=2, round_ms=0.1).rows
    content = row.to_json()
    assert content["host_latency_ms"]["n"] == content["latency_ms"]["n"]
    assert content["details"]["engine_size_bytes"] > 0
    assert content["details"]["cuda_graph"] is True
    monkeypatch.undo()
    content = bench(path, backend="fake", rounds=2, round_ms=0.1).rows[0].to_json()
    assert (content["host_latency_ms"], content["details"]) == (None, {})


def test_bench_file_names_the_network_for_adapt(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    path = artifact(tmp_path / "model.onnx", channels=24)
    bench(path, backend="fake", rounds=2, round_ms=1, output=tmp_path / "bench.json")
    content = read_document(tmp_path / "bench.json", format="netadapt-bench", version=1)
    (row,) = content["artifacts"]
    assert row["plan_hash"] == "0123456789abcdef"
    assert row["widths"] == {"conv": 24}
    assert row["latency_ms"]["median"] == pytest.approx(_fake_ms(path))
    assert Identity.from_json(content["identity"]).device == "fake-device"
    assert content["session"]["rounds"] == 2


def test_bench_takes_backend_and_threads_of_the_promise(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    identity = load_backend("fake").identity(precision="fp32", batch=1, threads=3).to_json()
    promise = {"latency_ms": {"estimate": 0.5, "measured": None}}
    path = artifact(tmp_path / "model.onnx", promise=promise, identity=identity)
    (row,) = bench(path, rounds=2, round_ms=1).rows
    assert (row.identity.backend, row.identity.threads) == ("fake", 3)
    assert row.estimate_differs == ()
    assert row.measured_over_estimate == pytest.approx(_fake_ms(path) / 0.5)


def test_bench_says_that_a_promise_was_for_another_device(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    promise = {"latency_ms": {"estimate": 0.5}, "device": "another board", "backend": "fake"}
    result = bench(artifact(tmp_path / "model.onnx", promise=promise), rounds=2, round_ms=1)
    assert result.rows[0].estimate_differs == (("device", "another board", "fake-device"),)
    assert any("another board there, fake-device here" in text for text in result.notices)


def test_bench_of_a_promise_by_another_program_runs_what_the_file_was_exported_for(
    tmp_path: Path, artifact: Callable[..., Path]
) -> None:
    """A table made with PyTorch on a board: nothing here runs that, and its threads are not this machine's."""
    identity = load_backend("fake").identity(precision="fp32", batch=1, threads=3).to_json() | {"backend": "pytorch"}
    promise = {"latency_ms": {"estimate": 4.0, "measured": None}}
    path = artifact(tmp_path / "model.onnx", promise=promise, identity=identity)
    result = bench(path, rounds=2, round_ms=1)
    assert result.rows[0].identity.backend == "fake"  # deploy.json's own
    assert result.rows[0].identity.threads == load_backend("fake").default_threads()
    assert ("backend", "pytorch", "fake") in result.rows[0].estimate_differs


def test_bench_does_not_compare_a_network_with_a_sum_of_its_blocks(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    pair = {"estimate": 4.0, "measured": None}
    blocks = artifact(tmp_path / "b" / "model.onnx", promise={"latency_ms": {**pair, "covers": "blocks"}})
    whole = artifact(tmp_path / "n" / "model.onnx", promise={"latency_ms": {**pair, "covers": "network"}})
    result = bench(blocks, [whole], backend="fake", rounds=2, round_ms=1)
    first, second = result.to_json()["artifacts"]
    assert (first["estimate_covers"], first["estimate_ms"], first["measured_over_estimate"]) == ("blocks", 4.0, None)
    assert second["estimate_covers"] == "network"
    assert second["measured_over_estimate"] == pytest.approx(second["latency_ms"]["median"] / 4.0)
    (told,) = result.notices[-1:]
    assert f"{blocks} is a sum of its blocks, 4 ms without stem and head" in told


def test_bench_of_a_promise_beyond_all_numbers_has_none(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    path = artifact(tmp_path / "model.onnx", promise={"latency_ms": {"estimate": 10**400, "measured": None}})
    assert bench(path, backend="fake", rounds=2, round_ms=1).rows[0].estimate_ms is None


def test_bench_without_a_record_has_no_promise(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    result = bench(artifact(tmp_path / "model.onnx", record=False), backend="fake", rounds=2, round_ms=1)
    assert result.rows[0].estimate_ms is None
    assert result.rows[0].measured_over_estimate is None


def test_bench_runs_on_onnxruntime(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    pytest.importorskip("onnxruntime")
    path = artifact(tmp_path / "model.onnx")
    result = bench(path, [path], backend="ort", threads=1, rounds=2, round_ms=2)
    assert all(row.latency.median > 0 for row in result.rows)
    assert result.rows[0].identity.runtime == "onnxruntime"
    json.dumps(result.to_json(), allow_nan=False)


def test_bench_needs_two_rounds(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    with pytest.raises(SpecError, match="two rounds"):
        bench(artifact(tmp_path / "model.onnx"), backend="fake", rounds=1)


def test_find_artifact_takes_a_directory(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    artifact(tmp_path / "b" / "only.onnx")
    assert find_artifact(tmp_path / "b").path.name == "only.onnx"
    artifact(tmp_path / "b" / "model.onnx", record=False)
    assert find_artifact(tmp_path / "b").path.name == "model.onnx"


def test_find_artifact_refuses_what_is_unclear_or_absent(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    with pytest.raises(SpecError, match="no file"):
        find_artifact(tmp_path / "model.onnx")
    with pytest.raises(SpecError, match="found: none"):
        find_artifact(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        artifact(tmp_path / name)
    with pytest.raises(SpecError, match=r"a\.onnx, b\.onnx"):
        find_artifact(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04N."])
def test_find_artifact_refuses_another_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(FileFormatError, match="not an ONNX model"):
        find_artifact(tmp_path / "model.onnx")


def test_find_artifact_refuses_a_file_changed_after_export(
    tmp_path: Path, artifact: Callable[..., Path], convolution: Callable[..., bytes]
) -> None:
    path = artifact(tmp_path / "model.onnx")
    path.write_bytes(convolution(8))
    with pytest.raises(CheckError, match="is not the file"):
        find_artifact(path)


def test_find_artifact_sees_the_precision_of_a_foreign_file(tmp_path: Path, convolution: Callable[..., bytes]) -> None:
    (tmp_path / "half.onnx").write_bytes(convolution(8, dtype=np.float16))
    (tmp_path / "single.onnx").write_bytes(convolution(8))
    assert find_artifact(tmp_path / "half.onnx").precision == "fp16"
    assert find_artifact(tmp_path / "single.onnx").precision == "fp32"
    assert find_artifact(tmp_path / "single.onnx").widths is None


def test_find_artifact_ignores_widths_that_are_none(tmp_path: Path, convolution: Callable[..., bytes]) -> None:
    (tmp_path / "model.onnx").write_bytes(convolution(8, metadata={"netadapt.widths": '{"conv": "rm -rf"}'}))
    assert find_artifact(tmp_path / "model.onnx").widths is None
