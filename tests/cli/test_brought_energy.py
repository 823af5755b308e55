"""An energy budget of a board elsewhere, by its files alone: table there, run here, bench there, brought back here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app

ROOT = Path(__file__).parents[2]
NETWORK = (f"{ROOT / 'examples' / 'user_network.py'}:small_net", "--model-arg", "width=32", "--input", "1x3x16x16")
RAIL = "FAKE_GPU"


def document(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(word) for word in (*words, "--json")])
    assert done.exit_code == 0, f"{words}: {done.output}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def moved(path: Path) -> Path:
    """As if the device made of a formula were another one, on which nothing can be measured from here."""
    path.write_text(path.read_text().replace("fake-device", "board elsewhere"))
    return path


def history(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("type") == kind]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brought")
    document("plan", *NETWORK, "-o", folder / "net.plan.json")
    lut = folder / "board.lut.jsonl"
    document("profile", folder / "net.plan.json", "--backend", "fake", "--lut", lut)
    result = document(
        *("adapt", *NETWORK, "--data", "digits", "--lut", moved(lut), "-o", folder / "run", "--no-uniform"),
        *("--budget", "energy=0.85x", "--budget", f"energy@{RAIL}=0.85x"),
        *("--reduction", "0.1", "--short-steps", "1", "--long-epochs", "0"),
    )
    assert result["reached"]
    assert result["adapted"]["energy_mj"]["measured"] is None  # nothing but estimates
    document("export", folder / "run", "--backend", "fake", "-o", folder / "cut" / "model.onnx")
    document("export", folder / "run" / "iter-000", "--backend", "fake", "-o", folder / "uncut" / "model.onnx")
    bench = folder / "bench.json"
    document("bench", folder / "cut", "--vs", folder / "uncut", "--backend", "fake", "-o", bench)
    moved(bench)
    return folder / "run"


def test_energy_of_the_board_is_what_the_result_shows_and_the_run_is_anchored_to(run: Path) -> None:
    cut, uncut = json.loads((run.parent / "bench.json").read_text())["artifacts"]
    result = document("adapt", "--resume", run, "--measured", run.parent / "bench.json")
    initial, adapted = result["initial"]["energy_mj"], result["adapted"]["energy_mj"]
    share = cut["energy_mj"]["total"] / uncut["energy_mj"]["total"]
    assert adapted["measured"] == pytest.approx(share * initial["measured"])
    rails = [row["power_mw"][RAIL] * row["latency_ms"]["median"] for row in (cut, uncut)]
    assert adapted["rails"][RAIL]["measured"] == pytest.approx(rails[0] / rails[1] * initial["rails"][RAIL]["measured"])
    (anchor,) = history(run, "anchor")
    for name, found in (("energy", adapted), (f"energy@{RAIL}", adapted["rails"][RAIL])):
        assert anchor["resources"][name]["measured"] == found["measured"] != anchor["resources"][name]["estimate"]
    assert {budget["achieved"] for budget in result["budgets"]} == {
        adapted["measured"],
        adapted["rails"][RAIL]["measured"],
    }
    document("adapt", "--resume", run, "--measured", run.parent / "bench.json")
    assert len(history(run, "anchor")) == 1


def test_board_that_needs_more_than_promised_makes_the_run_go_on(run: Path) -> None:
    content = json.loads((run.parent / "bench.json").read_text())
    cut, uncut = content["artifacts"]
    iterations = document("adapt", "--resume", run)["iterations"]
    cut["energy_mj"]["total"] = 0.95 * uncut["energy_mj"]["total"]
    (run.parent / "worse.json").write_text(json.dumps(content))
    result = document("adapt", "--resume", run, "--measured", run.parent / "worse.json")
    assert result["iterations"] > iterations
    budget = result["budgets"][0]
    assert budget["achieved"] <= budget["limit"]
    worse = history(run, "anchor")[-1]["resources"]["energy"]["measured"]
    assert worse == pytest.approx(0.95 * result["initial"]["energy_mj"]["measured"])
    assert worse > budget["limit"]
