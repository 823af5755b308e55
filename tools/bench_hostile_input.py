"""Reads damaged LUTs and hostile pickles by the thousand: every one must be taken or refused in our own words.

    python tools/bench_hostile_input.py [--luts 100000] [--pickles 10000] [--seed 0] [--first 0] [--output FILE.json]

Each LUT is a small table of every kind of line after one to five damages; every twentieth is damaged in its figures alone. A
network is estimated from those of them that are taken, in every resource: a number above zero must come out, or
CoverageError. Each pickle is an attack, a damaged attack or a damaged table, in every protocol. Case number n is drawn from
(seed, n), so that a run may be split: ``--first`` is the number of the first case. Fails on any exception that is not ours,
on a warning, on a canary file that a pickle would have made, on a module that was loaded, and on a complaint that names no
place or is not fit for a terminal. The damages are those of the test suite.
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
hostile, hostile_table = importlib.import_module("hostile"), importlib.import_module("hostile_table")

_ABOUT_A_LINE = re.compile(r"^fuzz line \d+: ")
# What is wrong with a file as a whole: nothing in it to be a line, another document, another format or version.
_ABOUT_THE_FILE = re.compile(r"^fuzz (is not a|is a netadapt-lut of version|carries no version)")
_ABOUT_A_PICKLE = re.compile(r"^fuzz( byte \d+: |: layer | holds no )")
_LONGEST = 1000
_EVERY = 20
"""Case numbers that this divides: a network is estimated from the table."""


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
    table = hostile_table.seed_lut()
    estimates: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        attacks = list(hostile.attacks(canary).values())
        small = [data for data in attacks if len(data) < 2000]
        tables = [hostile.table_pickle(protocol) for protocol in range(6)]

        def lut(number: int) -> Any:
            draw = random.Random(f"{chosen.seed} lut {number}")
            if number % _EVERY:
                return hostile.lut_complaint(hostile.mutated_lut(table, draw))
            data = hostile.other_figures(table, draw, draw.choice((1, 2, 5, 20)))
            complaint = hostile.lut_complaint(data)
            if complaint is None:
                for resource, why_not in hostile_table.estimates(data).items():
                    estimates[f"{resource} {'estimated' if why_not is None else 'refused by CoverageError'}"] += 1
                    if why_not is not None and (len(why_not) > _LONGEST or not why_not.isprintable()):
                        raise ValueError(f"a refusal of {len(why_not)} characters, or unprintable: {why_not[:200]!a}")
            return complaint

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
        result["estimates"] = dict(sorted(estimates.items()))
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
