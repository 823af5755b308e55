"""tools/energy_analysis.py: pairs benched on the fake device, and a table over the files of several devices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.files import read_document, write_document

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Path(__file__).parents[2] / "tools" / "energy_analysis.py"


def call(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def row(
    model: str, ms: float, energy: dict[str, Any] | None, flags: tuple[str, ...] = (), *, total_mw: float | None = None
) -> dict[str, Any]:
    identity = {"device": "Orin NX", "runtime": "tensorrt", "runtime_version": "10.3.0", "precision": "fp16"}
    latency = {"median": ms, "p10": ms, "p90": ms, "n": 9}
    return {
        "path": f"{model}.onnx",
        "model": model,
        "identity": identity,
        "latency_ms": latency,
        "energy_mj": energy,
        "total_mw": total_mw,
        "energy_flags": list(flags),
    }


def write(path: Path, *rows: dict[str, Any]) -> Path:
    ratios = [{"ratio": rows[0]["latency_ms"]["median"] / other["latency_ms"]["median"]} for other in rows[1:]]
    comparisons = [{**ratio, "p10": 0.45, "p90": 0.55} for ratio in ratios]
    write_document(path, format="netadapt-bench", version=1, content={"artifacts": list(rows), "comparisons": comparisons})
    return path


def test_table_sets_energy_beside_latency(tmp_path: Path) -> None:
    # Half the time on the device, and 0.5 ms of host to each run: 2.5 ms at 9.6 W and 4.5 ms at 8 W.
    first = write(
        tmp_path / "a.json",
        row("net", 2.0, {"total": 24.0, "dynamic": 12.0, "stderr": 0.25}, total_mw=9600.0),
        row("net", 4.0, {"total": 36.0, "dynamic": 16.0, "stderr": 0.5}, total_mw=8000.0),
    )
    # a fifth of the time at the same power
    limited = row("other", 1.0, {"total": 10.0, "dynamic": None, "stderr": None}, ("resolution_limited",), total_mw=10_000.0)
    second = write(
        tmp_path / "b.json",
        limited,
        row("other", 5.0, {"total": 50.0, "dynamic": 30.0, "stderr": None}, total_mw=10_000.0),
    )
    done = call("table", first, second)
    net, other = (line for line in done.stdout.splitlines() if line.startswith("| Orin NX"))
    device = "Orin NX, tensorrt 10.3.0, fp16"
    assert [cell.strip() for cell in net.strip("| ").split("|")] == [
        *(device, "net", "4", "2", "0.500 (0.450 to 0.550)", "36 ± 0.5", "24 ± 0.25"),
        *("0.667", "0.750", "8", "9.6", "1.200", "-"),
    ]
    assert [cell.strip() for cell in other.strip("| ").split("|")][7:] == [
        *("0.200", "-", "10", "10", "1.000", "resolution_limited"),
    ]
    # geometric means: sqrt(0.5 * 0.2) = 0.316, sqrt(2 / 3 * 0.2) = 0.365; power sqrt(1.2) = 1.095
    assert f"- {device}: over 2 pair(s), 0.316 of the latency and 0.365 of the energy" in done.stdout
    assert "average power 1.095" in done.stdout


def test_no_energy_is_said_not_zero(tmp_path: Path) -> None:
    done = call(
        "table", write(tmp_path / "a.json", row("net", 2.0, None), row("net", 4.0, None)), "-o", tmp_path / "page.md"
    )
    assert done.stdout == ""
    assert "no energy was measured" in (tmp_path / "page.md").read_text()


def test_pairs_are_benched_once_and_told(tmp_path: Path, artifact: Callable[..., Path]) -> None:
    small, large = (artifact(tmp_path / str(channels) / "model.onnx", channels=channels) for channels in (16, 256))
    words = ("measure", f"{small},{large}", "-o", tmp_path / "benches", "--backend", "fake", "--rounds", "2")
    call(*words, "--power", "none")
    (file,) = (tmp_path / "benches").iterdir()
    content = read_document(file, format="netadapt-bench", version=1)
    assert [Path(each["path"]) for each in content["artifacts"]] == [small, large]
    assert "is there, not measured again" in call(*words).stderr
    first, second = (each["energy_mj"]["total"] for each in content["artifacts"])
    assert f"{first / second:.3f}" in call("table", file).stdout


@pytest.mark.parametrize("text", ["{}", json.dumps({"format": "netadapt-bench", "version": 1, "artifacts": [{}]})])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    done = call("table", tmp_path / "x.json", status=1)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
