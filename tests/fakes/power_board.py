"""A board with power rails and a clock of its own: source, recorder and clock of a power meter in one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt_trt.errors import PowerError
from netadapt_trt.power.meter import PowerMeter
from netadapt_trt.power.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from netadapt_trt.power.source import Scope

IDLE_MW, LOAD_MW, RUN_S = 6000.0, 5000.0, 0.013


@dataclass
class Board:
    """Source, recorder and clock in one: power goes through the sensor's filter and is read 20 times a second, unstepped."""

    time_constant_s: float = 0.43
    idle_mw: Callable[[float], float] = lambda _: IDLE_MW
    now: float = 1000.0
    failure: PowerError | None = None
    fails_at: float = math.inf
    deaf: list[tuple[float, float]] = field(default_factory=list)  # from, to: no readings in between
    log: list[tuple[str, float, float]] = field(default_factory=list)  # what, from, to
    times: list[float] = field(default_factory=list)
    powers: list[float] = field(default_factory=list)

    name = "board"
    scope: Scope = "board"
    rails = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")  # the first is the total; the others get 40 % and 20 %
    step_mw = None
    counts_energy = False
    interval_s = 0.05
    period_s = 0.05

    def __post_init__(self) -> None:
        self.seen = self.idle_mw(self.now)

    def pass_time(self, what: str, seconds: float, load_mw: float) -> None:
        start, power = self.now, self.idle_mw(self.now) + load_mw
        first = math.floor(start / self.period_s) + 1
        for tick in range(first, math.floor((start + seconds) / self.period_s) + 1):
            at = tick * self.period_s
            if at < self.fails_at and not any(begin < at < end for begin, end in self.deaf):
                gone = at - start
                self.times.append(at)
                self.powers.append(power + (self.seen - power) * math.exp(-gone / self.time_constant_s))
        self.seen = power + (self.seen - power) * math.exp(-seconds / self.time_constant_s)
        self.now += seconds
        if self.now >= self.fails_at:
            self.failure = PowerError("board: gone. Plug it in.")
        if self.log and self.log[-1][0] == what and self.log[-1][2] == start:
            start = self.log.pop()[1]
        self.log.append((what, start, self.now))

    def run(self) -> None:
        self.pass_time("load", RUN_S, LOAD_MW)

    def sleep(self, seconds: float) -> None:
        self.pass_time("rest", seconds, 0.0)

    def clock(self) -> float:
        return self.now

    def trace(self, t0: float = -math.inf, t1: float = math.inf) -> Trace:
        return Trace(np.array(self.times), self.rails, np.outer(self.powers, [1.0, 0.4, 0.2])).window(t0, t1)

    def forget(self, before_s: float) -> None:
        keep = [i for i, at in enumerate(self.times) if at >= before_s]
        self.times, self.powers = [self.times[i] for i in keep], [self.powers[i] for i in keep]

    def details(self) -> dict[str, Any]:
        return {}

    def read(self) -> dict[str, float] | None:
        return {"VDD_IN": 7000.0, "VDD_CPU_GPU_CV": 3000.0, "VDD_SOC": 1000.0}  # for a sampler with a clock of its own

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.log.append(("closed", self.now, self.now))

    def meter(self, **options: Any) -> PowerMeter:
        return PowerMeter(self, clock=self.clock, sleep=self.sleep, recorder=self, **options)

    def lengths(self) -> list[tuple[str, float]]:
        return [(what, round(end - start, 1)) for what, start, end in self.log]
