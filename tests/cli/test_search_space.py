"""``search space``, ``search profile`` and ``search knobs`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from netadapt_trt.cli.main import app
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import load_space, save_space

if TYPE_CHECKING:
    from typer.testing import Result

SHIPPED = Path(__file__).parents[2] / "luts" / "raspberry-pi-3b" / "pytorch-fp32.lut.jsonl"
TINY = Space("tiny", (3, 8, 8), 4, Stem(4, 3, 1), (Stage(4, 2, 1),), (Block("a", 3, 1), Block("b", 3, 2)), 8)


def call(*words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result


def document(*words: object, status: int = 0) -> Any:
    return json.loads(call(*words, "--json", status=status).stdout)


def test_spaces_are_listed_shown_and_written(tmp_path: Path) -> None:
    listed = document("search", "space")
    assert [space["name"] for space in listed] == ["fbnet-cifar", "fbnet-imagenet", "fbnet-small"]
    assert "fbnet-cifar" in call("search", "space").stdout
    shown = document("search", "space", "fbnet-cifar")
    assert len(shown["places"]) == 22
    assert shown["places"][0]["candidates"] == shown["columns"][:-1]
    assert shown["places"][2]["candidates"] == shown["columns"]
    assert "4.3e+20 networks" in call("search", "space", "fbnet-cifar").stdout
    call("search", "space", "fbnet-small", "-o", tmp_path / "mine.json")
    assert load_space(tmp_path / "mine.json") == load_space("fbnet-small")
    assert "is not written over" in call("search", "space", "fbnet-small", "-o", tmp_path / "mine.json", status=1).stderr
    assert "Name one" in call("search", "space", "-o", tmp_path / "other.json", status=1).stderr


def test_knobs_on_hannas_table() -> None:
    words = ["search", "knobs", "--space", "fbnet-cifar", "--table", SHIPPED, "--gamma", "0.1"]
    found = document(*words)
    assert round(found["start"]["lat_s"], 3) == 3.853
    assert round(found["start"]["ener_j"], 3) == 18.699
    assert found["start"]["vlat"] == pytest.approx(0.2 * found["start"]["lat_s"] ** 0.6)
    assert found["start"]["vener"] == pytest.approx(0.1 * found["start"]["ener_j"] ** 0.6)
    assert found["start"]["energy_dominance"] * found["start"]["latency_dominance"] == pytest.approx(1)
    assert found["knobs"] == {"alpha": 0.2, "beta": 0.6, "gamma": 0.1, "delta": 0.6}
    assert any("A skip computes nothing" in notice for notice in found["notices"])
    assert any("LAT 3.853 s, ENER 18.7 J, mean power 4.854 W" in notice for notice in found["notices"])
    shown = call(*words).stdout
    for text in ("3.85271", "18.6995", "0.4493", "0.5796", "1.29", "0.775", "A skip computes nothing"):
        assert text in shown


def test_a_space_is_measured_and_its_knobs_seen(tmp_path: Path) -> None:
    save_space(TINY, tmp_path / "tiny.json")
    lut = tmp_path / "t.lut.jsonl"
    words = ["search", "profile", tmp_path / "tiny.json", "--backend", "fake", "--lut", lut]
    first = document(*words)
    assert (first["missing"], first["lacking"], first["stopped"]) == (0, 0, None)
    assert first["measured"] == first["with_energy"] > 2
    again = call(*words).stdout
    assert "0 children measured in" in again
    assert {"held_out_error", "worst_error", "energy_held_out_error", "energy_worst_error"} <= set(first)
    for what, key in (("latency", "held_out_error"), ("energy", "energy_held_out_error")):
        assert (f"{what}: estimates of" in again) == (first[key] is not None)
    found = document("search", "knobs", "--space", tmp_path / "tiny.json", "--table", lut, "--gamma", "1")
    assert 0 < found["start"]["lat_s"] < 0.001
    assert 0 < found["start"]["ener_j"] < 0.01
    assert "stem and head take" in call("search", "knobs", "--space", tmp_path / "tiny.json", "--table", lut).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("space", "fbnet-cifr"), "did you mean fbnet-cifar"),
        (("space", "none.json"), "does not exist"),
        (("profile", "fbnet-cifr", "--lut", "x.lut.jsonl"), "no search space"),
        (("profile", "fbnet-small", "--lut", "x.lut.jsonl", "--backend", "fak"), "did you mean fake"),
        (("profile", "fbnet-small", "--lut", "x.lut.jsonl", "--backend", "fake", "--precision", "int8"), "int8"),
        (("profile", "fbnet-small", "--lut", "x.lut.jsonl", "--time-limit", "soon"), "time 'soon' is not understood"),
        (("profile", "fbnet-small", "--lut", "/dev/null/x.lut.jsonl", "--backend", "fake"), "/dev/null"),
        (("knobs", "--space", "fbnet-small", "--table", SHIPPED), "is of another space"),
        (("knobs", "--space", "fbnet-cifar", "--table", "none.txt"), "does not exist"),
        (("knobs", "--space", "fbnet-cifar", "--table", SHIPPED, "--beta", "-1"), "it would reward slow networks"),
        (("knobs", "--space", "fbnet-cifar", "--table", SHIPPED, "--alpha", "nan"), "alpha is nan"),
        (("knobs", "--space", "fbnet-cifar", "--table", SHIPPED, "--beta", "1000"), "powers go up to 10"),
    ],
)
def test_bad_input_is_told_in_words(
    words: tuple[object, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("search", *words, status=1)
    assert message in " ".join(said.stderr.split())
    assert "Traceback" not in said.output
    assert not list(tmp_path.iterdir())
