"""Reads damaged LUTs and hostile pickles by the thousand: every one must be taken or refused in our own words.

    python tools/bench_hostile_input.py [--luts 100000] [--pickles 10000] [--seed 0] [--first 0] [--output FILE.json]

Each LUT is a small table of every kind of line after one to five damages; each pickle is an attack, a damaged attack or a
damaged table, in every protocol. Case number n is drawn from (seed, n), so that a run may be split: ``--first`` is the
number of the first case. Fails on any exception that is not ours, on a warning, on a canary file that a pickle would have
made, on a module that was loaded, and on a complaint that names no place or is not fit for a terminal. The damages are
those of the test suite.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.append(str(Path(__file__).parents[1] / "tests" / "fakes"))
hostile = importlib.import_module("hostile")

_ABOUT_A_LINE = re.compile(r"^fuzz line \d+: ")
# What is wrong with a file as a whole: nothing in it to be a line, another document, another format or version.
_ABOUT_THE_FILE = re.compile(r"^fuzz (is not a|is a netadapt-lut of version|carries no version)")
_ABOUT_A_PICKLE = re.compile(r"^fuzz( byte \d+: |: layer | holds no )")
_LONGEST = 1000


def seed_lut() -> bytes:
    """A table with every kind of line, as our own writer makes it."""
    from netadapt_trt.lut.schema import Cell, NetworkLine, Record, ReferenceLine, Session, format_header, format_record
    from netadapt_trt.spec import EnergyStats, Identity, LatencyStats

    identity = Identity(
        backend="fake", device="board", runtime="formula", runtime_version="1", provider="fake", precision="fp32",
        recipe="none", batch=1, threads=1,
    )  # fmt: skip
    stats, energy = LatencyStats(median=1.0, p10=0.9, p90=1.1, n=50), EnergyStats(total=3.0, dynamic=2.0, stderr=0.1)
    records: list[Record] = [
        Session(
            id="s1", date="2026-01-01T00:00:00+00:00", clocks={"gpu_min_mhz": 306.0, "locked": "no"},
            settings={"warmup_ms": 50.0}, rails=("VDD_IN",), sensor_step_mw=8.0, power={"source": "ina"},
        ),
        *(Cell(layer="x0[1,a,8,8] Relu(x0)=y0", widths=(w,), session="s1", latency_ms=stats) for w in (8, 16, 32)),
        Cell(layer="Add", widths=(8,), session="s1", energy_mj=energy, power_mw={"VDD_IN": 5000.0}, flags=("noisy",)),
        ReferenceLine(layer="Add", widths=(8,), latency_ms=stats, session="s1"),
        NetworkLine(plan="h", widths={"a": 8, "b": 16}, latency_ms=stats, energy_mj=energy, session="s1"),
    ]  # fmt: skip
    return "\n".join([format_header(identity), *(format_record(record) for record in records), ""]).encode()


def read_all(cases: range, read: Callable[[int], str | None]) -> tuple[Counter[str], list[str], float]:
    """Answers by kind, faults, and the longest any case took in seconds."""
    kinds: Counter[str] = Counter()
    faults, slowest = [], 0.0
    for number in cases:
        began = time.perf_counter()
        try:
            answer = read(number)
        except Exception as error:
            faults.append(f"case {number}: {type(error).__name__}: {error}"[:300])
            continue
        slowest = max(slowest, time.perf_counter() - began)
        kinds["taken" if answer is None else "refused"] += 1
        if answer is not None and _ABOUT_A_LINE.match(answer):
            kinds["refused, naming the line"] += 1
        elif answer is not None and _ABOUT_THE_FILE.match(answer):
            kinds["refused as a whole"] += 1
        elif answer is not None and _ABOUT_A_PICKLE.match(answer):
            kinds["refused, naming the byte or layer"] += 1
        elif answer is not None:
            faults.append(f"case {number} names no place: {answer[:200]}")
        if answer is not None and (len(answer) > _LONGEST or not answer.isprintable()):
            faults.append(f"case {number} has a complaint of {len(answer)} characters, or unprintable: {answer[:200]!a}")
    return kinds, faults, slowest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--luts", 100_000), ("--pickles", 10_000), ("--seed", 0), ("--first", 0)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    warnings.simplefilter("error")
    table = seed_lut()
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        attacks = list(hostile.attacks(canary).values())
        small = [data for data in attacks if len(data) < 2000]
        tables = [hostile.table_pickle(protocol) for protocol in range(6)]

        def lut(number: int) -> Any:
            return hostile.lut_complaint(hostile.mutated_lut(table, random.Random(f"{chosen.seed} lut {number}")))

        def pickled(number: int) -> Any:
            if number < len(attacks):
                return hostile.pickle_complaint(attacks[number])
            draw = random.Random(f"{chosen.seed} pickle {number}")
            return hostile.pickle_complaint(hostile.mutated_pickle(draw.choice(draw.choice((small, tables))), draw))

        loaded = set(sys.modules)
        result: dict[str, object] = {"seed": chosen.seed, "first": chosen.first}
        failed = False
        for name, count, read in (("luts", chosen.luts, lut), ("pickles", chosen.pickles, pickled)):
            began = time.perf_counter()
            kinds, faults, slowest = read_all(range(chosen.first, chosen.first + count), read)
            result[name] = {
                "read": count, **kinds, "faults": len(faults), "examples": faults[:10], "slowest_s": round(slowest, 3),
                "seconds": round(time.perf_counter() - began, 1),
            }  # fmt: skip
            failed |= bool(faults)
        # Ours may be loaded on use; these two only an attack asks for.
        result["modules_loaded"] = sorted({"antigravity", "webbrowser"} & (set(sys.modules) - loaded))
        result["canary"] = canary.exists()
        result["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.output:
        chosen.output.write_text(text + "\n")
    return int(failed or bool(result["canary"]) or bool(result["modules_loaded"]))


if __name__ == "__main__":
    sys.exit(main())
