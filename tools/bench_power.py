"""How close energy per run comes to the truth on a simulated board, and whether the stated interval holds.

    python tools/bench_power.py [--trials 1000] [--seed 1] [--json FILE]

Loads of 1 to 40 W (equally likely on a logarithmic scale) over 5 to 7 W idle go through a first-order filter of 0.43 s
and are rounded to the sensor's step. They are read 10 to 20 times a second; a tenth of the readings is lost and a tenth
comes up to 0.3 s late, stamped when it came (what falls due meanwhile is left out). One trial is idle, load, idle, with a
window of the same length in each. The truth is the mean power that the simulated load has in the long run, at the idle
power of that moment; noise is therefore part of the error.

"missed flags" are loads under three steps without `resolution_limited`, "flagged" is the share of the others with it, and
"broken" counts results without it that are off by more than 2 % (total) or 5 % (dynamic). "needed" is the factor between
the stated 95 % intervals and the shortest that would still cover 95 % of the trials. "plain" is the coverage of mean and
standard error of all readings taken as independent, which is what one would do without thinking.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from netadapt_trt.power.energy import LOW_COVERAGE, RESOLUTION_LIMITED, Measured, energy_per_run
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TIME_CONSTANT_S = 0.43
SETTLE_S = 2.2
TICK_S = 0.01  # of the simulated board
STEPS_MW = (40.0, 400.0)
WINDOWS_S = (5.0, 10.0, 15.0)
RUNS_PER_S = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What a board does besides its steady load. Spreads are standard deviations before the filter.

    ``activity`` is the share of the load by which kernels of one run differ (remembered for 50 ms), ``wander`` the same
    for slow things such as refresh and clocks (3 s). ``background_mw`` is idle noise (0.1 s). ``jobs_mw`` is the size
    of what the operating system does once a second on average, at random, for about 30 ms (exponential in size and
    length). ``drift_mw`` is how much idle power may drift in a minute, up or down.
    """

    activity: float = 0.0
    wander: float = 0.0
    background_mw: float = 0.0
    jobs_mw: float = 0.0
    drift_mw: float = 0.0


NOISES = {
    "none": Noise(),
    "usual": Noise(activity=0.04, wander=0.003, background_mw=30.0, jobs_mw=800.0, drift_mw=150.0),
    "double": Noise(activity=0.08, wander=0.006, background_mw=60.0, jobs_mw=1600.0, drift_mw=300.0),
}
JOBS_PER_S, JOB_S = 1.0, 0.03


@dataclass(frozen=True, slots=True)
class Trial:
    """What was read, and what is true [mW]."""

    trace: Trace
    before: tuple[float, float]
    load: tuple[float, float]
    after: tuple[float, float]
    load_mw: float
    total_mw: float

    def measure(self, step_mw: float) -> Measured:
        """Energy of one run, by the library."""
        return energy_per_run(
            self.trace,
            [self.trace.window(*self.before), self.trace.window(*self.after)],
            t0=self.load[0],
            t1=self.load[1],
            runs=RUNS_PER_S * (self.load[1] - self.load[0]),
            step_mw=step_mw,
            time_constant_s=TIME_CONSTANT_S,
            settled_s=SETTLE_S,
            rail="VDD_IN",
        )


def remembering(rng: np.random.Generator, ticks: int, trials: int, memory_s: float) -> Floats:
    """Normal noise [ticks, trials] of spread 1 that is forgotten over ``memory_s`` (an Ornstein-Uhlenbeck process)."""
    keep = math.exp(-TICK_S / memory_s)
    noise = rng.standard_normal((ticks, trials))
    noise[1:] *= math.sqrt(1.0 - keep * keep)
    return decaying(noise, keep)


def decaying(pushes: Floats, keep: float) -> Floats:
    """Each tick the old value times ``keep``, plus the push."""
    for tick in range(1, len(pushes)):
        pushes[tick] += keep * pushes[tick - 1]
    return pushes


def simulate(rng: np.random.Generator, trials: int, *, window_s: float, step_mw: float, noise: Noise) -> Iterator[Trial]:
    """Simulated measurements; the truth is known."""
    before = (SETTLE_S, SETTLE_S + window_s)
    load = (before[1] + SETTLE_S, before[1] + SETTLE_S + window_s)
    after = (load[1] + 2 * SETTLE_S, load[1] + 2 * SETTLE_S + window_s)
    time = np.arange(0.0, after[1] + 0.5, TICK_S)
    load_mw = 1000.0 * np.exp(rng.uniform(np.log(1.0), np.log(40.0), trials))
    idle_mw = rng.uniform(5000.0, 7000.0, trials)
    drift = rng.uniform(-1.0, 1.0, trials) * noise.drift_mw / 60.0
    running = ((time >= before[1]) & (time < load[1]))[:, None] * load_mw
    power = idle_mw + np.outer(time, drift) + running
    total_mw = idle_mw + drift * (load[0] + load[1]) / 2 + load_mw
    if noise != Noise():
        shape = (len(time), trials)
        power += running * noise.activity * remembering(rng, *shape, 0.05)
        power += running * noise.wander * remembering(rng, *shape, 3.0)
        power += noise.background_mw * remembering(rng, *shape, 0.1)
        jobs = (rng.random(shape) < JOBS_PER_S * TICK_S) * rng.exponential(noise.jobs_mw, shape)
        keep = math.exp(-TICK_S / JOB_S)
        power += decaying(jobs, keep)
        total_mw = total_mw + JOBS_PER_S * TICK_S * noise.jobs_mw / (1.0 - keep)
    keep = math.exp(-TICK_S / TIME_CONSTANT_S)
    power[1:] *= 1.0 - keep
    seen = np.round(decaying(power, keep) / step_mw) * step_mw
    for trial in range(trials):
        times = reading_times(rng, float(time[-1]))
        values = seen[(times / TICK_S).astype(int), trial]
        yield Trial(
            Trace(times, ("VDD_IN",), values[:, None]), before, load, after, float(load_mw[trial]), float(total_mw[trial])
        )


def reading_times(rng: np.random.Generator, end_s: float) -> Floats:
    """When readings come: every 50 to 100 ms, a tenth never, a tenth up to 0.3 s late (what is due meanwhile is not)."""
    period = 1.0 / rng.uniform(10.0, 20.0)
    ticks = int(end_s / period)
    lost, late = rng.random(ticks) < 0.1, np.where(rng.random(ticks) < 0.1, rng.uniform(0.0, 0.3, ticks), 0.0)
    came: list[float] = []
    for tick in range(ticks):
        due = tick * period
        if not lost[tick] and due + late[tick] < end_s and (not came or due > came[-1]):
            came.append(due + late[tick])
    return np.array(came)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of noise, step and window over all trials. Errors and shares as fractions."""

    noise: str
    step_mw: float
    window_s: float
    trials: int
    missed_faint: int  # loads under three steps without a flag
    flagged: float  # of the loads of at least three steps
    broken: int  # unflagged, and yet off by more than 2 % (total) or 5 % (dynamic)
    worst_total: float  # among the unflagged
    worst_dynamic: float
    covers_total: float
    covers_dynamic: float
    needed_total: float
    needed_dynamic: float
    plain_total: float
    low_coverage: int


def judge(noise: str, step_mw: float, window_s: float, trials: list[Trial], tick: Callable[[], None]) -> Row:
    """Measure all trials and hold them against the truth."""
    found = []
    for trial in trials:
        one = trial.measure(step_mw)
        if one.total_mj is None or one.interval_mj is None or one.dynamic_mj is None or one.dynamic_interval_mj is None:
            raise RuntimeError("a trial without a result")
        inside = trial.trace.window(*trial.load).power_mw[:, 0]
        plain = 1.96 * inside.std(ddof=1) / np.sqrt(inside.size)
        flags = (RESOLUTION_LIMITED in one.flags, LOW_COVERAGE in one.flags)
        total, dynamic = one.total_mj * RUNS_PER_S, one.dynamic_mj * RUNS_PER_S  # mJ of a run back to mW
        intervals = (one.interval_mj * RUNS_PER_S, one.dynamic_interval_mj * RUNS_PER_S)
        errors = (abs(total - trial.total_mw), abs(dynamic - trial.load_mw), abs(inside.mean() - trial.total_mw))
        found.append((trial.total_mw, trial.load_mw, *errors, *intervals, plain, *flags))
        tick()
    total_mw, load_mw, off, dynamic_off, plain_off, half, dynamic_half, plain, limited, low = np.array(found, dtype=float).T
    clear, strong = limited == 0, load_mw >= 3 * step_mw
    return Row(
        noise=noise,
        step_mw=step_mw,
        window_s=window_s,
        trials=len(trials),
        missed_faint=int(np.count_nonzero(clear & ~strong)),
        flagged=float(limited[strong].mean()),
        broken=int(np.count_nonzero(clear & ((off > 0.02 * total_mw) | (dynamic_off > 0.05 * load_mw)))),
        worst_total=float((off / total_mw).max(where=clear, initial=0.0)),
        worst_dynamic=float((dynamic_off / load_mw).max(where=clear, initial=0.0)),
        covers_total=float(np.mean(off <= half)),
        covers_dynamic=float(np.mean(dynamic_off <= dynamic_half)),
        needed_total=float(1.0 / np.quantile(off / half, 0.95)),
        needed_dynamic=float(1.0 / np.quantile(dynamic_off / dynamic_half, 0.95)),
        plain_total=float(np.mean(plain_off <= plain)),
        low_coverage=int(low.sum()),
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| noise | step W | window s | missed flags | flagged from 3 steps | broken | worst total, dynamic "
        "| covers total, dynamic | needed total, dynamic | plain |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.noise} | {row.step_mw / 1000:.2f} | {row.window_s:.0f} | {row.missed_faint} | {row.flagged:.0%} "
        f"| {row.broken} | {row.worst_total:.2%}, {row.worst_dynamic:.2%} "
        f"| {row.covers_total:.1%}, {row.covers_dynamic:.1%} "
        f"| {row.needed_total:.2f}, {row.needed_dynamic:.2f} | {row.plain_total:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of each kind of noise, step and window")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    asked = parser.parse_args()

    rng = np.random.default_rng(asked.seed)
    kinds = [(noise, step_mw, window_s) for noise in NOISES for step_mw in STEPS_MW for window_s in WINDOWS_S]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    rows = []
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("trials", total=len(kinds) * asked.trials)
        for noise, step_mw, window_s in kinds:
            bar.update(task, description=f"noise {noise}, step {step_mw:.0f} mW, {window_s:.0f} s")
            trials = list(simulate(rng, asked.trials, window_s=window_s, step_mw=step_mw, noise=NOISES[noise]))
            rows.append(judge(noise, step_mw, window_s, trials, lambda: bar.advance(task)))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
