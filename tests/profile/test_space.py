"""A space measured by its children: on the fake device, whose formula is known, on ONNX Runtime, and killed on the way."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.backend import load_backend
from netadapt_trt.errors import CoverageError, IdentityError, SpecError
from netadapt_trt.lut.schema import IN_NETWORK
from netadapt_trt.lut.store import LutWriter, read_lut
from netadapt_trt.measure.network import measure_networks
from netadapt_trt.profile.sampling import Sampling
from netadapt_trt.profile.space import profile_space
from netadapt_trt.progress import QuietProgress
from netadapt_trt.space.children import space_layers
from netadapt_trt.space.measured import Estimates, children_of, from_measured, held_out
from netadapt_trt.space.plan import child_plan, names_of
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import save_space
from netadapt_trt.space.table import read_tables

if TYPE_CHECKING:
    from pathlib import Path

TINY = Space(
    name="tiny",
    input_shape=(3, 16, 16),
    num_classes=10,
    stem=Stem(channels=8),
    stages=(Stage(8, 2, 1), Stage(16, 3, 2)),
    blocks=(Block("k3_e1", 3, 1), Block("k3_e3", 3, 3), Block("k5_e2_g2", 5, 2, 2)),
    head_channels=32,
)
FAKE = load_backend("fake")
QUICK = Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0)


class Notices(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def only_read(notices: tuple[str, ...]) -> bool:
    """Whether nothing is said but how the table was read."""
    return all(text.startswith("LAT ") and "read as milliseconds and millijoules" in text for text in notices)


def random_children(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    draw = np.random.default_rng(seed)
    return [tuple(int(draw.choice(place.candidates)) for place in TINY.places) for _ in range(count)]


def fake_cost(choice: tuple[int, ...]) -> tuple[float, float]:
    """Milliseconds and millijoules of a child by the fake device's formula."""
    from netadapt_trt.backend import CompileOptions
    from netadapt_trt.plan.write import write_network

    opset, ir_version = FAKE.opset()
    model = write_network(child_plan(TINY, names_of(TINY, choice)), {}, opset=opset, ir_version=ir_version)
    with FAKE.compile(model, CompileOptions()) as exe:
        exe.run()
        latency, energy = exe.elapsed_ms(), exe.energy_mj()
    assert latency is not None
    assert energy is not None
    return latency, energy.total


def test_estimates_are_the_formulas_on_the_fake_device(tmp_path: Path) -> None:
    result = profile_space(TINY, FAKE, tmp_path / "t.lut.jsonl")
    assert result.complete
    assert (result.present, result.missing, result.lacking) == (0, 0, 0)
    assert result.cells > 0  # the fake device does not tell a network's time by layer
    assert result.held_out_error is not None
    assert result.held_out_error < 0.002
    assert result.energy_held_out_error is not None
    assert result.energy_held_out_error < 0.005
    assert result.energy_held_out_children == result.with_energy
    table = read_tables(TINY, [tmp_path / "t.lut.jsonl"])
    assert only_read(table.notices)
    for choice in random_children(30):
        latency, energy = fake_cost(choice)
        assert table.latency(choice) == pytest.approx(latency, rel=0.005)
        assert table.energy(choice) == pytest.approx(energy, rel=0.01)


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "t.lut.jsonl"
    first = profile_space(TINY, FAKE, path, rounds=1)
    before, told = path.read_bytes(), Notices()
    again = profile_space(TINY, FAKE, path, rounds=1, progress=told)
    assert path.read_bytes() == before
    assert (again.measured, again.present, again.cells) == (0, first.measured, 0)
    more = profile_space(TINY, FAKE, path, rounds=2)
    assert (more.present, more.measured > 0, more.cells) == (first.measured, True, 0)
    assert "0 children of space tiny to measure" in told.texts[0]


def test_every_block_is_seen_at_every_place(tmp_path: Path) -> None:
    profile_space(TINY, FAKE, tmp_path / "t.lut.jsonl", rounds=1)
    children = children_of(TINY, read_lut(tmp_path / "t.lut.jsonl"))
    for row, place in enumerate(TINY.places):
        assert {child.choice[row] for child in children} == set(place.candidates)
    for child in children:
        latency, energy = fake_cost(child.choice)
        assert child.latency_ms == pytest.approx(latency, rel=1e-5)
        assert child.energy_mj == pytest.approx(energy, rel=1e-5)


def test_a_time_limit_stops_after_the_first_children_and_goes_on(tmp_path: Path) -> None:
    path, told = tmp_path / "t.lut.jsonl", Notices()
    sampling = Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0, batch=2)
    first = profile_space(TINY, FAKE, path, time_limit_s=1e-6, sampling=sampling, progress=told)
    assert (first.stopped, first.measured) == ("time limit", 2)
    assert first.missing > 0
    assert first.lacking > 0
    assert "stopped at the time limit" in told.texts[-1]
    with pytest.raises(
        CoverageError, match=r"lacks \d+ of the \d+ layers of space tiny.*search profile tiny.json --backend fake"
    ):
        read_tables(TINY, [path])
    assert profile_space(TINY, FAKE, path).complete


def test_a_table_of_something_else(tmp_path: Path) -> None:
    other = Space("other", (3, 10, 10), 10, Stem(4, 3, 1), (Stage(4, 2, 1),), (Block("a", 5, 1),), 12)
    profile_space(other, FAKE, tmp_path / "o.lut.jsonl")
    with pytest.raises(CoverageError, match="it seems to be a table of something else"):
        read_tables(TINY, [tmp_path / "o.lut.jsonl"])


def test_another_space_of_the_same_blocks_lacks_whole_networks(tmp_path: Path) -> None:
    """Its layers are all there; that no network of this very space was measured is said."""
    path = tmp_path / "t.lut.jsonl"
    profile_space(TINY, FAKE, path)
    renamed = replace(TINY, name="renamed")
    assert only_read(read_tables(renamed, [path]).notices)
    fewer = replace(TINY, blocks=TINY.blocks[:2])
    assert any("no whole network of space tiny was measured" in notice for notice in read_tables(fewer, [path]).notices)


def test_lines_of_nobodys_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.lut.jsonl"
    profile_space(TINY, FAKE, path, rounds=1)
    text = path.read_text().replace('"blocks": "k3_e1+k3_e1', '"blocks": "nothing+k3_e1', 1)
    path.write_text(text)
    found = from_measured(TINY, read_lut(path))
    assert np.isfinite(found.latency((0, 0, 0, 0, 0)))


def test_bad_arguments(tmp_path: Path) -> None:
    for options in ({"rounds": 0}, {"rounds": 101}, {"time_limit_s": 0.0}, {"precision": "int8"}):
        with pytest.raises(Exception, match=r"rounds must be|int8") as caught:
            profile_space(TINY, FAKE, tmp_path / "t.lut.jsonl", **options)
        assert type(caught.value).__module__ == "netadapt_trt.errors"
    assert not (tmp_path / "t.lut.jsonl").exists()
    with pytest.raises(SpecError):
        profile_space(TINY, FAKE, tmp_path / "t.lut.jsonl", time_limit_s=-1.0)


def test_a_lut_of_other_conditions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.lut.jsonl"
    profile_space(TINY, FAKE, path, rounds=1)
    with pytest.raises(IdentityError, match="precision: the LUT has 'fp32', this run 'fp16'"):
        profile_space(TINY, FAKE, path, precision="fp16")


SCRIPT = """
import sys
from pathlib import Path
from netadapt_trt.backend import load_backend
from netadapt_trt.profile.sampling import Sampling
from netadapt_trt.profile.space import profile_space
from netadapt_trt.space.store import load_space
print("begun", flush=True)
sampling = Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0, batch=1)
profile_space(load_space(sys.argv[1]), load_backend("fake"), Path(sys.argv[2]), sampling=sampling)
"""


def test_killed_on_the_way_it_goes_on(tmp_path: Path) -> None:
    save_space(TINY, tmp_path / "tiny.json")
    path, kills = tmp_path / "t.lut.jsonl", 0
    for least in (2, 5, 9):
        words = [sys.executable, "-c", SCRIPT, str(tmp_path / "tiny.json"), str(path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
            while process.poll() is None:
                if path.exists() and path.read_bytes().count(b'"type": "network"') >= least:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
    assert kills == 3
    assert len(read_lut(path).networks) >= 9
    result = profile_space(TINY, FAKE, path)
    assert result.complete
    assert result.present >= 9
    names = [line.plan for line in read_lut(path).networks]
    assert len(names) == len(set(names))  # none twice
    whole = profile_space(TINY, FAKE, tmp_path / "w.lut.jsonl")
    assert whole.measured == result.measured + result.present


def test_energy_from_whole_children_alone(tmp_path: Path) -> None:
    """Where no lone layer has an energy, mean power times latency, corrected by the children: within a few percent here."""
    path, bare = tmp_path / "t.lut.jsonl", tmp_path / "b.lut.jsonl"
    profile_space(TINY, FAKE, path)
    lut = read_lut(path)
    with LutWriter(bare, lut.identity) as writer:
        writer.append(*lut.sessions.values(), *lut.networks)
        writer.append(*(replace(cell, energy_mj=None, power_mw={}) for cell in lut.cells))
    known = children_of(TINY, lut)
    watts = np.mean([child.energy_mj / child.latency_ms for child in known if child.energy_mj and child.latency_ms])
    table = read_tables(TINY, [bare])
    (said,) = [text for text in table.notices if text.startswith("the energy of a block is its latency times")]
    assert f"the mean power of {len(known)} whole children" in said
    assert float(said.split("latency times ")[1].split(" W")[0]) == pytest.approx(watts, rel=0.02)
    layers = space_layers(TINY, FAKE.partition, batch=1)
    held = held_out(TINY, read_lut(bare), layers, "energy")
    assert held is not None
    assert held.children == len(known)
    assert f"are off by {held.error:.1%} (worst {held.worst:.1%})" in said
    assert 0 < held.error <= held.worst < 0.3
    errors = [abs(table.energy(choice) / fake_cost(choice)[1] - 1) for choice in random_children(30)]
    assert np.mean(errors) < 0.03


def test_a_child_that_is_left_out_teaches_nothing(tmp_path: Path) -> None:
    """Its energy may be anything: what the others say of it stays the same. Two energies are too few, which is said."""
    path, bare, few = (tmp_path / name for name in ("t.lut.jsonl", "b.lut.jsonl", "f.lut.jsonl"))
    profile_space(TINY, FAKE, path, rounds=1)
    lut = read_lut(path)
    cells = [replace(cell, energy_mj=None, power_mw={}) for cell in lut.cells]

    def write(to: Path, *, with_energy: int, factor: float) -> None:
        lines = [line if row < with_energy else replace(line, energy_mj=None) for row, line in enumerate(lut.networks)]
        if factor != 1 and lines[0].energy_mj is not None:
            energy = lines[0].energy_mj
            lines[0] = replace(lines[0], energy_mj=replace(energy, total=energy.total * factor))
        with LutWriter(to, lut.identity) as writer:
            writer.append(*lut.sessions.values(), *lines, *cells)

    layers, found = space_layers(TINY, FAKE.partition, batch=1), []
    for number, factor in enumerate((1.0, 4.0)):
        other = bare.with_name(f"{number}.lut.jsonl")
        write(other, with_energy=4, factor=factor)
        estimates = Estimates(TINY, read_lut(other), layers)
        (child, energy), *_ = estimates.measured("energy")
        costs = estimates.costs("energy", child.plan)
        assert costs is not None
        found.append((energy, float(costs.sums(np.array([child.choice]))[0])))
        held = estimates.held_out("energy")
        assert held is not None
        assert held.worst >= abs(found[-1][1] / energy - 1)
    (true, first), (false, second) = found
    assert false == pytest.approx(4 * true)
    assert second == first == pytest.approx(true, rel=0.3)
    write(few, with_energy=2, factor=1.0)
    table = read_tables(TINY, [few])
    assert not table.has_energy
    assert any("only 2 whole children have an energy, and it takes 3" in text for text in table.notices)


def test_energy_of_children_from_a_power_source(tmp_path: Path) -> None:
    """A board that idles at 6 W: a child's energy is its time at 6 W, and what the formula says of it on top."""
    board = importlib.import_module("power_board").Board()
    powered = importlib.import_module("powered_backend")
    backend, path = powered.Powered(board), tmp_path / "t.lut.jsonl"
    first = profile_space(TINY, backend, path, rounds=1, sampling=QUICK, meter=board.meter(window_s=5.0))
    assert first.energies == first.with_energy == first.measured == 4
    for child in children_of(TINY, read_lut(path)):
        latency, energy = (powered.SLOWER * value for value in fake_cost(child.choice))
        assert child.latency_ms == pytest.approx(latency, rel=0.01)
        assert child.energy_mj == pytest.approx(energy + 6.0 * latency, rel=0.02)
    table = read_tables(TINY, [path])
    assert table.has_energy
    assert any("W, the mean power of 4 whole children" in text for text in table.notices)
    choice = (1, 2, 1, 0, 3)
    latency, energy = (powered.SLOWER * value for value in fake_cost(choice))
    assert table.energy(choice) == pytest.approx(energy + 6.0 * latency, rel=0.1)
    again = profile_space(TINY, backend, path, rounds=1, sampling=QUICK, meter=board.meter(window_s=5.0))
    assert (again.measured, again.energies, again.with_energy) == (0, 0, 4)


def test_onnx_runtime_tells_by_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("netadapt_trt.profile.session.other_load", lambda: None)
    backend = load_backend("ort")
    sampling = Sampling(rounds=4, most_rounds=4, round_ms=4.0, warmup_ms=2.0)
    path = tmp_path / "t.lut.jsonl"
    result = profile_space(TINY, backend, path, threads=1, rounds=2, sampling=sampling)
    assert result.complete
    assert result.cells == 0
    lut = read_lut(path)
    assert {cell.context for cell in lut.cells} == {IN_NETWORK}
    assert lut.identity.threads == 1
    table = read_tables(TINY, [path])
    assert not table.has_energy
    assert table.fixed_latency_ms > 0
    # The machine may be busy: what is asked here is that they are of one size, not how good they are.
    choice = (1, 1, 1, 1, 1)
    plan = child_plan(TINY, names_of(TINY, choice))
    (measured,) = measure_networks(backend, plan, [{}], threads=1, rounds=3)
    assert table.latency(choice) == pytest.approx(measured.median, rel=0.7)
    assert table.latency(choice) > table.latency((0, 3, 0, 3, 3))


def test_children_are_anchored_to_the_pace_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that becomes half as fast between two runs: later children are brought back to the pace of the first."""
    from netadapt_trt.backends.fake import executable

    path = tmp_path / "t.lut.jsonl"
    profile_space(TINY, FAKE, path, rounds=1)
    fast: Any = executable.FakeExecutable.elapsed_ms
    monkeypatch.setattr(executable.FakeExecutable, "elapsed_ms", lambda self: 2 * fast(self))
    profile_space(TINY, FAKE, path, rounds=2)
    monkeypatch.undo()
    for child in children_of(TINY, read_lut(path)):
        assert child.latency_ms == pytest.approx(fake_cost(child.choice)[0], rel=1e-4)
