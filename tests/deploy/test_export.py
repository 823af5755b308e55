from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from netadapt_trt.deploy.bench import bench, find_artifact
from netadapt_trt.deploy.export import export_network
from netadapt_trt.deploy.record import read_record
from netadapt_trt.errors import CheckError, DataError, FileFormatError, SpecError
from netadapt_trt.spec import ModelSpec

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


FACTORY = """
from torch import nn


def tiny(width=8, huge=0):
    first = nn.Conv2d(1, int(width), 3, padding=1, bias=False)
    if int(huge):
        nn.init.constant_(first.weight, 1e30)
    return nn.Sequential(
        first,
        nn.BatchNorm2d(int(width)),
        nn.ReLU(),
        nn.Conv2d(int(width), 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
"""


class Notices:
    """A Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)

    def task(self, text: str, total: float | None) -> Any:
        from netadapt_trt.progress import QUIET

        return QUIET.task(text, total)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _export_once() -> Iterator[None]:
    """PyTorch's exporter takes seconds: equal networks are exported once and then copied."""
    import netadapt_trt.graph.export as exporter

    real = exporter.export_onnx
    known: dict[object, bytes] = {}

    def remembered(model: Any, input_shape: tuple[int, ...], *, opset: int | None = None) -> onnx.ModelProto:
        weights = [tensor.numpy().tobytes() for tensor in model.state_dict().values()]
        key = (hashlib.sha256(b"".join(weights)).digest(), input_shape, opset)
        if key not in known:
            known[key] = real(model, input_shape, opset=opset).SerializeToString()
        return onnx.load_from_string(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "export_onnx", remembered)
        yield


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    file = tmp_path_factory.mktemp("factory") / "tiny.py"
    file.write_text(FACTORY)
    return ModelSpec(model=f"{file}:tiny", input_shape=(1, 1, 8, 8))


@pytest.fixture(scope="module")
def run(spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory as adapt leaves it: one step, the adapted network with its first group cut to 4 channels."""
    from netadapt_trt.graph.network import open_network, save_network, shrink
    from netadapt_trt.graph.planner import make_plan
    from netadapt_trt.plan.store import save_plan

    path = tmp_path_factory.mktemp("runs") / "run"
    path.mkdir()
    torch.manual_seed(0)
    network = open_network(spec)
    save_plan(make_plan(network), path / "plan.json")
    cut = shrink(network, {next(iter(network.widths)): (0, 2, 5, 7)})
    for name in ("iter-001", "adapted"):
        save_network(cut, path / name)
    arguments = {"data": "digits", "image_size": None, "normalize": None, "lut": None}
    (path / "run.json").write_text(json.dumps({"format": "netadapt-run", "version": 1, "arguments": arguments}))
    decision = {"type": "decision", "iteration": 1, "accuracy": 0.9, "resources": {"latency": {"estimate": 0.2}}}
    header = {"format": "netadapt-history", "version": 1}
    (path / "history.jsonl").write_text(f"{json.dumps(header)}\n{json.dumps(decision)}\n")
    result = {"backend": "fake", "device": "fake-device", "precision": "fp32"}
    pair = {"estimate": 0.11, "measured": 0.12}
    (path / "result.json").write_text(json.dumps({**result, "adapted": {"accuracy": 0.95, "latency_ms": pair}}))
    return path


def _first_group(run: Path) -> str:
    plan = json.loads((run / "plan.json").read_text())
    return str(plan["groups"][0]["name"])


def test_export_of_a_run_is_checked_on_its_data(run: Path, tmp_path: Path) -> None:
    from netadapt_trt.plan.store import load_plan, plan_hash

    record = export_network(run, tmp_path / "model.onnx", backend="fake", samples=20)
    assert record.check.inputs == "data"
    assert record.check.samples == 20
    assert record.check.relative_error <= 1e-4
    assert record.check.top1_agreement == 1.0
    assert record.plan_hash == plan_hash(load_plan(run / "plan.json"))
    assert record.widths[_first_group(run)] == 4
    content = read_record(tmp_path / "deploy.json")
    assert content["files"]["model.onnx"]["sha256"] == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    assert content["promise"]["latency_ms"] == {"estimate": 0.11, "measured": 0.12}
    assert content["preprocessing"]["channels"] == 1
    assert len(content["classes"]) == 10
    assert content["inputs"][0]["shape"] == [1, 1, 8, 8]


def test_export_writes_the_opset_of_its_backend(run: Path, tmp_path: Path) -> None:
    record = export_network(run, tmp_path, backend="fake", samples=4)
    model = onnx.load(tmp_path / "model.onnx")
    assert (record.opset, record.ir_version) == (20, 9)
    assert ([entry.version for entry in model.opset_import if entry.domain == ""], model.ir_version) == ([20], 9)
    assert any(op.op_type == "GlobalAveragePool" for op in model.graph.node)


def test_export_of_a_run_without_final_network_takes_the_last_step(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "adapted")
    (copy / "result.json").unlink()
    said = Notices()
    record = export_network(copy, tmp_path / "out", backend="fake", samples=2, progress=said)
    assert record.content["source"]["network"] == "iter-001"
    assert record.content["promise"] == {"latency_ms": {"estimate": 0.2, "measured": None}, "accuracy_holdout": 0.9}
    assert any("iter-001 is taken" in line for line in said.lines)
    shutil.rmtree(copy / "iter-001")
    with pytest.raises(FileFormatError, match="no network yet"):
        export_network(copy, tmp_path / "out")


def test_export_then_bench_finds_promise_and_network(run: Path, tmp_path: Path) -> None:
    record = export_network(run / "adapted", tmp_path, backend="fake", samples=2)
    (row,) = bench(tmp_path, rounds=2, round_ms=1).rows
    assert row.identity.backend == "fake"
    assert row.estimate_ms == 0.11
    assert row.artifact.plan_hash == record.plan_hash
    assert row.artifact.widths == record.widths


def test_export_in_fp16_keeps_float_input_and_output(run: Path, tmp_path: Path) -> None:
    said = Notices()
    record = export_network(run, tmp_path, precision="fp16", backend="ort", samples=16, progress=said)
    assert record.check.tolerance == 2e-2
    assert record.check.max_abs_error > 0
    model = onnx.load(tmp_path / "model.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert find_artifact(tmp_path).precision == "fp16"
    assert any("ort does not serve fp16" in line for line in said.lines)


def test_export_by_name_takes_random_inputs_and_says_so(spec: ModelSpec, tmp_path: Path) -> None:
    said = Notices()
    record = export_network(spec, tmp_path, backend="fake", opset=18, samples=3, progress=said)
    assert (record.check.inputs, record.check.samples, record.opset) == ("random", 3, 18)
    assert any("random inputs" in line for line in said.lines)
    assert record.content["preprocessing"] is None


def test_export_writes_the_opset_it_is_asked_for(spec: ModelSpec, tmp_path: Path) -> None:
    record = export_network(spec, tmp_path, backend="fake", opset=17, samples=3)
    model = onnx.load(tmp_path / "model.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert (record.opset, record.ir_version, model.ir_version) == (17, 8, 8)
    assert record.check.relative_error <= 1e-4


def test_export_does_not_need_the_data_of_the_run(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    document = json.loads((copy / "run.json").read_text())
    document["arguments"]["data"] = "imagefolder:/not/here"
    (copy / "run.json").write_text(json.dumps(document))
    said = Notices()
    record = export_network(copy, tmp_path / "out", backend="fake", samples=2, progress=said)
    assert record.check.inputs == "random"
    assert any("data set is not here" in line for line in said.lines)


def test_export_writes_nothing_when_the_outputs_differ(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import netadapt_trt.graph.export as exporter

    honest = exporter.export_onnx

    def falsified(*arguments: Any, **options: Any) -> onnx.ModelProto:
        model = honest(*arguments, **options)
        last = next(t for t in reversed(model.graph.initializer) if list(t.dims)[:1] == [10])
        last.CopyFrom(onnx.numpy_helper.from_array(np.array(onnx.numpy_helper.to_array(last) + 1), last.name))
        return model

    monkeypatch.setattr(exporter, "export_onnx", falsified)
    with pytest.raises(CheckError, match="nothing was written"):
        export_network(run, tmp_path / "out", backend="fake", samples=2)
    assert not (tmp_path / "out").exists()


def test_export_refuses_unknown_precisions(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown precision"):
        export_network(run, tmp_path, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="at least one input"):
        export_network(run, tmp_path, samples=0)


def test_export_passes_over_no_option_in_silence(run: Path, spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"own weights; leave --weights mine\.safetensors out"):
        export_network(run, tmp_path / "out", weights="mine.safetensors")
    for options in ({"image_size": 8}, {"normalize": "none"}):
        with pytest.raises(SpecError, match="add --data"):
            export_network(spec, tmp_path / "out", backend="fake", **options)
    assert not (tmp_path / "out").exists()


def test_export_takes_the_preprocessing_that_the_run_used(run: Path, tmp_path: Path) -> None:
    """What run.json says was used, also for data given by hand; asking for another normalisation is possible, and told."""
    import shutil

    copy, used = tmp_path / "run", {"image_size": 8, "crop": 1.0, "channels": 1, "mean": [0.25], "std": [0.5]}
    shutil.copytree(run, copy)
    document = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**document, "preprocessing": used}))
    said = Notices()
    kept = export_network(copy, tmp_path / "kept", backend="fake", data="digits", samples=2, progress=said)
    assert used.items() <= kept.content["preprocessing"].items()
    assert not any("normalised" in line for line in said.lines)
    other = export_network(copy, tmp_path / "other", backend="fake", normalize="none", samples=2, progress=said)
    assert other.content["preprocessing"]["mean"] == [0.0]
    assert any("trained with inputs normalised by 0.25/0.5" in line for line in said.lines)


def test_export_refuses_a_directory_without_network(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="holds no network"):
        export_network(tmp_path, tmp_path / "out")


def test_export_refuses_an_opset_nobody_knows(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="opset 999"):
        export_network(spec, tmp_path, backend="fake", opset=999)


@pytest.mark.parametrize("recipe", ["qdq-ort-x86", "qdq-trt"])
def test_export_in_int8_is_calibrated_and_checked_on_data(run: Path, tmp_path: Path, recipe: str) -> None:
    record = export_network(
        run, tmp_path, precision="int8", recipe=recipe, calibration="entropy", calibration_samples=40, samples=50
    )
    assert (record.check.inputs, record.check.samples, record.check.tolerance) == ("data", 50, 0.3)
    assert 1e-4 < record.check.relative_error < 0.1
    assert record.check.min_agreement == 0.9
    assert record.content["quantisation"] == {"recipe": recipe, "method": "entropy", "samples": 40, "keep_float": ()}
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) >= 6  # three layers' data and weights
    assert {entry.key: entry.value for entry in model.metadata_props}["netadapt.recipe"] == recipe
    artifact = find_artifact(tmp_path)
    assert artifact.precision == "int8"
    assert artifact.plan_hash == record.plan_hash


def test_export_in_int8_chooses_the_recipe_of_its_backend(run: Path, tmp_path: Path) -> None:
    said = Notices()
    record = export_network(run, tmp_path / "a", precision="int8", backend="ort", samples=10, calibration_samples=10)
    assert record.content["quantisation"]["recipe"] == "qdq-ort-x86"
    record = export_network(
        run, tmp_path / "b", precision="int8", backend="fake", samples=10, calibration_samples=10, progress=said
    )
    assert record.content["quantisation"]["recipe"] == "qdq-trt"
    assert any("fake does not serve int8" in line for line in said.lines)


def test_export_in_int8_takes_the_training_data_for_calibration(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import netadapt_trt.deploy.calibrate as calibrate
    from netadapt_trt.training.data import open_data

    seen: list[np.ndarray] = []
    honest = calibrate.activation_ranges

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.extend(arguments[2]())
        return honest(*arguments, **options)

    monkeypatch.setattr(calibrate, "activation_ranges", watched)
    export_network(run, tmp_path, precision="int8", samples=10, calibration_samples=12)
    train = open_data("digits", image_size=None, normalize=None, input_shape=(1, 1, 8, 8)).train
    assert len(seen) == 12
    first, _ = next(iter(train.subset([0]).batches(1)))
    np.testing.assert_array_equal(seen[0], first.numpy())


def test_export_in_int8_keeps_a_layer_in_float(run: Path, tmp_path: Path) -> None:
    whole = export_network(run, tmp_path / "whole", precision="int8", samples=8, calibration_samples=8)
    weights = {tensor.name for tensor in onnx.load(whole.model_path).graph.initializer}
    first = next(name for name in sorted(weights) if name.endswith(".weight_quantized")).removesuffix(".weight_quantized")
    kept = export_network(run, tmp_path / "kept", precision="int8", samples=8, calibration_samples=8, keep_float=[first])
    assert f"{first}.weight" in {tensor.name for tensor in onnx.load(kept.model_path).graph.initializer}
    assert f"{first}.weight" not in weights
    assert json.loads(kept.record_path.read_text())["quantisation"]["keep_float"] == [first]
    with pytest.raises(SpecError, match="no layer 'nowhere' would be quantised"):
        export_network(run, tmp_path / "no", precision="int8", keep_float=["nowhere"])
    with pytest.raises(SpecError, match="--keep-float is for int8"):
        export_network(run, tmp_path / "no", keep_float=[first])


def test_export_in_int8_needs_data(spec: ModelSpec, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs data to calibrate.*--data"):
        export_network(spec, tmp_path, precision="int8")
    with pytest.raises(DataError, match="not/here"):
        export_network(run, tmp_path, precision="int8", data="imagefolder:/not/here")
    assert not list(tmp_path.iterdir())


def test_export_in_int8_writes_nothing_that_classifies_otherwise(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import netadapt_trt.deploy.calibrate as calibrate

    honest = calibrate.activation_ranges

    def narrow(*arguments: Any, **options: Any) -> Any:
        return {name: (low / 50, high / 50) for name, (low, high) in honest(*arguments, **options).items()}

    monkeypatch.setattr(calibrate, "activation_ranges", narrow)
    with pytest.raises(CheckError, match=r"written\. Root mean square .* beyond the range.* try: .*-samples 80"):
        export_network(run, tmp_path / "out", precision="int8", samples=50, calibration_samples=20)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "best"}, "unknown recipe 'best'"),
        ({"calibration": "mean"}, "unknown calibration 'mean'"),
        ({"calibration_samples": 0}, "at least one input"),
    ],
)
def test_export_in_int8_refuses_settings_that_say_nothing(
    run: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        export_network(run, tmp_path, precision="int8", **options)
